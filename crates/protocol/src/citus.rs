//! Citus: what the coordinator's node metadata should say, and what it says.
//!
//! The monitor states what is wanted, as a list; the keeper of the coordinator's primary makes
//! `pg_dist_node` so, and reports what it reads back. No side remembers a step.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{GroupId, NodeId, Term};

/// What a node of a Citus formation is told beside its goal; repeating it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct CitusOrders {
    /// To the coordinator's primary: the node metadata that is wanted.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// Another number than before: in-doubt distributed transactions that this node started are to
    /// be resolved, since node metadata that it knows has changed.
    #[serde(default)]
    pub recover: Option<u64>,
    /// Hosts whose sessions are refused and ended: initiators that were replaced without their
    /// promise (`safety.md` §9.4).
    #[serde(default)]
    pub shut_out: Vec<String>,
}

/// The wanted node metadata. What it does not name stays as it is: a partial list removes nobody.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// One for each group that is known to have a primary.
    pub rows: Vec<WantedRow>,
    /// Read replicas that are to be listed.
    #[serde(default)]
    pub replicas: Vec<Replica>,
    /// Groups that an operator has removed.
    #[serde(default)]
    pub removals: Vec<Removal>,
}

/// The row of a group's primary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WantedRow {
    /// The group; 0 is the coordinator itself.
    pub group: GroupId,
    /// The term that this primary is of, or will be.
    pub term: Term,
    /// The node.
    pub node: NodeId,
    /// Where its Postgres listens.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// How far the change of primary is.
    pub stage: Stage,
    /// Statements that hang on the old primary are ended rather than waited for.
    pub force: bool,
}

/// How far a change of primary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is about to be primary: writes to its group's shards are held by a prepared update.
    Hold,
    /// It is primary.
    Current,
}

/// A read replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// Its group.
    pub group: GroupId,
    /// Its Citus cluster.
    pub cluster: String,
    /// Where its Postgres listens.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// An operator has removed it.
    #[serde(default)]
    pub leaving: bool,
}

/// A group that was removed on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Removal {
    /// The group.
    pub group: GroupId,
    /// Its last term: a row of a later one stays.
    pub term: Term,
}

/// What the coordinator's keeper reads in its Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct MetadataSeen {
    /// Rows of primaries in `pg_dist_node`.
    pub rows: Vec<SeenRow>,
    /// Updates that are prepared.
    #[serde(default)]
    pub held: Vec<Held>,
    /// What stands in the way of the wanted metadata, for people.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A row of `pg_dist_node`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenRow {
    /// The group.
    pub group: GroupId,
    /// The term it was last set in; 0 when it was not us.
    pub term: Term,
    /// Where it points.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// It takes part.
    pub active: bool,
    /// That node knows the present node metadata.
    pub synced: bool,
}

/// A prepared update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// Of which group.
    pub group: GroupId,
    /// For which term.
    pub term: Term,
    /// To which node.
    pub node: NodeId,
}
