//! Help and usage texts, in the old program's layout.

use std::fmt::Write;

use crate::options::Opt;
use crate::tree::{Body, Command, Leaf};

/// The least width of an option name in a help text; keeps short lists aligned with each other.
const LEAST_OPTION_WIDTH: usize = 12;

/// The list of one level: a line per command, `+` before those that have sub-commands.
pub(crate) fn list(breadcrumb: &str, level: &[Command]) -> String {
    let width = level
        .iter()
        .map(|command| command.name.len())
        .max()
        .unwrap_or(0);
    let mut text = format!("  {breadcrumb}\n");
    for Command {
        name,
        summary,
        body,
    } in level
    {
        let mark = match body {
            Body::Group(_) => '+',
            Body::Leaf(_) => ' ',
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {mark} {name:width$}  {summary}");
    }
    text
}

/// What is printed below an error about a word: the list of that level.
pub(crate) fn commands(breadcrumb: &str, level: &[Command]) -> String {
    format!("Available commands:\n{}\n", list(breadcrumb, level))
}

/// The help of a group.
pub(crate) fn group(breadcrumb: &str, summary: Option<&str>, level: &[Command]) -> String {
    let head = match summary {
        Some(summary) => format!("{breadcrumb}: {summary}\nusage: {breadcrumb}\n\n"),
        None => format!("{breadcrumb}\nusage: {breadcrumb} [ --verbose --quiet ]\n\n"),
    };
    format!("{head}{}", commands(breadcrumb, level))
}

/// The help of a command.
pub(crate) fn leaf(breadcrumb: &str, summary: &str, leaf: &Leaf) -> String {
    let mut text = format!(
        "{breadcrumb}: {summary}\nusage: {breadcrumb} {}\n\n",
        leaf.usage
    );
    let options: Vec<&Opt> = leaf
        .options
        .iter()
        .flat_map(|table| table.iter())
        .filter(|option| !option.help.is_empty())
        .collect();
    let width = options
        .iter()
        .map(|option| option.long.len() + 2)
        .max()
        .unwrap_or(0)
        .max(LEAST_OPTION_WIDTH);
    for option in options {
        let name = format!("--{}", option.long);
        let _ = writeln!(text, "  {name:width$}  {}", option.help);
    }
    text.push('\n');
    text
}

/// The whole tree, group after group.
pub(crate) fn tree(breadcrumb: &str, level: &[Command]) -> String {
    let mut text = list(breadcrumb, level);
    text.push('\n');
    for command in level {
        if let Body::Group(children) = &command.body {
            text.push_str(&tree(&format!("{breadcrumb} {}", command.name), children));
        }
    }
    text
}
