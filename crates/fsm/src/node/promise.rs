//! Promising: taking nothing from an older term, and saying how far the copy got
//! (`safety.md` §4.2-3).

use alloc::collections::BTreeSet;
use alloc::format;
use core::time::Duration;

use pgaf_protocol::{CopyRole, Goal, NodeId, Position, Postgres, Reach};

use super::step::{Conf, Step, StopMode};
use super::view::Directory;
use super::{Entry, NodeView, Plan, follow};

/// Carries out an order to promise; the journal has the promise already.
pub(super) fn obey(view: &NodeView, fast: bool, serves: &BTreeSet<NodeId>) -> Plan {
    let mode = if fast {
        StopMode::Fast
    } else {
        StopMode::Immediate
    };
    let was_primary = view.journal.opened().is_some();
    match view.observation.postgres {
        Postgres::Running {
            in_recovery: false, ..
        } => Plan::act(Step::Stop { mode }),
        Postgres::Starting | Postgres::Unresponsive if was_primary => Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        }),
        Postgres::Running {
            in_recovery: true, ..
        } => standby(view, serves),
        // Started without an upstream, after its position was read: it receives nothing.
        Postgres::Starting if complete(view) => Plan::reached().soon(view.now),
        // Its position could not be read; once it answers it says it itself.
        Postgres::Starting if view.memory.receives_nothing() => {
            Plan::wait("Postgres is starting without an upstream").soon(view.now)
        }
        Postgres::Unresponsive if complete(view) => Plan::reached(),
        Postgres::Unresponsive if !overdue(view) => {
            Plan::wait("Postgres does not answer").again_at(deadline(view))
        }
        Postgres::Starting | Postgres::Unresponsive => Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        }),
        Postgres::Absent | Postgres::Down { .. } => down(view, was_primary, !serves.is_empty()),
    }
}

/// Whether the promise can be reported.
fn complete(view: &NodeView) -> bool {
    view.memory.receives_nothing() && view.memory.end.is_some()
}

fn deadline(view: &NodeView) -> pgaf_protocol::Time {
    view.memory.goal_since.plus(Duration::from_millis(
        view.journal.settings.promise_deadline_ms,
    ))
}

fn overdue(view: &NodeView) -> bool {
    view.now >= deadline(view)
}

pub(super) fn standby(view: &NodeView, serves: &BTreeSet<NodeId>) -> Plan {
    if complete(view) {
        let mut plan = Plan::reached();
        plan.step = follow::hba(view).or_else(|| hand_out(view, serves));
        return plan;
    }
    let failing = view
        .memory
        .pause
        .as_ref()
        .is_some_and(|pause| pause.step == "stop-receiving");
    if failing && overdue(view) {
        // A reload does not do it: restart it without an upstream.
        return Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        });
    }
    Plan::act(Step::StopReceiving {
        conf: Conf::promise(),
    })
    .again_at(deadline(view))
}

/// The slots through which WAL is fetched from here; none of another time.
fn hand_out(view: &NodeView, serves: &BTreeSet<NodeId>) -> Option<Step> {
    let slots = view.memory.slots.as_ref();
    let right = slots.map_or(serves.is_empty(), |slots| slots.admitted == *serves);
    (!right).then(|| Step::EnsureSlots {
        admitted: serves.clone(),
        expected: BTreeSet::new(),
    })
}

fn down(view: &NodeView, was_primary: bool, serves: bool) -> Plan {
    let contents = match &view.observation.directory {
        Directory::Absent => return Plan::reached(),
        Directory::Broken { why } => {
            let mut plan = Plan::reached();
            plan.trouble = Some(format!("has no position: {why}"));
            return plan;
        }
        Directory::Present(contents) => contents,
    };
    if view.memory.end.is_none() && view.memory.no_position.is_none() {
        return Plan::act(Step::ReadPosition);
    }
    if serves && view.journal.role != CopyRole::Standby {
        // Somebody else is to be primary, and needs what is here: it is a standby's copy from now on.
        return Plan::act(Step::Journal(Entry::Standby)).but_reached(view.memory.end.is_some());
    }
    if !serves && (was_primary || contents.was_primary) {
        let mut plan = Plan::reached();
        plan.trouble.clone_from(&view.memory.no_position);
        return plan;
    }
    // A candidate has to run; without an upstream it stays where it is.
    Plan::act(Step::Start {
        standby: true,
        conf: Conf::promise(),
        closed: false,
    })
    .but_reached(view.memory.end.is_some())
}

/// Carries out an order to reach the old primary's end, and to promise then.
pub(super) fn reach(view: &NodeView, goal: &Goal, order: &Reach) -> Plan {
    let term = goal.stamp.term;
    if view.journal.promise >= Some(term) {
        return obey(view, false, &BTreeSet::new());
    }
    let promise = || Plan::act(Step::Journal(Entry::Promise { term }));
    match view.observation.postgres {
        // Not a standby: what it has is all that it will have.
        Postgres::Running {
            in_recovery: false, ..
        } => promise(),
        Postgres::Running {
            in_recovery: true, ..
        } => {
            if has(view.position(), order.position) {
                return promise();
            }
            let at = view
                .position()
                .map_or_else(|| "nothing known".into(), |p| format!("{p}"));
            Plan::wait(format!("has received {at}, waits for {}", order.position)).soon(view.now)
        }
        Postgres::Starting => Plan::wait("Postgres is starting").soon(view.now),
        Postgres::Unresponsive => Plan::wait("Postgres does not answer"),
        Postgres::Absent | Postgres::Down { .. } => match &view.observation.directory {
            Directory::Absent | Directory::Broken { .. } => promise(),
            Directory::Present(contents) if contents.was_primary => promise(),
            Directory::Present(_) => stopped_standby(view, order, promise),
        },
    }
}

fn stopped_standby(view: &NodeView, order: &Reach, promise: impl Fn() -> Plan) -> Plan {
    let known = view.memory.end.max(view.memory.disk);
    if known.is_none() && view.memory.no_position.is_none() {
        return Plan::act(Step::ReadPosition);
    }
    match &view.journal.upstream {
        Some(upstream) if !has(known, order.position) => Plan::act(Step::Start {
            standby: true,
            conf: Conf::follow(upstream),
            closed: false,
        }),
        Some(_) | None => promise(),
    }
}

/// Whether a position holds everything up to another.
pub(super) fn has(position: Option<Position>, wanted: Position) -> bool {
    position.is_some_and(|p| p.timeline == wanted.timeline && p.lsn >= wanted.lsn)
}
