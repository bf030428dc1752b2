//! A planned move of a Citus worker first has the coordinator hold writes to its shards, so that
//! none fails (`safety.md` §9.1-2); a worker that is removed first leaves the node metadata.
//!
//! Both are courtesies: the move goes on without a coordinator, or when that takes too long, and
//! safety comes from the worker's own promise.

use alloc::string::ToString;
use core::time::Duration;

use pgaf_protocol::{NodeId, Time};

use super::elect::{Step, elapsed_ms, waits};
use super::facts::Facts;
use super::model::{Election, Group, Kind, Phase};
use crate::citus::HOLD_DEADLINE_MS;

fn is_worker(facts: &Facts<'_>) -> bool {
    facts.formation.kind == Kind::Citus && facts.id().0 > 0
}

/// What a planned move waits for before its primary is stopped; writes go on meanwhile. As late as
/// possible: everything else is ready.
pub(super) fn wait(
    facts: &Facts<'_>,
    group: &mut Group,
    election: &Election,
    candidates: &[NodeId],
) -> Option<Step> {
    let coordinator = facts.formation.coordinator;
    if !is_worker(facts) || !coordinator.present {
        return None;
    }
    let candidate = candidates.first().copied()?;
    let Some(hold) = election.hold.filter(|n| candidates.contains(n)) else {
        group.phase = Phase::Preparing(Election {
            hold: Some(candidate),
            ..election.clone()
        });
        return Some(Step {
            changed: true,
            ..Step::default()
        });
    };
    let done = coordinator
        .held
        .is_some_and(|h| h.node == hold && h.term == group.term.next());
    if done || elapsed_ms(facts) >= HOLD_DEADLINE_MS {
        return None;
    }
    Some(waits(
        "coordinator",
        &[],
        "the coordinator prepares the new node metadata, so that writes wait and do not fail"
            .to_string(),
        None,
    ))
}

/// When that wait is over.
pub(super) fn deadline(facts: &Facts<'_>) -> Option<Time> {
    match &facts.group.phase {
        Phase::Preparing(election) if election.hold.is_some() => Some(
            facts
                .phase_since
                .plus(Duration::from_millis(HOLD_DEADLINE_MS)),
        ),
        Phase::Steady | Phase::Preparing(_) | Phase::Collecting(_) | Phase::Promoting { .. } => {
            None
        }
    }
}

/// Whether a worker's group still has a row that a coordinator looks after.
pub(super) fn is_listed(facts: &Facts<'_>) -> bool {
    let coordinator = facts.formation.coordinator;
    is_worker(facts) && coordinator.present && coordinator.lists
}
