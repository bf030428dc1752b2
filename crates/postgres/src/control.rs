//! The control file of a data directory, read through `pg_controldata`.
//!
//! Owns the words that `pg_controldata` prints. It must never read the file itself: its layout
//! changes with each major version.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pgaf_protocol::{GateSettings, Lsn, Position, TimelineId};

use crate::command::{CommandError, Invocation};
use crate::locate::Installation;

/// How long `pg_controldata` may take (chosen; it takes 3 ms).
const ASK: Duration = Duration::from_secs(10);
/// How often a broken file is looked at again, in case it was being written (chosen).
const TORN_READS: usize = 3;
/// The pause between two looks (chosen; the write of 8 KiB takes microseconds).
const TORN_PAUSE: Duration = Duration::from_millis(10);

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
    /// Size of a page in it, in bytes.
    pub wal_page_bytes: u32,
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
pub async fn read(postgres: &Installation, pgdata: &Path) -> Result<Control, ControlError> {
    let mut last = ask(postgres, pgdata).await?;
    // While Postgres runs the file may be read in the middle of a write, as pg_controldata's own
    // manual says; the next look sees it whole.
    for _ in 0..TORN_READS {
        if !matches!(last, Control::Corrupt { .. }) {
            break;
        }
        tokio::time::sleep(TORN_PAUSE).await;
        last = ask(postgres, pgdata).await?;
    }
    Ok(last)
}

async fn ask(postgres: &Installation, pgdata: &Path) -> Result<Control, ControlError> {
    let shown = pgdata.display().to_string();
    match std::fs::metadata(pgdata.join("global/pg_control")) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Control::Missing),
        Err(source) => {
            return Err(ControlError::Look {
                pgdata: shown,
                source,
            });
        }
    }
    let done = Invocation::new(&postgres.program("pg_controldata"))
        .arg("-D")
        .arg(pgdata)
        .deadline(ASK)
        .run()
        .await
        .map_err(|source| ControlError::Run {
            pgdata: shown,
            source,
        })?;
    let corrupt = |reason: String| Ok(Control::Corrupt { reason });
    if !done.status.success() {
        return corrupt(done.reason());
    }
    // A wrong checksum is a warning to pg_controldata, on standard output up to version 16.
    let warning = done
        .stdout
        .lines()
        .chain(done.stderr.iter().map(String::as_str));
    if let Some(warning) = warning
        .into_iter()
        .find(|l| l.to_ascii_uppercase().contains("WARNING"))
    {
        return corrupt(warning.to_owned());
    }
    match parse(&done.stdout) {
        Ok(data) => Ok(Control::Present(Box::new(data))),
        Err(label) => corrupt(format!("pg_controldata shows no valid `{label}`")),
    }
}

/// Reads what `pg_controldata` prints in the C locale; an error names the label that is missing.
///
/// Source: `src/bin/pg_controldata/pg_controldata.c` of Postgres 13 to 18.
fn parse(text: &str) -> Result<ControlData, &'static str> {
    let lines: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(label, value)| (label.trim(), value.trim()))
        .collect();
    let text = |label: &'static str| lines.get(label).copied().ok_or(label);
    let lsn = |label| text(label)?.parse::<Lsn>().map_err(|_| label);
    let number = |label| text(label)?.parse::<u32>().map_err(|_| label);
    // Places in the WAL are divided by these.
    let size =
        |label| number(label).and_then(|n| Some(n).filter(|n| n.is_power_of_two()).ok_or(label));
    let min_recovery_end = Position {
        timeline: TimelineId(number("Min recovery ending loc's timeline")?),
        lsn: lsn("Minimum recovery ending location")?,
    };
    Ok(ControlData {
        state: state(text("Database cluster state")?).ok_or("Database cluster state")?,
        system_identifier: text("Database system identifier")?
            .parse()
            .map_err(|_| "Database system identifier")?,
        control_version: number("pg_control version number")?,
        catalog_version: number("Catalog version number")?,
        checkpoint: lsn("Latest checkpoint location")?,
        redo: lsn("Latest checkpoint's REDO location")?,
        timeline: TimelineId(number("Latest checkpoint's TimeLineID")?),
        previous_timeline: TimelineId(number("Latest checkpoint's PrevTimeLineID")?),
        min_recovery_end: min_recovery_end.lsn.is_valid().then_some(min_recovery_end),
        backup_start: Some(lsn("Backup start location")?).filter(|lsn| lsn.is_valid()),
        end_of_backup_required: text("End-of-backup record required")? == "yes",
        segment_bytes: size("Bytes per WAL segment")?,
        wal_page_bytes: size("WAL block size")?,
        checksums: number("Data page checksum version")? != 0,
        wal_log_hints: text("wal_log_hints setting")? == "on",
        gate: GateSettings {
            max_connections: number("max_connections setting")?,
            max_worker_processes: number("max_worker_processes setting")?,
            max_wal_senders: number("max_wal_senders setting")?,
            max_prepared_transactions: number("max_prepared_xacts setting")?,
            max_locks_per_transaction: number("max_locks_per_xact setting")?,
        },
    })
}

fn state(text: &str) -> Option<ClusterState> {
    Some(match text {
        "starting up" => ClusterState::StartingUp,
        "shut down" => ClusterState::ShutDown,
        "shut down in recovery" => ClusterState::ShutDownInRecovery,
        "shutting down" => ClusterState::ShuttingDown,
        "in crash recovery" => ClusterState::InCrashRecovery,
        "in archive recovery" => ClusterState::InArchiveRecovery,
        "in production" => ClusterState::InProduction,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDBY: &str = include_str!("control/standby.txt");

    #[test]
    fn what_pg_controldata_prints_is_understood() {
        let data = parse(STANDBY).unwrap();
        assert_eq!(data.state, ClusterState::ShutDownInRecovery);
        assert_eq!(data.system_identifier, 7_712_044_573_283_203_039);
        assert_eq!(
            (data.checkpoint, data.redo),
            (Lsn(0x174_14F8), Lsn(0x174_14F8))
        );
        assert_eq!(
            (data.timeline, data.previous_timeline),
            (TimelineId(2), TimelineId(1))
        );
        let end = Position {
            timeline: TimelineId(2),
            lsn: Lsn(0x3_0000_0110),
        };
        assert_eq!(data.min_recovery_end, Some(end));
        assert_eq!(data.backup_start, None);
        assert!(data.checksums && !data.wal_log_hints && data.allows_rewind());
        assert_eq!(data.gate.max_wal_senders, 10);
    }

    #[test]
    fn a_missing_line_and_a_new_word_are_named() {
        let without = STANDBY.replace("Latest checkpoint's TimeLineID", "x");
        assert_eq!(parse(&without), Err("Latest checkpoint's TimeLineID"));
        let strange = STANDBY.replace("shut down in recovery", "on holiday");
        assert_eq!(parse(&strange), Err("Database cluster state"));
        let empty = STANDBY.replace("16777216", "0");
        assert_eq!(parse(&empty), Err("Bytes per WAL segment"));
    }
}
