//! What the monitor remembers: durable, one value per group.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use pgaf_protocol::{
    Confirmed, CopyId, CopyRole, FormationId, Goal, GroupId, History, Incarnation, Lineage, NodeId,
    NodeKind, NodeState, Position, Possible, Promise, Sequence, Stamp, Term, TimelineId,
};
use serde::{Deserialize, Serialize};

/// Everything one monitor remembers. The shell stores `formations`' groups one by one; the rest
/// is small.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cluster {
    /// The life of this store; a restore renews it.
    pub lineage: Lineage,
    /// This run of the monitor on it.
    pub incarnation: Incarnation,
    /// The next node's id; above all that were ever heard of.
    pub next_node: NodeId,
    /// Ids of nodes that were removed: their keepers are told so, explicitly.
    pub dropped: BTreeSet<NodeId>,
    /// All formations.
    pub formations: BTreeMap<FormationId, Formation>,
}

/// Whether a formation is plain Postgres or Citus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One group, number 0.
    #[default]
    Pgsql,
    /// Group 0 is the coordinator, every other group a worker.
    Citus,
}

/// A whole service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Formation {
    /// Its name.
    pub id: FormationId,
    /// What it consists of.
    pub kind: Kind,
    /// The database that applications use.
    pub dbname: String,
    /// Whether groups may have standbys.
    pub opt_secondary: bool,
    /// How many standbys must have a commit, clamped per group (`design.md` §4).
    pub number_sync_standbys: u32,
    /// Whether an operator set that number by hand.
    pub number_set_by_hand: bool,
    /// Its groups.
    pub groups: BTreeMap<GroupId, Group>,
}

/// One primary and its standbys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Group {
    /// The formation it belongs to.
    pub formation: FormationId,
    /// Its number.
    pub id: GroupId,
    /// The highest term.
    pub term: Term,
    /// The last sequence that was given out.
    pub sequence: Sequence,
    /// The highest timeline number that is used: opened, or promised to a candidate.
    pub used_timeline: TimelineId,
    /// The node that is primary, or was last, and the term it was chosen in.
    pub primary: Option<Leader>,
    /// The history of that primary's timeline, as it last said.
    pub history: Option<History>,
    /// Where a change of primary stands.
    pub phase: Phase,
    /// Configurations that may be in force, oldest first (`safety.md` §1).
    pub possible: Vec<Possible>,
    /// Its nodes, those being dropped included.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The store may not be a continuation of itself: `''` counts as possible, nothing opens,
    /// shrinks or promotes until these have reported (`safety.md` §8).
    pub doubted: Option<BTreeSet<NodeId>>,
    /// The primary goes on only with a lease: it is asynchronous by choice (`safety.md` §5.3).
    #[serde(default)]
    pub lease: Option<LeaseMode>,
}

/// A primary's lease mode: with it, what the primary acknowledged alone ends with its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseMode {
    /// When it was asked for: the primary's term, and a sequence of its own.
    pub since: Stamp,
    /// The primary's copy.
    pub copy: CopyId,
    /// The primary has journaled it, and its fencer runs. Nothing counts before that.
    pub reported: bool,
}

/// Who is primary since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// Its data directory; unknown until the first node of a group has made it.
    pub copy: Option<CopyId>,
    /// The term it leads.
    pub term: Term,
}

/// Where a change of primary stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// No change under way.
    #[default]
    Steady,
    /// A planned move: the primary checkpoints and the candidate catches up; writes go on.
    Preparing(Election),
    /// The term is raised and promises are asked for.
    Collecting(Election),
    /// Enough was promised; the candidate's configuration is on the list and it is told to promote.
    Promoting {
        /// The candidate.
        node: NodeId,
        /// Its data directory.
        copy: CopyId,
        /// What it must have received: the greatest position over all that was promised.
        position: Position,
    },
}

/// A change of primary before its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Election {
    /// Why, for events and `explain`.
    pub reason: String,
    /// The old primary is well and asked to stop: it is a switchover.
    pub planned: bool,
    /// The node an operator named.
    pub target: Option<NodeId>,
    /// The planned candidate, once its wait for the old primary's end has begun.
    pub reaching: Option<(NodeId, Position)>,
    /// A Citus worker's planned candidate, once the coordinator is asked to hold writes for it.
    #[serde(default)]
    pub hold: Option<NodeId>,
    /// The candidate that takes the WAL it lacks from another member (`safety.md` §4.5).
    #[serde(default)]
    pub fetching: Option<Fetching>,
    /// Who could not fetch from whom in time: others come first.
    #[serde(default)]
    pub tried: BTreeSet<(NodeId, NodeId)>,
    /// The old primary's own keeper said that its Postgres is down: it was not silent.
    #[serde(default)]
    pub own_words: bool,
}

/// A candidate on its way to a position that another member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fetching {
    /// The candidate.
    pub node: NodeId,
    /// Who has promised, and has that position.
    pub source: NodeId,
    /// How far the candidate must get.
    pub position: Position,
    /// Another candidate has everything already, and this one's priority is higher: it gets little
    /// time.
    pub preferred: bool,
}

/// What a node that was told to fetch may still do, and what it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fetched {
    /// The goal that told it so.
    pub stamp: Stamp,
    /// It has promised again since: it receives nothing any more.
    pub done: bool,
    /// The copy that promised before, and how far: a base backup that has as much stands for it.
    pub before: Option<(CopyId, Position)>,
}

/// A node of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name, unique in the formation.
    pub name: String,
    /// Where its Postgres listens; (host, port) is unique over all formations.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// What it is.
    pub kind: NodeKind,
    /// The Citus cluster.
    pub cluster: String,
    /// The token of its registration.
    pub token: String,
    /// 0 (never primary) to 100.
    pub candidate_priority: u32,
    /// Whether its acknowledgement counts.
    pub replication_quorum: bool,
    /// Its last reported state.
    pub reported: NodeState,
    /// What it is told.
    pub goal: Goal,
    /// Its data directory.
    pub copy: Option<CopyId>,
    /// What that was last.
    pub role: CopyRole,
    /// Postgres' system identifier.
    pub system_identifier: Option<u64>,
    /// Its last promise.
    pub promise: Option<Promise>,
    /// The last configuration it confirmed, as primary.
    pub confirmed: Option<Confirmed>,
    /// A former position: never for a promise; for people, and for what a failover that rests on a
    /// lease may lose.
    pub position: Option<Position>,
    /// The copy that was checked against the history of this term's primary: it may stream.
    pub admitted: Option<(Term, CopyId)>,
    /// An operator removes it.
    pub leaving: bool,
    /// An operator maintains it, or asked for that: it stands back, and is left alone.
    #[serde(default)]
    pub maintenance: bool,
    /// It was told to fetch WAL from another member (`safety.md` §4.5).
    #[serde(default)]
    pub fetched: Option<Fetched>,
}

/// Something that happened: a row of `pgautofailover.event`, and a `state` notification.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// The node it is about.
    pub node: NodeId,
    /// Its group.
    pub group: GroupId,
    /// Its state as reported at that moment.
    pub reported: NodeState,
    /// Its goal at that moment.
    pub goal: NodeState,
    /// The rule or fact behind it: words with dashes.
    pub rule: String,
    /// One sentence.
    pub description: String,
}

/// Why an operation was refused: the group is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    /// SQLSTATE (`monitor-sql-api.md` §4.1).
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal with a hint.
    #[must_use]
    pub fn new(sqlstate: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            sqlstate: sqlstate.into(),
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

impl Node {
    /// Whether it is in maintenance already: the monitor leaves it alone.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.maintenance && self.goal.state == NodeState::Maintenance
    }

    /// Whether an operator asked for its maintenance, and it has not begun.
    pub(super) fn is_about_to_rest(&self) -> bool {
        self.maintenance && !self.rests()
    }
}

impl Phase {
    /// The word for `explain`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Preparing(_) => "preparing",
            Self::Collecting(_) => "collecting",
            Self::Promoting { .. } => "promoting",
        }
    }
}
