//! Changing the primary: one procedure for planned moves, failovers and giving up (`safety.md` §4).
//!
//! ```text
//!  Steady ──switchover──► Preparing ──checkpointed, caught up──► Collecting(planned)
//!    └──verdict gone, and promises that can be had would do─────► Collecting
//!  Collecting ──enough promised, candidate has it all──► Promoting ──reported──► Steady
//!      └──nobody else can──► Steady: the old primary, in place
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::{NodeId, NodeState, Waiting};

use super::anew;
use super::candidates::{
    can_reopen, candidates, choose, holders, move_candidates, pending, reach_candidates,
    reachable_without,
};
use super::config;
use super::facts::Facts;
use super::fetch;
use super::hold;
use super::lease;
use super::maintenance;
use super::model::{Election, Event, Group, Leader, Phase};
use super::promotion::{promote, promoting};
use super::quorum::obstacle;

/// What one look at the phase led to.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The phase or the term changed.
    pub changed: bool,
    /// What happened.
    pub events: Vec<Event>,
    /// What it waits for.
    pub waiting: Vec<Waiting>,
}

/// Moves the phase on, if it can go on.
pub(super) fn advance(facts: &Facts<'_>, group: &mut Group) -> Step {
    if group.doubted.is_some() {
        return Step::default();
    }
    if let Some(step) = anew::begin(facts, group) {
        return step;
    }
    match group.phase.clone() {
        Phase::Steady => steady(facts, group),
        Phase::Preparing(election) => preparing(facts, group, election),
        Phase::Collecting(election) => collecting(facts, group, &election),
        Phase::Promoting { node, .. } => promoting(facts, group, node),
    }
}

fn steady(facts: &Facts<'_>, group: &mut Group) -> Step {
    let Some(leader) = facts.leader() else {
        return Step::default();
    };
    let verdict = facts.verdict(leader.node);
    if !verdict.is_gone() {
        return leaving_leader(facts, group, leader);
    }
    let evidence = verdict.text().to_string();
    let reachable = reachable_without(facts, leader.node);
    let candidates = candidates(facts, leader.node);
    if candidates.is_empty() {
        return waits(
            "candidate",
            &[leader.node],
            format!(
                "the primary is gone ({evidence}), and no standby with a candidate priority above 0 is well"
            ),
            maintenance::way_out(group),
        );
    }
    // Decide first, disturb later: without enough promises in reach, standbys are left alone.
    if let Some(lacking) = obstacle(&group.possible, &reachable) {
        match lease::answer(facts, &lacking, (&reachable, &candidates), &evidence) {
            Some(Ok(reason)) => return begin_without_lease(facts, group, leader, reason),
            Some(Err(waiting)) => return wait_for(waiting),
            None => {}
        }
        let nodes = holders(group, lacking.primary, &lacking.copies, &reachable);
        let why = if lacking.copies.is_empty() {
            format!(
                "the primary is gone ({evidence}); it may have acknowledged commits alone, so only its own promise shows what they are"
            )
        } else {
            format!(
                "the primary is gone ({evidence}); {} more of the copies that may hold acknowledged commits must answer",
                lacking.missing(&reachable)
            )
        };
        return waits("promise", &nodes, why, Some(data_loss_command(group)));
    }
    begin(
        group,
        Election {
            reason: evidence,
            ..Election::default()
        },
        leader.node,
    )
}

/// The primary's lease has run out, or its keeper can promise: what it acknowledged alone ends.
fn begin_without_lease(
    facts: &Facts<'_>,
    group: &mut Group,
    leader: Leader,
    reason: String,
) -> Step {
    let election = Election {
        reason,
        own_words: facts.keeper_answers(leader.node),
        ..Election::default()
    };
    begin(group, election, leader.node)
}

/// A primary that an operator removes or maintains hands over first.
fn leaving_leader(facts: &Facts<'_>, group: &mut Group, leader: Leader) -> Step {
    let Some(node) = group.nodes.get(&leader.node) else {
        return Step::default();
    };
    let others = facts.staying().any(|n| n.id != leader.node);
    let reason = match (node.leaving, node.maintenance) {
        (true, _) => "the primary is being removed",
        (false, true) => "an operator wants to maintain the primary",
        (false, false) => return Step::default(),
    };
    if !others {
        return Step::default();
    }
    if move_candidates(facts, None).is_empty() {
        return waits(
            "candidate",
            &[leader.node],
            format!("{reason}, and no standby can take over yet"),
            None,
        );
    }
    let election = Election {
        reason: reason.to_string(),
        planned: true,
        ..Election::default()
    };
    group.phase = Phase::Preparing(election);
    Step {
        changed: true,
        ..Step::default()
    }
}

fn preparing(facts: &Facts<'_>, group: &mut Group, election: Election) -> Step {
    let Some(leader) = facts.leader() else {
        return back_to_steady(group);
    };
    let verdict = facts.verdict(leader.node);
    if verdict.is_gone() {
        let reason = format!("{}; then {}", election.reason, verdict.text());
        group.phase = Phase::Steady;
        let step = steady(facts, group);
        return if matches!(group.phase, Phase::Collecting(_)) {
            step
        } else {
            let mut step = step;
            step.changed = true;
            step.events
                .push(event(group, leader.node, "switchover.abandoned", reason));
            step
        };
    }
    let candidates = move_candidates(facts, election.target);
    let expired = elapsed_ms(facts) >= facts.settings.move_deadline_ms;
    if candidates.is_empty() {
        if !expired {
            return waits(
                "candidate",
                &[],
                "no standby is caught up for the switchover".to_string(),
                None,
            );
        }
        let mut step = back_to_steady(group);
        step.events.push(event(
            group,
            leader.node,
            "switchover.abandoned",
            "the switchover is given up: no standby was caught up in time; the primary goes on"
                .to_string(),
        ));
        return step;
    }
    let checkpointed = facts.leader_report().and_then(|r| r.checkpointed);
    let asked = group.nodes.get(&leader.node).map(|n| n.goal.stamp);
    if !expired && (checkpointed.is_none() || checkpointed < asked) {
        return waits(
            "checkpoint",
            &[leader.node],
            "the primary writes a checkpoint before it stops, writes go on".to_string(),
            None,
        );
    }
    if let Some(step) = hold::wait(facts, group, &election, &candidates) {
        return step;
    }
    begin(
        group,
        Election {
            planned: true,
            ..election
        },
        leader.node,
    )
}

fn collecting(facts: &Facts<'_>, group: &mut Group, election: &Election) -> Step {
    let Some(leader) = facts.leader() else {
        return back_to_steady(group);
    };
    if election.planned {
        if let Some(step) = planned_turns_unplanned(facts, group, election, leader) {
            return step;
        }
        if let Some(step) = wait_for_end(facts, group, election, leader) {
            return step;
        }
    }
    let promised = facts.promised();
    let complete = choose(facts, election, leader);
    if let Some(step) = fetch::advance(facts, group, election, leader, complete) {
        return step;
    }
    if let Some(candidate) = complete {
        return promote(facts, group, candidate);
    }
    let pending = pending(facts, group, election, leader);
    if let Some(step) = reopen(facts, group, leader, &pending) {
        return step;
    }
    let lacking = obstacle(&group.possible, &promised);
    if let Some(waiting) = lacking.as_ref().and_then(|l| lease::collecting(facts, l)) {
        return wait_for(waiting);
    }
    let nodes = match &lacking {
        Some(l) => holders(group, l.primary, &l.copies, &promised),
        None => pending.clone(),
    };
    let why = match lacking {
        Some(l) if l.copies.is_empty() => {
            "only the old primary's own promise shows what it acknowledged alone".to_string()
        }
        Some(l) => format!(
            "{} more promise(s) are needed of the copies that may hold acknowledged commits",
            l.missing(&promised)
        ),
        None => return nobody_holds_all(facts, group, &pending),
    };
    waits("promise", &nodes, why, Some(data_loss_command(group)))
}

/// Enough has promised, and nobody who may be primary can have everything of it.
fn nobody_holds_all(facts: &Facts<'_>, group: &Group, pending: &[NodeId]) -> Step {
    let barred: Vec<_> = facts
        .staying()
        .filter(|n| n.candidate_priority == 0 && facts.promise_of(n).is_some())
        .collect();
    let way_out = barred.first().map(|n| {
        format!(
            "pg_autoctl set node candidate-priority --formation {} --name {} 1",
            group.formation, n.name
        )
    });
    let why = "enough has promised; no node with a candidate priority above 0 has everything that was promised, or can fetch it".to_string();
    let nodes: Vec<NodeId> = pending
        .iter()
        .copied()
        .chain(barred.iter().map(|n| n.id))
        .collect();
    waits("candidate", &nodes, why, way_out)
}

/// A planned move whose primary does not promise in time, or is gone, goes on with the standbys.
fn planned_turns_unplanned(
    facts: &Facts<'_>,
    group: &mut Group,
    election: &Election,
    leader: Leader,
) -> Option<Step> {
    let old = group.nodes.get(&leader.node)?;
    if facts.promise_of(old).is_some() {
        return None;
    }
    let answers = facts.keeper_answers(leader.node);
    let expired = elapsed_ms(facts) >= facts.settings.move_deadline_ms;
    if answers && !expired {
        return None;
    }
    let reason = format!(
        "{}; the old primary did not promise {}",
        election.reason,
        if expired {
            "in time"
        } else {
            "before it was gone"
        }
    );
    let events = alloc::vec![event(
        group,
        leader.node,
        "switchover.continues-without",
        reason.clone()
    )];
    group.phase = Phase::Collecting(Election {
        planned: false,
        reason,
        reaching: None,
        fetching: None,
        ..election.clone()
    });
    Some(Step {
        changed: true,
        events,
        ..Step::default()
    })
}

/// In a planned move the candidate is told the old primary's end as soon as that is known.
fn wait_for_end(
    facts: &Facts<'_>,
    group: &mut Group,
    election: &Election,
    leader: Leader,
) -> Option<Step> {
    let Some((_, end)) = group
        .nodes
        .get(&leader.node)
        .and_then(|n| facts.promise_of(n))
    else {
        return Some(waits(
            "promise",
            &[leader.node],
            "the old primary is stopping; its end is what the candidate must have".to_string(),
            None,
        ));
    };
    if let Some((node, _)) = election.reaching
        && facts.is_present(node)
    {
        return None;
    }
    let candidate = reach_candidates(facts, election.target, leader.node)
        .into_iter()
        .next()?;
    group.phase = Phase::Collecting(Election {
        reaching: Some((candidate, end)),
        ..election.clone()
    });
    Some(Step {
        changed: true,
        ..Step::default()
    })
}

/// Raises the term and asks for promises.
pub(super) fn begin(group: &mut Group, election: Election, old: NodeId) -> Step {
    group.term = group.term.next();
    let what = if election.planned {
        "switchover.begin"
    } else {
        "failover.begin"
    };
    let text = format!(
        "term {}: a new primary is wanted: {}",
        group.term, election.reason
    );
    group.phase = Phase::Collecting(election);
    let events = alloc::vec![event(group, old, what, text)];
    Step {
        changed: true,
        events,
        ..Step::default()
    }
}

/// Giving up: the old primary is opened again, in place, when nobody else can take over.
fn reopen(
    facts: &Facts<'_>,
    group: &mut Group,
    leader: Leader,
    pending: &[NodeId],
) -> Option<Step> {
    let others_may_come =
        !pending.is_empty() && elapsed_ms(facts) < facts.settings.move_deadline_ms;
    if others_may_come || !can_reopen(facts, group, leader) {
        return None;
    }
    let sync = facts.current_sync();
    group.primary = Some(Leader {
        term: group.term,
        ..leader
    });
    config::list(group, sync);
    group.phase = Phase::Steady;
    let text = format!(
        "term {}: nobody else can take over; the old primary goes on in place",
        group.term
    );
    let events = alloc::vec![event(group, leader.node, "failover.given-up", text)];
    Some(Step {
        changed: true,
        events,
        ..Step::default()
    })
}

fn back_to_steady(group: &mut Group) -> Step {
    group.phase = Phase::Steady;
    Step {
        changed: true,
        ..Step::default()
    }
}

pub(super) fn elapsed_ms(facts: &Facts<'_>) -> u64 {
    facts.now.0.saturating_sub(facts.phase_since.0)
}

/// The named way out of a wait for a promise that may never come.
pub(super) fn data_loss_command(group: &Group) -> String {
    format!(
        "pg_autoctl perform failover --formation {} --group {} --allow-data-loss (only when the old primary is off for good: commits that none of the nodes that answer has are lost)",
        group.formation, group.id
    )
}

pub(super) fn waits(id: &str, nodes: &[NodeId], why: String, way_out: Option<String>) -> Step {
    wait_for(Waiting {
        id: id.to_string(),
        nodes: nodes.to_vec(),
        why,
        way_out,
    })
}

fn wait_for(waiting: Waiting) -> Step {
    Step {
        waiting: alloc::vec![waiting],
        ..Step::default()
    }
}

pub(super) fn event(group: &Group, node: NodeId, rule: &str, description: String) -> Event {
    let row = group.nodes.get(&node);
    Event {
        node,
        group: group.id,
        reported: row.map_or(NodeState::Unknown, |n| n.reported),
        goal: row.map_or(NodeState::Unknown, |n| n.goal.state),
        rule: rule.to_string(),
        description,
    }
}
