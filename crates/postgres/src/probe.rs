//! How the monitor looks at a node's Postgres from outside.
//!
//! Owns one fresh attempt with a deadline, and a kept session whose end can be awaited. It must
//! never judge: it answers what happened, the evidence is weighed elsewhere.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::client::{Client, ConnectError, Options, QueryError, connect, connect_and_hold};
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
    let start = Instant::now();
    match connect(target, &options(deadline)).await {
        Ok(client) => ping(&client, start, deadline).await,
        Err(error) => refusal(&error),
    }
}

fn options(deadline: Duration) -> Options {
    Options {
        connect_timeout: deadline,
        application_name: "pgaf_probe".to_owned(),
    }
}

/// A kept session to a node's Postgres.
///
/// Nothing is said on it: only its socket is kept, and not the driver with its buffers, which costs a
/// monitor of ten thousand nodes more than everything else.
#[derive(Debug)]
pub struct Session {
    socket: Kept,
}

#[derive(Debug)]
enum Kept {
    Tcp(TcpStream),
    /// Not over TCP.
    Client(Box<Client>),
}

impl Session {
    /// Opens one and asks something small; answers what the probe saw as well.
    ///
    /// # Errors
    /// What [`probe`] would have answered, never `Ok`.
    pub async fn open(target: &Conninfo, deadline: Duration) -> Result<(Self, Probe), Probe> {
        let start = Instant::now();
        let opened = connect_and_hold(target, &options(deadline)).await;
        let (client, held) = opened.map_err(|e| refusal(&e))?;
        let probe = ping(&client, start, deadline).await;
        match probe {
            Probe::Ok { .. } => {}
            Probe::Refused | Probe::TimedOut | Probe::Failed(_) => return Err(probe),
        }
        let socket = match held.map(|fd| TcpStream::from_std(fd.into())) {
            Some(Ok(socket)) => {
                client.leave();
                Kept::Tcp(socket)
            }
            Some(Err(_)) | None => Kept::Client(Box::new(client)),
        };
        Ok((Self { socket }, probe))
    }

    /// Waits until the other side closes; answers how.
    pub async fn closed(&self) -> String {
        let socket = match &self.socket {
            Kept::Tcp(socket) => socket,
            Kept::Client(client) => return client.closed().await,
        };
        loop {
            if let Err(error) = socket.readable().await {
                return error.to_string();
            }
            // What the server says, a changed parameter or its last words, is of no interest here.
            let mut words = [0; 256];
            match socket.try_read(&mut words) {
                Ok(0) => return "connection closed".to_owned(),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Asks something small, within what is left of the time since `start`.
async fn ping(client: &Client, start: Instant, deadline: Duration) -> Probe {
    let left = deadline.saturating_sub(start.elapsed());
    let asked = client.simple("SELECT pg_catalog.pg_is_in_recovery()", left);
    match asked.await {
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
