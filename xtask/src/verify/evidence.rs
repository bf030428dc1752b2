//! `docs/verification.md` promises nothing that nobody can run: each entry of its column of evidence is a
//! command that parses, or a test that exists.

use anyhow::{Context, Result};
use clap::Parser;

use crate::{Task, Xtask, scenario, workspace};

/// Reads the table.
pub(super) fn check() -> Result<Vec<String>> {
    let path = workspace::root().join("docs/verification.md");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut found = Vec::new();
    let mut rows = 0;
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        // A row: empty, promise, evidence, last figure, date, empty.
        let [_, promise, evidence, ..] = cells[..] else {
            continue;
        };
        if promise.starts_with("---") || promise == "Promise" {
            continue;
        }
        rows += 1;
        let items: Vec<_> = evidence.split('`').skip(1).step_by(2).collect();
        if items.is_empty() {
            found.push(format!("line {}: names no test and no command", number + 1));
        }
        for item in items {
            if let Some(problem) = problem(item) {
                found.push(format!("line {}: `{item}`: {problem}", number + 1));
            }
        }
    }
    if rows == 0 {
        found.push("the table is empty".to_owned());
    }
    Ok(found)
}

/// What is wrong with an entry: `cargo xtask …`, or `path/of/file.rs::name_of_test`.
fn problem(item: &str) -> Option<String> {
    if let Some(words) = item.strip_prefix("cargo xtask") {
        let words = std::iter::once("xtask").chain(words.split_whitespace());
        return match Xtask::try_parse_from(words).map(|xtask| xtask.task) {
            Ok(Task::Scenario { name, .. }) if name != "all" => scenario::read(&name)
                .err()
                .map(|error| format!("{error:#}")),
            Ok(_) => None,
            Err(error) => Some(
                error
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or("no such command")
                    .to_owned(),
            ),
        };
    }
    let Some((file, test)) = item.split_once("::") else {
        return Some("is neither `cargo xtask …` nor `file.rs::test`".to_owned());
    };
    match std::fs::read_to_string(workspace::root().join(file)) {
        Err(_) => Some(format!("there is no file {file}")),
        Ok(text) if text.contains(&format!("fn {test}(")) => None,
        Ok(_) => Some(format!("there is no test {test} in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_must_exist() {
        assert_eq!(problem("cargo xtask test --long"), None);
        assert!(problem("cargo xtask test --longer").is_some());
        assert!(problem("cargo xtask prove").is_some());
        assert_eq!(problem("cargo xtask scenario switchover"), None);
        assert!(problem("cargo xtask scenario no-such-story").is_some());
        let here = "xtask/src/verify/evidence.rs";
        assert_eq!(problem(&format!("{here}::evidence_must_exist")), None);
        assert!(problem(&format!("{here}::something_else")).is_some());
        assert!(problem("no/such/file.rs::test").is_some());
        assert!(problem("by looking at it").is_some());
    }
}
