//! The wishes of a `create` that has not registered yet, kept in the init file.
//!
//! A killed `create` goes on with them, also when `run` finishes its work. Removed once the
//! monitor has answered: from then on the monitor's word counts.

use std::path::Path;

use pgaf_keeper::Joining;
use pgaf_protocol::GroupId;
use serde::{Deserialize, Serialize};

use crate::config::ini;
use crate::error::{ExitCode, Failure};

#[derive(Debug, Serialize, Deserialize)]
struct Wishes {
    candidate_priority: u32,
    replication_quorum: bool,
    #[serde(default)]
    group: Option<GroupId>,
}

/// Stores the wishes.
///
/// # Errors
/// Exit code 3.
pub(crate) fn store(path: &Path, joining: &Joining) -> Result<(), Failure> {
    let wishes = Wishes {
        candidate_priority: joining.candidate_priority,
        replication_quorum: joining.replication_quorum,
        group: joining.group,
    };
    let failure = || {
        Failure::error(
            ExitCode::BadState,
            format!("Failed to write the init state file \"{}\"", path.display()),
        )
    };
    let text = serde_json::to_string(&wishes).map_err(|error| failure().because(&error))?;
    ini::replace(path, &text).map_err(|error| failure().because(&error))
}

/// The stored wishes, or the defaults.
///
/// # Errors
/// Exit code 3 for a file that cannot be read.
pub(crate) fn read(path: &Path) -> Result<Joining, Failure> {
    let failure = || {
        Failure::error(
            ExitCode::BadState,
            format!("Failed to read the init state file \"{}\"", path.display()),
        )
        .hint("remove it and repeat `pg_autoctl create postgres`")
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Joining::default()),
        Err(error) => return Err(failure().because(&error)),
    };
    let wishes: Wishes = serde_json::from_str(&text).map_err(|error| failure().because(&error))?;
    Ok(Joining {
        candidate_priority: wishes.candidate_priority,
        replication_quorum: wishes.replication_quorum,
        group: wishes.group,
    })
}

/// Removes the wishes.
pub(crate) fn forget(path: &Path) {
    // A file that stays is read once more and changes nothing for a registered node.
    drop(std::fs::remove_file(path));
}
