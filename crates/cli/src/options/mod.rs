//! What each command accepts: option tables as data, and the parser that reads them.
//!
//! Owns option names, letters and help lines. Must never act on a value: `commands` do that.

pub(crate) mod create;
pub(crate) mod parse;
pub(crate) mod tables;
pub(crate) mod values;

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing: present or absent.
    Nothing,
    /// One value; the last one given counts.
    Value,
    /// Nothing, and it may be repeated: each one counts.
    Count,
}

/// One option of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt {
    /// The long name, without dashes.
    pub(crate) long: &'static str,
    /// The letter, where the old program accepts it.
    pub(crate) short: Option<char>,
    /// What follows it.
    pub(crate) takes: Takes,
    /// The help line; an empty one hides the option from the help.
    pub(crate) help: &'static str,
}

/// An option with a letter that takes a value.
pub(crate) const fn value(long: &'static str, short: char, help: &'static str) -> Opt {
    Opt {
        long,
        short: Some(short),
        takes: Takes::Value,
        help,
    }
}

/// An option without a letter that takes a value.
pub(crate) const fn long_value(long: &'static str, help: &'static str) -> Opt {
    Opt {
        long,
        short: None,
        takes: Takes::Value,
        help,
    }
}

/// An option with a letter that takes nothing.
pub(crate) const fn flag(long: &'static str, short: char, help: &'static str) -> Opt {
    Opt {
        long,
        short: Some(short),
        takes: Takes::Nothing,
        help,
    }
}

/// An option without a letter that takes nothing.
pub(crate) const fn long_flag(long: &'static str, help: &'static str) -> Opt {
    Opt {
        long,
        short: None,
        takes: Takes::Nothing,
        help,
    }
}
