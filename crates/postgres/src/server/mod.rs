//! SQL against the local Postgres, through one kept session.
//!
//! Owns what the keeper asks of and tells its own Postgres once it runs. It must never start or
//! stop a process, never decide, and never wait without a deadline. Every operation may be
//! repeated; each says how it knows that it is done. All sessions here run with
//! `synchronous_commit = local`: no keeper waits for a standby.
//!
//! Read [`Server`], [`Observation`] and [`Confirmation`] first.

mod confirm;
mod holders;
mod limit;
mod load;
mod objects;
mod observe;
mod promote;
mod receive;
mod senders;
mod session;
mod slots;
mod timeline;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::{FromSql, Type};

pub use confirm::{Confirmation, NotYet};
pub use load::Override;
pub use objects::{Extension, Objects};
pub use observe::{Effective, Limits, Observation, Receiver, WalSender};
pub use promote::Promoted;
pub use receive::{Holding, Stopped};
pub use slots::{HOLD_PREFIX, SlotChanges};

use crate::client::{ConnectError, QueryError};
use crate::conf::ConfError;
use crate::conninfo::Conninfo;

/// A `timestamptz` as Postgres sends it: microseconds since 2000-01-01 on that server's clock.
/// Compared for equality and order with others of the same server only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTime(pub i64);

impl<'a> FromSql<'a> for PgTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// The local Postgres. Cheap to clone: clones share the session, and requests of several tasks
/// run one after another on it.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    conninfo: Conninfo,
    pgdata: PathBuf,
    session: tokio::sync::Mutex<Option<Arc<session::Session>>>,
}

/// Why an operation on the local Postgres has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No session.
    #[error("cannot connect to the local Postgres")]
    Connect(#[source] ConnectError),
    /// A statement failed.
    #[error("cannot {doing}")]
    Query {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: QueryError,
    },
    /// A configuration file could not be written.
    #[error("cannot write the configuration")]
    Conf(#[source] ConfError),
    /// The deadline passed.
    #[error("cannot {doing} within {limit:?}: {state}")]
    TimedOut {
        /// What was being done.
        doing: &'static str,
        /// The limit.
        limit: Duration,
        /// What was seen last.
        state: String,
    },
    /// A setting of ours is overridden elsewhere.
    #[error("`{setting}` is `{value}`, set in {place}")]
    Overridden {
        /// The setting.
        setting: String,
        /// Its effective value; `****` for `primary_conninfo`.
        value: String,
        /// File, or other source.
        place: String,
    },
    /// The configuration files do not parse, so that nothing was reloaded.
    #[error("Postgres does not load its configuration: {0}")]
    BadConfiguration(String),
}

impl Server {
    /// A handle; connects on first use. `conninfo` names a local superuser.
    #[must_use]
    pub fn new(conninfo: Conninfo, pgdata: PathBuf) -> Self {
        let session = tokio::sync::Mutex::new(None);
        Self {
            inner: Arc::new(Inner {
                conninfo,
                pgdata,
                session,
            }),
        }
    }

    /// The data directory whose configuration is written.
    #[must_use]
    pub fn pgdata(&self) -> &Path {
        &self.inner.pgdata
    }

    /// The connection string.
    #[must_use]
    pub fn conninfo(&self) -> &Conninfo {
        &self.inner.conninfo
    }

    /// Runs a checkpoint. Done when the statement returns.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn checkpoint(&self, deadline: Duration) -> Result<(), ServerError> {
        let limit = limit::Limit::new("run a checkpoint", deadline);
        // A session of its own: a long checkpoint must not hold up the heartbeat's.
        let client = self.fresh(&limit).await?;
        client
            .batch("CHECKPOINT", limit.left())
            .await
            .map_err(limit.failed())
    }
}
