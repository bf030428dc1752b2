//! `cargo xtask verify`: the read-only gate that every change passes, and `fix`, which rewrites.

mod edges;
mod evidence;
mod licences;
mod settings;
mod text;

pub(crate) use text::inner_tests;

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{command, console, workspace};

/// A named check; `Ok` holds what it found wrong, one line each.
type Check = (&'static str, fn() -> Result<Vec<String>>);

/// Quick checks first: a wrong word should not wait for a build.
const CHECKS: &[Check] = &[
    ("formatted (cargo fmt)", formatted),
    ("files: sizes, unfinished code, words", text::check),
    ("dependency edges and no_std allow-list", edges::check),
    ("licences of all dependencies", licences::check),
    (
        "docs/verification.md and old-faults.md name what exists",
        evidence::check,
    ),
    ("every setting does something", settings::check),
    ("docs/reference is fresh", crate::docs::stale),
    ("protocol and fsm build alone", build_alone),
    ("lints (cargo clippy, all targets)", lints),
    ("documentation, private items included", documentation),
];

/// Runs every check, also after one has failed.
///
/// # Errors
/// When a check found something.
pub(crate) fn run() -> Result<()> {
    let mut failed = 0;
    for (name, check) in CHECKS {
        console::heading(name);
        let start = Instant::now();
        let found = check().unwrap_or_else(|error| vec![format!("{error:#}")]);
        for problem in &found {
            console::bad(problem);
        }
        if found.is_empty() {
            console::good(&console::human(start.elapsed()));
        } else {
            failed += 1;
        }
    }
    console::heading("verify");
    if failed > 0 {
        bail!(
            "{failed} of {} checks failed; `cargo xtask fix` rewrites what tools can",
            CHECKS.len()
        );
    }
    console::good(&format!("{} checks", CHECKS.len()));
    Ok(())
}

/// Formats, and applies what clippy can apply by itself.
///
/// # Errors
/// When a tool fails.
pub(crate) fn fix() -> Result<()> {
    command::run(workspace::cargo().args(["fmt", "--all"]))?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ];
    command::run(workspace::cargo().args(clippy))?;
    command::run(workspace::cargo().args(["fmt", "--all"]))
}

fn formatted() -> Result<Vec<String>> {
    passes(workspace::cargo().args(["fmt", "--all", "--check"]))
}

fn build_alone() -> Result<Vec<String>> {
    // Named alone, so that no other crate's features are unified into theirs.
    let mut found = Vec::new();
    for package in ["pgaf-protocol", "pgaf-fsm"] {
        found.extend(passes(workspace::cargo().args([
            "check",
            "--quiet",
            "--package",
            package,
        ]))?);
    }
    Ok(found)
}

fn lints() -> Result<Vec<String>> {
    let words = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    passes(workspace::cargo().args(words))
}

fn documentation() -> Result<Vec<String>> {
    let words = [
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    passes(
        workspace::cargo()
            .args(words)
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn passes(command: &mut Command) -> Result<Vec<String>> {
    let what = command::shown(command);
    let status = command::status(command)?;
    Ok(if status.success() {
        Vec::new()
    } else {
        vec![format!("`{what}`: {status}")]
    })
}
