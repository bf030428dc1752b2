//! Fast-forward: taking the WAL that a candidate lacks from a member that has promised as well
//! (`safety.md` §4.5).

use alloc::collections::BTreeSet;
use alloc::format;

use pgaf_protocol::{CopyRole, Fetch, Postgres};

use super::promise::{self, has};
use super::step::{Conf, Step, StopMode};
use super::{Entry, NodeView, Plan, Work, follow};

/// Carries out an order to fetch; the journal has the promise already.
pub(super) fn obey(view: &NodeView, order: &Fetch) -> Plan {
    let was_primary = view.journal.opened().is_some();
    match view.observation.postgres {
        Postgres::Running {
            in_recovery: true, ..
        } => running(view, order),
        Postgres::Running {
            in_recovery: false, ..
        } => stop(),
        Postgres::Starting | Postgres::Unresponsive if was_primary => stop(),
        Postgres::Starting => Plan::wait("Postgres is starting").soon(view.now),
        Postgres::Unresponsive => Plan::wait("Postgres does not answer"),
        Postgres::Absent | Postgres::Down { .. } => down(view, order),
    }
}

/// Nothing that runs here is waited for: what counts is on the disk.
fn stop() -> Plan {
    Plan::act(Step::Stop {
        mode: StopMode::Immediate,
    })
}

fn running(view: &NodeView, order: &Fetch) -> Plan {
    if must_replace(view, order) {
        return stop();
    }
    if has(view.position(), order.position) {
        return promise::standby(view, &BTreeSet::new());
    }
    let conf = Conf::follow(&order.source);
    if !view.memory.has_loaded(&conf) {
        return Plan::act(Step::Load { conf });
    }
    let at = view
        .position()
        .map_or_else(|| "nothing known".into(), |p| format!("{p}"));
    let mut plan = Plan::wait(format!(
        "has {at}, fetches WAL up to {} from {}",
        order.position, order.source.name
    ))
    .soon(view.now);
    plan.step = follow::hba(view);
    plan
}

/// Whether the copy cannot go on from where it is: the monitor saw that it is on another branch, or
/// the source does not keep the WAL that comes next, or the copy is damaged.
fn must_replace(view: &NodeView, order: &Fetch) -> bool {
    let diverged = order.replace.is_some() && order.replace == view.journal.copy;
    diverged || view.observation.wal_gone || follow::hopeless(view)
}

fn down(view: &NodeView, order: &Fetch) -> Plan {
    if view.observation.directory.contents().is_none() {
        return follow::copy_from(view, &order.source);
    }
    if let Some(Work::Replace { copy }) = view.journal.work {
        return Plan::act(Step::SwapIn { copy });
    }
    if must_replace(view, order) {
        return follow::copy_from(view, &order.source);
    }
    let known = view.memory.end.max(view.memory.disk);
    if known.is_none() && view.memory.no_position.is_none() {
        return Plan::act(Step::ReadPosition);
    }
    if view.journal.role != CopyRole::Standby {
        return Plan::act(Step::Journal(Entry::Standby));
    }
    let conf = if has(known, order.position) {
        Conf::promise()
    } else {
        Conf::follow(&order.source)
    };
    Plan::act(Step::Start {
        standby: true,
        conf,
        closed: false,
    })
}
