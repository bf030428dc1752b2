//! `cargo xtask docs`: the pages under `docs/reference/` and `docs/errors/`, made from the code that they describe.
//! `verify` fails when one is stale.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use pgaf_protocol::{Code, CodeOf};
use pgaf_sim::script::VERBS;

use crate::{command, console, scenario, workspace};

/// A page: its file, and what makes its text.
type Page = (&'static str, fn() -> Result<String>);

const PAGES: &[Page] = &[
    ("scenarios.md", scenarios),
    ("commands.md", commands),
    ("rules.md", rules),
    ("settings.md", settings),
];

/// `help` answers at once.
const HELP: Duration = Duration::from_secs(10);

/// Every page: its file below `docs/`, and its text.
fn all() -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for (name, make) in PAGES {
        pages.push((format!("reference/{name}"), make()?));
    }
    pages.push(("errors/README.md".to_owned(), codes()));
    for code in Code::ALL {
        pages.push((format!("errors/{}.md", code.id), code_page(code)));
    }
    Ok(pages)
}

/// Writes every page.
///
/// # Errors
/// When one cannot be made or written.
pub(crate) fn run() -> Result<()> {
    for (name, text) in all()? {
        let path = path(&name);
        let folder = path.parent().context("a page has no folder")?;
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        console::good(&format!("docs/{name}"));
    }
    Ok(())
}

/// The pages that are not as they would be made.
///
/// # Errors
/// When one cannot be made.
pub(crate) fn stale() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, text) in all()? {
        if std::fs::read_to_string(path(&name)).ok() != Some(text) {
            found.push(format!(
                "docs/{name} is stale: `cargo xtask docs` makes it anew"
            ));
        }
    }
    Ok(found)
}

fn path(name: &str) -> PathBuf {
    workspace::root().join("docs").join(name)
}

/// The rules that goals come from, as `inspect fsm` prints them.
fn rules() -> Result<String> {
    let (tables, drawing) = (
        ask(&["inspect", "fsm"])?,
        ask(&["inspect", "fsm", "--mermaid"])?,
    );
    Ok(format!(
        "# Rules\n\nMade by `cargo xtask docs` from `pg_autoctl inspect fsm`; do not edit.\n\n```mermaid\n{drawing}\n```\n\n{tables}\n"
    ))
}

/// The monitor's settings.
fn settings() -> Result<String> {
    let mut page = String::from(
        "# Settings\n\nMade by `cargo xtask docs` from the table in `pgaf-protocol`; do not edit. `pg_autoctl inspect settings` prints the values in force,\n\
         and where they come from. In SQL: `select pgautofailover.set_setting('lease', '4000')`.\n\n\
         | Setting | Old name | Default | Unit | Bounds | Why |\n|---|---|---|---|---|---|\n",
    );
    for it in pgaf_protocol::Setting::ALL {
        let old = it.old_name.unwrap_or("");
        let _ = writeln!(
            page,
            "| `{}` | {old} | {} | {} | {} to {} | {} |",
            it.name, it.default, it.unit, it.min, it.max, it.why
        );
    }
    Ok(page)
}

/// The list of codes.
fn codes() -> String {
    let mut page = String::from(
        "# Codes\n\nMade by `cargo xtask docs` from the list in `pgaf-protocol`; do not edit. A code stands in brackets behind an error, and as\n\
         `waits for CODE` in `pg_autoctl inspect explain`. `pg_autoctl inspect error CODE` prints its page.\n",
    );
    for (of, title) in [
        (CodeOf::Command, "What commands and services end with"),
        (CodeOf::Group, "What groups wait for"),
    ] {
        let _ = write!(page, "\n## {title}\n\n| Code | Meaning |\n|---|---|\n");
        for code in Code::ALL.iter().filter(|c| c.of == of) {
            let _ = writeln!(page, "| [`{0}`]({0}.md) | {1} |", code.id, code.means);
        }
    }
    page
}

fn code_page(code: &Code) -> String {
    let mut page = format!(
        "# {}\n\nMade by `cargo xtask docs`; do not edit.\n\n{}\n\n**Meanwhile:** {}\n\n## What to do\n\n",
        code.id, code.means, code.meanwhile
    );
    for remedy in code.remedies {
        let _ = writeln!(page, "- {remedy}");
    }
    page
}

/// What the program prints.
fn ask(words: &[&str]) -> Result<String> {
    let program = workspace::build_pg_autoctl(false)?;
    let mut command = Command::new(&program);
    // Its own variables decide which commands it shows.
    command.args(words).env_clear();
    let said = command::capture(&mut command, HELP)?;
    anyhow::ensure!(
        said.status.success(),
        "`pg_autoctl {}`: {}",
        words.join(" "),
        said.stderr
    );
    Ok(format!("{}{}", said.stdout, said.stderr)
        .trim_end()
        .to_owned())
}

/// The tree of commands, and what each of them says about itself.
fn commands() -> Result<String> {
    let tree = ask(&["help"])?;
    let mut page = format!(
        "# Commands\n\nMade by `cargo xtask docs` from the program's own help; do not edit.\n\n```text\n{tree}\n```\n"
    );
    for words in leaves(&tree) {
        let words: Vec<_> = words.split(' ').collect();
        let usage = ask(&[&words[..], &["--help"]].concat())?;
        let _ = write!(page, "\n## {}\n\n```text\n{usage}\n```\n", words.join(" "));
    }
    Ok(page)
}

/// The commands without sub-commands, as words after `pg_autoctl`. A heading of the tree is a line of
/// words alone, a command stands below it, marked `+` when it has a heading of its own.
fn leaves(tree: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut group = "";
    for line in tree.lines() {
        if let Some(heading) = line.trim_start().strip_prefix("pg_autoctl") {
            group = heading.trim();
        } else if let Some(name) = line.split_whitespace().next()
            && name != "+"
        {
            found.push(format!("{group} {name}").trim().to_owned());
        }
    }
    found
}

fn scenarios() -> Result<String> {
    let mut page = String::from(
        "# Scenarios\n\nMade by `cargo xtask docs`; do not edit.\n\nA scenario is a story, one step a line; `#` begins a comment. Nodes are `node1`, `node2`, …\n\
         in the order of their creation, or `primary` and `standby`, looked up when the step runs. Times are\n`30s`, `1.5s` or `500ms`. \
         `cargo xtask scenario NAME` runs one on real Postgres.\n\n## Steps\n\n| Step | Meaning |\n|---|---|\n",
    );
    for (_, form, meaning) in VERBS {
        let _ = writeln!(page, "| `{}` | {meaning} |", form.replace('|', "\\|"));
    }
    page.push_str("\n## Stories\n\n| Scenario | Story |\n|---|---|\n");
    for name in scenario::names()? {
        let story = scenario::read(&name)?.story.replace('\n', " ");
        let _ = writeln!(page, "| [{name}](../../scenarios/{name}.txt) | {story} |");
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_of_the_help_tree_are_found() {
        let tree = "  pg_autoctl\n  + create  Create\n    run     Run it\n\n  pg_autoctl create\n    monitor  A monitor\n  + more  More\n\n  pg_autoctl create more\n    thing  A thing\n";
        assert_eq!(leaves(tree), ["run", "create monitor", "create more thing"]);
    }
}
