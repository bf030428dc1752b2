//! The end of valid WAL of a stopped data directory: its position (`safety.md` §1).
//!
//! Reads `pg_wal` itself, record by record, as Postgres' own recovery does: `pg_waldump` sleeps for
//! five seconds at a segment that is not there, and prints what need not be printed. It must never
//! be asked about a copy whose Postgres runs.

mod chain;
mod crc32c;
mod fork;
mod reader;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use pgaf_protocol::{Lsn, Position, TimelineId};

use crate::control::ControlData;
use chain::Chain;
pub use fork::remove_partial_forks;
use reader::Reader;

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
    /// Recovery has not seen the end of the base backup that the copy came from.
    #[error("WAL ends at {end}, and the copy is still within its base backup")]
    InBackup {
        /// Where valid WAL ends.
        end: Position,
    },
    /// A base backup that was never started: recovery has to begin elsewhere.
    #[error("`{path}` is there: the copy has not been recovered since it was made", path = .0.display())]
    BackupLabel(PathBuf),
    /// A timeline's history cannot be read.
    #[error(transparent)]
    History(#[from] crate::history::HistoryError),
}

/// Reads WAL from the checkpoint to its valid end: what the copy has received, to the last whole
/// record, on the timeline it would follow.
///
/// Measured: 1 ms after a recent checkpoint; 0.9 s for each GiB of WAL since the last one, ten times
/// that in a build without optimization.
///
/// # Errors
/// [`WalError`]: the copy has no position.
pub async fn end_of_valid_wal(pgdata: &Path, control: &ControlData) -> Result<Position, WalError> {
    blocking(pgdata, control, |pgdata, control| {
        read_to_end(pgdata, control).map(|last| last.end)
    })
    .await
}

/// The end of the last whole record in what a standby has received up to `received`; `replayed` is
/// where its replay stood. A receiver stops where it was cut off, often at the end of a page in the
/// middle of a record: replay never gets beyond its beginning, and no restart finds more.
///
/// May be asked while Postgres runs, for as long as nothing is received. Its commits are whole
/// records: nothing that was acknowledged ends after this position.
///
/// # Errors
/// [`WalError`].
pub async fn last_whole_record(
    pgdata: &Path,
    control: &ControlData,
    replayed: Lsn,
    received: Lsn,
) -> Result<Position, WalError> {
    blocking(pgdata, control, move |pgdata, control| {
        let mut reader = Reader::new(Chain::of(pgdata, control)?, control);
        let (mut end, mut previous) = (replayed, None);
        while let Some(record) = reader.record(end, previous)?
            && record.end <= received
        {
            (end, previous) = (record.end, Some(record.start));
        }
        Ok(reader.chain().position(end))
    })
    .await
}

/// The last record of valid WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// Its first byte.
    pub(crate) start: Lsn,
    /// The first byte after it.
    pub(crate) end: Position,
}

/// As [`end_of_valid_wal`], with the place of the last record.
pub(crate) async fn last_record(
    pgdata: &Path,
    control: &ControlData,
) -> Result<LastRecord, WalError> {
    blocking(pgdata, control, read_to_end).await
}

/// The end of the shutdown checkpoint that the control file names: what a standby must have
/// received to have everything.
///
/// # Errors
/// [`WalError::NotShutdown`] when the last checkpoint is not a shutdown's.
pub async fn shutdown_checkpoint_end(
    pgdata: &Path,
    control: &ControlData,
) -> Result<Position, WalError> {
    blocking(pgdata, control, |pgdata, control| {
        let mut reader = Reader::new(Chain::of(pgdata, control)?, control);
        let at = Position {
            timeline: control.timeline,
            lsn: control.checkpoint,
        };
        let record = reader.record(at.lsn, None)?.ok_or(WalError::NoRecord(at))?;
        if !record.is_shutdown() {
            return Err(WalError::NotShutdown(at));
        }
        Ok(Position {
            timeline: control.timeline,
            lsn: record.end,
        })
    })
    .await
}

async fn blocking<T: Send + 'static>(
    pgdata: &Path,
    control: &ControlData,
    read: impl FnOnce(&Path, &ControlData) -> Result<T, WalError> + Send + 'static,
) -> Result<T, WalError> {
    let (pgdata, control) = (pgdata.to_owned(), control.clone());
    tokio::task::spawn_blocking(move || read(&pgdata, &control))
        .await
        .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

fn read_to_end(pgdata: &Path, control: &ControlData) -> Result<LastRecord, WalError> {
    let label = pgdata.join("backup_label");
    if label.exists() {
        return Err(WalError::BackupLabel(label));
    }
    let mut reader = Reader::new(Chain::of(pgdata, control)?, control);
    let begin = Position {
        timeline: control.timeline,
        lsn: control.checkpoint,
    };
    let mut last = reader
        .record(begin.lsn, None)?
        .ok_or(WalError::NoRecord(begin))?;
    while let Some(next) = reader.record(last.end, Some(last.start))? {
        last = next;
    }
    let end = reader.chain().position(last.end);
    if let Some(needed) = control
        .min_recovery_end
        .filter(|needed| end.lsn < needed.lsn)
    {
        return Err(WalError::Incomplete { end, needed });
    }
    if control.backup_start.is_some() || control.end_of_backup_required {
        return Err(WalError::InBackup { end });
    }
    Ok(LastRecord {
        start: last.start,
        end,
    })
}

/// Bytes of WAL from the last checkpoint's redo point on: what a crash recovery would have to read
/// at most, to the end of the last segment in use. Looks at the first bytes of each segment only.
#[must_use]
pub fn redo_bytes(pgdata: &Path, control: &ControlData) -> u64 {
    let size = u64::from(control.segment_bytes).max(1);
    let Ok(chain) = Chain::of(pgdata, control) else {
        return 0;
    };
    let mut number = control.redo.0 / size;
    // A recycled segment has its new name, and its old contents, until it is used.
    while let Some((_, path)) = chain.file(number, TimelineId(0)) {
        if first_address(&path) != Some(number * size) {
            break;
        }
        number += 1;
    }
    (number * size).saturating_sub(control.redo.0)
}

/// `xlp_pageaddr` of a segment's first page.
fn first_address(path: &Path) -> Option<u64> {
    let mut header = [0; 16];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    header.last_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
