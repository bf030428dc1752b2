//! Maintenance: a node stands back because an operator works on it.
//!
//! Owns when it may, how long the group tries, and what is said meanwhile. A node whose copy may
//! hold what no other holds never rests: first it leaves the names, confirmed by the primary.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use pgaf_protocol::{CopyRole, NodeId, Time, Waiting};

use super::elect::event;
use super::facts::Facts;
use super::live::LiveGroup;
use super::model::{Event, Group, Node, Phase};

/// How long a node may be on its way to maintenance. Chosen: below the 60 s that the command waits
/// (source of those: the old program), so that it hears of the end.
const DEADLINE_MS: u64 = 50_000;

/// When a node that is on its way since then stays what it was.
pub(super) fn deadline(since: Time) -> Time {
    since.plus(Duration::from_millis(DEADLINE_MS))
}

/// Whether an operator may have the node: no configuration that may be in force counts on its copy,
/// and a former primary has become a standby, so that nobody opens it by starting it.
pub(super) fn may_rest(facts: &Facts<'_>, node: &Node) -> bool {
    node.maintenance
        && !matches!(node.role, CopyRole::Primary { .. })
        && node.copy.is_none_or(|copy| !facts.is_listed(copy))
}

/// Nodes on their way stay what they were: the primary is lost, and they are needed; or it took too
/// long. What rests already is the operator's until the operator says otherwise.
pub(super) fn give_up(facts: &Facts<'_>, group: &mut Group) -> Vec<Event> {
    let nodes: Vec<(_, String)> = facts
        .group
        .nodes
        .values()
        .filter(|n| n.is_about_to_rest())
        .filter_map(|n| Some((n.id, obstacle(facts, n)?)))
        .collect();
    let mut events = Vec::new();
    for (id, why) in nodes {
        if let Some(node) = group.nodes.get_mut(&id) {
            node.maintenance = false;
        }
        let text = format!("the maintenance of node {id} is given up: {why}");
        events.push(event(group, id, "maintenance.abandoned", text));
    }
    events
}

fn obstacle(facts: &Facts<'_>, node: &Node) -> Option<String> {
    let gone = facts
        .leader()
        .map(|l| facts.verdict(l.node))
        .filter(super::health::Verdict::is_gone);
    let lost = match &facts.group.phase {
        Phase::Steady | Phase::Preparing(_) => gone.map(|v| v.text().to_string()),
        Phase::Collecting(e) if !e.planned => Some(e.reason.clone()),
        Phase::Collecting(_) | Phase::Promoting { .. } => None,
    };
    if let Some(evidence) = lost {
        return Some(format!("the primary is lost ({evidence})"));
    }
    let since = *facts.live.maintenance.get(&node.id)?;
    (facts.now >= deadline(since) && !matches!(facts.group.phase, Phase::Promoting { .. })).then(
        || {
            format!(
                "it was not ready within {} s; the group goes on as before",
                DEADLINE_MS / 1000
            )
        },
    )
}

/// What stands between a node and its maintenance.
pub(super) fn waiting(facts: &Facts<'_>) -> Vec<Waiting> {
    let leader = facts.leader().map(|l| l.node);
    facts
        .members()
        .filter(|n| n.is_about_to_rest() && !may_rest(facts, n))
        .filter(|n| Some(n.id) != leader)
        .map(|n| Waiting {
            id: "maintenance".into(),
            nodes: [n.id, facts.leader().map_or(n.id, |l| l.node)].into(),
            why: if matches!(n.role, CopyRole::Primary { .. }) {
                format!("node {} goes into maintenance once it is a standby", n.id)
            } else {
                format!(
                    "node {} goes into maintenance once the primary has confirmed that its acknowledgements do not count any more",
                    n.id
                )
            },
            way_out: None,
        })
        .collect()
}

/// How an operator gets a candidate back.
pub(super) fn way_out(group: &Group) -> Option<String> {
    let resting = group.nodes.values().find(|n| n.rests())?;
    Some(format!(
        "pg_autoctl disable maintenance (on the host of node {} \"{}\")",
        resting.id, resting.name
    ))
}

impl LiveGroup {
    /// Notes which nodes are on their way to maintenance, and since when.
    pub(super) fn note_maintenance(&mut self, group: &Group, now: Time) {
        let on_the_way = |id: &NodeId| group.nodes.get(id).is_some_and(Node::is_about_to_rest);
        self.maintenance.retain(|id, _| on_the_way(id));
        for id in group.nodes.keys().filter(|id| on_the_way(id)) {
            self.maintenance.entry(*id).or_insert(now);
        }
    }
}
