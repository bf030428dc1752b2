//! Licences: every dependency must offer one that allows the binary to be given away.

use anyhow::{Context, Result};

use crate::workspace;

/// Permissive licences, by their SPDX names. MPL-2.0 asks only for the source of its own, unmodified, files.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "PostgreSQL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Looks at the licence of every package that cargo would build.
pub(super) fn check() -> Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo metadata")?;
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        match package["license"].as_str() {
            Some(licence) if allowed(licence) => {}
            Some(licence) => found.push(format!("`{name}`: licence {licence} is not on the list")),
            None => found.push(format!("`{name}` names no licence")),
        }
    }
    Ok(found)
}

/// Whether an SPDX expression can be met with the list: any side of OR, every side of AND.
fn allowed(expression: &str) -> bool {
    let text = expression.trim();
    // The old form `MIT/Apache-2.0` means OR.
    for (operator, any) in [(" OR ", true), ("/", true), (" AND ", false)] {
        let parts = split_outside_parentheses(text, operator);
        if parts.len() > 1 {
            let mut parts = parts.into_iter();
            return if any {
                parts.any(allowed)
            } else {
                parts.all(allowed)
            };
        }
    }
    match text
        .strip_prefix('(')
        .and_then(|inner| inner.strip_suffix(')'))
    {
        Some(inner) => allowed(inner),
        None => ALLOWED.contains(&text),
    }
}

fn split_outside_parentheses<'a>(text: &'a str, operator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= begin && text[at..].starts_with(operator) => {
                parts.push(&text[begin..at]);
                begin = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_any_side_of_or_and_every_side_of_and() {
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
            "Apache-2.0 AND ISC",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT AND GPL-3.0) OR AGPL-3.0",
            "",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
