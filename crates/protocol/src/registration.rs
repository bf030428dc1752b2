//! How a node joins.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{CopyId, FormationId, GroupId, Lineage, NodeId, NodeState, Term};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Plain Postgres.
    #[default]
    Standalone,
    /// A Citus coordinator.
    Coordinator,
    /// A Citus worker.
    Worker,
}

impl NodeKind {
    /// The label on the wire and in the configuration file.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
        }
    }
}

/// A wish to join a group. Repeating it with the same `token` gives the same node again: a killed
/// `create` goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Registration {
    /// [`crate::PROTOCOL_VERSION`] of the keeper.
    pub protocol: u32,
    /// A random number that the keeper wrote to its disk before it asked, hexadecimal.
    pub token: String,
    /// The formation; it must exist.
    pub formation: FormationId,
    /// The wanted name; empty: the monitor chooses `node_<id>`.
    pub name: String,
    /// The address of its Postgres.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The database that applications use; the first node decides the formation's.
    pub dbname: String,
    /// What it is.
    #[serde(default)]
    pub kind: NodeKind,
    /// The wanted group; `None`: the monitor places it.
    #[serde(default)]
    pub group: Option<GroupId>,
    /// An id it had before (a node that comes back after its monitor was replaced).
    #[serde(default)]
    pub node: Option<NodeId>,
    /// 0 (never primary) to 100.
    pub candidate_priority: u32,
    /// Whether its acknowledgement counts.
    pub replication_quorum: bool,
    /// The Citus cluster (`default`, or that of read replicas).
    pub cluster: String,
    /// The system identifier of a data directory that exists already.
    #[serde(default)]
    pub system_identifier: Option<u64>,
    /// The copy it already has.
    #[serde(default)]
    pub copy: Option<CopyId>,
    /// Whether that copy's control file says that it is a standby's.
    #[serde(default)]
    pub is_standby: bool,
}

/// The monitor's yes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registered {
    /// [`crate::PROTOCOL_VERSION`] of the monitor.
    pub protocol: u32,
    /// The monitor's store.
    pub lineage: Lineage,
    /// The node's id.
    pub node: NodeId,
    /// Its group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Its first goal's state; the goal itself comes as the answer to the first report.
    pub state: NodeState,
    /// The group's term at that moment.
    pub term: Term,
    /// Priority in force.
    pub candidate_priority: u32,
    /// Quorum in force.
    pub replication_quorum: bool,
}
