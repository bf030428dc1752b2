//! Reads option values: booleans, numbers, ports, the old program's way.

use crate::error::{ExitCode, Failure};

/// Reads a boolean as Postgres does: `true false yes no on off 1 0`, and unique prefixes.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let prefix = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if prefix("true", 1) || prefix("yes", 1) || text == "on" || text == "1" {
        Some(true)
    } else if prefix("false", 1) || prefix("no", 1) || prefix("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// Reads an integer option within bounds, both included.
pub(crate) fn integer(option: &str, text: &str, low: i64, high: i64) -> Result<i64, Failure> {
    match text.trim().parse::<i64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(Failure::fatal(
            ExitCode::BadArgs,
            format!("{option} argument is not valid: \"{text}\""),
        )
        .hint(format!("use a number from {low} to {high}"))),
    }
}

/// Reads a TCP port.
pub(crate) fn port(option: &str, text: &str) -> Result<u16, Failure> {
    let number = integer(option, text, 1, i64::from(u16::MAX))?;
    u16::try_from(number).map_err(|error| Failure::bad_args("port out of range").because(&error))
}

/// Reads a group id.
pub(crate) fn group(text: &str) -> Result<i32, Failure> {
    let number = integer("--group", text, 0, i64::from(i32::MAX))?;
    i32::try_from(number).map_err(|error| Failure::bad_args("group out of range").because(&error))
}

/// Reads `--wait`: seconds, 0 is without limit where the command says so.
pub(crate) fn seconds(option: &str, text: &str) -> Result<u64, Failure> {
    let number = integer(option, text, 0, i64::from(i32::MAX))?;
    u64::try_from(number).map_err(|error| Failure::bad_args("wait out of range").because(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_read_as_in_postgres() {
        for text in ["true", "t", "TRUE", "yes", "y", "on", "1", "tr"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["false", "f", "no", "n", "off", "of", "0"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "o", "2", "maybe", "truely"] {
            assert_eq!(boolean(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_outside_their_bounds_are_refused() {
        assert!(port("--pgport", "0").is_err());
        assert!(port("--pgport", "65536").is_err());
        assert_eq!(port("--pgport", "5432").unwrap(), 5432);
        assert!(integer("--group", "x", 0, 3).is_err());
    }
}
