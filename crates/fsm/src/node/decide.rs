//! The decision: from everything that is known to the next step.

use alloc::format;

use pgaf_protocol::{CopyRole, Goal, Order, Postgres};

use super::step::{Step, StopMode};
use super::view::Directory;
use super::{Entry, NodeView, Plan, Work, fetch, follow, lead, lease, promise, promote, unheard};

/// Decides what the keeper does next. Total: whatever the view holds, there is a step, or the goal
/// is reached, or the plan names what it waits for.
#[must_use]
pub fn decide(view: &NodeView) -> Plan {
    let plan = first(view).unwrap_or_else(|| match &view.journal.goal {
        None => Plan::wait("waits for the monitor's first goal"),
        Some(goal) if view.memory.heard => obey(view, goal),
        Some(goal) => unheard::obey(view, goal),
    });
    finish(view, plan)
}

/// What comes before any goal.
fn first(view: &NodeView) -> Option<Plan> {
    let observation = view.observation;
    if observation.leftovers {
        return Some(Plan::act(Step::EndCluster));
    }
    if let Some(plan) = lease::release(view) {
        return Some(plan);
    }
    if view.journal.dropped {
        return Some(dropped(view));
    }
    resolve_work(view).or_else(|| adopt(view))
}

fn dropped(view: &NodeView) -> Plan {
    if view.observation.is_down() {
        return Plan {
            end: true,
            reached: true,
            ..Plan::default()
        };
    }
    Plan::act(Step::Stop {
        mode: StopMode::Fast,
    })
}

/// A keeper that was killed in the middle of a step finds out what came of it.
fn resolve_work(view: &NodeView) -> Option<Plan> {
    let work = view.journal.work?;
    match work {
        Work::Promote { term } => resolve_promotion(view, term),
        Work::Initdb { copy } | Work::Rewind { copy } | Work::Replace { copy } => {
            if let Some(contents) = view.observation.directory.contents()
                && contents.copy == Some(copy)
            {
                let made = matches!(work, Work::Initdb { .. });
                return Some(Plan::act(Step::Journal(Entry::Copied {
                    copy,
                    role: if made {
                        CopyRole::None
                    } else {
                        CopyRole::Standby
                    },
                    system_identifier: contents.system_identifier,
                    prepared: !made,
                })));
            }
            // The order that began it goes on in this run; otherwise it is forgotten: what is there
            // is the old copy, or a broken one.
            (!goes_on(view, work)).then(|| Plan::act(Step::Journal(Entry::Over)))
        }
    }
}

/// Whether a step that changes the data directory is still to be carried out.
fn goes_on(view: &NodeView, work: Work) -> bool {
    let memory = view.memory;
    let whole = view.observation.directory.contents().is_some();
    match work {
        Work::Initdb { .. } => view.observation.directory == Directory::Absent && may_create(view),
        Work::Rewind { copy } => {
            whole
                && memory.fresh == copy
                && !memory.has_rewound(view.journal)
                && goal_follows(view)
                && !goal_fetches(view)
        }
        Work::Replace { copy } => memory.staged(view.journal) == Some(copy) && goal_follows(view),
        Work::Promote { .. } => false,
    }
}

fn may_create(view: &NodeView) -> bool {
    view.memory.heard
        && matches!(
            view.journal.goal.as_ref().map(|g| &g.order),
            Some(Order::Lead(lead)) if lead.may_create
        )
}

fn goal_follows(view: &NodeView) -> bool {
    view.memory.heard
        && matches!(
            view.journal.goal.as_ref().map(|g| &g.order),
            Some(Order::Follow(_) | Order::Fetch(_))
        )
}

/// Then nothing is rewound: what is fetched is another standby's.
fn goal_fetches(view: &NodeView) -> bool {
    let order = view.journal.goal.as_ref().map(|g| &g.order);
    matches!(order, Some(Order::Fetch(_)))
}

/// `pg_promote` may have been called: either the copy is open, or it must not open any more unless
/// the goal still says so.
fn resolve_promotion(view: &NodeView, term: pgaf_protocol::Term) -> Option<Plan> {
    let wanted =
        view.memory.heard
            && view.journal.goal.as_ref().is_some_and(|goal| {
                goal.stamp.term == term && matches!(goal.order, Order::Promote(_))
            });
    match view.observation.postgres {
        Postgres::Running {
            in_recovery: false, ..
        } => Some(Plan::act(Step::Journal(Entry::Open { term }))),
        Postgres::Running {
            in_recovery: true, ..
        } if wanted => None,
        // It may open at any moment, in a term that may be over: end it, and read the disk.
        Postgres::Running {
            in_recovery: true, ..
        }
        | Postgres::Unresponsive => Some(Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        })),
        Postgres::Starting => Some(Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        })),
        Postgres::Absent | Postgres::Down { .. } => {
            let opened = view
                .observation
                .directory
                .contents()
                .is_some_and(|contents| contents.was_primary);
            Some(Plan::act(Step::Journal(if opened {
                Entry::Open { term }
            } else {
                Entry::Over
            })))
        }
    }
}

/// A copy that the journal does not know gets a new name (`safety.md` §1).
fn adopt(view: &NodeView) -> Option<Plan> {
    let contents = view.observation.directory.contents()?;
    if view.journal.work.is_some() {
        return None;
    }
    let known = view.journal.copy.is_some() && view.journal.copy == contents.copy;
    if known {
        return None;
    }
    let fresh = view.memory.fresh;
    if view.journal.copy == Some(fresh) {
        return Some(Plan::act(Step::NameCopy { copy: fresh }));
    }
    let role = if contents.was_primary {
        CopyRole::Primary {
            term: pgaf_protocol::Term(0),
        }
    } else {
        CopyRole::Standby
    };
    Some(Plan::act(Step::Journal(Entry::Copied {
        copy: fresh,
        role,
        system_identifier: contents.system_identifier,
        prepared: false,
    })))
}

/// Carries out a goal that was received in this run of the keeper.
pub(super) fn obey(view: &NodeView, goal: &Goal) -> Plan {
    match &goal.order {
        Order::Wait => wait(view),
        Order::Lead(order) => lead::obey(view, goal, order),
        Order::Follow(order) => follow::obey(view, order),
        Order::Promise { fast, serves } => promise::obey(view, *fast, serves),
        Order::Reach(order) => promise::reach(view, goal, order),
        Order::Fetch(order) => fetch::obey(view, order),
        Order::Promote(order) => promote::obey(view, goal, order),
        Order::Stop => stop(view),
        Order::Drop => drop_node(view),
    }
}

fn wait(view: &NodeView) -> Plan {
    match view.observation.directory {
        Directory::Absent | Directory::Broken { .. } if !view.observation.is_down() => {
            Plan::act(Step::Stop {
                mode: StopMode::Immediate,
            })
        }
        Directory::Absent | Directory::Broken { .. } | Directory::Present(_) => Plan::reached(),
    }
}

/// Stops Postgres once. From then on it is the operator's, who may start it by hand.
pub(super) fn stop(view: &NodeView) -> Plan {
    let journal = view.journal;
    let handed_over = journal
        .goal
        .as_ref()
        .is_some_and(|g| (journal.reached, journal.state) == (g.stamp, g.state));
    if handed_over || view.observation.is_down() {
        return Plan::reached();
    }
    Plan::act(Step::Stop {
        mode: StopMode::Fast,
    })
}

pub(super) fn drop_node(view: &NodeView) -> Plan {
    if !view.observation.is_down() {
        return Plan::act(Step::Stop {
            mode: StopMode::Fast,
        });
    }
    Plan::act(Step::Journal(Entry::Dropped)).but_reached(true)
}

/// Puts in order what every plan has in common: the journal entry of a goal that is reached, and
/// the pause of a step that failed.
fn finish(view: &NodeView, mut plan: Plan) -> Plan {
    // First of all: a state that was reported once must not be taken back by what is done next.
    if plan.reached
        && !plan.fence
        && !plan.end
        && let Some(goal) = &view.journal.goal
        && (view.journal.reached != goal.stamp || view.journal.state != goal.state)
    {
        plan.step = Some(Step::Journal(Entry::Reached {
            stamp: goal.stamp,
            state: goal.state,
        }));
    }
    if let (Some(step), Some(pause)) = (&plan.step, &view.memory.pause)
        && pause.step == step.word()
        && view.now < pause.until
    {
        let text = format!("{}: {}", pause.step, pause.why);
        if pause.failed {
            plan.trouble.get_or_insert(text);
        } else {
            plan.waiting.get_or_insert(text);
        }
        plan.step = None;
        let until = pause.until;
        plan = plan.again_at(until);
    }
    if view.observation.disk_full {
        let before = plan.trouble.take();
        let before = before.map(|why| format!("; {why}")).unwrap_or_default();
        plan.trouble = Some(format!(
            "the disk is full: no space left for another WAL segment where the data directory or its WAL is{before}"
        ));
    }
    plan
}
