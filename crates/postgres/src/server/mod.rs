//! SQL against the local Postgres, through one kept session.
//!
//! Owns what the keeper asks of and tells its own Postgres once it runs. It must never start or
//! stop a process, never decide, and never wait without a deadline. Every operation may be
//! repeated; each says how it knows that it is done.
//!
//! Read [`Server`], [`Observation`] and [`Confirmation`] first.

mod confirm;
mod end;
mod objects;
mod observe;
mod promote;
mod receive;
mod slots;

use std::path::PathBuf;
use std::time::Duration;

pub use confirm::{Confirmation, NotYet};
pub use objects::{Extension, Objects};
pub use observe::{Effective, Limits, Observation, Receiver, WalSender};
pub use promote::Promoted;
pub use receive::{Holding, Stopped};
pub use slots::SlotChanges;

use crate::client::{ConnectError, QueryError};
use crate::conf::{ConfError, Enforced};
use crate::conninfo::Conninfo;

/// A `timestamptz` as Postgres sends it: microseconds since 2000-01-01 on that server's clock.
/// Compared for equality and order with others of the same server only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTime(pub i64);

/// The local Postgres. Cheap to clone: clones share the session.
#[derive(Debug, Clone)]
pub struct Server {
    conninfo: Conninfo,
    pgdata: PathBuf,
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
        /// Its effective value.
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
        Self { conninfo, pgdata }
    }

    /// Looks at everything the keeper reports, in one prepared query (cheap: for each heartbeat).
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn observe(&self, _deadline: Duration) -> Result<Observation, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Turns waiting for synchronous replication on (`safety.md` §2.1): nobody's name first, a
    /// probe seen to wait, then the real names, confirmed. `enforced` is the file as it should be,
    /// with the real names in `names`. Takes waiting back to `''` when no probe can be made to wait.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn turn_waiting_on(
        &self,
        _enforced: &Enforced,
        _deadline: Duration,
    ) -> Result<Confirmation, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Loads `enforced.names` and sees them in force (`safety.md` §2.2). Repeat it until it
    /// confirms; a repetition loads nothing that is loaded already.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn confirm_names(
        &self,
        _enforced: &Enforced,
        _deadline: Duration,
    ) -> Result<Confirmation, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Loads `''` (`safety.md` §2.3); frees waiting commits.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn load_empty_names(
        &self,
        _enforced: &Enforced,
        _deadline: Duration,
    ) -> Result<Confirmation, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Ends the walsenders of one `application_name` and waits until they are gone; answers how
    /// many there were.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn end_walsender(
        &self,
        _application_name: &str,
        _deadline: Duration,
    ) -> Result<usize, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Makes our slots exactly `wanted` plus `hold`, without losing WAL in between.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn ensure_slots(
        &self,
        _wanted: &[String],
        _hold: &[String],
        _deadline: Duration,
    ) -> Result<SlotChanges, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Writes `enforced` (whose upstream is gone), reloads, and sees that no WAL can arrive any
    /// more (`safety.md` §4.2); answers the position received.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn stop_receiving(
        &self,
        _enforced: &Enforced,
        _deadline: Duration,
    ) -> Result<Stopped, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Writes `enforced`, reloads, and waits until a fresh session has loaded it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn load(&self, _enforced: &Enforced, _deadline: Duration) -> Result<(), ServerError> {
        std::future::ready(todo!()).await
    }

    /// Waits until everything received is replayed, ending sessions that hold it up.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn await_replay(&self, _deadline: Duration) -> Result<Holding, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Promotes, and waits until the server accepts writes. A server that is promoted already
    /// answers at once.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn promote(&self, _deadline: Duration) -> Result<Promoted, ServerError> {
        std::future::ready(todo!()).await
    }

    /// Runs a checkpoint.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn checkpoint(&self, _deadline: Duration) -> Result<(), ServerError> {
        std::future::ready(todo!()).await
    }

    /// Creates the roles, the database and the extension that are missing, and keeps what is
    /// there. Waits for no standby.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn ensure_objects(
        &self,
        _objects: &Objects,
        _deadline: Duration,
    ) -> Result<(), ServerError> {
        std::future::ready(todo!()).await
    }

    /// Resets what `ALTER SYSTEM` holds for settings of ours; answers their names.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn reset_auto_entries(
        &self,
        _deadline: Duration,
    ) -> Result<Vec<String>, ServerError> {
        std::future::ready(todo!()).await
    }
}
