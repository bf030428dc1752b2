//! How the monitor looks at a node's Postgres from outside.
//!
//! Owns one fresh attempt with a deadline, and a kept session whose end can be awaited. It must
//! never judge: it answers what happened, the evidence is weighed elsewhere.

use std::time::Duration;

use crate::conninfo::Conninfo;

/// What came of a fresh connection attempt, authentication included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A session was opened and one query answered.
    Ok {
        /// How long it took.
        took: Duration,
        /// `pg_is_in_recovery()`.
        in_recovery: bool,
    },
    /// The host's kernel answers, and nobody listens.
    Refused,
    /// No answer within the deadline.
    TimedOut,
    /// An answer, and not a session: starting up, shutting down, login refused, unreachable, …
    Failed(String),
}

/// The connection string of a node's Postgres for the monitor and for witnesses:
/// `pgautofailover_monitor` on database `postgres`.
#[must_use]
pub fn target(_host: &str, _port: u16) -> Conninfo {
    todo!()
}

/// Tries a fresh connection.
pub async fn probe(_target: &Conninfo, _deadline: Duration) -> Probe {
    std::future::ready(todo!()).await
}

/// A kept session to a node's Postgres.
#[derive(Debug)]
pub struct Session {
    _todo: (),
}

impl Session {
    /// Opens one.
    ///
    /// # Errors
    /// What [`probe`] would have answered.
    pub async fn open(_target: &Conninfo, _deadline: Duration) -> Result<Self, Probe> {
        std::future::ready(todo!()).await
    }

    /// Waits until the other side closes; answers its words.
    pub async fn closed(&self) -> String {
        std::future::ready(todo!()).await
    }

    /// Asks something small.
    pub async fn ping(&self, _deadline: Duration) -> Probe {
        std::future::ready(todo!()).await
    }
}
