//! Being a standby, and the ladder back to it: as it is, `pg_rewind`, base backup
//! (`safety.md` §7).

use alloc::collections::BTreeSet;
use alloc::format;
use core::time::Duration;

use pgaf_protocol::{CopyRole, Follow, History, Peer, Position, Postgres};

use super::step::{Conf, Step, StopMode};
use super::view::{Contents, Directory};
use super::{Entry, NodeView, Plan, Work};

/// How often a standby is looked at while it is on its way back.
pub(super) const OFTEN: Duration = Duration::from_millis(50);
/// And for how long after a goal.
const RETURNING: Duration = Duration::from_secs(5);

/// Carries out an order to follow.
pub(super) fn obey(view: &NodeView, order: &Follow) -> Plan {
    let was_primary = view.journal.opened().is_some();
    match view.observation.postgres {
        Postgres::Running {
            in_recovery: false, ..
        } => end_primary(),
        Postgres::Starting | Postgres::Unresponsive if was_primary => end_primary(),
        Postgres::Starting => starting(view, order),
        Postgres::Unresponsive => Plan::wait("Postgres does not answer"),
        Postgres::Running {
            in_recovery: true, ..
        } => running(view, order),
        Postgres::Absent | Postgres::Down { .. } => down(view, order),
    }
}

/// A copy that was rewound answers only once it has replayed WAL that its upstream still has, and
/// its slot there comes only after it has said what it is: so it says that before it answers.
fn starting(view: &NodeView, order: &Follow) -> Plan {
    let follows = view.memory.has_loaded(&Conf::follow(&order.upstream));
    if follows && view.received().is_some() {
        return Plan::reached().soon(view.now);
    }
    Plan::wait("Postgres is starting").soon(view.now)
}

/// Somebody else is primary: nothing of this one may be acknowledged, so nobody is waited for.
fn end_primary() -> Plan {
    Plan::act(Step::Stop {
        mode: StopMode::Immediate,
    })
}

fn running(view: &NodeView, order: &Follow) -> Plan {
    if let Some(history) = &order.history
        && let Some(position) = view.position()
        && !fits(history, position, view.history())
    {
        if order.may_replace {
            return Plan::act(Step::Stop {
                mode: StopMode::Fast,
            });
        }
        return Plan::wait(format!(
            "has WAL up to {position}, which is not in the history of {}; waits until it may be replaced",
            order.upstream.name
        ));
    }
    if view.observation.wal_gone && order.history.is_some() {
        if order.may_replace {
            return Plan::act(Step::Stop {
                mode: StopMode::Fast,
            });
        }
        return Plan::wait(format!(
            "{} does not keep the WAL any more that is needed next; waits until the copy may be replaced",
            order.upstream.name
        ));
    }
    let conf = Conf::follow(&order.upstream);
    if !view.memory.has_loaded(&conf) {
        return Plan::act(Step::Load { conf });
    }
    let mut plan = Plan::reached();
    plan.step = hba(view).or_else(|| {
        // Slots of the time when it was primary, or handed out WAL, would hold it for ever.
        let none = view
            .memory
            .slots
            .as_ref()
            .is_some_and(|slots| slots.admitted.is_empty() && slots.expected.is_empty());
        (!none).then(|| Step::EnsureSlots {
            admitted: BTreeSet::new(),
            expected: BTreeSet::new(),
        })
    });
    let streams = view
        .observation
        .server
        .as_ref()
        .and_then(|server| server.receiver)
        .is_some_and(|receiver| receiver.streaming);
    let fresh_goal = view.now.since(view.memory.goal_since) < RETURNING;
    if !view.memory.settled || (!streams && fresh_goal) {
        plan = plan.again_at(view.now.plus(OFTEN));
    }
    plan
}

/// The HBA step, when rules are missing; nobody is shut out on a standby.
pub(super) fn hba(view: &NodeView) -> Option<Step> {
    view.memory
        .hba
        .as_ref()
        .is_none_or(|hba| hba.closed || hba.peers != view.journal.peers)
        .then_some(Step::WriteHba { closed: false })
}

fn down(view: &NodeView, order: &Follow) -> Plan {
    match &view.observation.directory {
        // Nothing is lost by a base backup into nothing.
        Directory::Absent => base_backup(view, order),
        Directory::Broken { why } => {
            if order.may_replace || view.journal.copy.is_none() {
                base_backup(view, order)
            } else {
                Plan::trouble(format!(
                    "the data directory is no whole copy ({why}), and may not be replaced yet"
                ))
            }
        }
        Directory::Present(contents) => present(view, order, contents),
    }
}

/// A whole copy that is down: can it follow as it is?
fn present(view: &NodeView, order: &Follow, contents: &Contents) -> Plan {
    // A step that the ladder has begun goes on.
    match view.journal.work {
        Some(Work::Rewind { copy }) => {
            return Plan::act(Step::Rewind {
                upstream: order.upstream.clone(),
                copy,
            });
        }
        Some(Work::Replace { copy }) => return Plan::act(Step::SwapIn { copy }),
        Some(Work::Initdb { .. } | Work::Promote { .. }) | None => {}
    }
    if order.may_replace && order.history.is_some() && (view.observation.wal_gone || hopeless(view))
    {
        return base_backup(view, order);
    }
    let is_standby = view.journal.role == CopyRole::Standby && !contents.was_primary;
    if !is_standby && !contents.clean {
        // Crash recovery would open a branch of its own: only a rewind knows better.
        return ladder(view, order, contents, "it crashed as a primary");
    }
    let known = view.memory.end.max(view.memory.disk);
    let position = match (known, &view.memory.no_position) {
        (Some(position), _) => Some(position),
        (None, None) => return Plan::act(Step::ReadPosition),
        // A base backup that was never started has its WAL from its source.
        (None, Some(_)) if is_standby => None,
        (None, Some(why)) => {
            return ladder(view, order, contents, why);
        }
    };
    match (&order.history, position) {
        (Some(history), Some(position)) if !fits(history, position, contents.history.as_ref()) => {
            ladder(view, order, contents, "it has WAL that the primary has not")
        }
        (Some(_) | None, _) => start(view, order),
    }
}

/// Whether the copy is damaged, as Postgres said twice.
pub(super) fn hopeless(view: &NodeView) -> bool {
    view.observation.start_hopeless && view.memory.failed_starts >= 2
}

fn start(view: &NodeView, order: &Follow) -> Plan {
    if view.journal.role != CopyRole::Standby {
        return Plan::act(Step::Journal(Entry::Standby));
    }
    Plan::act(Step::Start {
        standby: true,
        conf: Conf::follow(&order.upstream),
        closed: false,
    })
}

fn ladder(view: &NodeView, order: &Follow, contents: &Contents, why: &str) -> Plan {
    let Some(history) = &order.history else {
        return Plan::wait(format!(
            "{why}: waits for the history of {}",
            order.upstream.name
        ));
    };
    if !order.may_replace {
        return Plan::wait(format!("{why}: waits until it may be rewound or replaced"));
    }
    let same_number = contents.timeline == history.timeline
        && contents
            .history
            .as_ref()
            .is_some_and(|own| own.parents != history.parents);
    if view.memory.has_rewound(view.journal) || same_number {
        return base_backup(view, order);
    }
    Plan::act(Step::Journal(Entry::Begin {
        work: Work::Rewind {
            copy: view.memory.fresh,
        },
    }))
}

fn base_backup(view: &NodeView, order: &Follow) -> Plan {
    if order.history.is_none() {
        return Plan::wait(format!(
            "needs a base backup: waits until {} is primary",
            order.upstream.name
        ));
    }
    copy_from(view, &order.upstream)
}

/// A whole new copy, made beside the old one and put in its place.
pub(super) fn copy_from(view: &NodeView, source: &Peer) -> Plan {
    if let Some(copy) = view.memory.staged(view.journal) {
        return match view.journal.work {
            Some(Work::Replace { copy }) => Plan::act(Step::SwapIn { copy }),
            Some(Work::Initdb { .. } | Work::Rewind { .. } | Work::Promote { .. }) | None => {
                Plan::act(Step::Journal(Entry::Begin {
                    work: Work::Replace { copy },
                }))
            }
        };
    }
    Plan::act(Step::BaseBackup {
        upstream: source.clone(),
        copy: view.memory.fresh,
    })
}

/// Whether a copy can follow a branch as it is: nothing past the fork, and the same parents where
/// the numbers are the same (equal numbers with different histories are diverged).
fn fits(history: &History, position: Position, own: Option<&History>) -> bool {
    if !history.fits(position) {
        return false;
    }
    let Some(own) = own.filter(|own| own.timeline == position.timeline) else {
        return true;
    };
    own.parents
        .iter()
        .all(|fork| history.parents.contains(fork) || fork.timeline == history.timeline)
        && (own.timeline != history.timeline || own.parents == history.parents)
}
