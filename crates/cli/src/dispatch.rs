//! From words to a command: walks the tree, reads the options, runs the leaf.
//!
//! Owns what happens before a command: the global options, help, unknown words. Its texts go to
//! stderr, in the old program's layout.

use crate::commands::{self, Context};
use crate::error::{ExitCode, Failure};
use crate::logging::{self, Verbosity};
use crate::options::parse::{self, Parsed};
use crate::options::tables;
use crate::render::{help, out};
use crate::tree::{self, Body, Command, Leaf};

/// Our own switch for JSON lines in the log; taken anywhere on the line, so that it cannot make an
/// abbreviation of the old program's options ambiguous.
const JSON_LOGS: &str = "--json-logs";

/// What the options before the first sub-command say.
#[derive(Debug, Default, Clone, Copy)]
struct Global {
    verbose: u8,
    quiet: bool,
    json: bool,
    json_logs: bool,
}

/// The commands of this environment.
pub(crate) fn root() -> &'static [Command] {
    if std::env::var_os("PG_AUTOCTL_DEBUG").is_some() {
        tree::DEBUG_ROOT
    } else {
        tree::ROOT
    }
}

/// Runs the command that `words` (without the program's name) ask for.
pub(crate) fn run(words: Vec<String>) -> Result<(), Failure> {
    let (mut words, json_logs) = take_json_logs(words);
    let mut global = Global {
        json_logs,
        ..Global::default()
    };
    let rest = words.split_off(leading_options(&words));
    let parsed = read_global(&words)?;
    global.verbose = parsed.count("verbose");
    global.quiet = parsed.flag("quiet");
    global.json = parsed.flag("json");
    if parsed.flag("version") {
        return commands::version::print(global.json);
    }
    if parsed.flag("help") {
        out::stderr(&help::group(tree::PROGRAM, None, root()));
        return Ok(());
    }
    walk(global, &rest)
}

fn take_json_logs(words: Vec<String>) -> (Vec<String>, bool) {
    let end = words
        .iter()
        .position(|word| word == "--")
        .unwrap_or(words.len());
    let found = words.iter().take(end).any(|word| word == JSON_LOGS);
    let mut index = 0;
    let kept = words
        .into_iter()
        .filter(|word| {
            index += 1;
            index > end || word != JSON_LOGS
        })
        .collect();
    (kept, found)
}

/// How many words come before the first sub-command. No global option takes a value.
fn leading_options(words: &[String]) -> usize {
    words
        .iter()
        .position(|word| !word.starts_with('-'))
        .unwrap_or(words.len())
}

fn read_global(words: &[String]) -> Result<Parsed, Failure> {
    parse::parse(tree::PROGRAM, &[tables::COMMON, tables::GLOBAL], words).map_err(|line| {
        out::stderr(&format!("{line}\n"));
        out::stderr(&help::group(tree::PROGRAM, None, root()));
        Failure::silent(ExitCode::BadArgs)
    })
}

fn walk(global: Global, words: &[String]) -> Result<(), Failure> {
    let mut breadcrumb = tree::PROGRAM.to_owned();
    let mut level = root();
    let mut words = words.iter();
    loop {
        let Some(word) = words.next() else {
            out::stderr(&format!("{breadcrumb}: expected a command\n\n"));
            out::stderr(&help::commands(&breadcrumb, level));
            return Err(Failure::silent(ExitCode::BadArgs));
        };
        let Some(command) = level.iter().find(|command| command.name == word) else {
            return stray_word(&breadcrumb, level, word);
        };
        breadcrumb = format!("{breadcrumb} {}", command.name);
        match &command.body {
            Body::Group(children) => {
                let rest = words.as_slice();
                if rest.first().is_some_and(|word| is_help(word)) {
                    out::stderr(&help::group(&breadcrumb, Some(command.summary), children));
                    return Ok(());
                }
                level = children;
            }
            Body::Leaf(leaf) => {
                return run_leaf(global, &breadcrumb, command, leaf, words.as_slice());
            }
        }
    }
}

fn is_help(word: &str) -> bool {
    word == "-h" || word == "--help"
}

fn stray_word(breadcrumb: &str, level: &[Command], word: &str) -> Result<(), Failure> {
    if word == "-V" || word == "--version" {
        return commands::version::print(false);
    }
    out::stderr(&format!("{breadcrumb}: {word}: unknown command\n\n"));
    out::stderr(&help::commands(breadcrumb, level));
    Err(Failure::silent(ExitCode::BadArgs))
}

fn run_leaf(
    mut global: Global,
    breadcrumb: &str,
    command: &Command,
    leaf: &Leaf,
    words: &[String],
) -> Result<(), Failure> {
    let usage = || help::leaf(breadcrumb, command.summary, leaf);
    let mut options: Vec<&[_]> = leaf.options.to_vec();
    options.push(tables::COMMON);
    let parsed = match parse::parse(command.name, &options, words) {
        Ok(parsed) => parsed,
        Err(_)
            if words
                .iter()
                .take_while(|word| *word != "--")
                .any(|word| is_help(word)) =>
        {
            out::stderr(&usage());
            return Ok(());
        }
        Err(line) => {
            out::stderr(&format!("{line}\n{}", usage()));
            return Err(Failure::silent(ExitCode::BadArgs));
        }
    };
    if parsed.flag("help") {
        out::stderr(&usage());
        return Ok(());
    }
    global.verbose = global.verbose.saturating_add(parsed.count("verbose"));
    global.quiet |= parsed.flag("quiet");
    global.json |= parsed.flag("json");
    logging::start(
        Verbosity::from_options(global.verbose, global.quiet),
        global.json_logs,
    );
    if parsed.flag("version") {
        return commands::version::print(global.json);
    }
    let arguments = parsed.arguments();
    if arguments.len() > leaf.arguments {
        let extra = arguments.get(leaf.arguments).copied().unwrap_or_default();
        out::stderr(&format!(
            "{}: unexpected argument '{extra}'\n{}",
            command.name,
            usage()
        ));
        return Err(Failure::silent(ExitCode::BadArgs));
    }
    let context = Context {
        breadcrumb,
        json: global.json,
        usage: &usage,
    };
    (leaf.run)(&context, &parsed)
}
