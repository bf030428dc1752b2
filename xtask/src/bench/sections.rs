//! docs/benchmarks.md is one page of several runs: each bench writes the section of its name and leaves
//! the others, and what people wrote between them.

use anyhow::{Context, Result};

use crate::{console, workspace};

/// The page.
const PAGE: &str = "docs/benchmarks.md";

/// Writes a section, in place of the one of that name, or at the end of the page.
///
/// # Errors
/// When the page cannot be read or written, or a section has no end.
pub(super) fn write(name: &str, text: &str) -> Result<()> {
    let path = workspace::root().join(PAGE);
    let page = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    let page = put(&page, name, text)?;
    std::fs::write(&path, page).with_context(|| format!("cannot write `{}`", path.display()))?;
    console::good(&format!("{PAGE}: section {name} is written"));
    Ok(())
}

fn put(page: &str, name: &str, text: &str) -> Result<String> {
    let begin = format!("<!-- begin {name}: written by `cargo xtask bench`, do not edit -->\n");
    let end = format!("<!-- end {name} -->\n");
    let section = format!("{begin}{}\n{end}", text.trim_end());
    let Some((before, rest)) = page.split_once(&begin) else {
        return Ok(format!("{}\n\n{section}", page.trim_end()));
    };
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("section {name} of {PAGE} has no end"))?;
    Ok(format!("{before}{section}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_name_only() {
        let page = put("# Page\n", "a", "old").unwrap();
        let page = put(&page, "b", "other\n").unwrap();
        let page = put(&page, "a", "new").unwrap();
        let [begin, end] =
            ["begin", "end"].map(|word| page.matches(&format!("<!-- {word} ")).count());
        assert_eq!((begin, end), (2, 2));
        assert!(page.starts_with("# Page\n\n<!-- begin a:"));
        assert!(page.contains("\nnew\n<!-- end a -->\n"));
        assert!(page.contains("\nother\n<!-- end b -->\n"));
        assert!(!page.contains("old"));
        let broken = page.replace("<!-- end b -->\n", "");
        assert!(put(&broken, "b", "x").is_err());
    }
}
