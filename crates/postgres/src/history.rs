//! Timeline history files in `pg_wal`.
//!
//! Owns `NNNNNNNN.history`: reading true ones, and the *empty* ones that mark a number as used
//! (`safety.md` §1). It must never write a true one: Postgres does, on promotion.

use std::path::{Path, PathBuf};

use pgaf_protocol::{History, Position, TimelineId};

use crate::durable::DurableError;

/// One `.history` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryFile {
    /// Its number.
    pub timeline: TimelineId,
    /// It is empty: a number that is used, and not a branch that anybody is on.
    pub empty: bool,
}

/// Why a history is not known, or not in place.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file or folder cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A line is not `timeline, LSN, reason`, or numbers do not grow.
    #[error("`{path}` is not a timeline history: line {line}", path = path.display())]
    Garbage {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An empty file cannot be made or removed.
    #[error(transparent)]
    Write(#[from] DurableError),
}

/// Reads the text of a history file: parents, oldest first.
///
/// # Errors
/// The number of the line that is wrong, from 1.
pub fn parse(_timeline: TimelineId, _text: &str) -> Result<History, usize> {
    todo!()
}

/// Writes a history as Postgres does; for tests and for comparing.
#[must_use]
pub fn render(_history: &History) -> String {
    todo!()
}

/// The history of `timeline` as this data directory knows it: `None` when it has no (true) file
/// for it. Timeline 1 needs none.
///
/// # Errors
/// [`HistoryError`].
pub fn read(_pgdata: &Path, _timeline: TimelineId) -> Result<Option<History>, HistoryError> {
    todo!()
}

/// Lists the history files of a data directory, lowest number first.
///
/// # Errors
/// [`HistoryError::Read`].
pub fn list(_pgdata: &Path) -> Result<Vec<HistoryFile>, HistoryError> {
    todo!()
}

/// Marks each number above `own` and below `next` as used, unless it has a file: immediately before
/// `pg_promote`, so that it opens `next` and no lower one. Answers the numbers it wrote.
///
/// # Errors
/// [`HistoryError`].
pub fn write_empty_history_files(
    _pgdata: &Path,
    _own: TimelineId,
    _next: TimelineId,
) -> Result<Vec<TimelineId>, HistoryError> {
    todo!()
}

/// Removes the empty files above `own` for which no true file with a higher number exists: before a
/// copy starts in recovery, which otherwise waits for those timelines for ever. Answers what it
/// removed.
///
/// # Errors
/// [`HistoryError`].
pub fn remove_empty_history_files(
    _pgdata: &Path,
    _own: TimelineId,
) -> Result<Vec<TimelineId>, HistoryError> {
    todo!()
}

/// Where a copy stands to a branch of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It can follow as it is.
    Fits,
    /// It has WAL past the point where the branch left its timeline.
    PastFork {
        /// That point.
        fork: Position,
    },
    /// Its timeline is no parent of the branch.
    Foreign,
}

/// Compares a position with a branch.
#[must_use]
pub fn relation(_history: &History, _position: Position) -> Relation {
    todo!()
}
