//! What our keepers send: reports and registrations, checked before they are believed.

use pgaf_fsm::group::operate;
use pgaf_protocol::{NodeId, PROTOCOL_VERSION, Registration, Report, Time};

use super::input::Answering;
use super::memory::Key;
use super::operations::{NOT_IN_THIS_STATE, refusal};
use super::state::State;
use super::turn::{Owed, Turn};
use crate::sql::{SessionHandle, SessionId, SqlError, codes};

/// What a report turns out to be.
enum Sender {
    /// A node of this group.
    Member(Key),
    /// A node that was removed.
    Dropped,
}

/// Refuses a keeper of another version by naming both.
pub(crate) fn wrong_version(theirs: u32) -> SqlError {
    SqlError::new(
        codes::FEATURE_NOT_SUPPORTED,
        format!(
            "this monitor speaks version {PROTOCOL_VERSION} of the keepers' protocol, the keeper speaks version {theirs}"
        ),
    )
    .with_hint("Install the same release of pg_autoctl on the monitor and on every node.")
}

fn check_protocol(theirs: u32) -> Result<(), SqlError> {
    if theirs == PROTOCOL_VERSION {
        Ok(())
    } else {
        Err(wrong_version(theirs))
    }
}

impl State {
    /// A keeper reports.
    pub(crate) fn take_report(
        &mut self,
        turn: &mut Turn,
        report: Box<Report>,
        session: (SessionId, SessionHandle),
        at: Time,
        reply: Answering<String>,
    ) {
        match self.sender(turn, &report) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(Sender::Dropped) => {
                let answer = self.answering().dropped(report.seen);
                tracing::info!(node = %report.node, "a removed node reports: it is told to stop");
                drop(reply.send(to_json(&answer)));
            }
            Ok(Sender::Member(key)) => {
                self.check_memory(turn, &key, &report);
                if self.sessions.spoke(report.node, session) {
                    tracing::info!(node = %report.node, "a keeper opened its session");
                }
                let (node, seen) = (report.node, report.seen);
                self.report(turn, &key, report, at);
                turn.owed.push(Owed::Goal {
                    key,
                    node,
                    seen,
                    reply,
                });
            }
        }
    }

    /// Who sends this report, and whether it is for this monitor at all.
    fn sender(&mut self, turn: &mut Turn, report: &Report) -> Result<Sender, SqlError> {
        check_protocol(report.protocol)?;
        let node = report.node;
        let key = (report.formation.clone(), report.group);
        self.check_lineage(turn, &key, report)?;
        let is_there = |key: &Key| {
            let group = self.memory.group(key);
            group.is_some_and(|g| g.nodes.contains_key(&node))
        };
        if is_there(&key) {
            return Ok(Sender::Member(key));
        }
        if let Some((formation, group)) = operate::find(&self.memory.cluster, node) {
            return Err(SqlError::new(
                "42P17",
                format!(
                    "node {node} is in group {group} of formation \"{formation}\", not in group {} of \"{}\"",
                    report.group, report.formation
                ),
            )
            .with_hint("Check pg_autoctl.formation and pg_autoctl.group in the node's configuration file."));
        }
        if self.memory.cluster.dropped.contains(&node) {
            return Ok(Sender::Dropped);
        }
        self.continue_above(turn, node, report);
        Err(
            SqlError::new(codes::UNDEFINED_OBJECT, format!("couldn't find node with nodeid {node}"))
                .with_hint("This monitor never had that node. If its store was lost, register the node again with: pg_autoctl create postgres"),
        )
    }

    /// A keeper that pinned another store than this one, or an earlier life of it, is not ours:
    /// its node id means nothing here. A store that was restored may have forgotten a life of its own,
    /// when it is the second time: until the group is certain again, a member with the group's data is
    /// taken for ours, and its lineage is remembered.
    fn check_lineage(
        &mut self,
        turn: &mut Turn,
        key: &Key,
        report: &Report,
    ) -> Result<(), SqlError> {
        let Some(theirs) = report.lineage else {
            return Ok(());
        };
        let ours = self.memory.cluster.lineage;
        if theirs == ours || self.memory.past_lineages.contains(&theirs) {
            return Ok(());
        }
        let doubted = self
            .memory
            .group(key)
            .filter(|group| group.doubted.is_some());
        let member = doubted.and_then(|group| group.nodes.get(&report.node));
        let forgotten = member.is_some_and(|node| {
            node.system_identifier.is_some() && node.system_identifier == report.system_identifier
        });
        if forgotten {
            tracing::warn!(
                node = %report.node,
                lineage = %theirs,
                "a member comes from a life of this store that the restored copy does not know"
            );
            turn.keep_all(&self.memory);
            self.memory.past_lineages.push(theirs);
            return Ok(());
        }
        Err(SqlError::new(
            NOT_IN_THIS_STATE,
            format!(
                "node {} belongs to another monitor (lineage {theirs}, this one is {ours})",
                report.node
            ),
        )
        .with_hint("Check pg_autoctl.monitor in the node's configuration file; if this monitor replaces a lost one, register the node again with: pg_autoctl create postgres"))
    }

    /// A keeper of this very life of the store that has seen a goal which the store does not know
    /// proves that the store is an older copy (`safety.md` §8).
    fn check_memory(&mut self, turn: &mut Turn, key: &Key, report: &Report) {
        let Some(group) = self.memory.group(key) else {
            return;
        };
        let is_ahead = report.seen.term > group.term || report.seen.sequence > group.sequence;
        if report.lineage != Some(self.memory.cluster.lineage)
            || !is_ahead
            || group.doubted.is_some()
        {
            return;
        }
        let why = format!(
            "node {} has seen goal {}, this monitor's store knows of {}.{} only",
            report.node, report.seen, group.term, group.sequence
        );
        turn.keep_all(&self.memory);
        self.void(&why);
        turn.dirty.extend(self.memory.keys());
    }

    /// Node ids continue above all that were heard of, also when this store forgot some.
    fn continue_above(&mut self, turn: &mut Turn, node: NodeId, report: &Report) {
        if report.lineage.is_some() && node >= self.memory.cluster.next_node {
            turn.keep_all(&self.memory);
            self.memory.cluster.next_node = NodeId(node.0.saturating_add(1));
        }
    }

    /// A keeper registers its node.
    pub(crate) fn take_registration(
        &mut self,
        turn: &mut Turn,
        wish: &Registration,
        reply: Answering<String>,
    ) {
        if let Err(error) = check_protocol(wish.protocol) {
            drop(reply.send(Err(error)));
            return;
        }
        turn.keep_all(&self.memory);
        let before = self.memory.cluster.clone();
        match operate::register(&mut self.memory.cluster, wish) {
            Err(refused) => {
                self.memory.cluster = before;
                drop(reply.send(Err(refusal(refused))));
            }
            Ok(done) => {
                let key = (wish.formation.clone(), done.group);
                if operate::find(&before, done.node).is_none() {
                    turn.lines.push(format!(
                        "Registering node {} \"{}\" ({}:{}) to formation \"{}\" group {}",
                        done.node, done.name, wish.host, wish.port, wish.formation, done.group
                    ));
                }
                turn.dirty.insert(key.clone());
                turn.owed.push(Owed::Registered { key, done, reply });
            }
        }
    }
}

/// Text for the wire.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, SqlError> {
    serde_json::to_string(value).map_err(|error| {
        SqlError::new(
            codes::INTERNAL,
            format!("an answer cannot be written as JSON: {error}"),
        )
    })
}
