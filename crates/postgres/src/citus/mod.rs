//! SQL against the local Citus: node metadata of a coordinator, in-doubt transactions of any node.
//!
//! Owns the statements and what their failures mean. It must never decide which row should say
//! what, and never wait without a deadline. Each change is one transaction that also raises the
//! row (group, term) of our own table, and fails when a higher one stands there: a keeper that acts
//! on an older word changes nothing (`safety.md` §9.3).
//!
//! [`Session::observe`] is how every outcome is known.

mod observe;
mod update;

use std::time::Duration;

use crate::client::{Client, ConnectError, Options, QueryError, connect};
use crate::server::Server;

pub use observe::{Node, Observed};

/// Our table on the coordinator, one row per group.
const OBJECTS: &str = "CREATE SCHEMA IF NOT EXISTS pgaf; \
     CREATE TABLE IF NOT EXISTS pgaf.citus_group (\
       groupid int4 PRIMARY KEY, term int8 NOT NULL)";

/// Never waits for a standby, whose keeper would repeat the update; never reaches other nodes by
/// itself; never waits long for a lock.
const SETTINGS: &str = "-c synchronous_commit=local -c citus.enable_ddl_propagation=off \
     -c default_transaction_read_only=off -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s \
     -c client_min_messages=warning -c log_statement=none";

/// A row of `pg_dist_node` may not be moved to a node that another row names. Source: Citus,
/// `citus_update_node`.
const NOT_IN_THIS_STATE: &str = "55000";

/// Why a change of node metadata has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum CitusError {
    /// No session.
    #[error("cannot connect to the local Postgres")]
    Connect(#[source] ConnectError),
    /// The row was set in a later term.
    #[error("group {group} was set in a later term than {term}")]
    Superseded {
        /// The group.
        group: i32,
        /// The term of the change that was refused.
        term: u64,
    },
    /// Something else holds the rows or shards that it needs.
    #[error("cannot {doing}: others hold what it needs")]
    Locked {
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        #[source]
        source: QueryError,
    },
    /// Citus refused.
    #[error("cannot {doing}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        #[source]
        source: QueryError,
    },
    /// The session is of no more use.
    #[error("cannot {doing}: the session has ended")]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// The reason.
        #[source]
        source: QueryError,
    },
}

impl CitusError {
    fn of(doing: &'static str) -> impl Fn(QueryError) -> Self {
        move |source| match source.code() {
            // lock_not_available, query_canceled, deadlock_detected
            Some("55P03" | "57014" | "40P01") => Self::Locked { doing, source },
            Some(_) if !source.is_fatal() => Self::Refused { doing, source },
            Some(_) | None => Self::Lost { doing, source },
        }
    }

    /// Whether the session must be opened anew.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Connect(_))
    }

    /// Whether Citus says that the row cannot be changed so in the present state, such as a node
    /// that still holds shards.
    #[must_use]
    pub fn is_state(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.code() == Some(NOT_IN_THIS_STATE))
    }
}

/// A session in the formation's database.
#[derive(Debug)]
pub struct Session {
    client: Client,
}

impl Session {
    /// Opens it.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn open(server: &Server, dbname: &str, limit: Duration) -> Result<Self, CitusError> {
        let mut conninfo = server.conninfo().clone();
        conninfo.dbname = Some(dbname.to_owned());
        conninfo.options = Some(SETTINGS.to_owned());
        let options = Options {
            connect_timeout: limit,
            application_name: "pg_autoctl citus".to_owned(),
        };
        let client = connect(&conninfo, &options)
            .await
            .map_err(CitusError::Connect)?;
        Ok(Self { client })
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Makes our table, where it is missing. Done when it is there.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn ensure_objects(&self, limit: Duration) -> Result<(), CitusError> {
        let failed = CitusError::of("create the table of terms");
        let found = self
            .client
            .query_one(
                "SELECT pg_catalog.to_regclass('pgaf.citus_group') IS NOT NULL",
                &[],
                limit,
            )
            .await
            .map_err(&failed)?;
        if found.get(0) {
            return Ok(());
        }
        self.client.batch(OBJECTS, limit).await.map_err(failed)
    }

    /// Resolves in-doubt transactions that this node started; answers how many. It reaches every
    /// node that this one's metadata names, and waits for none that is down longer than Citus does.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn recover(&self, limit: Duration) -> Result<i32, CitusError> {
        let sql = "SELECT pg_catalog.recover_prepared_transactions()";
        let row = self.client.query_one(sql, &[], limit).await;
        Ok(row
            .map_err(CitusError::of("resolve in-doubt transactions"))?
            .get(0))
    }
}
