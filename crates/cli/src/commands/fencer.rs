//! `do fencer`: the process that a keeper starts beside a primary which holds a lease.

use super::Context;
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::paths;

/// Guards the data directory until the lease is over, then ends Postgres.
pub(crate) fn run(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let paths = paths::of_command(parsed.value("pgdata"))?;
    let file = pgaf_keeper::file_beside(&paths.state);
    pgaf_keeper::fence(&file, &paths.pgdata).map_err(|error| {
        Failure::fatal(ExitCode::Internal, "nothing guards the lease").because(&error)
    })
}
