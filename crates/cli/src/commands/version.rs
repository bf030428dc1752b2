//! `version`, and `--version` anywhere.

use pgaf_protocol::API_VERSION;
use serde_json::json;

use super::Context;
use crate::error::Failure;
use crate::options::parse::Parsed;
use crate::render::{json, out};

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What stands where the old program names the Postgres it was compiled with: we link none.
const WIRE: &str = "PostgreSQL wire protocol 3.0 (no server libraries)";

/// Prints the version.
pub(crate) fn run(context: &Context<'_>, _parsed: &Parsed) -> Result<(), Failure> {
    print(context.json)
}

/// Prints the version, as JSON or as the old program's four lines.
pub(crate) fn print(as_json: bool) -> Result<(), Failure> {
    if as_json {
        // The old keys stay: tools compare pgautofailover with the monitor's version.
        out::stdout(&json::pretty(&json!({
            "pg_autoctl": VERSION,
            "pgautofailover": API_VERSION,
            "pg_major": "",
            "pg_version": "",
            "pg_version_str": WIRE,
            "pg_version_num": 0,
        })));
    } else {
        out::stdout(&format!(
            "pg_autoctl version {VERSION}\n\
             pg_autoctl extension version {API_VERSION}\n\
             compiled with {WIRE}\n\
             compatible with Postgres 13, 14, 15, 16 and 17\n"
        ));
    }
    Ok(())
}
