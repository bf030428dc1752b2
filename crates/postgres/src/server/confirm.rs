//! Turning synchronous replication on and seeing names in force (`safety.md` §2).
//!
//! `SHOW` proves nothing: the checkpointer decides whether commits wait, and each walsender
//! decides with its own copy of the setting when waiting ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pgaf_protocol::{Lsn, STANDBY_NAME_PREFIX};
use tokio_postgres::types::PgLsn;

use super::limit::{Limit, Pace};
use super::observe::lsn;
use super::senders::{self, Sender};
use super::session::Session;
use super::{PgTime, Server, ServerError};
use crate::client::Client;
use crate::conf::{self, Enforced, NOBODY, StandbyNames};

const NAMES: &str = "synchronous_standby_names";

/// What came of an attempt to see names in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// In force, in this run of the postmaster.
    Confirmed {
        /// Which run.
        postmaster_start: PgTime,
        /// The effective value.
        value: String,
    },
    /// Not proved within the deadline; try again.
    NotYet(NotYet),
    /// The effective value is not ours.
    Overridden {
        /// The setting.
        setting: String,
        /// Its effective value.
        value: String,
        /// File, or other source.
        place: String,
    },
    /// Two walsenders have this name.
    DuplicateName(String),
}

/// What a confirmation still waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotYet {
    /// No probe transaction could be made to wait; names are back at `''`.
    NoCommitWaits,
    /// No new session has seen the reload.
    ReloadNotSeen,
    /// These standbys have not flushed what was written after the reload.
    Standbys(Vec<String>),
    /// Fewer named standbys have flushed than the configuration needs.
    Quorum {
        /// How many have flushed.
        flushed: usize,
        /// How many must.
        needed: usize,
    },
}

impl std::fmt::Display for NotYet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCommitWaits => f.write_str("no commit waits for a standby"),
            Self::ReloadNotSeen => f.write_str("no new session has seen the reload"),
            Self::Standbys(names) => {
                write!(f, "not flushed after the reload: {}", names.join(", "))
            }
            Self::Quorum { flushed, needed } => {
                write!(f, "{flushed} of {needed} needed standbys have flushed")
            }
        }
    }
}

impl Server {
    /// Turns waiting for synchronous replication on (`safety.md` §2.1): a name nobody has first, a
    /// probe transaction seen to wait (which proves the checkpointer's flag, for all), then the
    /// real names, confirmed. `enforced` is the file as it should be, with the real names in
    /// `names`. Takes waiting back to `''` when no probe can be made to wait in half the deadline.
    /// Commits stall in between. Only from `''`: names that are in force are changed by
    /// [`Server::confirm_names`].
    ///
    /// Measured on Postgres 15, two cores shared with builds: 42 to 75 ms.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn turn_waiting_on(
        &self,
        enforced: &Enforced,
        deadline: Duration,
    ) -> Result<Confirmation, ServerError> {
        let limit = Limit::new("turn synchronous replication on", deadline);
        // Opened before the stall begins.
        let probe = self.open_probe(&limit).await?;
        let session = self.session(&limit).await?;
        let nobody = Enforced {
            names: StandbyNames::Nobody,
            ..enforced.clone()
        };
        conf::write_enforced(self.pgdata(), &nobody).map_err(ServerError::Conf)?;
        self.request_reload(&limit).await?;
        if see_commit_wait(&probe, &session.client, &limit.part(2)).await? {
            return self.confirm_after(NOBODY, enforced, &limit).await;
        }
        let empty = Enforced {
            names: StandbyNames::Empty,
            ..enforced.clone()
        };
        match self.confirm(&empty, &limit.part(4)).await? {
            // The reason why nothing waits.
            found @ (Confirmation::Overridden { .. } | Confirmation::DuplicateName(_)) => Ok(found),
            Confirmation::Confirmed { .. } | Confirmation::NotYet(_) => {
                Ok(Confirmation::NotYet(NotYet::NoCommitWaits))
            }
        }
    }

    /// A session whose commits wait for standbys, unlike all others of ours.
    async fn open_probe(&self, limit: &Limit) -> Result<Probe, ServerError> {
        let client = self.fresh(limit).await?;
        let row = client
            .query_one(
                "SELECT pg_catalog.pg_backend_pid(), set_config('synchronous_commit', 'on', false)",
                &[],
                limit.left(),
            )
            .await
            .map_err(limit.failed())?;
        Ok(Probe {
            pid: row.get(0),
            client: Arc::new(client),
        })
    }

    /// Loads `enforced.names` and sees them in force (`safety.md` §2.2): a new session has the
    /// value from our file; then each walsender's standby flushes a record written after the
    /// reload, and one written after that, or its walsender is gone; and a quorum of the names has
    /// flushed the second one. Repeat it until it confirms.
    ///
    /// Measured on Postgres 15, two cores shared with builds: 20 to 40 ms, of which two flushes of
    /// the standby and one new session are most.
    ///
    /// Walsenders that count are those of our names, of the new names, and of the names that were
    /// in force before (all of them, after a `*`).
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn confirm_names(
        &self,
        enforced: &Enforced,
        deadline: Duration,
    ) -> Result<Confirmation, ServerError> {
        self.confirm(
            enforced,
            &Limit::new("confirm synchronous_standby_names", deadline),
        )
        .await
    }

    /// Loads `''` (`safety.md` §2.3); frees waiting commits. Measured: they go on after 15 to 25 ms.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn load_empty_names(
        &self,
        enforced: &Enforced,
        deadline: Duration,
    ) -> Result<Confirmation, ServerError> {
        let empty = Enforced {
            names: StandbyNames::Empty,
            ..enforced.clone()
        };
        self.confirm(
            &empty,
            &Limit::new("turn synchronous replication off", deadline),
        )
        .await
    }

    async fn confirm(
        &self,
        enforced: &Enforced,
        limit: &Limit,
    ) -> Result<Confirmation, ServerError> {
        let before = {
            let session = self.session(limit).await?;
            super::load::effective(&session.client, NAMES, limit)
                .await?
                .value
        };
        self.confirm_after(&before, enforced, limit).await
    }

    /// `before` is the value that was in force until now.
    async fn confirm_after(
        &self,
        before: &str,
        enforced: &Enforced,
        limit: &Limit,
    ) -> Result<Confirmation, ServerError> {
        let client = match self.write_and_reload(enforced, limit).await {
            Ok(client) => client,
            Err(other) => return as_outcome(other),
        };
        let value = enforced.names.to_setting();
        if let Err(other) = self.check_in_force(&client, NAMES, &value, limit).await {
            return as_outcome(other);
        }
        if let StandbyNames::Any { number, names } = &enforced.names {
            let session = self.session(limit).await?;
            let round = Round {
                session: &session,
                limit,
                names,
                before,
            };
            if let Some(outcome) = round.run(*number).await? {
                return Ok(outcome);
            }
        }
        let sql = "SELECT pg_catalog.pg_postmaster_start_time()";
        let row = client
            .query_one(sql, &[], limit.left())
            .await
            .map_err(limit.failed())?;
        Ok(Confirmation::Confirmed {
            postmaster_start: row.get(0),
            value,
        })
    }
}

/// How long a probe's session may stay behind when nothing lets it go. Chosen: longer than any
/// deadline, short enough to be gone after a morning's trouble.
const PROBE_LIFE: Duration = Duration::from_secs(600);

/// Expected outcomes are not errors.
fn as_outcome(error: ServerError) -> Result<Confirmation, ServerError> {
    match error {
        ServerError::Overridden {
            setting,
            value,
            place,
        } => Ok(Confirmation::Overridden {
            setting,
            value,
            place,
        }),
        ServerError::TimedOut { .. } => Ok(Confirmation::NotYet(NotYet::ReloadNotSeen)),
        ServerError::Connect(_)
        | ServerError::Query { .. }
        | ServerError::Conf(_)
        | ServerError::BadConfiguration(_) => Err(error),
    }
}

/// The session that proves that commits wait.
struct Probe {
    pid: i32,
    client: Arc<Client>,
}

/// Whether a transaction of ours waits for synchronous replication before the limit. Its session
/// stays behind, waiting: the real names, or `''`, let it go.
async fn see_commit_wait(
    probe: &Probe,
    looker: &Client,
    limit: &Limit,
) -> Result<bool, ServerError> {
    while !limit.is_over() {
        let client = Arc::clone(&probe.client);
        let mut commit = tokio::spawn(async move {
            let sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'pgaf', 'probe')";
            client.query(sql, &[], PROBE_LIFE).await.map(|_| ())
        });
        let mut pace = Pace::new();
        while !limit.is_over() {
            tokio::select! {
                committed = &mut commit => {
                    // It did not wait: the checkpointer has not looked yet.
                    if let Ok(Err(source)) = committed {
                        return Err(limit.failed()(source));
                    }
                    break;
                }
                () = pace.pause() => {
                    if waits_for_standbys(looker, probe.pid, limit).await? {
                        return Ok(true);
                    }
                }
            }
        }
    }
    Ok(false)
}

async fn waits_for_standbys(client: &Client, pid: i32, limit: &Limit) -> Result<bool, ServerError> {
    let sql = "SELECT wait_event FROM pg_catalog.pg_stat_get_activity($1)";
    let rows = client
        .query(sql, &[&pid], limit.left())
        .await
        .map_err(limit.failed())?;
    let event = rows.first().and_then(|row| row.get::<_, Option<String>>(0));
    Ok(event.as_deref() == Some("SyncRep"))
}

/// One confirmation of names that somebody has.
struct Round<'a> {
    session: &'a Session,
    limit: &'a Limit,
    names: &'a [String],
    before: &'a str,
}

impl Round<'_> {
    /// `None` when the names are in force.
    async fn run(&self, number: u32) -> Result<Option<Confirmation>, ServerError> {
        let first = self.write_record().await?;
        let senders = senders::list(self.session, self.limit).await?;
        // Walsenders that start later have the new value from the postmaster.
        let pids: BTreeSet<i32> = senders
            .iter()
            .filter(|s| self.counts(&s.name))
            .map(|s| s.pid)
            .collect();
        if let Some(outcome) = self.wait_for(first, |s| pids.contains(&s.pid)).await? {
            return Ok(Some(outcome));
        }
        let second = self.write_record().await?;
        if let Some(outcome) = self.wait_for(second, |s| pids.contains(&s.pid)).await? {
            return Ok(Some(outcome));
        }
        self.wait_for_quorum(second, usize::try_from(number).unwrap_or(usize::MAX))
            .await
    }

    fn counts(&self, name: &str) -> bool {
        name.starts_with(STANDBY_NAME_PREFIX)
            || self.names.iter().any(|n| n == name)
            || self.before.contains('*')
            || (!name.is_empty() && self.before.contains(name))
    }

    /// Writes and flushes a record here, without waiting for anybody; answers its end.
    async fn write_record(&self) -> Result<Lsn, ServerError> {
        // Transactional, so that the commit flushes it: the session commits locally.
        let sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'pgaf', 'confirm')";
        let row = self
            .session
            .client
            .query_one(sql, &[], self.limit.left())
            .await;
        Ok(lsn(row.map_err(self.limit.failed())?.get::<_, PgLsn>(0)))
    }

    /// Waits until each walsender that `picked` picks has flushed `target` or is gone.
    async fn wait_for(
        &self,
        target: Lsn,
        picked: impl Fn(&Sender) -> bool,
    ) -> Result<Option<Confirmation>, ServerError> {
        let mut pace = Pace::new();
        loop {
            let senders = senders::list(self.session, self.limit).await?;
            let behind: Vec<String> = senders
                .iter()
                .filter(|s| picked(s) && !s.has_flushed(target))
                .map(|s| s.name.clone())
                .collect();
            if behind.is_empty() {
                return Ok(None);
            }
            if self.limit.is_over() {
                return Ok(Some(Confirmation::NotYet(NotYet::Standbys(behind))));
            }
            pace.pause().await;
        }
    }

    /// Waits until enough of the names have flushed `target`, each by one walsender.
    async fn wait_for_quorum(
        &self,
        target: Lsn,
        needed: usize,
    ) -> Result<Option<Confirmation>, ServerError> {
        let mut pace = Pace::new();
        loop {
            let senders = senders::list(self.session, self.limit).await?;
            let mut of_name: BTreeMap<&str, Vec<&Sender>> = BTreeMap::new();
            for sender in &senders {
                of_name.entry(&sender.name).or_default().push(sender);
            }
            let mut flushed = 0;
            for name in self.names {
                let held = of_name
                    .get(name.as_str())
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                if held.len() > 1 {
                    return Ok(Some(Confirmation::DuplicateName(name.clone())));
                }
                flushed += held.iter().filter(|s| s.has_flushed(target)).count();
            }
            if flushed >= needed {
                return Ok(None);
            }
            if self.limit.is_over() {
                return Ok(Some(Confirmation::NotYet(NotYet::Quorum {
                    flushed,
                    needed,
                })));
            }
            pace.pause().await;
        }
    }
}
