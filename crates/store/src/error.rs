//! What can go wrong, and whether trying again can help.

use std::path::PathBuf;

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store, and none was to be made.
    #[error("there is no monitor store at `{}`", .0.display())]
    Missing(PathBuf),
    /// Another process has it open.
    #[error("the store `{path}` is in use by another monitor (process {holder})", path = .path.display())]
    InUse {
        /// The database file.
        path: PathBuf,
        /// What the lock file says: a process id, or `unknown`.
        holder: String,
    },
    /// A newer program wrote it.
    #[error("the store `{path}` has schema version {found}, this program reads up to {known}", path = .path.display())]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Version in the file.
        found: i64,
        /// Version of this program.
        known: i64,
    },
    /// A file beside the database cannot be read or written.
    #[error("cannot use `{path}`", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file beside the database is not what it should be.
    #[error("`{path}` is damaged: {reason}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// SQLite refuses.
    #[error("cannot open the store `{path}`", path = .path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
}

/// Why a call of a store has no answer. Clonable: one failed transaction answers many callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A key is not as the batch expects: read again, decide again.
    #[error("the value of `{key}` was changed by somebody else")]
    Conflict {
        /// The key.
        key: String,
    },
    /// No space, no quota, or a size limit.
    #[error("the monitor's disk is full: {reason}")]
    Full {
        /// The reason in SQLite's or the system's words.
        reason: String,
    },
    /// The file system or the file does not take writes.
    #[error("the monitor's store is read-only: {reason}")]
    ReadOnly {
        /// The reason in SQLite's or the system's words.
        reason: String,
    },
    /// The write may or may not have happened: load again before going on.
    #[error("the outcome of a write to the monitor's store is not known: {reason}")]
    Uncertain {
        /// The reason.
        reason: String,
    },
    /// Too many calls wait.
    #[error("the monitor's store is overloaded: {waiting} calls wait")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The store was closed, or its thread ended.
    #[error("the monitor's store is closed")]
    Closed,
    /// Anything else that SQLite or the system says.
    #[error("the monitor's store failed: {reason}")]
    Failed {
        /// The reason.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same batch may succeed later without being made anew.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Full { .. } | Self::ReadOnly { .. } | Self::Busy { .. } => true,
            Self::Conflict { .. } | Self::Uncertain { .. } | Self::Closed | Self::Failed { .. } => {
                false
            }
        }
    }

    /// Whether the disk takes no writes at present.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::ReadOnly { .. })
    }
}
