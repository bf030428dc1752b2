//! `cargo xtask docs`: the pages under `docs/reference/`, made from the code that they describe.
//! `verify` fails when one is stale.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pgaf_sim::script::VERBS;

use crate::{console, scenario, workspace};

/// A page: its file, and what makes its text.
type Page = (&'static str, fn() -> Result<String>);

const PAGES: &[Page] = &[("scenarios.md", scenarios)];

/// Writes every page.
///
/// # Errors
/// When one cannot be made or written.
pub(crate) fn run() -> Result<()> {
    for (name, make) in PAGES {
        let path = path(name);
        let folder = path.parent().context("a page has no folder")?;
        let text = make()?;
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        console::good(&format!("docs/reference/{name}"));
    }
    Ok(())
}

/// The pages that are not as they would be made.
///
/// # Errors
/// When one cannot be made.
pub(crate) fn stale() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, make) in PAGES {
        if std::fs::read_to_string(path(name)).ok() != Some(make()?) {
            found.push(format!(
                "docs/reference/{name} is stale: `cargo xtask docs` makes it anew"
            ));
        }
    }
    Ok(found)
}

fn path(name: &str) -> PathBuf {
    workspace::root().join("docs/reference").join(name)
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
