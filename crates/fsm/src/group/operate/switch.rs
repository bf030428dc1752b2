//! Switchovers and promotions that an operator asks for, and the named way past a lost primary.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::{FormationId, GroupId, NodeId, NodeState, Position, Possible, Settings, Time};

use super::{formation_of, group_mut};
use crate::group::candidates;
use crate::group::elect::{self, data_loss_command, event};
use crate::group::facts::{Facts, FormationView};
use crate::group::live::LiveGroup;
use crate::group::model::{Cluster, Election, Event, Group, Leader, Phase, Refusal};
use crate::group::quorum::obstacle;

/// What an operation on one group needs.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// What this incarnation knows of the group.
    pub live: &'a LiveGroup,
    /// Times and thresholds.
    pub settings: &'a Settings,
    /// The time.
    pub now: Time,
}

impl<'a> Now<'a> {
    /// The facts of a group as it is now.
    pub(super) fn facts(self, formation: &'a FormationView, group: &'a Group) -> Facts<'a> {
        Facts {
            formation,
            group,
            live: self.live,
            settings: self.settings,
            now: self.now,
            phase_since: self.live.phase_since,
        }
    }
}

/// A switchover, or with `allow_data_loss` the named way past promises that cannot be had.
///
/// # Errors
/// When nobody could take over: the primary then goes on.
pub fn perform_failover(
    cluster: &mut Cluster,
    formation: &FormationId,
    group: GroupId,
    allow_data_loss: bool,
    at: Now<'_>,
) -> Result<Vec<Event>, Refusal> {
    let view = FormationView::from(formation_of(cluster, formation, "22023")?);
    let group = group_mut(cluster, formation, group)?;
    switch(&view, group, None, allow_data_loss, at)
}

/// A switchover to a named node. `Ok(None)`: it is the primary already.
///
/// # Errors
/// When there is no such node, or it could not take over now.
pub fn perform_promotion(
    cluster: &mut Cluster,
    formation: &FormationId,
    name: &str,
    live_of: impl Fn(GroupId) -> LiveGroup,
    settings: &Settings,
    now: Time,
) -> Result<Option<Vec<Event>>, Refusal> {
    let found = formation_of(cluster, formation, "22023")?
        .groups
        .values()
        .find_map(|g| {
            g.nodes
                .values()
                .find(|n| n.name == name)
                .map(|n| (g.id, n.id))
        });
    let Some((group, node)) = found else {
        return Err(Refusal::new(
            "42704",
            format!("node \"{name}\" is not in formation \"{formation}\""),
            "list the nodes with: pg_autoctl show state",
        ));
    };
    let view = FormationView::from(formation_of(cluster, formation, "22023")?);
    let live = live_of(group);
    let group = group_mut(cluster, formation, group)?;
    if matches!(group.phase, Phase::Steady) && group.primary.is_some_and(|l| l.node == node) {
        return Ok(None);
    }
    switch(
        &view,
        group,
        Some(node),
        false,
        Now {
            live: &live,
            settings,
            now,
        },
    )
    .map(Some)
}

fn switch(
    view: &FormationView,
    group: &mut Group,
    target: Option<NodeId>,
    allow_data_loss: bool,
    at: Now<'_>,
) -> Result<Vec<Event>, Refusal> {
    let before = group.clone();
    let facts = at.facts(view, &before);
    check_doubt(&before, at.live)?;
    let Some(leader) = before.primary else {
        return Err(Refusal::new(
            "XX000",
            format!(
                "group {} of formation \"{}\" has no node",
                before.id, before.formation
            ),
            "list the nodes with: pg_autoctl show state",
        ));
    };
    let leader_is_gone = facts.verdict(leader.node).is_gone();
    if allow_data_loss && (leader_is_gone || !matches!(before.phase, Phase::Steady)) {
        return strike(&facts, group, leader);
    }
    if !matches!(before.phase, Phase::Steady) {
        return Err(Refusal::new(
            "55000",
            "a change of primary is under way already",
            "see what it waits for with: pg_autoctl inspect explain",
        ));
    }
    if leader_is_gone || !facts.leader_writes() {
        return Err(no_primary(&facts, leader));
    }
    if candidates::move_candidates(&facts, target).is_empty() {
        return Err(nobody(&facts, target));
    }
    group.phase = Phase::Preparing(Election {
        reason: "asked for by an operator".to_string(),
        planned: true,
        target,
        ..Election::default()
    });
    Ok(alloc::vec![event(
        group,
        leader.node,
        "switchover.asked",
        "a switchover was asked for: the primary writes a checkpoint first, writes go on"
            .to_string(),
    )])
}

pub(super) fn check_doubt(group: &Group, live: &LiveGroup) -> Result<(), Refusal> {
    let Some(doubted) = &group.doubted else {
        return Ok(());
    };
    let missing = doubted
        .iter()
        .filter(|n| live.report(**n).is_none())
        .count();
    Err(Refusal::new(
        "55000",
        format!("this monitor was restored, and {missing} node(s) have not reported to it yet"),
        "start the keepers of all nodes, or drop those that are lost: pg_autoctl drop node --force",
    ))
}

pub(super) fn no_primary(facts: &Facts<'_>, leader: Leader) -> Refusal {
    let name = facts.leader_node().map_or("", |n| n.name.as_str());
    Refusal::new(
        "55000",
        format!(
            "node {} \"{name}\", the primary, cannot be asked to hand over: {}",
            leader.node,
            facts.verdict(leader.node).text()
        ),
        format!(
            "see what the group waits for with: pg_autoctl inspect explain; when the old primary is off for good: {}",
            data_loss_command(facts.group)
        ),
    )
}

/// Why nobody can take over, in the words of the first thing that stands in the way.
pub(super) fn nobody(facts: &Facts<'_>, target: Option<NodeId>) -> Refusal {
    let leader = facts.leader().map(|l| l.node);
    let mut reasons: Vec<String> = Vec::new();
    for node in facts.members().filter(|n| Some(n.id) != leader) {
        if target.is_some_and(|t| t != node.id) {
            continue;
        }
        let why = if node.maintenance {
            "is in maintenance".to_string()
        } else if node.candidate_priority == 0 && target.is_none() {
            "has candidate priority 0".to_string()
        } else if !facts.is_present(node.id) {
            facts.verdict(node.id).text().to_string()
        } else if let Some(setting) = facts.gate(node) {
            format!("has a lower {setting} than the primary")
        } else if node.reported != NodeState::Secondary {
            format!("is {}, not secondary", node.reported)
        } else {
            "does not stream near the primary".to_string()
        };
        reasons.push(format!("node {} \"{}\" {why}", node.id, node.name));
    }
    if reasons.is_empty() {
        reasons.push("the group has no standby".to_string());
    }
    Refusal::new(
        "55000",
        format!("nobody could take over: {}", reasons.join("; ")),
        "the primary goes on; wait until a standby is secondary: pg_autoctl show state",
    )
}

/// How far the old primary was known to be, and how far those are that answer: the possible loss.
fn positions(facts: &Facts<'_>, group: &Group, leader: Leader) -> String {
    let of = |id: NodeId| {
        let last = facts.live.of(id).and_then(|l| l.report.as_ref()?.position);
        last.or_else(|| group.nodes.get(&id)?.position)
    };
    let furthest = facts
        .staying()
        .filter(|n| n.id != leader.node && facts.is_present(n.id))
        .filter_map(|n| of(n.id))
        .max();
    let text = |position: Option<Position>| {
        position.map_or_else(|| "an unknown position".to_string(), |p| p.to_string())
    };
    format!(
        "the old primary, node {}, was last heard of at {}, the furthest of those that answer is at {}",
        leader.node,
        text(of(leader.node)),
        text(furthest)
    )
}

/// Strikes off the list, by name, what cannot be revoked without the old primary's promise.
fn strike(facts: &Facts<'_>, group: &mut Group, leader: Leader) -> Result<Vec<Event>, Refusal> {
    let reachable = candidates::reachable_without(facts, leader.node);
    let candidates: Vec<NodeId> = facts
        .staying()
        .filter(|n| n.id != leader.node && n.candidate_priority > 0 && n.copy.is_some())
        .filter(|n| facts.is_present(n.id))
        .map(|n| n.id)
        .collect();
    if candidates.is_empty() {
        return Err(nobody(facts, None));
    }
    let mut events = Vec::new();
    while let Some(lacking) = obstacle(&group.possible, &reachable) {
        let struck: Vec<String> = group
            .possible
            .iter()
            .filter(|p| p.stamp.term == lacking.term)
            .map(|p| p.config.to_string())
            .collect();
        let text = format!(
            "an operator allowed data loss: what was acknowledged in term {} under {} and is on none of the nodes that answer is given up; {}",
            lacking.term,
            struck.join(", then "),
            positions(facts, group, leader)
        );
        group
            .possible
            .retain(|p: &Possible| p.stamp.term != lacking.term);
        events.push(event(group, leader.node, "operator.allow-data-loss", text));
    }
    let election = Election {
        reason: "an operator allowed data loss".to_string(),
        ..Election::default()
    };
    events.extend(elect::begin(group, election, leader.node).events);
    Ok(events)
}
