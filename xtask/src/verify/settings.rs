//! Settings that nothing reads do nothing, which is a fault that the old program had (its number 39).

use anyhow::{Context, Result};
use pgaf_protocol::Setting;

use crate::workspace;

/// Where what decides and acts is. The simulator reads settings, too, and proves nothing for users.
const READERS: [&str; 3] = ["crates/fsm/src", "crates/keeper/src", "crates/monitor/src"];

/// Settings without a reader.
pub(super) fn check() -> Result<Vec<String>> {
    let mut sources = Vec::new();
    for name in workspace::tracked_files()? {
        let test = name.components().any(|part| part.as_os_str() == "tests");
        let reader = READERS.iter().any(|folder| name.starts_with(folder));
        if reader && !test && name.extension().is_some_and(|extension| extension == "rs") {
            let path = workspace::root().join(&name);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read `{}`", name.display()))?;
            sources.push(text);
        }
    }
    let names = Setting::ALL.iter().map(|setting| setting.name);
    Ok(names
        .filter(|name| !is_read(name, &sources))
        .map(|name| format!("the setting `{name}` is read by nobody: remove it, or make it work"))
        .collect())
}

/// Whether its field, which bears its name and mostly its unit, is taken anywhere.
fn is_read(name: &str, sources: &[String]) -> bool {
    sources.iter().any(|text| {
        text.match_indices(&format!(".{name}")).any(|(at, found)| {
            let rest = &text[at + found.len()..];
            let rest = ["_ms", "_bytes"]
                .iter()
                .find_map(|unit| rest.strip_prefix(unit))
                .unwrap_or(rest);
            !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_nobody_reads_is_found() {
        let sources = ["if now > settings.lease_ms + settings.grace_period {".to_owned()];
        assert!(is_read("lease", &sources));
        assert!(!is_read("grace", &sources), "a longer name is another one");
        assert!(!is_read("return_wait", &sources));
    }

    #[test]
    fn every_setting_of_ours_is_read() {
        assert_eq!(check().unwrap(), Vec::<String>::new());
    }
}
