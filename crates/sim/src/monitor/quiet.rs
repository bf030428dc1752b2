//! Heartbeats that say nothing new: looking at them again would decide the same, and most of a seed's
//! reports are of that kind.

use pgaf_protocol::StandbySeen;

use super::*;

/// A standby within this of its primary counts as near: the daemon's value.
const NEAR: u64 = 16 * 1024 * 1024;
/// One quiet heartbeat in so many is decided on all the same.
const ALL_THE_SAME: u64 = 8;

impl Monitor {
    /// Whether a report differs from the one before only in what moves all the time, in a steady group
    /// whose last decision still stands: its deadline is a timer's.
    pub(super) fn is_quiet(&mut self, report: &Report) -> bool {
        self.heartbeats += 1;
        let still = self.stands
            && !self.heartbeats.is_multiple_of(ALL_THE_SAME)
            && self.cluster == self.durable
            && self.group().is_some_and(|g| {
                g.phase == Phase::Steady && g.doubted.is_none() && g.lease.is_none()
            });
        let before = self.live.nodes.get(&report.node);
        still
            && before.is_some_and(|live| {
                matches!(live.session, Session::Open { .. })
                    && live.report.as_ref().is_some_and(|old| same(old, report))
            })
    }
}

fn same(old: &Report, new: &Report) -> bool {
    let running = new.postgres.is_running();
    let line = |r: &Report| r.position.map(|p| p.timeline);
    let standby = |a: &StandbySeen, b: &StandbySeen| {
        (
            a.node,
            a.streaming,
            a.fresh,
            a.synchronous,
            a.lag_bytes > NEAR,
        ) == (
            b.node,
            b.streaming,
            b.fresh,
            b.synchronous,
            b.lag_bytes > NEAR,
        )
    };
    let goal = |r: &Report| (r.seen, r.reached, r.state, r.lineage, r.incarnation);
    let copy = |r: &Report| (r.copy, r.role, r.system_identifier, r.promise, r.confirmed);
    let rest = |r: &Report| (r.checkpointed, r.upstream, r.look, r.gate, r.failed_starts);
    running
        && old.postgres == new.postgres
        && line(old) == line(new)
        && goal(old) == goal(new)
        && copy(old) == copy(new)
        && rest(old) == rest(new)
        && (old.leaving, old.closed, old.leased) == (new.leaving, new.closed, new.leased)
        && old.history == new.history
        && old.trouble == new.trouble
        && old.progress == new.progress
        && old.standbys.len() == new.standbys.len()
        && old
            .standbys
            .iter()
            .zip(&new.standbys)
            .all(|(a, b)| standby(a, b))
}
