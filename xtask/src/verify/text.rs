//! What the text of the files shows: sizes, unfinished code, words that do not belong.

use std::path::Path;

use anyhow::{Context, Result};

use crate::workspace;

/// Lines of a source file, tests apart, above which it must be split.
const MAX_LINES: usize = 800;

/// What may not stand in Rust code, and why. Each is put together here so that this file passes itself.
const UNFINISHED: &[(&str, &str, &str)] = &[
    ("#[igno", "re", "a test that does not run proves nothing"),
    ("tod", "o!(", "unfinished code does not land"),
    ("unimplem", "ented!(", "unfinished code does not land"),
    ("db", "g!(", "left over from debugging"),
    ("TO", "DO", "the only form is TODO-correctness(#123)"),
    ("FIX", "ME", "the only form is TODO-correctness(#123)"),
];

/// The one reason for a test not to run by itself: another one runs it, in a process of its own.
const RUN_BY_ANOTHER: (&str, &str) = ("#[igno", "re = \"run by ");

/// Words for which the glossary has another one.
const WORDS: &[(&str, &str, &str)] = &[
    ("sla", "ve", "standby"),
    ("split-br", "ain", "two writers"),
    ("<<<<", "<<<", "a resolved merge"),
];

/// Names that a module of ours does not have: they say nothing about what is inside.
/// Types of SQL, below `sql/`, are of the domain.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "common", "helpers", "types", "manager", "misc",
];

/// Reads every tracked file.
pub(super) fn check() -> Result<Vec<String>> {
    let mut found = Vec::new();
    let checkout = workspace::root().to_string_lossy().into_owned();
    for name in workspace::tracked_files()? {
        let bytes = std::fs::read(workspace::root().join(&name))
            .with_context(|| format!("cannot read `{}`", name.display()))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let shown = name.display();
        let mut say = |problem: String| found.push(format!("{shown}: {problem}"));
        for (number, line) in text.lines().enumerate() {
            if line.contains(&checkout) || line.contains(&format!("/ro{}", "ot/")) {
                say(format!("line {}: a path of one machine", number + 1));
            }
        }
        if name.extension().is_some_and(|extension| extension == "rs") {
            rust_file(&name, &text, &mut say);
        }
    }
    Ok(found)
}

fn rust_file(name: &Path, text: &str, say: &mut impl FnMut(String)) {
    let stem = name
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let of_sql = stem == "types" && name.components().any(|part| part.as_os_str() == "sql");
    if EMPTY_NAMES.contains(&stem) && !of_sql {
        say(format!("a module is a noun of the domain, not `{stem}`"));
    }
    let lines = source_lines(name, text);
    if lines > MAX_LINES {
        say(format!("{lines} lines; a file stops at {MAX_LINES}"));
    }
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        for (head, rest, why) in UNFINISHED {
            let known = format!("TO{}", "DO-correctness(#");
            let fine = line.contains(&known) || is_inner_test(line);
            if line.contains(&format!("{head}{rest}")) && !fine {
                say(format!("line {number}: `{head}{rest}`: {why}"));
            }
        }
        for (head, rest, better) in WORDS {
            if line.to_lowercase().contains(&format!("{head}{rest}")) {
                say(format!(
                    "line {number}: `{head}{rest}`: our word is {better}"
                ));
            }
        }
    }
    let pure = ["crates/fsm/src", "crates/protocol/src"]
        .iter()
        .any(|dir| name.starts_with(dir));
    if pure {
        pure_file(name, text, say);
    }
}

fn is_inner_test(line: &str) -> bool {
    let (head, rest) = RUN_BY_ANOTHER;
    line.trim_start().starts_with(&format!("{head}{rest}"))
}

/// How many tests there are that others run: test runners count them as skipped.
pub(crate) fn inner_tests() -> Result<usize> {
    let mut count = 0;
    for name in workspace::tracked_files()? {
        if name.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(workspace::root().join(&name))
                .with_context(|| format!("cannot read `{}`", name.display()))?;
            count += text.lines().filter(|line| is_inner_test(line)).count();
        }
    }
    Ok(count)
}

/// The standard library stays out of the pure crates; their tests may use it.
fn pure_file(name: &Path, text: &str, say: &mut impl FnMut(String)) {
    if name.ends_with("src/lib.rs") && !text.contains("#![no_std]") {
        say("the crate must say #![no_std]".to_owned());
    }
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    for (at, line) in lines.iter().enumerate() {
        let for_tests = at > 0 && lines[at - 1] == "#[cfg(test)]";
        if line.starts_with("extern crate std") && !for_tests {
            say(format!(
                "line {}: the standard library is for tests only",
                at + 1
            ));
        }
    }
}

/// Lines that count: those above the tests, and none of a file of tests.
fn source_lines(name: &Path, text: &str) -> usize {
    let in_tests = name.components().any(|part| part.as_os_str() == "tests");
    let is_tests = name
        .file_stem()
        .is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    if in_tests || is_tests {
        return 0;
    }
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        rust_file(Path::new(name), text, &mut |problem| all.push(problem));
        all
    }

    #[test]
    fn unfinished_code_and_empty_names_are_found() {
        let unfinished = format!("fn f() {{ tod{}) }}", "o!(");
        assert_eq!(found("crates/x/src/lib.rs", &unfinished).len(), 1);
        let inner = format!("#[igno{}the test of mounts\"]", "re = \"run by ");
        assert_eq!(found("crates/x/src/lib.rs", &inner), Vec::<String>::new());
        let ignored = format!("#[igno{}]", "re");
        assert_eq!(found("crates/x/src/lib.rs", &ignored).len(), 1);
        assert_eq!(found("crates/x/src/utils.rs", "fn f() {}").len(), 1);
        assert_eq!(
            found("crates/x/src/lib.rs", "fn f() {}"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn tests_do_not_count_as_lines_of_source() {
        let long = "fn f() {}\n".repeat(801);
        assert_eq!(found("crates/x/src/lib.rs", &long).len(), 1);
        assert_eq!(found("crates/x/src/tests.rs", &long).len(), 0);
        assert_eq!(found("crates/x/tests/a.rs", &long).len(), 0);
        let below = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(found("crates/x/src/lib.rs", &below).len(), 0);
    }

    #[test]
    fn the_standard_library_is_for_tests_of_pure_crates() {
        let bad = "#![no_std]\nextern crate std;\n";
        let good = "#![no_std]\n#[cfg(test)]\nextern crate std;\n";
        assert_eq!(found("crates/fsm/src/lib.rs", bad).len(), 1);
        assert_eq!(found("crates/fsm/src/lib.rs", good).len(), 0);
        assert_eq!(found("crates/fsm/src/lib.rs", "").len(), 1);
    }
}
