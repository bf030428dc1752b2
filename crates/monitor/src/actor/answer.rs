//! What a keeper is told: its goal, and what it needs to work on it.

use std::collections::BTreeMap;

use pgaf_fsm::group::{Group, LiveGroup, Node, granted, peer};
use pgaf_protocol::{
    Answer, CitusOrders, Goal, GroupId, KeeperSettings, Lease, NodeState, Order, PROTOCOL_VERSION,
    Peer, Stamp,
};

use super::memory::{Key, Memory};

/// Everything an answer is made of.
pub(crate) struct Answering<'a> {
    pub(crate) memory: &'a Memory,
    pub(crate) settings: KeeperSettings,
    /// What this monitor knows of each group while it runs.
    pub(crate) live: &'a BTreeMap<Key, LiveGroup>,
}

impl Answering<'_> {
    /// The answer to a report of `node`.
    pub(crate) fn in_reply(&self, group: &Group, node: &Node) -> Answer {
        Answer {
            lease: self.lease(group, node),
            ..self.pushed(group, node)
        }
    }

    /// A goal that is pushed: it grants no lease, since the keeper counts that from its report.
    pub(crate) fn pushed(&self, group: &Group, node: &Node) -> Answer {
        let others = group.nodes.values().filter(|n| n.id != node.id);
        Answer {
            peers: others.map(peer).collect(),
            citus: self.citus(group, node),
            ..self.with_goal(node.goal.clone())
        }
    }

    /// What a node of a Citus formation is told beside its goal.
    pub(crate) fn citus(&self, group: &Group, node: &Node) -> Option<CitusOrders> {
        let formation = self.memory.cluster.formations.get(&group.formation)?;
        let coordinator = self.live.get(&(group.formation.clone(), GroupId(0)));
        pgaf_fsm::citus::orders(formation, coordinator, group, node)
    }

    /// A wish for a fresh look at a peer; pushed.
    pub(crate) fn look(&self, group: &Group, node: &Node, look: (u64, Peer)) -> Answer {
        Answer {
            look: Some(look),
            ..self.pushed(group, node)
        }
    }

    /// The explicit word that a node was removed (`design.md` §5): nothing less than this makes a
    /// keeper stop for good. Its stamp is above what the keeper has `seen`.
    pub(crate) fn dropped(&self, seen: Stamp) -> Answer {
        self.with_goal(Goal {
            stamp: Stamp {
                term: seen.term,
                sequence: seen.sequence.next(),
            },
            state: NodeState::Dropped,
            order: Order::Drop,
            rule: "removed".into(),
        })
    }

    fn with_goal(&self, goal: Goal) -> Answer {
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
