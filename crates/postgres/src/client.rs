//! One connection to a Postgres (or to our monitor), as libpq would make it.
//!
//! Owns connecting (multi-host, TLS modes, target session), the driver task, and deadlines. It
//! must never wait without a limit and never retry by itself: it says whether a retry can help.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Notification, Row, Statement};

use crate::conninfo::Conninfo;

/// How to connect, beyond what the connection string says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Limit for the whole attempt over all hosts, authentication included.
    pub connect_timeout: Duration,
    /// Used when the connection string has no `application_name`.
    pub application_name: String,
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("connection to {server} refused")]
    Refused {
        /// Host and port.
        server: String,
    },
    /// No answer within the limit.
    #[error("no answer from {server} within {limit:?}")]
    TimedOut {
        /// Host and port.
        server: String,
        /// The limit.
        limit: Duration,
    },
    /// The name does not resolve, the network is unreachable, the socket file is missing, …
    #[error("cannot reach {server}")]
    Unreachable {
        /// Host and port.
        server: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// SQLSTATE 57P03: starting up, shutting down, in recovery without hot standby.
    #[error("{server} does not accept connections: {message}")]
    NotReady {
        /// Host and port.
        server: String,
        /// The server's words.
        message: String,
    },
    /// Wrong password, no matching HBA rule, no such role.
    #[error("{server} refused the login: {message}")]
    Auth {
        /// Host and port.
        server: String,
        /// The server's words.
        message: String,
    },
    /// SQLSTATE 3D000.
    #[error("{server}: {message}")]
    NoSuchDatabase {
        /// Host and port.
        server: String,
        /// The server's words.
        message: String,
    },
    /// The TLS handshake or its verification failed, or the server has no TLS.
    #[error("TLS with {server} failed: {reason}")]
    Tls {
        /// Host and port.
        server: String,
        /// Why.
        reason: String,
    },
    /// Servers answered, none is of the wanted kind.
    #[error("{server} is not {wanted}")]
    WrongRole {
        /// Host and port.
        server: String,
        /// The `target_session_attrs`.
        wanted: &'static str,
    },
    /// Another error of the server or of the protocol.
    #[error("{server}: {message}")]
    Failed {
        /// Host and port.
        server: String,
        /// SQLSTATE, when the server sent one.
        code: Option<String>,
        /// The reason.
        message: String,
    },
}

impl ConnectError {
    /// Whether the same attempt may work later without anybody changing a setting.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::Unreachable { .. }
            | Self::NotReady { .. }
            | Self::WrongRole { .. } => true,
            Self::Auth { .. } | Self::NoSuchDatabase { .. } | Self::Tls { .. } => false,
            Self::Failed { code, .. } => code
                .as_deref()
                .is_none_or(|c| c.starts_with("53") || c.starts_with("57")),
        }
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The deadline passed; the session is closed, since its state is unknown.
    #[error("no answer to a query within {0:?}")]
    TimedOut(Duration),
    /// The session is gone.
    #[error("the session is closed")]
    Closed,
    /// The server's error.
    #[error("{message}")]
    Server {
        /// SQLSTATE.
        code: String,
        /// Primary message.
        message: String,
        /// Detail.
        detail: Option<String>,
        /// Hint.
        hint: Option<String>,
    },
    /// A value of another type than expected, or a broken protocol.
    #[error("cannot read the answer: {0}")]
    Protocol(String),
}

/// An open session. Its driver task ends with it.
#[derive(Debug)]
pub struct Client {
    _todo: (),
}

/// Connects to the first server of `conninfo` that will do.
///
/// # Errors
/// [`ConnectError`] of the last server tried (of the most telling one when they differ).
pub async fn connect(_conninfo: &Conninfo, _options: &Options) -> Result<Client, ConnectError> {
    std::future::ready(todo!()).await
}

impl Client {
    /// Runs a query; `deadline` is a limit from now.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query(
        &self,
        _sql: &str,
        _params: &[&(dyn ToSql + Sync)],
        _deadline: Duration,
    ) -> Result<Vec<Row>, QueryError> {
        std::future::ready(todo!()).await
    }

    /// Runs a query that answers one row.
    ///
    /// # Errors
    /// [`QueryError`]; `Protocol` when there are none or several.
    pub async fn query_one(
        &self,
        _sql: &str,
        _params: &[&(dyn ToSql + Sync)],
        _deadline: Duration,
    ) -> Result<Row, QueryError> {
        std::future::ready(todo!()).await
    }

    /// Runs a prepared statement.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query_prepared(
        &self,
        _statement: &Statement,
        _params: &[&(dyn ToSql + Sync)],
        _deadline: Duration,
    ) -> Result<Vec<Row>, QueryError> {
        std::future::ready(todo!()).await
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn prepare(&self, _sql: &str, _deadline: Duration) -> Result<Statement, QueryError> {
        std::future::ready(todo!()).await
    }

    /// Runs a statement, answers the number of rows.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn execute(
        &self,
        _sql: &str,
        _params: &[&(dyn ToSql + Sync)],
        _deadline: Duration,
    ) -> Result<u64, QueryError> {
        std::future::ready(todo!()).await
    }

    /// Runs statements by the simple protocol, discarding rows.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn batch(&self, _sql: &str, _deadline: Duration) -> Result<(), QueryError> {
        std::future::ready(todo!()).await
    }

    /// Runs one statement by the simple protocol: rows of text, with their column names.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn simple(
        &self,
        _sql: &str,
        _deadline: Duration,
    ) -> Result<Vec<tokio_postgres::SimpleQueryRow>, QueryError> {
        std::future::ready(todo!()).await
    }

    /// The receiver of notifications, once; bounded, the oldest unread ones block nothing: when it
    /// is full, new ones are dropped and counted in the log.
    pub fn notifications(&mut self) -> Option<mpsc::Receiver<Notification>> {
        todo!()
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }

    /// Waits for the end of the session; answers why, in words.
    pub async fn closed(&self) -> String {
        std::future::ready(todo!()).await
    }

    /// The process id of the backend.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        todo!()
    }
}
