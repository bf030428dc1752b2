//! `docs/verification.md` and `docs/old-faults.md` promise nothing that nobody can run: each entry of their column of
//! evidence is a command that parses, or a test that exists.

use anyhow::{Context, Result};
use clap::Parser;

use crate::{Task, Xtask, scenario, workspace};

/// Reads the tables of both pages.
pub(super) fn check() -> Result<Vec<String>> {
    let mut found = named(&page("verification.md")?);
    let faults = page("old-faults.md")?;
    found.extend(named(&faults));
    found.extend(unlisted(&faults));
    Ok(found)
}

fn page(name: &str) -> Result<String> {
    let path = workspace::root().join("docs").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// What the rows of a page name and nobody can run. The second column holds the evidence; a fault that is open
/// says so there.
fn named(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rows = 0;
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        // A row: empty, promise or fault, evidence, …, empty.
        let [_, promise, evidence, _, ..] = cells[..] else {
            continue;
        };
        if promise.starts_with("---") || ["Promise", "Fault", "Item"].contains(&promise) {
            continue;
        }
        rows += 1;
        if evidence.starts_with("open") {
            continue;
        }
        let items: Vec<_> = evidence.split('`').skip(1).step_by(2).collect();
        let line = format!("{}: line {}", short(promise), number + 1);
        if items.is_empty() {
            found.push(format!("{line}: names no test and no command"));
        }
        for item in items {
            if let Some(problem) = problem(item) {
                found.push(format!("{line}: `{item}`: {problem}"));
            }
        }
    }
    if rows == 0 {
        found.push("the table is empty".to_owned());
    }
    found
}

fn short(promise: &str) -> String {
    promise.chars().take(40).collect()
}

/// The known weaknesses of the old program are numbered to here.
const WEAKNESSES: u32 = 50;
/// Reports of its users about groups that got stuck.
const REPORTS: [u32; 7] = [683, 774, 997, 1025, 1060, 1113, 1168];

/// Faults that the page forgets: neither shown to be mended nor called open.
fn unlisted(text: &str) -> Vec<String> {
    let numbers = (1..=WEAKNESSES).map(|n| n.to_string());
    let reports = REPORTS.iter().map(|n| format!("#{n}"));
    numbers
        .chain(reports)
        .filter(|fault| !text.contains(&format!("\n| {fault}: ")))
        .map(|fault| format!("docs/old-faults.md says nothing of {fault}"))
        .collect()
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
    fn no_fault_of_the_old_program_is_forgotten() {
        assert_eq!(unlisted("").len(), 57);
        let told = "\n| 1: it crashes | `x` | |\n| #774: stuck | open: later |\n";
        assert_eq!(unlisted(told).len(), 55);
        assert_eq!(named("| 1: it crashes | open: later |\n").len(), 0);
        assert_eq!(named("| 1: it crashes | nothing |\n").len(), 1);
        assert_eq!(named("").len(), 1);
    }

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
