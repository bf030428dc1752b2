//! The control file of a data directory, read through `pg_controldata`.
//!
//! Owns the words that `pg_controldata` prints. It must never read the file itself: its layout
//! changes with each major version.

use std::path::Path;

use pgaf_protocol::{GateSettings, Lsn, Position, TimelineId};

use crate::command::CommandError;
use crate::locate::Installation;

/// `Database cluster state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Never started.
    StartingUp,
    /// Stopped cleanly as a primary.
    ShutDown,
    /// Stopped cleanly as a standby.
    ShutDownInRecovery,
    /// Was stopping as a primary when it ended.
    ShuttingDown,
    /// In crash recovery, or ended there.
    InCrashRecovery,
    /// A standby that runs, or that crashed.
    InArchiveRecovery,
    /// A primary that runs, or that crashed.
    InProduction,
}

impl ClusterState {
    /// Whether the last stop was a clean one, as primary or standby.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }

    /// Whether the copy was last open for writing.
    #[must_use]
    pub const fn was_primary(self) -> bool {
        matches!(
            self,
            Self::ShutDown | Self::ShuttingDown | Self::InProduction
        )
    }
}

/// What the control file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlData {
    /// State at the last write of the file.
    pub state: ClusterState,
    /// The identity of the cluster, from initdb on.
    pub system_identifier: u64,
    /// `pg_control version number`: 1300 for Postgres 13 to 16, 1700, 1800.
    pub control_version: u32,
    /// `Catalog version number`.
    pub catalog_version: u32,
    /// Start of the latest checkpoint record.
    pub checkpoint: Lsn,
    /// Where redo begins.
    pub redo: Lsn,
    /// The timeline of that checkpoint.
    pub timeline: TimelineId,
    /// The timeline before it, the same one unless the checkpoint began a timeline.
    pub previous_timeline: TimelineId,
    /// A standby is consistent from here on only.
    pub min_recovery_end: Option<Position>,
    /// Start of the base backup that recovery is still within.
    pub backup_start: Option<Lsn>,
    /// Recovery must see the end-of-backup record.
    pub end_of_backup_required: bool,
    /// Size of a WAL segment, in bytes.
    pub segment_bytes: u32,
    /// Data checksums are on.
    pub checksums: bool,
    /// `wal_log_hints`.
    pub wal_log_hints: bool,
    /// The settings that a standby must not have lower.
    pub gate: GateSettings,
}

impl ControlData {
    /// Whether `pg_rewind` can work on this copy.
    #[must_use]
    pub const fn allows_rewind(&self) -> bool {
        self.checksums || self.wal_log_hints
    }
}

/// A control file, or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A whole one.
    Present(Box<ControlData>),
    /// There is no `global/pg_control`.
    Missing,
    /// It is there, and is not a control file of this version, or its checksum is wrong.
    Corrupt {
        /// What `pg_controldata` says.
        reason: String,
    },
}

impl Control {
    /// The contents, when there are any.
    #[must_use]
    pub fn present(self) -> Option<ControlData> {
        match self {
            Self::Present(data) => Some(*data),
            Self::Missing | Self::Corrupt { .. } => None,
        }
    }
}

/// Why nothing is known about the control file.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// `pg_controldata` did not run to its end.
    #[error("cannot run pg_controldata on `{pgdata}`")]
    Run {
        /// The data directory.
        pgdata: String,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// The file cannot be looked at (permissions, I/O).
    #[error("cannot look at the control file of `{pgdata}`")]
    Look {
        /// The data directory.
        pgdata: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Reads the control file of a data directory, whether Postgres runs there or not. 3 ms.
///
/// # Errors
/// [`ControlError`] when that is not known; a missing or broken file is no error.
pub async fn read(_postgres: &Installation, _pgdata: &Path) -> Result<Control, ControlError> {
    todo!()
}
