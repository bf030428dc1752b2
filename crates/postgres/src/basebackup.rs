//! Taking a base backup into a second directory.
//!
//! Owns `pg_basebackup`. It must never write into PGDATA, and never put a password into an
//! argument. The copy is put in place by [`crate::swap`], when it is whole.

use std::path::PathBuf;
use std::time::Duration;

use pgaf_protocol::{CopyId, NodeId};

use crate::command::CommandError;
use crate::conninfo::Conninfo;
use crate::locate::Installation;
use crate::swap::Staging;

/// Without progress for this long a base backup is given up (chosen: a checkpoint at the source,
/// which comes first, may take minutes on a busy disk).
pub const STALL: Duration = Duration::from_secs(300);

/// What to copy, from where.
#[derive(Debug, Clone)]
pub struct BaseBackup<'a> {
    /// The programs.
    pub postgres: &'a Installation,
    /// The source: the current primary. Its password goes through the environment; its
    /// `application_name` is replaced by `pgaf_basebackup_N`.
    pub source: &'a Conninfo,
    /// Who takes it.
    pub node: NodeId,
    /// The name of the new copy, written before it can be used.
    pub copy: CopyId,
    /// `--max-rate`, such as `100M`.
    pub max_rate: Option<&'a str>,
    /// Locations of the source's tablespaces (`pg_tablespace_location`): each goes into a new
    /// sibling directory here.
    pub tablespaces: &'a [PathBuf],
    /// Given up when nothing moves for this long; [`STALL`].
    pub stall: Duration,
}

/// How far it is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Received.
    pub done: u64,
    /// Expected: an estimate of the source.
    pub total: u64,
}

/// Why there is no base backup. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum BaseBackupError {
    /// Not enough room.
    #[error("not enough space in `{directory}`: {needed} bytes needed, {available} available", directory = directory.display())]
    Space {
        /// Where.
        directory: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        available: u64,
    },
    /// A tablespace of the source has its path taken here.
    #[error("the source has a tablespace at `{location}`, which is taken on this host", location = location.display())]
    Tablespace {
        /// The path.
        location: PathBuf,
    },
    /// `pg_basebackup` failed.
    #[error("pg_basebackup fails: {reason}")]
    Failed {
        /// The last lines it said.
        reason: String,
    },
    /// It did not run to its end, or made no progress.
    #[error("cannot take a base backup")]
    Run(#[source] CommandError),
    /// The copy cannot be completed or made durable.
    #[error(transparent)]
    Durable(#[from] crate::durable::DurableError),
}

/// Takes a base backup into `staging`, whole and on disk when this returns. Dropping the future
/// kills `pg_basebackup`; the staging directory is then incomplete, and the next
/// [`Staging::prepare`] removes it.
///
/// # Errors
/// [`BaseBackupError`].
pub async fn base_backup(
    _request: &BaseBackup<'_>,
    _staging: &Staging,
    _on_progress: impl FnMut(BackupProgress) + Send,
) -> Result<(), BaseBackupError> {
    todo!()
}
