//! Plain rows of the three tables of schema `pgautofailover`, as read-only SQL sees them.
//!
//! Column meanings are the old program's; times are microseconds since the Unix epoch (UTC), LSNs
//! are 64-bit positions.

use std::borrow::Cow;
use std::sync::Arc;

/// A word that is mostly a constant (a state's name).
pub type Word = Cow<'static, str>;

/// The monitor's state at one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Table `formation`, ordered by id.
    pub formations: Vec<FormationRow>,
    /// Table `node`, ordered by formation and id; rows may be shared between snapshots.
    pub nodes: Vec<Arc<NodeRow>>,
    /// What is known per group beyond its nodes.
    pub groups: Vec<GroupRow>,
    /// Settings as `SHOW pgautofailover.<name>` prints them: (name without prefix, value).
    pub settings: Vec<(Word, String)>,
}

/// A row of table `formation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormationRow {
    /// `formationid`
    pub formation: String,
    /// `kind`: `pgsql` or `citus`.
    pub kind: Word,
    /// `dbname`
    pub dbname: String,
    /// `opt_secondary`
    pub opt_secondary: bool,
    /// `number_sync_standbys`
    pub number_sync_standbys: i32,
}

/// A group's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// Its formation.
    pub formation: String,
    /// Its number.
    pub group: i32,
    /// The value of `synchronous_standby_names` that its primary has or shall have. A group that
    /// is not listed gets the old program's rule.
    pub synchronous_standby_names: String,
}

/// A row of table `node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// `formationid`
    pub formation: String,
    /// `nodeid`
    pub node_id: i64,
    /// `groupid`
    pub group: i32,
    /// `nodename`
    pub name: String,
    /// `nodehost`
    pub host: String,
    /// `nodeport`
    pub port: i32,
    /// `sysidentifier`
    pub system_identifier: Option<i64>,
    /// `goalstate`
    pub goal_state: Word,
    /// `reportedstate`
    pub reported_state: Word,
    /// `reportedpgisrunning`
    pub postgres_is_running: bool,
    /// `reportedrepstate`: `unknown`, `sync`, `async`, `quorum` or `potential`.
    pub replication_state: Word,
    /// `reporttime`
    pub report_time: i64,
    /// `reportedtli`
    pub timeline: i32,
    /// `reportedlsn`
    pub lsn: u64,
    /// `walreporttime`
    pub wal_report_time: i64,
    /// `health`: -1 unknown, 0 bad, 1 good.
    pub health: i32,
    /// `healthchecktime`
    pub health_check_time: i64,
    /// `statechangetime`
    pub state_change_time: i64,
    /// `candidatepriority`
    pub candidate_priority: i32,
    /// `replicationquorum`
    pub replication_quorum: bool,
    /// `nodecluster`
    pub cluster: String,
}

/// A row of table `event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// `eventid`
    pub event_id: i64,
    /// `eventtime`
    pub event_time: i64,
    /// `formationid`
    pub formation: String,
    /// `nodeid`
    pub node_id: i64,
    /// `groupid`
    pub group: i32,
    /// `nodename`
    pub name: String,
    /// `nodehost`
    pub host: String,
    /// `nodeport`
    pub port: i32,
    /// `reportedstate`
    pub reported_state: Word,
    /// `goalstate`
    pub goal_state: Word,
    /// `reportedrepstate`
    pub replication_state: Word,
    /// `reportedtli`
    pub timeline: i32,
    /// `reportedlsn`
    pub lsn: u64,
    /// `candidatepriority`
    pub candidate_priority: i32,
    /// `replicationquorum`
    pub replication_quorum: bool,
    /// `description`
    pub description: String,
}
