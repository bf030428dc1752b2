//! The parser: clap reads the words, this file gives the answers the old program's way.
//!
//! Owns the mapping from option tables to clap, and from clap's errors to `getopt_long`'s texts.
//! Abbreviated long options are accepted as long as they are not ambiguous.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use super::{Opt, Takes};

/// Where the positional arguments of a command end up.
const ARGUMENTS: &str = "\0arguments";

/// What the user gave to one command.
#[derive(Debug)]
pub(crate) struct Parsed {
    matches: ArgMatches,
}

impl Parsed {
    /// The value of an option, when the command has it and the user gave it.
    pub(crate) fn value(&self, long: &str) -> Option<&str> {
        self.matches
            .try_get_one::<String>(long)
            .ok()
            .flatten()
            .map(String::as_str)
    }

    /// Whether a flag was given.
    pub(crate) fn flag(&self, long: &str) -> bool {
        self.matches
            .try_get_one::<bool>(long)
            .ok()
            .flatten()
            .copied()
            .unwrap_or(false)
    }

    /// How often a counted option was given.
    pub(crate) fn count(&self, long: &str) -> u8 {
        self.matches
            .try_get_one::<u8>(long)
            .ok()
            .flatten()
            .copied()
            .unwrap_or(0)
    }

    /// The arguments that are not options, in order.
    pub(crate) fn arguments(&self) -> Vec<&str> {
        self.matches
            .try_get_many::<String>(ARGUMENTS)
            .ok()
            .flatten()
            .map(|words| words.map(String::as_str).collect())
            .unwrap_or_default()
    }
}

/// Reads `words` with the given tables. On error: the line that `getopt_long` would print.
pub(crate) fn parse(command: &str, tables: &[&[Opt]], words: &[String]) -> Result<Parsed, String> {
    let options: Vec<Opt> = tables
        .iter()
        .flat_map(|table| table.iter().copied())
        .collect();
    match build(&options).try_get_matches_from(words) {
        Ok(matches) => Ok(Parsed { matches }),
        Err(error) => Err(complaint(command, &options, &error)),
    }
}

fn build(options: &[Opt]) -> clap::Command {
    let mut command = clap::Command::new("pg_autoctl")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        .arg(Arg::new(ARGUMENTS).num_args(0..).action(ArgAction::Append));
    for option in options {
        let mut arg = Arg::new(option.long).long(option.long);
        if let Some(letter) = option.short {
            arg = arg.short(letter);
        }
        arg = match option.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Count => arg.action(ArgAction::Count),
            Takes::Value => arg
                .action(ArgAction::Set)
                .num_args(1)
                .allow_hyphen_values(true),
        };
        command = command.arg(arg);
    }
    command
}

/// The text of `getopt_long` for what clap refused.
fn complaint(command: &str, options: &[Opt], error: &clap::Error) -> String {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    };
    // clap shows an option that takes a value as `--pgdata <pgdata>`, and a counted one as
    // `--verbose...`.
    let name = word.split([' ', '=', '.']).next().unwrap_or_default();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "clap adds kinds; the tables can only cause those named here"
    )]
    let text = match error.kind() {
        ErrorKind::UnknownArgument => unknown(options, name),
        ErrorKind::TooManyValues => format!("option '{name}' doesn't allow an argument"),
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => {
            format!("option '{name}' requires an argument")
        }
        _ => error.kind().to_string(),
    };
    format!("{command}: {text}")
}

fn unknown(options: &[Opt], name: &str) -> String {
    let Some(prefix) = name.strip_prefix("--") else {
        return match name.strip_prefix('-') {
            Some(letter) => format!("invalid option -- '{letter}'"),
            None => format!("unexpected argument '{name}'"),
        };
    };
    let possible: Vec<String> = options
        .iter()
        .filter(|option| option.long.starts_with(prefix))
        .map(|option| format!("'--{}'", option.long))
        .collect();
    if possible.is_empty() {
        format!("unrecognized option '{name}'")
    } else {
        format!(
            "option '{name}' is ambiguous; possibilities: {}",
            possible.join(" ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables;
    use super::*;

    fn read(words: &[&str]) -> Result<Parsed, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse("state", &[tables::SHOW_STATE, tables::COMMON], &words)
    }

    #[test]
    fn long_options_may_be_abbreviated_and_take_both_forms_of_value() {
        let parsed = read(&["--pgd", "/a", "--form=b", "-vv", "-g3", "--js"]).unwrap();
        assert_eq!(parsed.value("pgdata"), Some("/a"));
        assert_eq!(parsed.value("formation"), Some("b"));
        assert_eq!(parsed.value("group"), Some("3"));
        assert_eq!(parsed.count("verbose"), 2);
        assert!(parsed.flag("json"));
    }

    #[test]
    fn the_last_of_a_repeated_option_counts() {
        let parsed = read(&["--pgdata", "/a", "--pgdata", "/b", "--json", "--json"]).unwrap();
        assert_eq!(parsed.value("pgdata"), Some("/b"));
    }

    #[test]
    fn complaints_read_as_those_of_getopt() {
        assert_eq!(
            read(&["--bogus"]).unwrap_err(),
            "state: unrecognized option '--bogus'"
        );
        assert_eq!(read(&["-Z"]).unwrap_err(), "state: invalid option -- 'Z'");
        assert_eq!(
            read(&["--pgdata"]).unwrap_err(),
            "state: option '--pgdata' requires an argument"
        );
        assert_eq!(
            read(&["--json=1"]).unwrap_err(),
            "state: option '--json' doesn't allow an argument"
        );
        assert_eq!(
            read(&["--ver"]).unwrap_err(),
            "state: option '--ver' is ambiguous; possibilities: '--version' '--verbose'"
        );
    }

    #[test]
    fn a_value_may_look_like_an_option_and_two_dashes_end_options() {
        let parsed = read(&["--pgdata", "-x", "--", "-1"]).unwrap();
        assert_eq!(parsed.value("pgdata"), Some("-x"));
        assert_eq!(parsed.arguments(), ["-1"]);
    }
}
