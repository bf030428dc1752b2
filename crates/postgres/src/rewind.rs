//! `pg_rewind`: taking a copy back to where it left the primary's history.
//!
//! Owns running it, its marker, and what of the node's own files must survive it. It must never be
//! cut short by a caller's deadline: half a rewind is no copy, and its marker says so.

use std::path::{Path, PathBuf};

use pgaf_protocol::{CopyId, NodeId};

use crate::command::CommandError;
use crate::conninfo::Conninfo;
use crate::locate::Installation;

/// What to rewind, to whom.
#[derive(Debug, Clone)]
pub struct Rewind<'a> {
    /// The programs.
    pub postgres: &'a Installation,
    /// The data directory; no process of it runs.
    pub pgdata: &'a Path,
    /// The current primary. Its password goes through the environment.
    pub source: &'a Conninfo,
    /// Who rewinds.
    pub node: NodeId,
    /// The name of the copy when it has been rewound.
    pub copy: CopyId,
    /// A folder *outside* of PGDATA (pg_rewind removes what the source does not have), on a local
    /// disk, that exists while a rewind is under way: marker and kept files.
    pub marker: &'a Path,
    /// Files and folders of the node, not of the data, relative to PGDATA: they are afterwards as
    /// they were, present or absent.
    pub keep: &'a [&'a str],
}

/// How a rewind ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewound {
    /// The copy can follow as it is; nothing was changed, its name stays.
    NotNeeded,
    /// It has been rewound, and has its new name.
    Done,
    /// It was refused or failed before it changed anything: the copy is what it was.
    Refused {
        /// What pg_rewind said.
        reason: String,
    },
    /// It failed in the middle: the copy is none any more, the marker stays, and a base backup has
    /// to replace it.
    Broken {
        /// What pg_rewind said.
        reason: String,
    },
}

/// Why a rewind could not even begin, or be completed around pg_rewind. When the marker is there
/// afterwards ([`interrupted`]), the copy is broken.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// Postgres runs there.
    #[error("processes of `{pgdata}` are still running: {pids:?}", pgdata = pgdata.display())]
    Running {
        /// The data directory.
        pgdata: PathBuf,
        /// Their process ids.
        pids: Vec<i32>,
    },
    /// A rewind or base backup was interrupted before: the copy is not one.
    #[error("an earlier rewind of `{pgdata}` did not end", pgdata = pgdata.display())]
    Interrupted {
        /// The data directory.
        pgdata: PathBuf,
    },
    /// pg_rewind cannot be run.
    #[error("cannot run pg_rewind")]
    Run(#[source] CommandError),
    /// Processes cannot be listed.
    #[error("cannot list processes")]
    Processes(#[source] std::io::Error),
    /// Marker or kept files cannot be written.
    #[error(transparent)]
    Durable(#[from] crate::durable::DurableError),
}

/// Rewinds. The work goes on in a task of its own when the caller stops waiting.
///
/// # Errors
/// [`RewindError`].
pub async fn rewind(
    _request: Rewind<'_>,
    _on_progress: impl FnMut(crate::basebackup::BackupProgress) + Send + 'static,
) -> Result<Rewound, RewindError> {
    todo!()
}

/// Whether a rewind was begun and never ended: the copy must not be started, only replaced.
#[must_use]
pub fn interrupted(_marker: &Path) -> bool {
    todo!()
}

/// Puts the node's own files that an interrupted rewind had saved into `staging`'s new copy.
///
/// # Errors
/// When they cannot be copied.
pub fn restore_kept(_marker: &Path, _directory: &Path) -> Result<(), crate::durable::DurableError> {
    todo!()
}

/// Forgets an interrupted rewind: after the copy was replaced.
///
/// # Errors
/// When the marker cannot be removed.
pub fn forget(_marker: &Path) -> Result<(), crate::durable::DurableError> {
    todo!()
}
