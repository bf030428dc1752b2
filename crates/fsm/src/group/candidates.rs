//! Who could be primary: after a failover, in a planned move, and when giving up.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use pgaf_protocol::{CopyId, CopyRole, NodeId, NodeState, Position};

use super::facts::Facts;
use super::lease;
use super::model::{Election, Group, Leader, Node};
use super::quorum::obstacle;

/// How far behind a planned candidate may be when the primary is asked to stop, in bytes.
///
/// Chosen: a fast stop ships the rest; 1 MiB takes some ten milliseconds on any network.
const NEAR_BYTES: u64 = 1 << 20;

/// The best node that may be promoted now: R is every promised copy that is not ahead of it.
///
/// Any R that suffices will do, so an old primary with a longer, unacknowledged tail need not be
/// in it (`safety.md` §4.4).
pub(super) fn choose(facts: &Facts<'_>, election: &Election, leader: Leader) -> Option<NodeId> {
    let mut best: Vec<(&Node, Position)> = facts
        .staying()
        .filter(|n| may_lead(n, election) && facts.keeper_answers(n.id))
        .filter(|n| n.id != leader.node || !is_in_place(n, leader))
        .filter_map(|n| facts.promise_of(n).map(|(_, position)| (n, position)))
        .filter(|(_, position)| {
            let r = promised_up_to(facts, *position);
            lease::obstacle(facts, &r, *position).is_none()
        })
        .collect();
    best.sort_by_key(|(n, at)| {
        (
            preference(n, election, leader),
            core::cmp::Reverse(*at),
            n.id,
        )
    });
    best.first().map(|(n, _)| n.id)
}

/// Whether a node may be primary: its candidate priority is above 0, or an operator named it.
pub(super) fn may_lead(node: &Node, election: &Election) -> bool {
    node.candidate_priority > 0 || election.target == Some(node.id)
}

/// Who comes first, before positions are compared: whom an operator named, others than the old
/// primary, the highest candidate priority.
pub(super) fn preference(
    node: &Node,
    election: &Election,
    leader: Leader,
) -> (bool, bool, core::cmp::Reverse<u32>) {
    (
        election.target != Some(node.id),
        node.id == leader.node,
        core::cmp::Reverse(node.candidate_priority),
    )
}

pub(super) fn promised_up_to(facts: &Facts<'_>, position: Position) -> BTreeSet<CopyId> {
    facts
        .group
        .nodes
        .values()
        .filter_map(|n| facts.promise_of(n))
        .filter(|(_, theirs)| *theirs <= position)
        .map(|(copy, _)| copy)
        .collect()
}

/// Whether a node could simply be opened again: its copy is the one that was primary last, no
/// promote goal for another one was made since, and it was no standby meanwhile (§4.7).
pub(super) fn is_in_place(node: &Node, leader: Leader) -> bool {
    node.id == leader.node
        && node.copy.is_some()
        && node.copy == leader.copy
        && matches!(node.role, CopyRole::Primary { .. })
}

/// Whether giving up would do: the old primary has promised, holds everything, and could be opened
/// again in place.
pub(super) fn can_reopen(facts: &Facts<'_>, group: &Group, leader: Leader) -> bool {
    let Some(old) = group.nodes.get(&leader.node) else {
        return false;
    };
    facts.promise_of(old).is_some_and(|(_, position)| {
        is_in_place(old, leader)
            && facts.keeper_answers(leader.node)
            && obstacle(&group.possible, &promised_up_to(facts, position)).is_none()
    })
}

/// Standbys that could be promoted after a failover: present, priority above 0, a whole copy.
pub(super) fn candidates(facts: &Facts<'_>, old: NodeId) -> Vec<NodeId> {
    facts
        .staying()
        .filter(|n| n.id != old && n.candidate_priority > 0 && facts.is_present(n.id))
        .filter(|n| n.copy.is_some() && facts.is_admitted(n))
        .map(|n| n.id)
        .collect()
}

/// Standbys that a planned move may go to: secondary, seen streaming, near.
pub(super) fn move_candidates(facts: &Facts<'_>, target: Option<NodeId>) -> Vec<NodeId> {
    let Some(leader) = facts.leader() else {
        return Vec::new();
    };
    let mut found: Vec<&Node> = facts
        .staying()
        .filter(|n| n.id != leader.node && target.is_none_or(|t| t == n.id))
        .filter(|n| n.candidate_priority > 0 || target == Some(n.id))
        .filter(|n| n.reported == NodeState::Secondary && n.goal.state == NodeState::Secondary)
        .filter(|n| facts.is_present(n.id) && facts.is_caught_up(n))
        .filter(|n| {
            facts.leader_report().is_some_and(|r| {
                r.standbys
                    .iter()
                    .any(|s| s.node == n.id && s.lag_bytes <= NEAR_BYTES)
            })
        })
        .collect();
    found.sort_by_key(|n| (core::cmp::Reverse(n.candidate_priority), n.id));
    found.into_iter().map(|n| n.id).collect()
}

pub(super) fn reach_candidates(
    facts: &Facts<'_>,
    target: Option<NodeId>,
    old: NodeId,
) -> Vec<NodeId> {
    let mut found: Vec<&Node> = facts
        .staying()
        .filter(|n| n.id != old && (n.candidate_priority > 0 || target == Some(n.id)))
        .filter(|n| n.copy.is_some() && facts.is_present(n.id))
        .filter(|n| {
            facts
                .live
                .report(n.id)
                .is_some_and(|r| r.postgres.is_standby())
        })
        .collect();
    found.sort_by_key(|n| {
        (
            target != Some(n.id),
            n.goal.state != NodeState::Secondary,
            core::cmp::Reverse(n.candidate_priority),
            n.id,
        )
    });
    found.into_iter().map(|n| n.id).collect()
}

/// Copies whose keepers answer, other than the given node's: the promises that can be had.
pub(super) fn reachable_without(facts: &Facts<'_>, node: NodeId) -> BTreeSet<CopyId> {
    facts
        .group
        .nodes
        .values()
        .filter(|n| n.id != node && facts.is_present(n.id))
        .filter_map(|n| n.copy)
        .collect()
}

/// Nodes that were asked, can answer, and have not yet.
pub(super) fn pending(
    facts: &Facts<'_>,
    group: &Group,
    election: &Election,
    leader: Leader,
) -> Vec<NodeId> {
    let asked = |n: &Node| match election.reaching {
        Some((node, _)) => n.id == node,
        None => !election.planned,
    };
    facts
        .staying()
        .filter(|n| n.id != leader.node && n.copy.is_some() && facts.keeper_answers(n.id))
        .filter(|n| asked(n))
        .filter(|n| {
            n.promise
                .is_none_or(|p| p.term < group.term || p.position.is_none())
        })
        .map(|n| n.id)
        .collect()
}

/// The nodes behind copies that are lacking.
pub(super) fn holders(
    group: &Group,
    primary: CopyId,
    copies: &BTreeSet<CopyId>,
    have: &BTreeSet<CopyId>,
) -> Vec<NodeId> {
    group
        .nodes
        .values()
        .filter(|n| {
            n.copy
                .is_some_and(|c| (c == primary || copies.contains(&c)) && !have.contains(&c))
        })
        .map(|n| n.id)
        .collect()
}
