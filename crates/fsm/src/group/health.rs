//! Is a node gone? A verdict needs evidence that agrees, and names it (`design.md` §4).
//!
//! A false verdict costs a needless failover, never a commit: the election does not rely on it.

use alloc::format;
use alloc::string::{String, ToString};

use pgaf_protocol::{NodeId, Postgres, Report, Settings, Time};

use super::live::{Live, LiveGroup, ProbeOutcome, Session};
use super::model::Group;

/// What is known about a node's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It reports, and its Postgres runs or is about to.
    Well,
    /// Something is odd; look closer now. With what it is, for people.
    Suspect(String),
    /// It is gone, with the evidence.
    Gone(String),
}

impl Verdict {
    /// Whether the node is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }

    /// The words for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Well => "reports",
            Self::Suspect(why) | Self::Gone(why) => why,
        }
    }
}

/// Starts of Postgres that may fail in a row before its node counts as gone.
///
/// Source: pg_auto_failover 2.2, `POSTGRESQL_FAILS_TO_START_RETRIES`.
pub const FAILED_STARTS: u32 = 3;

/// Heartbeats that may be late before a closer look is taken.
///
/// Chosen: with the default of 500 ms a probe (1 s) ends before `unhealthy_timeout` (2.5 s).
const LATE_HEARTBEATS: u64 = 2;

/// Judges one node.
#[must_use]
pub fn judge(
    group: &Group,
    live: &LiveGroup,
    settings: &Settings,
    now: Time,
    node: NodeId,
) -> Verdict {
    let judge = Judge {
        group,
        live,
        settings,
        now,
        node,
    };
    let nothing = Live::default();
    judge.session(live.of(node).unwrap_or(&nothing))
}

struct Judge<'a> {
    group: &'a Group,
    live: &'a LiveGroup,
    settings: &'a Settings,
    now: Time,
    node: NodeId,
}

impl Judge<'_> {
    fn session(&self, it: &Live) -> Verdict {
        match it.session {
            Session::Closed { since } => match probe_after(it, since) {
                Some(ProbeOutcome::Refused) => Verdict::Gone(
                    "its keeper's session closed and its Postgres refuses connections".to_string(),
                ),
                Some(ProbeOutcome::Ok) => Verdict::Suspect(
                    "its keeper's session closed; its Postgres answers".to_string(),
                ),
                Some(ProbeOutcome::TimedOut | ProbeOutcome::Failed) | None => {
                    self.silence(it, "its keeper's session closed")
                }
            },
            Session::Never => self.silence(it, "its keeper has not reported to this monitor yet"),
            Session::Open { since } => {
                let heard = it.heard.unwrap_or(since);
                let late = self.settings.heartbeat_interval_ms * LATE_HEARTBEATS;
                if self.ms_since(heard) > late {
                    return self.silence(it, "its heartbeats are missing");
                }
                match &it.report {
                    Some(report) => self.own_words(it, report),
                    None => Verdict::Well,
                }
            }
        }
    }

    /// What the node says of itself.
    fn own_words(&self, it: &Live, report: &Report) -> Verdict {
        let down_ms = it.down_since.map_or(0, |since| self.ms_since(since));
        match report.postgres {
            Postgres::Running { .. } if report.leaving => {
                Verdict::Suspect("its keeper says that it is stopping".to_string())
            }
            Postgres::Running { .. } => Verdict::Well,
            Postgres::Absent | Postgres::Down { .. } if report.leaving => {
                Verdict::Gone("its keeper says that it stopped, with its Postgres".to_string())
            }
            _ if report.failed_starts >= FAILED_STARTS => Verdict::Gone(format!(
                "its keeper says that Postgres failed to start {} times",
                report.failed_starts
            )),
            Postgres::Unresponsive => {
                if down_ms >= self.settings.unhealthy_timeout_ms && !self.streams() {
                    Verdict::Gone(format!(
                        "its keeper says that Postgres has not answered for {down_ms} ms, and nobody streams from it"
                    ))
                } else {
                    Verdict::Suspect("its keeper says that Postgres does not answer".to_string())
                }
            }
            Postgres::Absent | Postgres::Down { .. } | Postgres::Starting => {
                let long = report.redo_bytes.unwrap_or(0) >= self.settings.long_redo_bytes;
                let failed = report.failed_starts > 0;
                if down_ms >= self.settings.restart_budget_ms || long || failed {
                    Verdict::Gone(format!(
                        "its keeper says that Postgres has been down for {down_ms} ms{}",
                        if long { ", with much WAL to redo" } else { "" }
                    ))
                } else {
                    Verdict::Suspect("its keeper says that Postgres is down".to_string())
                }
            }
        }
    }

    /// Nothing is heard: this needs time, a probe that failed, and witnesses that agree.
    fn silence(&self, it: &Live, what: &str) -> Verdict {
        let last = it.heard.unwrap_or(self.live.listening_since);
        let silent_ms = self.ms_since(last);
        let timeout = self.settings.unhealthy_timeout_ms;
        if silent_ms < timeout {
            return Verdict::Suspect(format!("{what} (silent for {silent_ms} ms)"));
        }
        if self.is_listening() {
            return Verdict::Suspect(format!("{what}; this monitor listens first, it was away"));
        }
        let Some(outcome) = probe_after(it, last) else {
            return Verdict::Suspect(format!("{what}; no probe of its Postgres has ended yet"));
        };
        let probe = match outcome {
            ProbeOutcome::Ok => {
                return Verdict::Suspect(format!("{what}; its Postgres answers"));
            }
            ProbeOutcome::Refused => "refuses connections",
            ProbeOutcome::TimedOut => "does not answer connections",
            ProbeOutcome::Failed => "takes no sessions",
        };
        if let Some(witness) = self.contradicting_witness(last) {
            return Verdict::Suspect(format!("{what}; but {witness}"));
        }
        Verdict::Gone(format!(
            "{what} for {silent_ms} ms and its Postgres {probe}"
        ))
    }

    /// Whether some other member shows that this node lives, or has not looked yet.
    fn contradicting_witness(&self, last: Time) -> Option<String> {
        if self.streams() {
            return Some("another member still streams with it".to_string());
        }
        for (id, node) in &self.group.nodes {
            let Some(report) = self.live.report(*id) else {
                continue;
            };
            if *id == self.node || !self.is_fresh(*id) || !report.postgres.is_running() {
                continue;
            }
            match self.live.of(*id).and_then(|l| l.look) {
                Some((look, at)) if look.node == self.node && at > last => {
                    // Whether it still hears it stands in its reports, with `streams`.
                    if look.connected {
                        return Some(format!("node {id} \"{}\" still reaches it", node.name));
                    }
                }
                _ => return Some(format!("node {id} \"{}\" has not looked yet", node.name)),
            }
        }
        None
    }

    /// Whether a member that reports shows a fresh replication stream from or to this node.
    fn streams(&self) -> bool {
        self.group
            .nodes
            .keys()
            .filter(|id| **id != self.node && self.is_fresh(**id))
            .any(|id| {
                let Some(report) = self.live.report(*id) else {
                    return false;
                };
                let to = report
                    .upstream
                    .is_some_and(|u| u.node == self.node && u.streaming && u.fresh);
                let from = report
                    .standbys
                    .iter()
                    .any(|s| s.node == self.node && s.streaming && s.fresh);
                to || (from && report.postgres.is_primary())
            })
    }

    fn is_fresh(&self, node: NodeId) -> bool {
        self.live
            .of(node)
            .and_then(|l| l.heard)
            .is_some_and(|heard| self.ms_since(heard) < self.settings.unhealthy_timeout_ms)
    }

    /// A monitor that was itself away listens first, until every member has reported in its
    /// incarnation or the grace period is over (`safety.md` §3).
    fn is_listening(&self) -> bool {
        let all = self.group.nodes.keys().all(|id| {
            self.live
                .of(*id)
                .and_then(|l| l.heard)
                .is_some_and(|at| at >= self.live.listening_since)
        });
        !all && self.ms_since(self.live.listening_since) < self.settings.grace_ms
    }

    fn ms_since(&self, earlier: Time) -> u64 {
        self.now.0.saturating_sub(earlier.0)
    }
}

/// The outcome of a probe that began at or after `since`.
fn probe_after(it: &Live, since: Time) -> Option<ProbeOutcome> {
    it.probe
        .as_ref()
        .filter(|p| p.began >= since)
        .map(|p| p.outcome)
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
