//! One turn of the actor: what it changed, what it owes, and the way back if it cannot be stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgaf_fsm::group::{Group, LiveGroup};
use pgaf_protocol::{Answer, NodeId, NodeState, Registered, Stamp, Time};
use pgaf_store::Batch;

use super::announce::Happening;
use super::answer;
use super::input::Answering;
use super::memory::{Key, Memory};
use crate::sql::{Question, Reply, ScramVerifier, Snapshot, SqlError};

/// An answer that is due once the turn is durable.
#[derive(Debug)]
pub(crate) enum Owed {
    /// The goal of a node, to its keeper.
    Goal {
        key: Key,
        node: NodeId,
        /// The highest goal that the keeper has seen.
        seen: Stamp,
        reply: Answering<String>,
    },
    /// The outcome of a registration.
    Registered {
        key: Key,
        done: Registered,
        reply: Answering<String>,
    },
    /// The outcome of an operation.
    Done {
        outcome: Reply,
        reply: Answering<Reply>,
    },
    /// A password was set.
    PasswordSet { reply: Answering<()> },
    /// A read of the state as it is then.
    Snapshot { reply: Answering<Arc<Snapshot>> },
    /// An explanation of the state as it is then.
    Explained {
        question: Question,
        reply: Answering<String>,
    },
    /// The verifier as it is then.
    Verifier {
        reply: Answering<Option<ScramVerifier>>,
    },
}

impl Owed {
    /// The node whose report this answers.
    pub(crate) fn reporter(&self) -> Option<NodeId> {
        match self {
            Self::Goal { node, .. } => Some(*node),
            Self::Registered { .. }
            | Self::Done { .. }
            | Self::PasswordSet { .. }
            | Self::Snapshot { .. }
            | Self::Explained { .. }
            | Self::Verifier { .. } => None,
        }
    }
}

/// What one turn has done so far.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) now: Time,
    pub(crate) wall: i64,
    /// Groups to look at before the turn ends.
    pub(crate) dirty: BTreeSet<Key>,
    /// Groups that may have changed, as they were; with the beginning of their phase.
    pub(crate) before: BTreeMap<Key, (Option<Group>, Time)>,
    /// Everything as it was, once something else than a group may have changed.
    pub(crate) memory_before: Option<Box<Memory>>,
    /// What happened, in order.
    pub(crate) happened: Vec<Happening>,
    /// Log lines about what is no event, such as a registration.
    pub(crate) lines: Vec<String>,
    pub(crate) owed: Vec<Owed>,
    /// Nodes that say that their Postgres runs while the probe does not think so.
    pub(crate) unseen: BTreeSet<NodeId>,
}

impl Turn {
    pub(crate) fn new(now: Time, wall: i64) -> Self {
        Self {
            now,
            wall,
            dirty: BTreeSet::new(),
            before: BTreeMap::new(),
            memory_before: None,
            happened: Vec::new(),
            lines: Vec::new(),
            owed: Vec::new(),
            unseen: BTreeSet::new(),
        }
    }

    /// Keeps a group as it is, before its first change in this turn.
    pub(crate) fn keep(&mut self, key: &Key, memory: &Memory, live: Option<&LiveGroup>) {
        if !self.before.contains_key(key) {
            let since = live.map(|l| l.phase_since).unwrap_or_default();
            self.before
                .insert(key.clone(), (memory.group(key).cloned(), since));
        }
    }

    /// Whether a group may have been changed in this turn, or is to be looked at anyway.
    pub(crate) fn has_touched(&self, key: &Key) -> bool {
        self.memory_before.is_some() || self.before.contains_key(key) || self.dirty.contains(key)
    }

    /// Keeps everything as it is, before the first change of more than a group.
    pub(crate) fn keep_all(&mut self, memory: &Memory) {
        if self.memory_before.is_none() {
            let mut before = Box::new(memory.clone());
            for (key, (group, _)) in &self.before {
                put_back(&mut before, key, group.clone());
            }
            self.memory_before = Some(before);
        }
    }

    /// Whether a node may have come, gone, or changed its address.
    pub(crate) fn moved(&self, memory: &Memory) -> bool {
        self.memory_before.is_some()
            || self.before.iter().any(|(key, (before, _))| {
                !addresses(before.as_ref()).eq(addresses(memory.group(key)))
            })
    }

    /// The write that makes the turn durable; empty when it changed nothing durable.
    pub(crate) fn batch(&self, memory: &Memory) -> Batch {
        let mut batch = Batch::default();
        match &self.memory_before {
            Some(before) => {
                memory.write_difference(&mut batch, &before.cluster);
                if (&before.past_lineages, before.longest_lease_ms)
                    != (&memory.past_lineages, memory.longest_lease_ms)
                {
                    memory.write_meta(&mut batch);
                }
                let names = before.settings.keys().chain(memory.settings.keys());
                for name in names {
                    if before.settings.get(name) != memory.settings.get(name) {
                        memory.write_setting(&mut batch, name);
                    }
                }
                if before.password != memory.password {
                    memory.write_password(&mut batch);
                }
            }
            None => {
                for (key, (group, _)) in &self.before {
                    if memory.group(key) != group.as_ref() {
                        memory.write_group(&mut batch, key);
                    }
                }
            }
        }
        batch.events = self.happened.iter().map(|h| h.record.clone()).collect();
        batch
    }

    /// Takes everything back that could not be stored.
    pub(crate) fn undo(&mut self, memory: &mut Memory, live: &mut BTreeMap<Key, LiveGroup>) {
        for (key, (group, since)) in &self.before {
            put_back(memory, key, group.clone());
            if let Some(live) = live.get_mut(key) {
                live.phase_since = *since;
            }
        }
        if let Some(before) = self.memory_before.take() {
            *memory = *before;
        }
    }

    /// The nodes of a group that have another goal than before, with the group they are in; `None`
    /// when the group was not looked at.
    pub(crate) fn new_goals<'a>(
        &self,
        memory: &'a Memory,
        key: &Key,
    ) -> Option<(&'a Group, Vec<NodeId>)> {
        let group = memory.group(key)?;
        let kept = self.before.get(key)?;
        let before = match &self.memory_before {
            Some(before) => before.group(key),
            None => kept.0.as_ref(),
        };
        let changed = group
            .nodes
            .values()
            .filter(|n| {
                before
                    .and_then(|g| g.nodes.get(&n.id))
                    .is_none_or(|old| old.goal != n.goal)
            })
            .map(|n| n.id)
            .collect();
        Some((group, changed))
    }

    /// The nodes that this turn removed, with the word for their keepers.
    pub(crate) fn removed(
        &self,
        key: &Key,
        group: &Group,
        answering: &answer::Answering<'_>,
    ) -> Vec<(NodeId, Answer)> {
        let before = match &self.memory_before {
            Some(before) => before.group(key),
            None => self.before.get(key).and_then(|(group, _)| group.as_ref()),
        };
        let nodes = before.into_iter().flat_map(|g| g.nodes.values());
        nodes
            .filter(|n| !group.nodes.contains_key(&n.id))
            .map(|n| (n.id, answering.dropped(n.goal.stamp)))
            .collect()
    }

    /// Answers everything that is owed with an error, but for reads and heartbeats.
    pub(crate) fn refuse(&mut self, error: &SqlError) {
        let mut kept = Vec::new();
        for owed in self.owed.drain(..) {
            match owed {
                Owed::Registered { reply, .. } => drop(reply.send(Err(error.clone()))),
                Owed::Done { reply, .. } => drop(reply.send(Err(error.clone()))),
                Owed::PasswordSet { reply } => drop(reply.send(Err(error.clone()))),
                other @ (Owed::Goal { .. }
                | Owed::Snapshot { .. }
                | Owed::Explained { .. }
                | Owed::Verifier { .. }) => kept.push(other),
            }
        }
        self.owed = kept;
        self.happened.clear();
        self.lines.clear();
    }
}

/// Where the nodes of a group are, and which of them are on their way out.
fn addresses(group: Option<&Group>) -> impl Iterator<Item = (NodeId, &str, u16, bool)> {
    let nodes = group.into_iter().flat_map(|g| g.nodes.values());
    nodes.map(|n| {
        let is_dropped = n.goal.state == NodeState::Dropped;
        (n.id, n.host.as_str(), n.port, is_dropped)
    })
}

fn put_back(memory: &mut Memory, key: &Key, group: Option<Group>) {
    let Some(formation) = memory.cluster.formations.get_mut(&key.0) else {
        return;
    };
    match group {
        Some(group) => drop(formation.groups.insert(key.1, group)),
        None => drop(formation.groups.remove(&key.1)),
    }
}
