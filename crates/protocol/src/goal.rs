//! What the monitor tells a keeper.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{
    CitusOrders, CopyId, History, Incarnation, KeeperSettings, Lineage, Member, NodeId, NodeState,
    Position, Stamp, SyncConfig, TimelineId,
};

/// One goal: durable at the monitor before it is sent, journaled by the keeper before it acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Goal {
    /// Term and sequence. A keeper that has seen a higher one refuses this goal.
    pub stamp: Stamp,
    /// The state to report once the order has been carried out.
    pub state: NodeState,
    /// What exactly to do.
    pub order: Order,
    /// The rule that assigned it, for logs and `explain`.
    pub rule: String,
}

/// What a goal asks for; declarative: repeating it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    /// Nothing yet: registered, and the group is not ready.
    Wait,
    /// Be the primary of the goal's term.
    Lead(Lead),
    /// Be a standby of that term's primary.
    Follow(Follow),
    /// Promise for the goal's term, and report the position (`safety.md` §4.2-3).
    ///
    /// A standby stops receiving. A primary stops Postgres; `fast` (a planned move) first lets
    /// sessions go and standbys receive the shutdown record, otherwise nobody is waited for.
    Promise {
        /// Whether a primary stops with `fast`.
        fast: bool,
        /// Nodes that may fetch WAL from this copy: for each of them a slot exists.
        #[serde(default)]
        serves: BTreeSet<NodeId>,
    },
    /// The planned candidate: stay a standby of whom it follows, and report as soon as `position`
    /// has been received. Then promise as well: take nothing from older terms.
    Reach(Reach),
    /// The candidate that lacks WAL: take it from a member that has promised as well, from nobody
    /// else and no further than named; then promise again with the new position (`safety.md` §4.5).
    Fetch(Fetch),
    /// Become the primary of the goal's term; acknowledges nothing alone (`safety.md` §4.6).
    Promote(Promote),
    /// Stop Postgres once, and leave it to the operator from then on.
    Stop,
    /// The node has been removed: stop Postgres, say so, and end.
    Drop,
}

impl Order {
    /// Promise, and hand out nothing.
    #[must_use]
    pub fn promise(fast: bool) -> Self {
        Self::Promise {
            fast,
            serves: BTreeSet::new(),
        }
    }
}

/// How to be primary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Lead {
    /// The configuration to load and to confirm.
    pub sync: SyncConfig,
    /// When `sync` was put on the list; what a confirmation names.
    pub sync_stamp: Stamp,
    /// Copies that may stream: for each of them a slot exists, for nobody else (`safety.md` §2.5).
    pub admitted: BTreeSet<Member>,
    /// Members of the group whose WAL is held by a slot of another name until they are admitted.
    pub expected: BTreeSet<NodeId>,
    /// A data directory that does not exist may be created: the first node of a group only.
    pub may_create: bool,
    /// A planned move is near: checkpoint now, and report it.
    pub checkpoint: bool,
    /// Lease mode (`safety.md` §5.3), and since when: commits may be taken only while a lease is
    /// held and a fencer guards its end.
    #[serde(default)]
    pub lease: Option<Stamp>,
}

/// How to be a standby.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Follow {
    /// Whom to stream from.
    pub upstream: Peer,
    /// The history of that primary; `None` while it is being promoted.
    pub history: Option<History>,
    /// Whether the local copy may be rewound or replaced, when it cannot follow as it is.
    pub may_replace: bool,
}

/// How far the planned candidate must have received.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reach {
    /// The old primary's end.
    pub position: Position,
}

/// Where a candidate gets the WAL that it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fetch {
    /// Who has it: a member of the group that has promised for this term.
    pub source: Peer,
    /// How far that one got, and how far this one must get.
    pub position: Position,
    /// A copy that cannot go on from where it is: it is replaced by a base backup from the source.
    #[serde(default)]
    pub replace: Option<CopyId>,
}

/// How to become primary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promote {
    /// The names it opens under; loaded before the promotion.
    pub sync: SyncConfig,
    /// When they were put on the list.
    pub sync_stamp: Stamp,
    /// Copies that may stream at once; the others' slots stay absent.
    pub admitted: BTreeSet<Member>,
    /// What must have been received, and must be replayed before.
    pub position: Position,
    /// The number of the new timeline: every number between the copy's own and this one gets an
    /// empty history file first (`safety.md` §1).
    pub timeline: TimelineId,
}

/// Another node of the group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its Postgres listens.
    pub host: String,
    /// The port there.
    pub port: u16,
}

/// The right to go on as primary without further word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Milliseconds, counted by the keeper from *sending* the report that this answers.
    pub duration_ms: u32,
}

/// The answer to a report; also the payload of a push, then without a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// [`crate::PROTOCOL_VERSION`] of the monitor.
    pub protocol: u32,
    /// The monitor's store. A keeper pins it; another one voids what it has pinned.
    pub lineage: Lineage,
    /// This run of the monitor. A keeper obeys that of the session it opened last.
    pub incarnation: Incarnation,
    /// The goal; the same one again while nothing changed.
    pub goal: Goal,
    /// Granted to a primary, and only in an answer.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// The other nodes of the group: for HBA rules, and to ask when the monitor is away.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Times and thresholds the keeper works with.
    #[serde(default)]
    pub settings: KeeperSettings,
    /// A fresh look is wanted at this peer's Postgres (`design.md` §4, witnesses); the number is
    /// sent back with what was seen.
    #[serde(default)]
    pub look: Option<(u64, Peer)>,
    /// In a formation of kind Citus.
    #[serde(default)]
    pub citus: Option<CitusOrders>,
}
