//! The end of valid WAL of a stopped data directory: its position (`safety.md` §1).
//!
//! Reads `pg_wal` itself, record by record, as Postgres' own recovery does: `pg_waldump` sleeps for
//! five seconds at a segment that is not there, and prints what need not be printed. It must never
//! be asked about a copy whose Postgres runs.

use std::path::{Path, PathBuf};

use pgaf_protocol::{Lsn, Position};

use crate::control::ControlData;

/// Why a copy has no position.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A file of `pg_wal` cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// There is no valid record where the control file says that one is.
    #[error("there is no valid WAL record at {0}")]
    NoRecord(Position),
    /// The record at the checkpoint's place is not the record of a shutdown.
    #[error("the record at {0} is not that of a shutdown")]
    NotShutdown(Position),
    /// WAL ends before the copy is consistent: an incomplete base backup or rewind.
    #[error("WAL ends at {end}, the copy is not consistent before {needed}")]
    Incomplete {
        /// Where valid WAL ends.
        end: Position,
        /// How far it must reach.
        needed: Position,
    },
    /// A base backup that was never started: recovery has to begin elsewhere.
    #[error("`{0}` is there: the copy has not been recovered since it was made")]
    BackupLabel(PathBuf),
    /// A timeline's history cannot be read.
    #[error(transparent)]
    History(#[from] crate::history::HistoryError),
}

/// Reads WAL from the checkpoint to its valid end: what the copy has received, to the last whole
/// record, on the timeline it would follow.
///
/// # Errors
/// [`WalError`]: the copy has no position.
pub async fn end_of_valid_wal(
    _pgdata: &Path,
    _control: &ControlData,
) -> Result<Position, WalError> {
    todo!()
}

/// The end of the shutdown checkpoint that the control file names: what a standby must have received to have everything.
///
/// # Errors
/// [`WalError::NotShutdown`] when the last checkpoint is not a shutdown's.
pub async fn shutdown_checkpoint_end(
    _pgdata: &Path,
    _control: &ControlData,
) -> Result<Position, WalError> {
    todo!()
}

/// Bytes of WAL from the last checkpoint's redo point to the newest segment: what a crash recovery
/// would have to read at most. Looks at file names only.
#[must_use]
pub fn redo_bytes(_pgdata: &Path, _redo: Lsn) -> u64 {
    todo!()
}
