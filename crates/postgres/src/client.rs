//! One connection to a Postgres (or to our monitor), as libpq would make it.
//!
//! Owns connecting (multi-host, TLS modes, target session), the driver task, and deadlines. It
//! must never wait without a limit and never retry by itself: it says whether a retry can help.

mod connect;
mod error;

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::types::ToSql;
use tokio_postgres::{
    AsyncMessage, Connection, Notification, Row, SimpleQueryMessage, SimpleQueryRow, Statement,
};

pub use connect::connect;
pub use error::{ConnectError, QueryError};

/// Notifications that wait for their reader. Chosen: a reader that is 256 behind reads the state
/// anew anyway.
const NOTIFICATIONS: usize = 256;

/// How long a dropped session may take to say goodbye. Chosen: one local round trip is
/// microseconds; a peer that is gone must not hold the task.
const GOODBYE: Duration = Duration::from_millis(500);

/// How to connect, beyond what the connection string says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Limit for the whole attempt over all hosts, authentication included.
    pub connect_timeout: Duration,
    /// Used when the connection string has no `application_name`.
    pub application_name: String,
}

/// An open session. Its driver task ends with it: at once after a missed deadline, otherwise
/// within half a second of the drop, in which the server is told.
pub struct Client {
    inner: tokio_postgres::Client,
    driver: tokio::task::AbortHandle,
    /// Dropped with the client: the driver's sign to finish.
    _alive: oneshot::Sender<()>,
    notifications: Option<mpsc::Receiver<Notification>>,
    end: watch::Receiver<Option<String>>,
    server: String,
    facts: ServerFacts,
}

/// What the server said about itself at start-up.
#[derive(Debug, Clone, Default)]
struct ServerFacts {
    version: Option<String>,
    in_hot_standby: Option<bool>,
    default_read_only: Option<bool>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Takes over an established connection.
    fn start<S, T>(
        inner: tokio_postgres::Client,
        connection: Connection<S, T>,
        server: String,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let on = |name| connection.parameter(name).map(|v| v == "on");
        let facts = ServerFacts {
            version: connection.parameter("server_version").map(str::to_owned),
            in_hot_standby: on("in_hot_standby"),
            default_read_only: on("default_transaction_read_only"),
        };
        let (alive, released) = oneshot::channel();
        let (out, notifications) = mpsc::channel(NOTIFICATIONS);
        let (ended, end) = watch::channel(None);
        let name = server.clone();
        let driver = tokio::spawn(async move {
            let mut drive = std::pin::pin!(drive(connection, out, name));
            let reason = tokio::select! {
                reason = &mut drive => reason,
                // The client is gone, and with it the last request: let the goodbye out.
                _ = released => match tokio::time::timeout(GOODBYE, drive).await {
                    Ok(reason) => reason,
                    Err(_) => "the peer did not take our goodbye".to_owned(),
                },
            };
            ended.send_replace(Some(reason));
        });
        let driver = driver.abort_handle();
        Self {
            inner,
            driver,
            _alive: alive,
            notifications: Some(notifications),
            end,
            server,
            facts,
        }
    }

    /// Awaits a request; past its deadline the session is ended, since its state is unknown.
    async fn limited<T>(
        &self,
        deadline: Duration,
        request: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, QueryError> {
        if let Ok(result) = tokio::time::timeout(deadline, request).await {
            result.map_err(QueryError::from)
        } else {
            self.driver.abort();
            Err(QueryError::TimedOut(deadline))
        }
    }

    /// Runs a query; `deadline` is a limit from now.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        deadline: Duration,
    ) -> Result<Vec<Row>, QueryError> {
        self.limited(deadline, self.inner.query(sql, params)).await
    }

    /// Runs a query that answers one row.
    ///
    /// # Errors
    /// [`QueryError`]; `Protocol` when there are none or several.
    pub async fn query_one(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        deadline: Duration,
    ) -> Result<Row, QueryError> {
        self.limited(deadline, self.inner.query_one(sql, params))
            .await
    }

    /// Runs a prepared statement.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query_prepared(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
        deadline: Duration,
    ) -> Result<Vec<Row>, QueryError> {
        self.limited(deadline, self.inner.query(statement, params))
            .await
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn prepare(&self, sql: &str, deadline: Duration) -> Result<Statement, QueryError> {
        self.limited(deadline, self.inner.prepare(sql)).await
    }

    /// Runs a statement, answers the number of rows.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn execute(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        deadline: Duration,
    ) -> Result<u64, QueryError> {
        self.limited(deadline, self.inner.execute(sql, params))
            .await
    }

    /// Runs statements by the simple protocol, discarding rows.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn batch(&self, sql: &str, deadline: Duration) -> Result<(), QueryError> {
        self.limited(deadline, self.inner.batch_execute(sql)).await
    }

    /// Runs statements by the simple protocol: rows of text, with their column names.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn simple(
        &self,
        sql: &str,
        deadline: Duration,
    ) -> Result<Vec<SimpleQueryRow>, QueryError> {
        let messages = self.limited(deadline, self.inner.simple_query(sql)).await?;
        let rows = messages.into_iter().filter_map(|message| {
            if let SimpleQueryMessage::Row(row) = message {
                Some(row)
            } else {
                None
            }
        });
        Ok(rows.collect())
    }

    /// The receiver of notifications, once; bounded: when it is full, new ones are dropped, with a
    /// warning in the log.
    pub fn notifications(&mut self) -> Option<mpsc::Receiver<Notification>> {
        self.notifications.take()
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed() || self.driver.is_finished()
    }

    /// Waits for the end of the session; answers why, in words.
    pub async fn closed(&self) -> String {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the session was ended here".to_owned(),
        }
    }

    /// Host and port of the server that this session is with.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// `server_version` as the server said it at start-up.
    #[must_use]
    pub fn server_version(&self) -> Option<&str> {
        self.facts.version.as_deref()
    }
}

/// Runs the connection to its end; answers why it ended.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    out: mpsc::Sender<Notification>,
    server: String,
) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                let channel = notification.channel().to_owned();
                if let Err(mpsc::error::TrySendError::Full(_)) = out.try_send(notification) {
                    tracing::warn!(%server, channel, "notification dropped: its reader is behind");
                }
            }
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(%server, message = notice.message(), "notice");
            }
            // Non-exhaustive in the library.
            Some(Ok(_)) => {}
            Some(Err(e)) => {
                return match e.as_db_error() {
                    Some(db) => db.message().to_owned(),
                    None => error::with_causes(&e),
                };
            }
            None => return "connection closed".to_owned(),
        }
    }
}
