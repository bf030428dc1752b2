//! What is known only while this monitor runs.

use alloc::collections::BTreeMap;

use pgaf_protocol::{Look, NodeId, Report, Time};
use serde::{Deserialize, Serialize};

use super::model::Phase;

/// What is known of a group only while this monitor runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LiveGroup {
    /// Of each node that was heard of in this incarnation.
    pub nodes: BTreeMap<NodeId, Live>,
    /// The phase that was seen last, and since when, for deadlines and `explain`: noted by
    /// [`decide`](super::decide()) itself, whoever changed it.
    pub phase: Option<Phase>,
    /// When that phase began.
    pub phase_since: Time,
    /// When this incarnation began to listen, or came back from being away: judging silence waits
    /// out a grace period after it.
    pub listening_since: Time,
    /// No lease of any primary of this group runs later than this (`safety.md` §5.4). The shell
    /// notes each lease that it sends, and at its start the longest that it may have sent before.
    pub leased_until: Time,
    /// Nodes that are to go into maintenance, and since when: noted by [`decide`](super::decide())
    /// itself. It ends by deadline, whatever the group waits for.
    #[serde(default)]
    pub maintenance: BTreeMap<NodeId, Time>,
}

/// A node, as this incarnation of the monitor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Live {
    /// Its keeper's session.
    pub session: Session,
    /// Its last report in this incarnation.
    pub report: Option<Report>,
    /// When that came.
    pub heard: Option<Time>,
    /// The last probe of its Postgres.
    pub probe: Option<Probe>,
    /// What this node saw when it was asked to look at another, and when it said so.
    pub look: Option<(Look, Time)>,
    /// Since when its own reports say that its Postgres does not run.
    pub down_since: Option<Time>,
    /// Since when the primary does not see it stream.
    pub unseen_since: Option<Time>,
}

/// A keeper's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Session {
    /// None was opened in this incarnation: its absence says nothing.
    #[default]
    Never,
    /// Open.
    Open {
        /// Since then.
        since: Time,
    },
    /// Closed by the other side, without a restart announced.
    Closed {
        /// Since then.
        since: Time,
    },
}

/// A fresh connection attempt to a node's Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Probe {
    /// When the attempt began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// How it ended.
    pub outcome: ProbeOutcome,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// A session was established.
    Ok,
    /// The host answered that nobody listens there: its kernel lives, Postgres does not.
    Refused,
    /// No answer within the deadline.
    TimedOut,
    /// Postgres answered that it takes no sessions (starting, stopping, authentication, …).
    Failed,
}

impl LiveGroup {
    /// Notes the phase, and the time if it is another one than before.
    pub(super) fn note_phase(&mut self, phase: &Phase, now: Time) {
        if self.phase.as_ref() != Some(phase) {
            self.phase = Some(phase.clone());
            self.phase_since = now;
        }
    }

    /// What is known of a node; nothing at all reads as never heard of.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<&Live> {
        self.nodes.get(&node)
    }

    /// The node's last report, if its session is open.
    #[must_use]
    pub fn report(&self, node: NodeId) -> Option<&Report> {
        let live = self.of(node)?;
        matches!(live.session, Session::Open { .. })
            .then_some(live.report.as_ref())
            .flatten()
    }
}
