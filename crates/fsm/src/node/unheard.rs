//! What a keeper does before it has heard of its monitor in this run (`safety.md` §6).

use alloc::collections::BTreeSet;

use pgaf_protocol::{CopyRole, Goal, NodeState, Order, Postgres, Time};

use super::lead::{self, Wanted};
use super::step::{Conf, Step, StopMode};
use super::{Entry, NodeView, Plan, decide, promise};

/// The monitor is asked for this long before the other nodes are.
const ASK_MONITOR_MS: u64 = 2000;

/// Carries out a goal that stands in the journal, as far as that may be done without a word.
pub(super) fn obey(view: &NodeView, goal: &Goal) -> Plan {
    let running = !view.observation.is_down();
    if view.journal.promised_away() && running && !view.observation.postgres.is_standby() {
        // Killed between the promise and the end of its Postgres.
        return Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        });
    }
    match &goal.order {
        Order::Promise { fast, serves } => promise::obey(view, *fast, serves),
        // The promise stands; whether there is anything to fetch yet is the monitor's to say.
        Order::Fetch(_) => Plan {
            reached: false,
            waiting: Some("waits for the monitor".into()),
            ..promise::obey(view, false, &BTreeSet::new())
        },
        Order::Stop => decide::stop(view),
        Order::Drop => Plan::wait("waits for the monitor to say again that the node is dropped"),
        Order::Wait => Plan::wait("waits for the monitor"),
        Order::Reach(order) => promise::reach(view, goal, order),
        Order::Lead(_) | Order::Promote(_) => primary(view, goal),
        Order::Follow(order) => {
            if running && view.journal.opened().is_some() {
                // Killed between the goal and the end of its Postgres: somebody else is primary.
                return Plan::act(Step::Stop {
                    mode: StopMode::Immediate,
                });
            }
            if running {
                return Plan::wait("waits for the monitor; Postgres goes on");
            }
            standby(view, Conf::follow(&order.upstream))
        }
    }
}

/// A copy that was a standby starts as one; nothing is rewound or replaced without a word.
fn standby(view: &NodeView, conf: Conf) -> Plan {
    let Some(contents) = view.observation.directory.contents() else {
        return Plan::wait("waits for the monitor: there is no whole copy");
    };
    if view.journal.role != CopyRole::Standby || contents.was_primary || view.journal.work.is_some()
    {
        return Plan::wait("waits for the monitor: the copy was a primary's");
    }
    if view.memory.disk.is_none() && view.memory.no_position.is_none() {
        return Plan::act(Step::ReadPosition);
    }
    Plan::act(Step::Start {
        standby: true,
        conf,
        closed: false,
    })
}

fn primary(view: &NodeView, goal: &Goal) -> Plan {
    let Some(wanted) = Wanted::of(goal) else {
        return Plan::wait("waits for the monitor");
    };
    match view.observation.postgres {
        Postgres::Running {
            in_recovery: false, ..
        } => adopted(view, &wanted),
        Postgres::Starting => Plan::wait("Postgres is starting").soon(view.now),
        Postgres::Running {
            in_recovery: true, ..
        }
        | Postgres::Unresponsive => Plan::wait("waits for the monitor; Postgres goes on"),
        Postgres::Absent | Postgres::Down { .. } => down(view, goal, &wanted),
    }
}

/// A primary that an earlier keeper left running goes on; it fences itself like any other.
fn adopted(view: &NodeView, wanted: &Wanted) -> Plan {
    let hba = view.memory.hba.as_ref();
    let closed = hba.is_some_and(|hba| hba.closed);
    let fence = lead::must_fence(view, wanted, view.observation.server.as_ref());
    let mut plan = if fence && !closed {
        Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        })
    } else if !fence && wanted.lease.is_none() && (closed || hba.is_none()) {
        // An earlier keeper may have left it closed.
        Plan::act(Step::WriteHba { closed: false })
    } else {
        Plan::wait("waits for the monitor; Postgres goes on")
            .again_at(Time(view.memory.started.0.saturating_add(ASK_MONITOR_MS)))
    };
    plan.fence = fence;
    plan
}

fn down(view: &NodeView, goal: &Goal, wanted: &Wanted) -> Plan {
    if view.observation.directory.contents().is_none() {
        return Plan::wait("waits for the monitor: there is no whole copy");
    }
    let opened = view.journal.opened();
    if opened.is_none() {
        return match goal.order {
            Order::Promote(_) => standby(view, Conf::promise()),
            Order::Wait
            | Order::Lead(_)
            | Order::Follow(_)
            | Order::Promise { .. }
            | Order::Reach(_)
            | Order::Fetch(_)
            | Order::Stop
            | Order::Drop => {
                Plan::wait("waits for the monitor: the copy was never open for writing")
            }
        };
    }
    if view.journal.promised_away() {
        return Plan::wait("has promised: opens only on a goal of that term or a later one");
    }
    let same_term = opened == Some(goal.stamp.term);
    if !same_term && !matches!(goal.order, Order::Lead(_)) {
        return Plan::wait("waits for the monitor: the copy was primary of an older term");
    }
    if !view.memory.seen_running
        && let Some(plan) = ask(view)
    {
        return plan;
    }
    // `single`; or the statement of 5.2; or names, under which nothing is acknowledged alone.
    let may_open = goal.state == NodeState::Single
        || view.journal.stated_alone()
        || !wanted.sync.is_asynchronous();
    if !may_open {
        return Plan::wait("waits for the monitor: nothing says that nobody else was promoted");
    }
    if !same_term {
        return Plan::act(Step::Journal(Entry::Open {
            term: goal.stamp.term,
        }));
    }
    lead::down(view, wanted)
}

/// Asks the monitor for a while, then the peers, before a former primary opens by itself.
fn ask(view: &NodeView) -> Option<Plan> {
    let patience = Time(view.memory.started.0.saturating_add(ASK_MONITOR_MS));
    if view.now < patience {
        return Some(Plan::wait("asks the monitor first").again_at(patience));
    }
    if view.journal.peers.is_empty() {
        return None;
    }
    match view.memory.peers_newer {
        None => Some(Plan::act(Step::AskPeers)),
        Some(true) => Some(Plan::wait(
            "another node has a newer timeline: opens nothing by itself, waits for the monitor",
        )),
        Some(false) => None,
    }
}
