//! Ending the reception of WAL, and replaying what is there.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgaf_protocol::{Lsn, Position};
use tokio_postgres::types::PgLsn;

use super::limit::{Limit, Pace};
use super::observe::lsn;
use super::{Server, ServerError};
use crate::conf::Enforced;

/// A standby that receives no WAL any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The greater of received and replayed; where nothing was received since the start, everything
    /// on the disk was replayed first. A receiver is only asked for after that.
    pub position: Position,
    /// Where replay stood then: the end of a record, while `position` may be within one.
    pub replayed: Lsn,
    /// How long it took.
    pub took: Duration,
}

/// The end of replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Everything up to here is replayed.
    pub replayed: Lsn,
    /// Process ids of the sessions that were ended because they held replay up.
    pub ended: Vec<i32>,
}

/// How long a receiver may take to see the empty `primary_conninfo` by itself before it is ended
/// by a signal. Chosen: the reload reaches it within some milliseconds, unless the startup process
/// is held up.
const RECEIVER_LEAVES: Duration = Duration::from_millis(30);

/// How long a conflict may hold up a pause before its readers are ended. Chosen: a pause takes one
/// to ten milliseconds.
const CONFLICT_LASTS: Duration = Duration::from_millis(50);

impl Server {
    /// Writes `enforced` (whose upstream is gone: [`crate::conf::Replication::Promise`]), reloads,
    /// and sees that no WAL can arrive any more (`safety.md` §4.2): our empty `primary_conninfo` is
    /// in force, the WAL receiver is gone from `pg_stat_activity`, and from version 14 on the
    /// startup process, paused and resumed, has read the new value. Read sessions stay, unless replay
    /// waits for them.
    ///
    /// Before 14 only a restart changes `restore_command`, and a pause proves nothing: there the
    /// caller restarts a standby that has a `restore_command`.
    ///
    /// Measured on Postgres 15, two cores shared with builds: 21 to 31 ms; 130 ms when a reader holds
    /// replay up.
    ///
    /// # Errors
    /// [`ServerError`]; past the deadline the keeper restarts the standby.
    pub async fn stop_receiving(
        &self,
        enforced: &Enforced,
        deadline: Duration,
    ) -> Result<Stopped, ServerError> {
        let limit = Limit::new("stop the reception of WAL", deadline);
        let client = self.write_and_reload(enforced, &limit).await?;
        self.check_in_force(&client, "primary_conninfo", "", &limit)
            .await?;
        let session = self.session(&limit).await?;
        if session.version_num >= 140_000 {
            self.check_in_force(&client, "restore_command", "", &limit)
                .await?;
        }
        drop(client);
        self.await_no_receiver(&limit).await?;
        if session.version_num >= 140_000 {
            self.pause_and_resume(&limit).await?;
            // One that was started before the new value was read.
            self.await_no_receiver(&limit).await?;
        }
        let mut seen = self.observe(limit.left()).await?;
        if seen.received.is_none() {
            // Nothing was received since this Postgres started: what it had before is on the disk,
            // and replay may still be on its way through it.
            self.await_replay(limit.left()).await?;
            seen = self.observe(limit.left()).await?;
        }
        Ok(Stopped {
            position: Position {
                timeline: seen.timeline,
                lsn: seen.lsn,
            },
            replayed: seen.replayed.unwrap_or_default(),
            took: limit.elapsed(),
        })
    }

    /// Waits until no WAL receiver exists. `pg_stat_wal_receiver` hides one that is connecting,
    /// and `pg_terminate_backend` refuses to end one: the signal is sent from here.
    async fn await_no_receiver(&self, limit: &Limit) -> Result<(), ServerError> {
        let session = self.session(limit).await?;
        let sql = "SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walreceiver'";
        let start = tokio::time::Instant::now();
        let mut pace = Pace::new();
        loop {
            let rows = session
                .client
                .query(sql, &[], limit.left())
                .await
                .map_err(limit.failed())?;
            let Some(row) = rows.first() else {
                return Ok(());
            };
            let pid: i32 = row.get(0);
            if limit.is_over() {
                return Err(limit.timed_out(format!("the WAL receiver {pid} lives")));
            }
            if start.elapsed() > RECEIVER_LEAVES {
                // Gone meanwhile is as good.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            pace.pause().await;
        }
    }

    /// The startup process confirms a pause only after it has handled its signals. One that waits
    /// for a reader's snapshot or lock does not pause: then that reader goes, as it would by
    /// `max_standby_streaming_delay`; the other way is a restart, which ends them all.
    async fn pause_and_resume(&self, limit: &Limit) -> Result<(), ServerError> {
        let session = self.session(limit).await?;
        let client = &session.client;
        let run = async |sql: &str| {
            client
                .query_one(sql, &[], limit.left())
                .await
                .map_err(limit.failed())
        };
        let state = "SELECT pg_catalog.pg_get_wal_replay_pause_state()";
        let was_paused = run(state).await?.get::<_, String>(0) == "paused";
        if was_paused {
            // Paused before the reload was read, perhaps: only a new pause proves it.
            run("SELECT pg_catalog.pg_wal_replay_resume()::text").await?;
        }
        run("SELECT pg_catalog.pg_wal_replay_pause()::text").await?;
        let begin = limit.elapsed();
        let mut pace = Pace::new();
        let outcome = loop {
            if run(state).await?.get::<_, String>(0) == "paused" {
                break Ok(());
            }
            if limit.is_over() {
                break Err(limit.timed_out("the startup process does not pause"));
            }
            if limit.elapsed() > begin + CONFLICT_LASTS
                && let Some(startup) = self.startup(limit).await?
            {
                self.end_holders(&startup, false, limit).await?;
            }
            pace.pause().await;
        };
        run("SELECT pg_catalog.pg_wal_replay_resume()::text").await?;
        outcome
    }

    /// Waits until everything that is here is replayed, ending sessions that hold it up: replay
    /// has reached what was received, or the startup process waits for WAL that is not there.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn await_replay(&self, deadline: Duration) -> Result<Holding, ServerError> {
        let limit = Limit::new("replay the WAL", deadline);
        let mut ended = Vec::new();
        let mut pace = Pace::new();
        let mut last = (Lsn::ZERO, tokio::time::Instant::now());
        loop {
            let session = self.session(&limit).await?;
            let sql = "SELECT pg_catalog.pg_last_wal_receive_lsn(), \
                              pg_catalog.pg_last_wal_replay_lsn()";
            let row = session.client.query_one(sql, &[], limit.left()).await;
            let row = row.map_err(limit.failed())?;
            let received = row.get::<_, Option<PgLsn>>(0).map(lsn);
            let replayed = row.get::<_, Option<PgLsn>>(1).map(lsn).unwrap_or_default();
            let Some(startup) = self.startup(&limit).await? else {
                // Promoted meanwhile.
                return Ok(Holding { replayed, ended });
            };
            let all = received.is_some_and(|r| replayed >= r) || replayed == last.0;
            if all && startup.waits_for_wal() {
                return Ok(Holding { replayed, ended });
            }
            if replayed != last.0 {
                last = (replayed, tokio::time::Instant::now());
            }
            let stalled = last.1.elapsed() > Duration::from_millis(100);
            // A session takes a moment to go, and is named again until then.
            ended.extend(self.end_holders(&startup, stalled, &limit).await?);
            ended.sort_unstable();
            ended.dedup();
            if limit.is_over() {
                return Err(limit.timed_out(format!("replayed up to {replayed}")));
            }
            pace.pause().await;
        }
    }
}
