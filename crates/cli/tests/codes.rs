//! Codes, pages and use agree: the list in `pgaf_protocol::Code` is the one source.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::Home;
use pgaf_protocol::{Code, CodeOf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// The text of every source file below, without those of tests.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, text);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The words in quotes that follow one of the openings, blanks between them aside.
fn quoted_after(text: &str, openings: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for opening in openings {
        for (at, _) in text.match_indices(opening) {
            let rest = text[at + opening.len()..].trim_start();
            if let Some(word) = rest.strip_prefix('"').and_then(|r| r.split('"').next())
                && !word.is_empty()
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            {
                found.insert(word.to_owned());
            }
        }
    }
    found
}

fn ids(of: CodeOf) -> BTreeSet<String> {
    let codes = Code::ALL.iter().filter(|c| c.of == of);
    codes.map(|c| c.id.to_owned()).collect()
}

#[test]
fn every_code_is_used_and_every_use_has_a_code() {
    let (mut brain, mut face) = (String::new(), String::new());
    for below in ["crates/fsm/src/group", "crates/monitor/src"] {
        sources(&root().join(below), &mut brain);
    }
    sources(&root().join("crates/cli/src"), &mut face);
    let waits = quoted_after(&brain, &["waits(", "wait(", "wait_for(", " id:"]);
    assert_eq!(waits, ids(CodeOf::Group));
    let named = quoted_after(&face, &[".coded(", "=> "]);
    let unused: Vec<_> = ids(CodeOf::Command).difference(&named).cloned().collect();
    assert!(unused.is_empty(), "{unused:?}");
    let listed = ids(CodeOf::Command);
    let unknown: Vec<_> = quoted_after(&face, &[".coded("])
        .difference(&listed)
        .cloned()
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<String> = fs::read_dir(root().join("docs/errors"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    let all: BTreeSet<String> = Code::ALL.iter().map(|c| c.id.to_owned()).collect();
    assert_eq!(pages, all, "`cargo xtask docs` makes the pages");
}

#[test]
fn a_code_is_printed_with_the_error_and_explained() {
    let home = Home::new();
    home.run(&["stop", "--pgdata", &home.keeper()])
        .expect(12, &["[service-not-running]", "HINT"]);
    let told = home.run(&["inspect", "error", "service-not-running"]);
    told.expect(0, &[]);
    assert!(
        told.stdout.contains("`pg_autoctl run` starts it"),
        "{}",
        told.stdout
    );
    let all = home.run(&["inspect", "error", "--json"]);
    let codes: serde_json::Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!(codes.as_array().unwrap().len(), Code::ALL.len());
    home.run(&["inspect", "error", "nonsense"])
        .expect(1, &["no code", "[bad-arguments]", "HINT"]);
}
