//! What a keeper tells the monitor.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{
    CopyId, FormationId, GroupId, History, Incarnation, Lineage, Lsn, MetadataSeen, NodeId,
    NodeState, Position, Stamp, Term, TimelineId,
};

/// Everything a keeper sees, sent when something changed and at least every heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Report {
    /// [`crate::PROTOCOL_VERSION`] of the keeper.
    pub protocol: u32,
    /// The formation it was registered in.
    pub formation: FormationId,
    /// Its group.
    pub group: GroupId,
    /// Its id.
    pub node: NodeId,
    /// The monitor's store it has pinned.
    #[serde(default)]
    pub lineage: Option<Lineage>,
    /// The incarnation whose goal it obeys; `None` before the first answer of this run.
    #[serde(default)]
    pub incarnation: Option<Incarnation>,
    /// The highest (term, sequence) ever seen.
    pub seen: Stamp,
    /// The last goal whose order was carried out in full. `state` is that goal's.
    pub reached: Stamp,
    /// The state it is in.
    pub state: NodeState,
    /// The contents of its data directory; `None` when there is none, or not a whole one.
    #[serde(default)]
    pub copy: Option<CopyId>,
    /// What that copy was last.
    #[serde(default)]
    pub role: CopyRole,
    /// Postgres' system identifier.
    #[serde(default)]
    pub system_identifier: Option<u64>,
    /// Postgres itself.
    pub postgres: Postgres,
    /// Timeline and LSN: written by a primary, received by a standby. `None` when unknown.
    #[serde(default)]
    pub position: Option<Position>,
    /// Replayed up to here (standby).
    #[serde(default)]
    pub replayed: Option<Lsn>,
    /// Bytes of WAL that crash recovery would have to redo now.
    #[serde(default)]
    pub redo_bytes: Option<u64>,
    /// The history of the copy's timeline.
    #[serde(default)]
    pub history: Option<History>,
    /// The promise that stands.
    #[serde(default)]
    pub promise: Option<Promise>,
    /// The last configuration seen in force (`safety.md` §2).
    #[serde(default)]
    pub confirmed: Option<Confirmed>,
    /// Term and sequence of the goal whose checkpoint was done.
    #[serde(default)]
    pub checkpointed: Option<Stamp>,
    /// A primary's walsenders with one of our names.
    #[serde(default)]
    pub standbys: Vec<StandbySeen>,
    /// A standby's upstream.
    #[serde(default)]
    pub upstream: Option<UpstreamSeen>,
    /// The answer to the monitor's wish for a fresh look.
    #[serde(default)]
    pub look: Option<Look>,
    /// Settings that a standby must not have lower than its primary.
    #[serde(default)]
    pub gate: Option<GateSettings>,
    /// Starts of Postgres that failed in a row since it last ran.
    #[serde(default)]
    pub failed_starts: u32,
    /// What is being done at the moment and takes long.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// What stands in the way of the goal, for people.
    #[serde(default)]
    pub trouble: Option<String>,
    /// The keeper is stopping, with its Postgres.
    #[serde(default)]
    pub leaving: bool,
    /// The primary has fenced itself: it serves replication and keepers only (`safety.md` §5.1).
    #[serde(default)]
    pub closed: bool,
    /// The lease mode that is journaled ([`crate::Lead::lease`]), while a fencer runs: Postgres ends
    /// with the lease, whatever becomes of the keeper (`safety.md` §5.3).
    #[serde(default)]
    pub leased: Option<Stamp>,
    /// The coordinator's primary: its node metadata.
    #[serde(default)]
    pub metadata: Option<MetadataSeen>,
    /// Hosts whose sessions this node refuses at present.
    #[serde(default)]
    pub shut_out: Vec<String>,
}

/// What a data directory was used as last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyRole {
    /// Nothing yet.
    #[default]
    None,
    /// It was opened for writing in this term, and not started as a standby since.
    Primary {
        /// That term.
        term: Term,
    },
    /// It has been a standby.
    Standby,
}

/// Postgres, as its keeper sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Postgres {
    /// Not there: no data directory.
    #[default]
    Absent,
    /// Stopped, or crashed.
    Down {
        /// It ended without being told to.
        crashed: bool,
    },
    /// Starting, or replaying WAL before it answers.
    Starting,
    /// Answers queries.
    Running {
        /// When its postmaster started: microseconds since 1970, by the node's own clock.
        since: i64,
        /// Whether it is a standby.
        in_recovery: bool,
    },
    /// The process lives, and does not answer within the deadline.
    Unresponsive,
}

impl Postgres {
    /// Whether it answers queries.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// Whether it answers queries and takes writes.
    #[must_use]
    pub fn is_primary(self) -> bool {
        matches!(
            self,
            Self::Running {
                in_recovery: false,
                ..
            }
        )
    }

    /// Whether it answers queries and is a standby.
    #[must_use]
    pub fn is_standby(self) -> bool {
        matches!(
            self,
            Self::Running {
                in_recovery: true,
                ..
            }
        )
    }
}

/// "This copy takes no WAL from, and as a primary acknowledges nothing in, any term older than
/// `term`; it has received up to `position`."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// The term it was given for.
    pub term: Term,
    /// The copy that gave it.
    pub copy: CopyId,
    /// How far it got; `None` while that is being read, or when it cannot be read to the end.
    pub position: Option<Position>,
}

/// A configuration that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Confirmed {
    /// The entry on the list of possible configurations.
    pub stamp: Stamp,
    /// The start of the postmaster it was seen in (a restart voids it).
    pub postmaster_start: i64,
}

/// One of our walsenders, as the primary sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StandbySeen {
    /// The node.
    pub node: NodeId,
    /// `pg_stat_replication.state` is `streaming`.
    pub streaming: bool,
    /// Flushed up to here.
    pub flushed: Lsn,
    /// Bytes between the primary's flush position and that.
    pub lag_bytes: u64,
    /// A reply that differs from the one before came within `unhealthy_timeout`.
    pub fresh: bool,
    /// Its `sync_state` is `sync` or `quorum`.
    pub synchronous: bool,
}

/// The upstream, as a standby sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UpstreamSeen {
    /// The node it streams from.
    pub node: NodeId,
    /// The WAL receiver is `streaming`.
    pub streaming: bool,
    /// A message came from it within `unhealthy_timeout`.
    pub fresh: bool,
    /// The timeline it streams.
    pub timeline: TimelineId,
}

/// A witness' fresh look at a peer's Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Look {
    /// The number of the wish.
    pub number: u64,
    /// The node that was looked at.
    pub node: NodeId,
    /// A new connection got an answer.
    pub connected: bool,
    /// A replication message came from it within the last 2 s.
    pub heard: bool,
}

/// Settings that a standby needs at least as high as its primary to be promotable.
///
/// Source: Postgres manual, "Hot Standby", administrator's overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct GateSettings {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

impl GateSettings {
    /// The name of the first setting that is lower here than at `primary`.
    #[must_use]
    pub fn lower_than(&self, primary: &Self) -> Option<&'static str> {
        [
            (
                "max_connections",
                self.max_connections,
                primary.max_connections,
            ),
            (
                "max_worker_processes",
                self.max_worker_processes,
                primary.max_worker_processes,
            ),
            (
                "max_wal_senders",
                self.max_wal_senders,
                primary.max_wal_senders,
            ),
            (
                "max_prepared_transactions",
                self.max_prepared_transactions,
                primary.max_prepared_transactions,
            ),
            (
                "max_locks_per_transaction",
                self.max_locks_per_transaction,
                primary.max_locks_per_transaction,
            ),
        ]
        .into_iter()
        .find(|(_, here, there)| here < there)
        .map(|(name, _, _)| name)
    }
}

/// Something that takes long, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// What is done, for people: "base backup from node 1".
    pub what: String,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, when known.
    #[serde(default)]
    pub total_bytes: Option<u64>,
}
