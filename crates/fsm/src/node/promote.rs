//! Becoming primary (`safety.md` §4.6): only on a goal that was received in this run of the keeper.

use alloc::collections::BTreeSet;
use alloc::format;

use pgaf_protocol::{CopyRole, Goal, Postgres, Promote};

use super::lead::{self, Wanted};
use super::promise::has;
use super::step::{Conf, Names, Replication, Step, StopMode};
use super::view::Directory;
use super::{Entry, NodeView, Plan, Work};

/// Carries out an order to promote.
pub(super) fn obey(view: &NodeView, goal: &Goal, order: &Promote) -> Plan {
    let Some(wanted) = Wanted::of(goal) else {
        return Plan::wait("waits for a goal");
    };
    let opened = view.journal.opened() == Some(goal.stamp.term);
    match view.observation.postgres {
        Postgres::Running {
            in_recovery: false, ..
        } if opened => lead::running(view, &wanted),
        // A primary of an older term: nothing of it counts, it comes back as a candidate.
        Postgres::Running {
            in_recovery: false, ..
        } => Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        }),
        Postgres::Running {
            in_recovery: true, ..
        } => standby(view, goal, order),
        Postgres::Starting => Plan::wait("Postgres is starting").soon(view.now),
        Postgres::Unresponsive => Plan::wait("Postgres does not answer"),
        Postgres::Absent | Postgres::Down { .. } => match &view.observation.directory {
            Directory::Absent => Plan::trouble("told to promote, and there is no data directory"),
            Directory::Broken { why } => Plan::trouble(format!(
                "told to promote, and the data directory is no whole copy: {why}"
            )),
            Directory::Present(_) if opened => lead::down(view, &wanted),
            Directory::Present(_) => start(view, order),
        },
    }
}

/// What a candidate runs with: the names it will open under, and no upstream.
fn conf(order: &Promote) -> Conf {
    Conf {
        names: if order.sync.is_asynchronous() {
            // A candidate never opens under `''`: that is a goal of its own, later.
            Names::Nobody
        } else {
            Names::Sync(order.sync.clone())
        },
        replication: Replication::Promise,
    }
}

fn start(view: &NodeView, order: &Promote) -> Plan {
    if view.memory.end.is_none() && view.memory.no_position.is_none() {
        return Plan::act(Step::ReadPosition);
    }
    if view.journal.role != CopyRole::Standby {
        return Plan::act(Step::Journal(Entry::Standby));
    }
    Plan::act(Step::Start {
        standby: true,
        conf: conf(order),
        closed: false,
    })
}

fn standby(view: &NodeView, goal: &Goal, order: &Promote) -> Plan {
    let term = goal.stamp.term;
    if view.journal.promise < Some(term) {
        return Plan::act(Step::Journal(Entry::Promise { term }));
    }
    let conf = conf(order);
    if !view.memory.receives_nothing() {
        return Plan::act(Step::StopReceiving { conf });
    }
    if !view.memory.has_loaded(&conf) {
        return Plan::act(Step::Load { conf });
    }
    let position = view.memory.end.max(view.position());
    if !has(position, order.position) {
        let at = position.map_or_else(|| "nothing known".into(), |p| format!("{p}"));
        return Plan::trouble(format!(
            "told to promote with everything up to {}, and has {at}",
            order.position
        ))
        .soon(view.now);
    }
    let admitted: BTreeSet<_> = order.admitted.iter().map(|m| m.node).collect();
    let ready = view
        .memory
        .slots
        .as_ref()
        .is_some_and(|slots| slots.admitted == admitted && slots.expected.is_empty());
    if !ready {
        return Plan::act(Step::EnsureSlots {
            admitted,
            expected: BTreeSet::new(),
        });
    }
    if view.journal.work != Some(Work::Promote { term }) {
        return Plan::act(Step::Journal(Entry::Begin {
            work: Work::Promote { term },
        }));
    }
    Plan::act(Step::Promote {
        timeline: order.timeline,
        position: order.position,
    })
}
