//! The candidate is chosen and promoted (`safety.md` §4.6).

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use pgaf_protocol::{NodeId, NodeState, TimelineId};

use super::candidates::{promised_up_to, reachable_without};
use super::config;
use super::elect::{Step, begin, data_loss_command, event, waits};
use super::facts::Facts;
use super::fetch;
use super::lease;
use super::model::{Election, Event, Group, Leader, Phase};
use super::quorum::obstacle;

/// Makes the choice durable: timeline used, configuration listed, and then the goal.
pub(super) fn promote(facts: &Facts<'_>, group: &mut Group, candidate: NodeId) -> Step {
    let Some(node) = facts.group.nodes.get(&candidate) else {
        return Step::default();
    };
    let Some((copy, position)) = facts.promise_of(node) else {
        return Step::default();
    };
    let opening = config::opening(facts, candidate);
    let r = promised_up_to(facts, position);
    let loss = lease::give_up(facts, group, &r, position);
    let known = group
        .nodes
        .values()
        .filter_map(|n| n.position)
        .map(|p| p.timeline);
    let highest = known
        .chain([position.timeline, group.used_timeline])
        .max()
        .unwrap_or_default();
    group.used_timeline = TimelineId(highest.0 + 1);
    group.primary = Some(Leader {
        node: candidate,
        copy: Some(copy),
        term: group.term,
    });
    group.history = None;
    let has = match &loss {
        None => "everything that may have been acknowledged",
        Some(_) => "the most that can be had",
    };
    let text = format!(
        "term {}: node {candidate} \"{}\" has {has} ({position}) and is promoted under {opening}",
        group.term, node.name
    );
    let term = group.term;
    for other in group.nodes.values_mut() {
        // Who promised in this term, and is not ahead of the candidate, may stream from it at once.
        other.admitted = None;
        if let (Some(promise), Some(theirs)) = (other.promise, other.copy)
            && promise.term == term
            && promise.copy == theirs
            && promise
                .position
                .is_some_and(|p| p <= position && p.timeline == position.timeline)
            && other.id != candidate
            && !fetch::may_receive(term, other)
        {
            other.admitted = Some((group.term, theirs));
        }
    }
    config::list(group, opening);
    group.phase = Phase::Promoting {
        node: candidate,
        copy,
        position,
    };
    let mut events: Vec<Event> = loss.into_iter().collect();
    events.push(event(group, candidate, "failover.promote", text));
    Step {
        changed: true,
        events,
        ..Step::default()
    }
}

pub(super) fn promoting(facts: &Facts<'_>, group: &mut Group, candidate: NodeId) -> Step {
    let goal = group.nodes.get(&candidate).map(|n| n.goal.stamp);
    let done = facts.live.report(candidate).is_some_and(|r| {
        Some(r.reached) >= goal && r.state == NodeState::StopReplication && r.postgres.is_primary()
    });
    if done {
        group.phase = Phase::Steady;
        let text = format!("term {}: node {candidate} is promoted", group.term);
        let events = alloc::vec![event(group, candidate, "failover.promoted", text)];
        return Step {
            changed: true,
            events,
            ..Step::default()
        };
    }
    let verdict = facts.verdict(candidate);
    if !verdict.is_gone() {
        return waits(
            "promotion",
            &[candidate],
            "the candidate is being promoted".to_string(),
            None,
        );
    }
    let reason = format!(
        "the candidate is gone before it was promoted: {}",
        verdict.text()
    );
    let reachable = reachable_without(facts, candidate);
    if obstacle(&group.possible, &reachable).is_some() {
        return waits(
            "promise",
            &[candidate],
            format!("{reason}; not enough others can promise"),
            Some(data_loss_command(group)),
        );
    }
    begin(
        group,
        Election {
            reason,
            ..Election::default()
        },
        candidate,
    )
}
