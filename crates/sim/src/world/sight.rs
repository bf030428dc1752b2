//! The state of the whole formation: is it settled, and how does it look.

use super::*;

impl World {
    pub(crate) fn places(&self) -> Vec<Place> {
        let nodes = (0..self.hosts.len()).map(Place::Node);
        std::iter::once(Place::Monitor).chain(nodes).collect()
    }

    /// One primary, every other node secondary, nothing else wanted, everything replayed.
    pub(crate) fn is_settled(&self) -> bool {
        if !self.monitor.up || self.monitor.frozen {
            return false;
        }
        let Some(group) = self.monitor.group() else {
            return false;
        };
        let Some(leader) = group.primary else {
            return false;
        };
        let states = group.nodes.values().all(|n| {
            let single = group.nodes.len() == 1;
            let wanted = if n.id != leader.node {
                NodeState::Secondary
            } else if single {
                NodeState::Single
            } else {
                NodeState::Primary
            };
            n.reported == wanted && n.goal.state == wanted
        });
        let steady = group.phase == pgaf_fsm::group::Phase::Steady && group.doubted.is_none();
        states && steady && self.is_replicated()
    }

    pub(super) fn is_replicated(&self) -> bool {
        let Some(group) = self.monitor.group() else {
            return false;
        };
        group.nodes.values().all(|n| {
            let Some(host) = self.host_of(&n.host) else {
                return false;
            };
            let Some((disk, server)) = self.hosts[host].pg.running() else {
                return false;
            };
            let is_leader = group.primary.is_some_and(|l| l.node == n.id);
            server.recovery != is_leader
                && (is_leader || server.receiver.is_some())
                && self.ledger.missing_but_recent(&disk.path).is_none()
        })
    }

    /// The state of things, for the end of a trace.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        if let Some(group) = self.monitor.group() {
            let _ = writeln!(
                text,
                "term {} phase {:?} primary {:?} doubted {:?}",
                group.term, group.phase, group.primary, group.doubted
            );
            for possible in &group.possible {
                let _ = writeln!(
                    text,
                    "  possible {} {} {}",
                    possible.stamp, possible.primary, possible.config
                );
            }
            for node in group.nodes.values() {
                let _ = writeln!(
                    text,
                    "  node {} {}/{} copy {:?} role {:?} promise {:?} admitted {:?} goal {:?}",
                    node.id,
                    node.reported,
                    node.goal.state,
                    node.copy,
                    node.role,
                    node.promise,
                    node.admitted,
                    node.goal
                );
            }
            for waiting in &self.monitor.waiting {
                let _ = writeln!(
                    text,
                    "  waits {}: {} {:?}",
                    waiting.id, waiting.why, waiting.nodes
                );
            }
        }
        self.host_summary(&mut text);
        text
    }

    pub(super) fn host_summary(&self, text: &mut String) {
        for (index, host) in self.hosts.iter().enumerate() {
            let path = host
                .pg
                .disk
                .as_ref()
                .map(|d| d.path.text())
                .unwrap_or_default();
            let plan = host
                .keeper
                .as_ref()
                .map(|k| (&k.plan, k.step.as_ref().map(|s| s.step.word())));
            let _ = writeln!(
                text,
                "  n{} up={} frozen={} {:?} broken={:?} path [{path}] upstream {:?} receiver {} plan {plan:?}",
                index + 1,
                host.up,
                host.frozen,
                host.pg.postgres(),
                host.pg.broken,
                host.pg.server.as_ref().and_then(|s| s.upstream),
                host.pg
                    .server
                    .as_ref()
                    .is_some_and(|s| s.receiver.is_some()),
            );
            let _ = writeln!(
                text,
                "     memory end {:?} disk {:?} no_position {:?} pause {:?}",
                host.keeper.as_ref().map(|k| k.memory.end),
                host.keeper.as_ref().map(|k| k.memory.disk),
                host.keeper.as_ref().map(|k| k.memory.no_position.clone()),
                host.keeper.as_ref().map(|k| k.memory.pause.clone())
            );
        }
    }
}
