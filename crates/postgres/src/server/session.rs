//! The kept session, and fresh ones.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Statement;

use super::limit::Limit;
use super::observe::{Effective, Limits};
use super::{PgTime, Server, ServerError};
use crate::client::{Client, Options, connect};

/// Chosen: a fork and a trusted login take 3 ms here; a server that needs seconds is overloaded.
const CONNECT: Duration = Duration::from_secs(2);

/// A session with what cannot change while it lasts.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) observe: Statement,
    /// The list of walsenders, prepared when a confirmation first needs it.
    pub(super) senders: tokio::sync::OnceCell<Statement>,
    pub(super) limits: Limits,
    pub(super) system_identifier: u64,
    pub(super) version_num: i32,
    /// Where `synchronous_standby_names` comes from, by the configuration load that it was seen
    /// in: the view costs too much for each heartbeat.
    pub(super) names: std::sync::Mutex<Option<(PgTime, Effective)>>,
}

impl Server {
    /// The kept session, opened anew when it has ended.
    pub(super) async fn session(&self, limit: &Limit) -> Result<Arc<Session>, ServerError> {
        let held = tokio::time::timeout(limit.left(), self.inner.session.lock()).await;
        let Ok(mut held) = held else {
            return Err(limit.timed_out("another request is connecting"));
        };
        if let Some(session) = held.as_ref().filter(|s| !s.client.is_closed()) {
            return Ok(Arc::clone(session));
        }
        *held = None;
        let session = Arc::new(self.open(limit).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    /// A session of its own: it has seen every reload that the postmaster has.
    pub(super) async fn fresh(&self, limit: &Limit) -> Result<Client, ServerError> {
        let options = Options {
            connect_timeout: limit.left().min(CONNECT),
            application_name: "pg_autoctl".to_owned(),
        };
        let mut conninfo = self.inner.conninfo.clone();
        // Sent with the start-up: no round trip of its own.
        let own = "-c synchronous_commit=local -c default_transaction_read_only=off \
                   -c statement_timeout=0 -c lock_timeout=0 -c client_min_messages=warning -c log_statement=none";
        conninfo.options = Some(match conninfo.options.take() {
            Some(users) => format!("{users} {own}"),
            None => own.to_owned(),
        });
        connect(&conninfo, &options)
            .await
            .map_err(ServerError::Connect)
    }

    async fn open(&self, limit: &Limit) -> Result<Session, ServerError> {
        let client = self.fresh(limit).await?;
        let row = client
            .query_one(
                "SELECT current_setting('max_connections')::int4, \
                        current_setting('max_worker_processes')::int4, \
                        current_setting('max_wal_senders')::int4, \
                        current_setting('max_prepared_transactions')::int4, \
                        current_setting('max_locks_per_transaction')::int4, \
                        (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
                        current_setting('server_version_num')::int4",
                &[],
                limit.left(),
            )
            .await
            .map_err(limit.failed())?;
        let observe = client
            .prepare(super::observe::SQL, limit.left())
            .await
            .map_err(limit.failed())?;
        let system_identifier: i64 = row.get(5);
        Ok(Session {
            client,
            observe,
            senders: tokio::sync::OnceCell::new(),
            limits: Limits {
                max_connections: row.get(0),
                max_worker_processes: row.get(1),
                max_wal_senders: row.get(2),
                max_prepared_transactions: row.get(3),
                max_locks_per_transaction: row.get(4),
            },
            system_identifier: system_identifier.cast_unsigned(),
            version_num: row.get(6),
            names: std::sync::Mutex::new(None),
        })
    }
}
