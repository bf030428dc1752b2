//! How the monitor looks at a node's Postgres from outside.
//!
//! Owns one fresh attempt with a deadline, and a kept session whose end can be awaited. It must
//! never judge: it answers what happened, the evidence is weighed elsewhere.

use std::time::{Duration, Instant};

use crate::client::{Client, ConnectError, Options, QueryError, connect};
use crate::conninfo::{Conninfo, Secret};
use crate::hba::MONITOR_ROLE;

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
/// `pgautofailover_monitor` on database `postgres`, its password its name, as the old program's.
#[must_use]
pub fn target(host: &str, port: u16) -> Conninfo {
    let mut conninfo = Conninfo::single(host, port, MONITOR_ROLE, "postgres");
    conninfo.password = Some(Secret::new(MONITOR_ROLE));
    conninfo
}

/// Tries a fresh connection.
pub async fn probe(target: &Conninfo, deadline: Duration) -> Probe {
    match Session::open(target, deadline).await {
        Ok((_, probe)) | Err(probe) => probe,
    }
}

/// A kept session to a node's Postgres.
#[derive(Debug)]
pub struct Session {
    client: Client,
}

impl Session {
    /// Opens one and asks something small; answers what the probe saw as well.
    ///
    /// # Errors
    /// What [`probe`] would have answered, never `Ok`.
    pub async fn open(target: &Conninfo, deadline: Duration) -> Result<(Self, Probe), Probe> {
        let start = Instant::now();
        let options = Options {
            connect_timeout: deadline,
            application_name: "pgaf_probe".to_owned(),
        };
        let client = connect(target, &options).await.map_err(|e| refusal(&e))?;
        let session = Self { client };
        match session.ping(deadline.saturating_sub(start.elapsed())).await {
            Probe::Ok { in_recovery, .. } => Ok((
                session,
                Probe::Ok {
                    took: start.elapsed(),
                    in_recovery,
                },
            )),
            other @ (Probe::Refused | Probe::TimedOut | Probe::Failed(_)) => Err(other),
        }
    }

    /// Waits until the other side closes; answers its words.
    pub async fn closed(&self) -> String {
        self.client.closed().await
    }

    /// Asks something small.
    pub async fn ping(&self, deadline: Duration) -> Probe {
        let start = Instant::now();
        match self
            .client
            .simple("SELECT pg_catalog.pg_is_in_recovery()", deadline)
            .await
        {
            Ok(rows) => {
                let value = rows.first().and_then(|row| row.get(0));
                Probe::Ok {
                    took: start.elapsed(),
                    in_recovery: value == Some("t"),
                }
            }
            Err(QueryError::TimedOut(_)) => Probe::TimedOut,
            Err(QueryError::Closed) => Probe::Failed("the session was closed".to_owned()),
            Err(e @ (QueryError::Server { .. } | QueryError::Protocol(_))) => {
                Probe::Failed(e.to_string())
            }
        }
    }
}

/// Nobody listens and no answer are kinds of their own; everything else is an answer.
fn refusal(error: &ConnectError) -> Probe {
    match error {
        ConnectError::Refused { .. } => Probe::Refused,
        ConnectError::TimedOut { .. } => Probe::TimedOut,
        ConnectError::Unreachable { source, .. } => Probe::Failed(format!("{error}: {source}")),
        ConnectError::NotReady { .. }
        | ConnectError::Auth { .. }
        | ConnectError::NoSuchDatabase { .. }
        | ConnectError::Tls { .. }
        | ConnectError::WrongRole { .. }
        | ConnectError::Failed { .. } => Probe::Failed(error.to_string()),
    }
}
