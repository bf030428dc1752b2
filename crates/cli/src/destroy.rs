//! Removes what a node or monitor left on this machine, when the user says so.
//!
//! Owns deletion. Must never remove a directory that does not look like ours.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use pgaf_postgres::postmaster::{Postmaster, StopMode};

use crate::error::{ExitCode, Failure};
use crate::target::Local;

/// How long a fast stop may take. Source: `pg_ctl --wait`.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// What a data directory of Postgres, or of our monitor, has.
const MARKS: &[&str] = &[
    "PG_VERSION",
    "pgaf_monitor.db",
    "postgresql.conf",
    "server.key",
];

/// Stops the Postgres of a node, if it runs.
///
/// # Errors
/// Exit code 5 when it goes on.
pub(crate) async fn stop_postgres(local: &Local) -> Result<(), Failure> {
    let failure = || {
        Failure::fatal(
            ExitCode::PgCtl,
            format!(
                "Failed to stop Postgres at \"{}\"",
                local.paths.pgdata.display()
            ),
        )
        .hint("nothing was removed")
    };
    let running = Postmaster::adopt(&local.paths.pgdata)
        .await
        .map_err(|error| failure().because(&error))?;
    let Some(postmaster) = running else {
        return Ok(());
    };
    tracing::info!("Stopping Postgres with pid {}", postmaster.pid());
    postmaster
        .stop_and_wait(StopMode::Fast, STOP_LIMIT)
        .await
        .map(drop)
        .ok_or_else(failure)
}

/// Removes the files of the keeper's memory: the node is registered anew next time.
///
/// # Errors
/// Exit code 12.
pub(crate) fn forget_state(local: &Local) -> Result<(), Failure> {
    remove_file(&local.paths.state)?;
    remove_file(&local.paths.init)
}

/// Removes everything: state, data directory, and the configuration file last, so that a failed
/// attempt can be repeated.
///
/// # Errors
/// Exit code 5 when Postgres goes on, 12 when something cannot be removed.
pub(crate) fn everything(local: &Local) -> Result<(), Failure> {
    crate::commands::block_on(stop_postgres(local))?;
    forget_state(local)?;
    remove_file(&local.paths.nodes)?;
    remove_directory(&local.paths.pgdata)?;
    remove_file(&local.paths.config)
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::error(
        ExitCode::Internal,
        format!("Failed to remove \"{}\"", path.display()),
    )
    .because(error)
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Ok(()) => {
            tracing::info!("Removing \"{}\"", path.display());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot(path, &error)),
    }
}

/// Removes a directory; one that is a mount point is emptied.
fn remove_directory(path: &Path) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if !empty && !MARKS.iter().any(|mark| path.join(mark).exists()) {
        return Err(Failure::error(
            ExitCode::Internal,
            format!(
                "\"{}\" does not look like a data directory: it stays",
                path.display()
            ),
        )
        .hint("remove it by hand if it is no longer needed"));
    }
    tracing::info!("Removing \"{}\"", path.display());
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        // A mount point: what it held is gone, and that was the wish.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        Err(error) => Err(cannot(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("letter.txt"), "dear").unwrap();
        assert!(remove_directory(folder.path()).is_err());
        assert!(folder.path().join("letter.txt").exists());
        fs::write(folder.path().join("PG_VERSION"), "15").unwrap();
        remove_directory(folder.path()).unwrap();
        assert!(!folder.path().exists());
    }
}
