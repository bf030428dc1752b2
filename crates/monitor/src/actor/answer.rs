//! What a keeper is told: its goal, and what it needs to work on it.

use std::collections::BTreeMap;

use pgaf_fsm::group::{Group, LiveGroup, Node, granted};
use pgaf_protocol::{
    Answer, CitusOrders, Goal, GroupId, Incarnation, KeeperSettings, Lease, Lineage, NodeId,
    NodeState, Order, PROTOCOL_VERSION, Peer, Stamp,
};
use serde::Serialize;

use super::memory::{Key, Memory};

/// An [`Answer`] that borrows what it says: it is written for every report, and never kept.
#[derive(Debug, Serialize)]
pub(crate) struct Spoken<'a> {
    protocol: u32,
    lineage: Lineage,
    incarnation: Incarnation,
    goal: &'a Goal,
    lease: Option<Lease>,
    peers: Vec<SpokenPeer<'a>>,
    settings: KeeperSettings,
    look: Option<(u64, Peer)>,
    citus: Option<CitusOrders>,
}

/// A [`Peer`], borrowed.
#[derive(Debug, Serialize)]
struct SpokenPeer<'a> {
    node: NodeId,
    name: &'a str,
    host: &'a str,
    port: u16,
}

impl Spoken<'_> {
    /// The lease that it grants.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease
    }
}

impl<'a> From<&'a Node> for SpokenPeer<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            node: node.id,
            name: &node.name,
            host: &node.host,
            port: node.port,
        }
    }
}

/// Everything an answer is made of.
pub(crate) struct Answering<'a> {
    pub(crate) memory: &'a Memory,
    pub(crate) settings: KeeperSettings,
    /// What this monitor knows of each group while it runs.
    pub(crate) live: &'a BTreeMap<Key, LiveGroup>,
}

impl Answering<'_> {
    /// The answer to a report of `node`.
    pub(crate) fn in_reply<'g>(&self, group: &'g Group, node: &'g Node) -> Spoken<'g> {
        Spoken {
            lease: self.lease(group, node),
            ..self.pushed(group, node)
        }
    }

    /// A goal that is pushed: it grants no lease, since the keeper counts that from its report.
    pub(crate) fn pushed<'g>(&self, group: &'g Group, node: &'g Node) -> Spoken<'g> {
        let others = group.nodes.values().filter(|n| n.id != node.id);
        Spoken {
            protocol: PROTOCOL_VERSION,
            lineage: self.memory.cluster.lineage,
            incarnation: self.memory.cluster.incarnation,
            goal: &node.goal,
            lease: None,
            peers: others.map(SpokenPeer::from).collect(),
            settings: self.settings,
            look: None,
            citus: self.citus(group, node),
        }
    }

    /// What a node of a Citus formation is told beside its goal.
    pub(crate) fn citus(&self, group: &Group, node: &Node) -> Option<CitusOrders> {
        let formation = self.memory.cluster.formations.get(&group.formation)?;
        let coordinator = self.live.get(&(group.formation.clone(), GroupId(0)));
        pgaf_fsm::citus::orders(formation, coordinator, group, node)
    }

    /// A wish for a fresh look at a peer; pushed.
    pub(crate) fn look<'g>(
        &self,
        group: &'g Group,
        node: &'g Node,
        look: (u64, Peer),
    ) -> Spoken<'g> {
        Spoken {
            look: Some(look),
            ..self.pushed(group, node)
        }
    }

    /// The explicit word that a node was removed (`design.md` §5): nothing less than this makes a
    /// keeper stop for good. Its stamp is above what the keeper has `seen`.
    pub(crate) fn dropped(&self, seen: Stamp) -> Answer {
        let goal = Goal {
            stamp: Stamp {
                term: seen.term,
                sequence: seen.sequence.next(),
            },
            state: NodeState::Dropped,
            order: Order::Drop,
            rule: "removed".into(),
        };
        Answer {
            protocol: PROTOCOL_VERSION,
            lineage: self.memory.cluster.lineage,
            incarnation: self.memory.cluster.incarnation,
            goal,
            lease: None,
            peers: Vec::new(),
            settings: self.settings,
            look: None,
            citus: None,
        }
    }

    /// The lease that is due, never longer than what is stored as the longest (`safety.md` §5.4).
    fn lease(&self, group: &Group, node: &Node) -> Option<Lease> {
        let longest = self.memory.longest_lease_ms;
        granted(group, node.id, self.settings.lease_ms.min(longest))
    }
}
