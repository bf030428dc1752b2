//! Which changes of a report are worth sending at once.

use pgaf_protocol::{Lsn, Report};

/// A standby within this of its primary counts as near; crossing it is news (one WAL segment, the
/// default of `enable_sync_wal_log_threshold`).
const NEAR: u64 = 16 * 1024 * 1024;

/// The report without what changes all the time: two reports with the same gist differ in numbers
/// that the next heartbeat may carry.
pub(crate) fn gist(report: &Report) -> Report {
    let mut gist = report.clone();
    // Where WAL stands matters only once: that it is known at all, and on which timeline.
    if let Some(position) = &mut gist.position
        && report.postgres.is_running()
    {
        position.lsn = Lsn::ZERO;
    }
    gist.replayed = None;
    gist.redo_bytes = gist.redo_bytes.filter(|_| !report.postgres.is_running());
    for standby in &mut gist.standbys {
        standby.flushed = Lsn::ZERO;
        standby.lag_bytes = u64::from(standby.lag_bytes > NEAR);
    }
    if let Some(progress) = &mut gist.progress {
        progress.done_bytes = 0;
        progress.total_bytes = None;
    }
    gist
}

#[cfg(test)]
mod tests {
    use pgaf_protocol::{NodeState, Position, Postgres, TimelineId};

    use super::*;

    #[test]
    fn only_news_is_sent_at_once() {
        let mut report = Report {
            postgres: Postgres::Running {
                since: 1,
                in_recovery: false,
            },
            position: Some(Position {
                timeline: TimelineId(1),
                lsn: Lsn(5),
            }),
            ..Report::default()
        };
        let before = gist(&report);
        report.position = report.position.map(|p| Position { lsn: Lsn(9), ..p });
        assert_eq!(gist(&report), before, "WAL was written");
        report.state = NodeState::Primary;
        assert_ne!(gist(&report), before, "a state was reached");
    }
}
