//! Turning synchronous replication on and seeing names in force (`safety.md` §2).

use super::PgTime;

/// What came of an attempt to see names in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// In force, in this run of the postmaster.
    Confirmed {
        /// Which run.
        postmaster_start: PgTime,
        /// The effective value.
        value: String,
    },
    /// Not proved within the deadline; try again.
    NotYet(NotYet),
    /// The effective value is not ours.
    Overridden {
        /// The setting.
        setting: String,
        /// Its effective value.
        value: String,
        /// File, or other source.
        place: String,
    },
    /// Two walsenders have this name.
    DuplicateName(String),
}

/// What a confirmation still waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotYet {
    /// No probe transaction could be made to wait; names are back at `''`.
    NoCommitWaits,
    /// No new session has seen the reload.
    ReloadNotSeen,
    /// These standbys have not flushed what was written after the reload.
    Standbys(Vec<String>),
    /// Fewer named standbys stream than the configuration needs.
    Quorum {
        /// How many have flushed.
        flushed: usize,
        /// How many must.
        needed: usize,
    },
}
