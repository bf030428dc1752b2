//! Rows of the event table.

use pgaf_protocol::{FormationId, GroupId, NodeId, NodeState, Position};
use serde::{Deserialize, Serialize};

/// How many events are kept: the newest ones. The old program never removed any; 50 000 rows are
/// about 15 MB and years of an ordinary formation. Chosen.
pub(crate) const KEPT_EVENTS: u64 = 50_000;

/// Something that happened to a node, as it was at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Microseconds since 1970, by the monitor's clock.
    pub time: i64,
    /// The formation.
    pub formation: FormationId,
    /// The group.
    pub group: GroupId,
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it said.
    pub reported: NodeState,
    /// What it was told.
    pub goal: NodeState,
    /// Its replication state, in the old program's words (`sync`, `quorum`, `async`, `unknown`).
    pub replication_state: String,
    /// How far it was.
    pub position: Option<Position>,
    /// Its candidate priority.
    pub candidate_priority: u32,
    /// Whether it took part in the replication quorum.
    pub replication_quorum: bool,
    /// The rule behind it.
    pub rule: String,
    /// One sentence.
    pub description: String,
}

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Rises with each event, never used twice.
    pub id: i64,
    /// The event.
    pub record: EventRecord,
}

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Only of this formation.
    pub formation: Option<FormationId>,
    /// Only of this group.
    pub group: Option<GroupId>,
    /// At most this many, the newest.
    pub limit: u32,
}

impl EventFilter {
    pub(crate) fn matches(&self, record: &EventRecord) -> bool {
        self.formation
            .as_ref()
            .is_none_or(|f| *f == record.formation)
            && self.group.is_none_or(|g| g == record.group)
    }
}
