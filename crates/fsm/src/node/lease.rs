//! Lease mode (`safety.md` §5.3-4): a primary whose standbys are asynchronous by choice takes
//! commits only while it holds a lease, and only while a fencer guards the end of it.
//!
//! The fencer is a process of its own: it ends Postgres then, whatever became of the keeper. The keeper
//! does the same by itself, starts it closed, and opens it with the next lease.

use pgaf_protocol::{Order, Time};

use super::lead::Wanted;
use super::step::{Conf, Names, Replication, Step};
use super::{NodeView, Plan};

/// A keeper that has just started has this long to hear of the monitor before a lease counts as
/// gone: it asks first (`safety.md` §6: 2 s).
const FIRST_WORD_MS: u64 = 2000;

/// Whether a lease is held. A keeper that has just started over a Postgres that `runs` has none
/// (§5.4), and asks for one first.
pub(super) fn is_held(view: &NodeView, runs: bool) -> bool {
    let first_word = Time(view.memory.started.0.saturating_add(FIRST_WORD_MS));
    view.memory
        .lease_until
        .is_some_and(|until| until > view.now)
        || (runs && view.now < first_word)
}

/// Whether a primary in lease mode may not serve. The fencer of the keeper before still guards the
/// end of the lease that was held then: without it, nobody does.
pub(super) fn is_over(view: &NodeView, runs: bool) -> bool {
    if view.observation.fencer {
        return !is_held(view, runs);
    }
    view.memory
        .lease_until
        .is_none_or(|until| until <= view.now)
}

/// What a primary in lease mode is started with while it holds no lease: whoever gets in although it
/// is closed (the keeper's own account does) waits under nobody's name, and is told nothing.
pub(super) fn shut() -> Conf {
    Conf {
        names: Names::Nobody,
        replication: Replication::Primary,
    }
}

/// The fencer that must be there before a primary in lease mode is opened, and that is started
/// again when it is gone.
pub(super) fn guard(view: &NodeView, wanted: &Wanted) -> Option<Step> {
    wanted.lease?;
    if view.observation.fencer {
        return None;
    }
    let until = view.memory.lease_until.filter(|until| *until > view.now)?;
    Some(Step::StartFencer { until })
}

/// Ends a fencer that guards nothing any more: never while a Postgres that may still acknowledge
/// runs on a goal that takes its right to do so away.
pub(super) fn release(view: &NodeView) -> Option<Plan> {
    if !view.observation.fencer || view.journal.lease().is_some() {
        return None;
    }
    let leads = match view.journal.goal.as_ref().map(|goal| &goal.order) {
        Some(Order::Lead(_) | Order::Promote(_)) | None => true,
        Some(
            Order::Wait
            | Order::Follow(_)
            | Order::Promise { .. }
            | Order::Reach(_)
            | Order::Fetch(_)
            | Order::Stop
            | Order::Drop,
        ) => false,
    };
    let harmless = view.observation.is_down() || view.observation.postgres.is_standby();
    (leads || harmless).then(|| Plan::act(Step::EndFencer))
}
