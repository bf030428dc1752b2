//! What is known of a node only while this monitor runs, and how it is folded in.

use pgaf_protocol::{Look, Report, Time};
use serde::{Deserialize, Serialize};

/// A node, as this incarnation of the monitor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
}

/// A keeper's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// The outcome of a fresh connection attempt to a node's Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When the attempt began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// How it ended.
    pub outcome: ProbeOutcome,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
