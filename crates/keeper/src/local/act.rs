//! Doing one step.

use std::path::Path;
use std::time::Duration;

use pgaf_fsm::node::{Conf, Outcome, Replication, Step, StopMode};
use pgaf_postgres::conf as files;
use pgaf_postgres::control::ControlData;
use pgaf_postgres::hba;
use pgaf_postgres::initdb::{InitdbOptions, initdb};
use pgaf_postgres::postmaster::{self, Postmaster, StartError, StartOptions};
use pgaf_postgres::server::Stopped;
use pgaf_postgres::wal::WalError;
use pgaf_postgres::{certs, control, copy, history, wal};
use pgaf_protocol::{CopyId, Lsn, Position, TimelineId};

use super::{Local, Process};

/// After SIGQUIT, processes of a cluster get this long before SIGKILL: nothing they could still do
/// is wanted, and the restart of a crashed Postgres waits for it (chosen).
const GRACE: Duration = Duration::from_millis(500);
/// For the questions before a fast stop, which must not wait for them long (chosen).
const ASK_BEFORE_STOP: Duration = Duration::from_millis(300);
/// For a reload to be seen by a new session; usually 10 ms.
const LOAD_LIMIT: Duration = Duration::from_secs(1);
/// For a checkpoint: a large one on a busy disk takes minutes.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);
/// For the rest of received WAL to be replayed before a promotion.
const REPLAY_LIMIT: Duration = Duration::from_secs(60);
/// For `pg_promote`.
const PROMOTE_LIMIT: Duration = Duration::from_secs(60);
/// For slots, walsenders and objects.
const SMALL_LIMIT: Duration = Duration::from_secs(2);

/// A failure in words.
pub(super) fn failed(error: &(dyn std::error::Error + 'static)) -> Outcome {
    Outcome::Failed {
        why: crate::words(error),
    }
}

impl Local {
    /// Does a step.
    pub(super) async fn act(&self, step: Step) -> Outcome {
        match step {
            Step::Journal(_) => Outcome::Failed {
                why: "the journal is the loop's".into(),
            },
            Step::EndCluster => self.end_cluster().await,
            Step::Initdb { copy } => self.initdb(copy).await,
            Step::NameCopy { copy } => self.name_copy(copy).await,
            Step::Start {
                standby,
                conf,
                closed,
            } => self.start(standby, &conf, closed).await,
            Step::Stop { mode } => self.stop(mode).await,
            Step::ReadPosition => self.read_position().await,
            Step::Load { conf } => self.load(&conf).await,
            Step::StopReceiving { conf } => self.stop_receiving(&conf).await,
            Step::LoadEmpty { conf, .. } => self.load_empty(&conf).await,
            Step::TurnWaitingOn { conf, .. } => self.turn_waiting_on(&conf).await,
            Step::Confirm { conf, .. } => self.confirm(&conf).await,
            Step::EnsureSlots { admitted, expected } => {
                self.ensure_slots(&admitted, &expected, SMALL_LIMIT).await
            }
            Step::EndSender { node } => {
                let ended = self
                    .server()
                    .end_walsender(&node.standby_name(), SMALL_LIMIT)
                    .await;
                ended.map_or_else(|e| failed(&e), |_| Outcome::Done)
            }
            Step::EnsureObjects => {
                let made = self
                    .server()
                    .ensure_objects(&self.objects(), Duration::from_secs(10))
                    .await;
                made.map_or_else(|e| failed(&e), |()| Outcome::Done)
            }
            Step::WriteHba { closed } => self.write_hba(closed, true),
            Step::Checkpoint { .. } => {
                let done = self.server().checkpoint(CHECKPOINT_LIMIT).await;
                done.map_or_else(|e| failed(&e), |()| Outcome::Done)
            }
            Step::Promote { timeline, position } => self.promote(timeline, position).await,
            Step::Rewind { upstream, copy } => self.rewind(&upstream, copy).await,
            Step::BaseBackup { upstream, copy } => self.base_backup(&upstream, copy).await,
            Step::SwapIn { .. } => self.swap_in().await,
            Step::AskPeers => self.ask_peers().await,
            Step::StartFencer { until } => self.fencer.start(until).await,
            Step::EndFencer => self.fencer.end().await,
        }
    }

    async fn end_cluster(&self) -> Outcome {
        match postmaster::end_cluster(&self.pgdata(), GRACE).await {
            Ok(ended) => {
                if ended > 0 {
                    tracing::info!(ended, "ended what the last Postgres left running");
                }
                let mut process = self.process.borrow_mut();
                if matches!(&*process, Process::Gone { .. }) {
                    *process = Process::None;
                }
                drop(process);
                self.forget();
                Outcome::Done
            }
            Err(error) => failed(&error),
        }
    }

    async fn initdb(&self, copy: CopyId) -> Outcome {
        let options = InitdbOptions {
            username: Some(super::conf::account()),
            extra: Vec::new(),
        };
        tracing::info!(pgdata = %self.pgdata().display(), "makes a new cluster");
        let made = initdb(&self.installation, &self.pgdata(), copy, &options).await;
        self.forget();
        made.map_or_else(|e| failed(&e), |()| Outcome::Done)
    }

    async fn name_copy(&self, copy: CopyId) -> Outcome {
        let pgdata = self.pgdata();
        let reset = match self.postmaster() {
            Some(_) => self
                .server()
                .reset_auto_entries(SMALL_LIMIT)
                .await
                .map_err(|e| crate::words(&e)),
            None => files::remove_auto_entries(&pgdata)
                .map(|entries| entries.into_iter().map(|e| e.name).collect())
                .map_err(|e| crate::words(&e)),
        };
        match reset {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                tracing::warn!(settings = ?names, "reset what ALTER SYSTEM held for settings of ours");
            }
            // A standby takes no ALTER SYSTEM; its override is found when it matters.
            Err(why) => tracing::debug!(why, "cannot reset ALTER SYSTEM's settings"),
        }
        let named = copy::write(&pgdata, copy);
        self.forget();
        named.map_or_else(|e| failed(&e), |()| Outcome::Done)
    }

    async fn start(&self, standby: bool, conf: &Conf, closed: bool) -> Outcome {
        if self.postmaster().is_some_and(|p| p.try_exit().is_none()) {
            return Outcome::Done;
        }
        if let Err(why) = self.prepare_start(standby, conf).await {
            self.forget();
            return Outcome::Failed { why };
        }
        if let written @ Outcome::Failed { .. } = self.write_hba(closed, false) {
            return written;
        }
        let config = self.config();
        let options = StartOptions {
            port: config.port,
            listen_addresses: config.listen_addresses.clone(),
            socket_directory: config.socket_dir.clone(),
            settings: Vec::new(),
        };
        match Postmaster::start(&self.installation, &config.pgdata, &options).await {
            Ok(postmaster) => {
                tracing::info!(pid = postmaster.pid(), standby, closed, "starts Postgres");
                self.take(postmaster, false);
                Outcome::Done
            }
            Err(StartError::StillRunning { pids, .. }) => self.found_running(&pids).await,
            Err(error) => {
                self.forget();
                failed(&error)
            }
        }
    }

    /// A Postgres that an earlier keeper started in its last moment is seen only now: it is
    /// adopted; what is no server any more is ended.
    async fn found_running(&self, pids: &[i32]) -> Outcome {
        tracing::warn!(?pids, "found processes of this cluster");
        match Postmaster::adopt(&self.pgdata()).await {
            Ok(Some(postmaster)) => self.take(postmaster, false),
            Ok(None) => *self.process.borrow_mut() = Process::Gone { crashed: true },
            Err(error) => return failed(&error),
        }
        self.forget();
        Outcome::NotYet {
            why: "processes of this cluster were still there".into(),
        }
    }

    /// Writes everything that a start reads.
    async fn prepare_start(&self, standby: bool, conf: &Conf) -> Result<(), String> {
        let config = self.config();
        let pgdata = &config.pgdata;
        if standby {
            let data = control::read(&self.installation, pgdata).await;
            let data = data.map_err(|e| crate::words(&e))?.present();
            let own = data.as_ref().map_or(TimelineId(1), |data| data.timeline);
            if let (Some(data), Replication::Promise) = (&data, &conf.replication) {
                uncover(pgdata, data).await?;
            }
            let removed =
                history::remove_empty_history_files(pgdata, own).map_err(|e| crate::words(&e))?;
            if !removed.is_empty() {
                tracing::info!(?removed, "removed empty history files before recovery");
            }
        }
        files::set_standby_signal(pgdata, standby).map_err(|e| crate::words(&e))?;
        if let Some(ssl) = &config.ssl
            && ssl.cert.as_deref() == Some(&pgdata.join("server.crt"))
            && !pgdata.join("server.crt").exists()
        {
            certs::ensure_self_signed(pgdata, &config.host).map_err(|e| crate::words(&e))?;
        }
        let enforced = self.enforced(conf);
        files::install(pgdata, &self.defaults(), &enforced).map_err(|e| crate::words(&e))?;
        Ok(())
    }

    async fn stop(&self, mode: StopMode) -> Outcome {
        let Some(postmaster) = self.postmaster() else {
            return self.end_cluster().await;
        };
        if mode == StopMode::Fast {
            self.end_stale_senders().await;
        }
        if let Process::Up { told, .. } = &mut *self.process.borrow_mut() {
            *told = true;
        }
        tracing::info!(?mode, "stops Postgres");
        let exit = match mode {
            StopMode::Fast => {
                let limit = self.config().stop_limit;
                postmaster
                    .stop_and_wait(postmaster::StopMode::Fast, limit)
                    .await
            }
            StopMode::Immediate => {
                postmaster
                    .stop_and_wait(postmaster::StopMode::Immediate, GRACE)
                    .await
            }
        };
        if exit.is_none() {
            tracing::warn!(?mode, "Postgres does not stop in time, is ended");
            if mode == StopMode::Fast {
                postmaster
                    .stop_and_wait(postmaster::StopMode::Immediate, GRACE)
                    .await;
            }
        }
        if let Err(error) = postmaster::end_cluster(&self.pgdata(), GRACE).await {
            return failed(&error);
        }
        *self.process.borrow_mut() = Process::None;
        self.crashed.set(false);
        self.forget();
        Outcome::Done
    }

    /// A fast stop waits until every standby has the shutdown record: a frozen one would hold it up
    /// for `wal_sender_timeout` (`safety.md` §4.8).
    async fn end_stale_senders(&self) {
        for node in self.stale_senders(ASK_BEFORE_STOP).await {
            tracing::warn!(%node, "ends the walsender of a standby that does not answer");
            let ended = self
                .server()
                .end_walsender(&node.standby_name(), ASK_BEFORE_STOP)
                .await;
            if let Err(error) = ended {
                tracing::warn!(error = %crate::words(&error), "cannot end it");
            }
        }
    }

    async fn read_position(&self) -> Outcome {
        let pgdata = self.pgdata();
        let data = match control::read(&self.installation, &pgdata).await {
            Ok(data) => data.present(),
            Err(error) => return failed(&error),
        };
        let Some(data) = data else {
            self.forget();
            return Outcome::NoPosition {
                why: "there is no whole control file".into(),
                at_least: None,
            };
        };
        if let Err(why) = uncover(&pgdata, &data).await {
            return Outcome::Failed { why };
        }
        match wal::end_of_valid_wal(&pgdata, &data).await {
            Ok(position) => Outcome::Position { position },
            Err(error) => Outcome::NoPosition {
                at_least: match &error {
                    WalError::Incomplete { end, .. } | WalError::InBackup { end } => Some(*end),
                    // Made from its source's WAL, up to the checkpoint it begins with at least.
                    WalError::BackupLabel(_) => Some(Position {
                        timeline: data.timeline,
                        lsn: data.checkpoint,
                    }),
                    WalError::Read { .. }
                    | WalError::NoRecord(_)
                    | WalError::NotShutdown(_)
                    | WalError::History(_) => None,
                },
                why: crate::words(&error),
            },
        }
    }

    async fn load(&self, conf: &Conf) -> Outcome {
        let enforced = self.enforced(conf);
        let loaded = self.server().load(&enforced, LOAD_LIMIT).await;
        loaded.map_or_else(|e| failed(&e), |()| Outcome::Done)
    }

    async fn stop_receiving(&self, conf: &Conf) -> Outcome {
        let limit = Duration::from_millis(self.journal().settings.promise_deadline_ms);
        debug_assert_eq!(conf.replication, Replication::Promise);
        match self
            .server()
            .stop_receiving(&self.enforced(conf), limit)
            .await
        {
            Ok(stopped) => {
                let position = self.whole_records(&stopped).await;
                tracing::info!(%position, took = ?stopped.took, "receives no WAL any more");
                Outcome::Position { position }
            }
            Err(error) => failed(&error),
        }
    }

    /// What is promised ends with a whole record, for replay ends there too. In doubt it is all that
    /// was received: that is never too little.
    async fn whole_records(&self, stopped: &Stopped) -> Position {
        let all = stopped.position;
        if stopped.replayed >= all.lsn || stopped.replayed == Lsn::ZERO {
            return all;
        }
        let pgdata = self.pgdata();
        let Ok(Some(data)) = control::read(&self.installation, &pgdata)
            .await
            .map(control::Control::present)
        else {
            return all;
        };
        match wal::last_whole_record(&pgdata, &data, stopped.replayed, all.lsn).await {
            Ok(whole) if whole.timeline == all.timeline => whole,
            Ok(_) => all,
            Err(error) => {
                tracing::warn!(error = %crate::words(&error), "cannot tell where the last whole record ends");
                all
            }
        }
    }

    async fn promote(&self, timeline: TimelineId, position: Position) -> Outcome {
        let server = self.server();
        let replayed = match server.await_replay(REPLAY_LIMIT).await {
            Ok(holding) => holding.replayed,
            Err(error) => return failed(&error),
        };
        if replayed < position.lsn && !self.has_received(position).await {
            return Outcome::Failed {
                why: format!("has replayed {replayed} only, not {position}"),
            };
        }
        if let Err(error) =
            history::write_empty_history_files(&self.pgdata(), position.timeline, timeline)
        {
            return failed(&error);
        }
        match control::read(&self.installation, &self.pgdata()).await {
            Ok(data) => {
                if let Some(data) = data.present()
                    && let Err(why) = uncover(&self.pgdata(), &data).await
                {
                    return Outcome::Failed { why };
                }
            }
            Err(error) => return failed(&error),
        }
        crate::failpoint::hit("before-pg-promote");
        match server.promote(PROMOTE_LIMIT).await {
            Ok(promoted) if promoted.timeline == timeline => {
                tracing::info!(timeline = %promoted.timeline, took = ?promoted.took, "is promoted");
                self.known.borrow_mut().history = None;
                Outcome::Done
            }
            Ok(promoted) => Outcome::Failed {
                why: format!(
                    "opened timeline {} instead of {timeline}",
                    promoted.timeline
                ),
            },
            Err(error) => failed(&error),
        }
    }

    /// Whether everything up to there has arrived: replay ends with the last whole record of it, and
    /// a promotion replays what is left before it opens.
    async fn has_received(&self, position: Position) -> bool {
        let seen = self.server().observe(LOAD_LIMIT).await;
        seen.is_ok_and(|seen| seen.received.is_some_and(|lsn| lsn >= position.lsn))
    }

    fn write_hba(&self, closed: bool, reload: bool) -> Outcome {
        let access = if closed {
            hba::Access::Closed
        } else {
            hba::Access::Open
        };
        let rules = self.rules();
        match hba::apply(&self.pgdata(), &rules, access, &super::conf::account()) {
            Ok(changed) => {
                if changed
                    && reload
                    && let Some(postmaster) = self.postmaster()
                {
                    postmaster.reload();
                }
                Outcome::Done
            }
            Err(error) => failed(&error),
        }
    }
}

/// Takes away what hides WAL that this copy has; nothing is received at the moment.
async fn uncover(pgdata: &Path, data: &ControlData) -> Result<(), String> {
    let removed = wal::remove_partial_forks(pgdata, data).await;
    let removed = removed.map_err(|e| crate::words(&e))?;
    if !removed.is_empty() {
        tracing::info!(?removed, "removed segments that were received in part only");
    }
    Ok(())
}
