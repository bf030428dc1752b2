//! What the keeper sees of its Postgres.

use std::time::Duration;

use pgaf_protocol::{Lsn, TimelineId};

use super::PgTime;

/// A setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The value.
    pub value: String,
    /// `pg_settings.source`.
    pub source: String,
    /// `pg_settings.sourcefile`.
    pub file: Option<String>,
}

/// Settings that must not be lower on a standby than on its primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// `max_connections`.
    pub max_connections: i32,
    /// `max_worker_processes`.
    pub max_worker_processes: i32,
    /// `max_wal_senders`.
    pub max_wal_senders: i32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: i32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: i32,
}

/// The WAL receiver of a standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// `streaming`, `starting`, `waiting`, …
    pub status: String,
    /// Whom it is connected to.
    pub host: Option<String>,
    /// Port there.
    pub port: Option<i32>,
    /// How long ago the last message came.
    pub last_message_age: Option<Duration>,
    /// The slot it uses.
    pub slot: Option<String>,
}

/// One walsender of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalSender {
    /// Backend process id.
    pub pid: i32,
    /// `application_name`.
    pub application_name: String,
    /// `streaming`, `catchup`, `backup`, …
    pub state: String,
    /// End of what the standby has flushed.
    pub flushed: Option<Lsn>,
    /// End of what it has replayed.
    pub replayed: Option<Lsn>,
    /// Time on the *standby's* clock of its last reply: only a change of it says something.
    pub reply_time: Option<PgTime>,
    /// `sync`, `quorum`, `potential`, `async`.
    pub sync_state: String,
}

/// One look at the local Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Timeline it writes, receives, or has replayed.
    pub timeline: TimelineId,
    /// Start of the postmaster.
    pub postmaster_start: PgTime,
    /// Last load of the configuration.
    pub conf_loaded: PgTime,
    /// On a primary: end of the WAL that is flushed. On a standby: the greater of received and
    /// replayed.
    pub lsn: Lsn,
    /// On a standby: end of what was received, since its start.
    pub received: Option<Lsn>,
    /// On a standby: end of what was replayed.
    pub replayed: Option<Lsn>,
    /// On a standby: its WAL receiver.
    pub receiver: Option<Receiver>,
    /// Standbys and backups that are connected here.
    pub senders: Vec<WalSender>,
    /// Settings that decide whether this node can be promoted.
    pub limits: Limits,
    /// `synchronous_standby_names`.
    pub names: Effective,
    /// `system_identifier`.
    pub system_identifier: u64,
    /// `server_version_num`.
    pub version_num: i32,
}
