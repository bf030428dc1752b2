//! Looking at Postgres and PGDATA.

use std::time::Duration;

use pgaf_fsm::node::{Contents, Directory, Observation, Receiver, Server as Seen};
use pgaf_postgres::control::{self, ClusterState, Control, ControlData};
use pgaf_postgres::postmaster::{Phase, PidFile};
use pgaf_postgres::server::{Observation as Sql, PgTime};
use pgaf_postgres::{copy, history, rewind, wal};
use pgaf_protocol::{GateSettings, History, Lsn, NodeId, Postgres, StandbySeen, TimelineId};

use super::{Local, Process};
use crate::clock;

/// A Postgres that does not answer within this is unresponsive (`probe_deadline`'s default).
const DEADLINE: Duration = Duration::from_secs(1);

/// Microseconds between 1970 and 2000, where Postgres counts from. Source: Postgres,
/// `POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE` days.
const EPOCH: i64 = 946_684_800_000_000;

/// What the process looks like from outside.
enum Outside {
    Down,
    Leftovers,
    Starting,
    Stopping,
    Ready,
}

impl Local {
    /// One look.
    pub(super) async fn look(&self) -> Observation {
        let outside = self.outside();
        let mut seen = Observation {
            starts_failed: self.starts_failed.get(),
            start_words: self.start_words.borrow().clone(),
            start_hopeless: self.start_hopeless.get(),
            may_miss_first_wait: self.installation.version.may_miss_first_wait(),
            progress: self.progress.lock().ok().and_then(|p| p.clone()),
            fencer: self.fencer.guards(),
            disk_full: is_full(&self.pgdata()),
            ..Observation::default()
        };
        match outside {
            Outside::Down | Outside::Leftovers => {
                seen.leftovers = matches!(outside, Outside::Leftovers);
                seen.directory = self.directory().await;
                seen.postgres = match seen.directory {
                    Directory::Absent => Postgres::Absent,
                    Directory::Broken { .. } | Directory::Present(_) => Postgres::Down {
                        crashed: self.crashed.get(),
                    },
                };
                seen.redo_bytes = self.known.borrow().redo_bytes;
            }
            Outside::Starting => {
                seen.postgres = Postgres::Starting;
                seen.directory = self.directory().await;
            }
            Outside::Stopping => {
                seen.postgres = Postgres::Unresponsive;
                seen.directory = self.directory().await;
            }
            Outside::Ready => {
                seen.directory = self.directory().await;
                self.ask(&mut seen).await;
            }
        }
        seen.wal_gone = self.wal_gone(seen.server.as_ref());
        seen
    }

    /// Looks at the process, and notices its end.
    fn outside(&self) -> Outside {
        let mut process = self.process.borrow_mut();
        if let Process::Up {
            postmaster,
            answered,
            told,
        } = &*process
        {
            let Some(exit) = postmaster.try_exit() else {
                if *told {
                    return Outside::Stopping;
                }
                let phase = PidFile::read(postmaster.pgdata())
                    .ok()
                    .flatten()
                    .and_then(|file| file.phase);
                return match phase {
                    Some(Phase::Ready) => Outside::Ready,
                    Some(Phase::Stopping) => Outside::Stopping,
                    Some(Phase::Starting | Phase::Standby) | None => Outside::Starting,
                };
            };
            let crashed = !*told;
            if crashed {
                if *answered {
                    tracing::warn!(?exit, "Postgres has ended by itself");
                } else {
                    let words = last_words(&self.pgdata());
                    tracing::warn!(?exit, words, "Postgres has ended before it answered");
                    self.start_hopeless.set(is_hopeless(&words));
                    *self.start_words.borrow_mut() = Some(words);
                    self.starts_failed.set(self.starts_failed.get() + 1);
                }
            }
            *process = Process::Gone { crashed };
            drop(process);
            self.forget();
            return self.outside();
        }
        match &*process {
            Process::Gone { crashed } => {
                self.crashed.set(*crashed);
                Outside::Leftovers
            }
            Process::None | Process::Up { .. } => Outside::Down,
        }
    }

    /// Asks Postgres itself.
    async fn ask(&self, seen: &mut Observation) {
        let sql = match self.server().observe(DEADLINE).await {
            Ok(sql) => sql,
            Err(error) => {
                tracing::debug!(error = %crate::words(&error), "Postgres does not answer");
                seen.postgres = if self.has_answered() {
                    Postgres::Unresponsive
                } else {
                    Postgres::Starting
                };
                return;
            }
        };
        self.note_answer();
        self.start_hopeless.set(false);
        seen.postgres = Postgres::Running {
            since: micros(sql.postmaster_start),
            in_recovery: sql.in_recovery,
        };
        let history = self.history_of(sql.timeline);
        seen.server = Some(self.translate(&sql, history));
    }

    /// Standbys whose walsender has heard nothing new for `unhealthy_timeout`. One that has not
    /// replied at all yet has only just connected.
    pub(super) async fn stale_senders(&self, limit: Duration) -> Vec<NodeId> {
        let Ok(sql) = self.server().observe(limit).await else {
            return Vec::new();
        };
        let seen = self.translate(&sql, None);
        let known = self.known.borrow();
        seen.senders
            .iter()
            .filter(|sender| !sender.fresh && known.replies.contains_key(&sender.node))
            .map(|sender| sender.node)
            .collect()
    }

    fn has_answered(&self) -> bool {
        matches!(&*self.process.borrow(), Process::Up { answered: true, .. })
    }

    fn note_answer(&self) {
        if let Process::Up { answered, .. } = &mut *self.process.borrow_mut() {
            *answered = true;
        }
    }

    fn translate(&self, sql: &Sql, history: Option<History>) -> Seen {
        let fresh_within = Duration::from_millis(self.journal().settings.unhealthy_timeout_ms);
        let now = clock::now();
        let mut known = self.known.borrow_mut();
        let mut senders = Vec::new();
        for sender in &sql.senders {
            let Some(node) = NodeId::from_standby_name(&sender.application_name) else {
                continue;
            };
            // Only a reply that differs from the one before says that the standby lives.
            if let Some(time) = sender.reply_time {
                let entry = known.replies.entry(node).or_insert((time, now));
                if entry.0 != time {
                    *entry = (time, now);
                }
            }
            let fresh = known
                .replies
                .get(&node)
                .is_some_and(|(_, changed)| now.since(*changed) <= fresh_within);
            let flushed = sender.flushed.unwrap_or(Lsn::ZERO);
            senders.push(StandbySeen {
                node,
                streaming: sender.state == "streaming",
                flushed,
                lag_bytes: sql.lsn.bytes_after(flushed),
                fresh,
                synchronous: matches!(sender.sync_state.as_str(), "sync" | "quorum"),
            });
        }
        let ours = sql.names.value.is_empty()
            || sql
                .names
                .file
                .as_deref()
                .is_none_or(|file| file.ends_with("postgresql-auto-failover-enforced.conf"))
                && sql.names.source == "configuration file";
        Seen {
            in_recovery: sql.in_recovery,
            timeline: sql.timeline,
            lsn: sql.lsn,
            received: sql.received,
            replayed: sql.replayed,
            names: sql.names.value.clone(),
            names_overridden: (!ours).then(|| {
                sql.names
                    .file
                    .clone()
                    .unwrap_or_else(|| sql.names.source.clone())
            }),
            senders,
            receiver: sql.receiver.as_ref().map(|receiver| Receiver {
                streaming: receiver.status == "streaming",
                fresh: receiver
                    .last_message_age
                    .is_some_and(|age| age <= fresh_within),
            }),
            gate: gate(sql),
            history,
            system_identifier: sql.system_identifier,
        }
    }

    /// The history of a timeline; read once.
    fn history_of(&self, timeline: TimelineId) -> Option<History> {
        if timeline == TimelineId(1) {
            return Some(History::first());
        }
        if let Some(history) = &self.known.borrow().history
            && history.timeline == timeline
        {
            return Some(history.clone());
        }
        let read = history::read(&self.pgdata(), timeline).ok().flatten()?;
        self.known.borrow_mut().history = Some(read.clone());
        Some(read)
    }

    /// PGDATA, as it was when something was done to it last.
    async fn directory(&self) -> Directory {
        if let Some(known) = &self.known.borrow().directory {
            return known.clone();
        }
        let directory = self.read_directory().await;
        self.known.borrow_mut().directory = Some(directory.clone());
        directory
    }

    async fn read_directory(&self) -> Directory {
        let pgdata = self.pgdata();
        let broken = |why: String| Directory::Broken { why };
        if rewind::interrupted(&self.rewind_marker()) {
            return broken("a rewind was interrupted".into());
        }
        if !pgdata.join("PG_VERSION").exists() {
            return match std::fs::read_dir(&pgdata) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Directory::Absent,
                Err(error) => broken(error.to_string()),
                Ok(entries) => {
                    let foreign = entries
                        .flatten()
                        .map(|entry| entry.file_name())
                        .find(|name| name != "lost+found");
                    foreign.map_or(Directory::Absent, |name| {
                        broken(format!(
                            "it holds `{}`, and no Postgres",
                            name.to_string_lossy()
                        ))
                    })
                }
            };
        }
        let data = match control::read(&self.installation, &pgdata).await {
            Ok(Control::Present(data)) => data,
            Ok(Control::Missing) => return broken("its control file is missing".into()),
            Ok(Control::Corrupt { reason }) => return broken(reason),
            Err(error) => return broken(crate::words(&error)),
        };
        let copy = match copy::read(&pgdata) {
            Ok(copy) => copy,
            Err(error) => return broken(crate::words(&error)),
        };
        self.known.borrow_mut().redo_bytes = Some(if data.state.is_clean() {
            0
        } else {
            wal::redo_bytes(&pgdata, &data)
        });
        Directory::Present(self.contents(&data, copy))
    }

    fn contents(&self, data: &ControlData, copy: Option<pgaf_protocol::CopyId>) -> Contents {
        let pgdata = self.pgdata();
        let made_standby =
            pgdata.join("standby.signal").exists() || pgdata.join("backup_label").exists();
        Contents {
            copy,
            system_identifier: data.system_identifier,
            was_primary: !made_standby
                && (data.state.was_primary() || data.state == ClusterState::InCrashRecovery),
            clean: data.state.is_clean(),
            timeline: data.timeline,
            history: self.history_of(data.timeline),
        }
    }
}

/// Whether Postgres' last words say that the copy is damaged, and not that something around it is
/// wrong. Source: messages of Postgres 13 to 18 (`xlog.c`, `xlogrecovery.c`, `slru.c`).
fn is_hopeless(words: &str) -> bool {
    [
        "PANIC:",
        "could not locate a valid checkpoint record",
        "could not locate required checkpoint record",
        "WAL ends before consistent recovery point",
        "WAL ends before end of online backup",
        "is not a child of this server's history",
        "requested timeline",
        "invalid data in file",
    ]
    .iter()
    .any(|sign| words.contains(sign))
}

/// What Postgres said before it ended: the fatal lines of its start-up log, at most.
fn last_words(pgdata: &std::path::Path) -> String {
    let log = std::fs::read_to_string(pgdata.join("startup.log")).unwrap_or_default();
    let telling = |line: &&str| {
        ["FATAL:", "PANIC:", "could not", "HINT:"]
            .iter()
            .any(|word| line.contains(word))
    };
    let mut lines: Vec<&str> = log.lines().rev().filter(telling).take(3).collect();
    lines.reverse();
    if lines.is_empty() {
        lines = log.lines().last().into_iter().collect();
    }
    format!("Postgres ended before it answered: {}", lines.join("; "))
}

/// Microseconds since 1970.
pub(super) fn micros(time: PgTime) -> i64 {
    time.0.saturating_add(EPOCH)
}

fn gate(sql: &Sql) -> GateSettings {
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    GateSettings {
        max_connections: number(sql.limits.max_connections),
        max_worker_processes: number(sql.limits.max_worker_processes),
        max_wal_senders: number(sql.limits.max_wal_senders),
        max_prepared_transactions: number(sql.limits.max_prepared_transactions),
        max_locks_per_transaction: number(sql.limits.max_locks_per_transaction),
    }
}
/// Room that Postgres needs to go on: one WAL segment of the default size.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Whether there is no room for another WAL segment, under the data directory or its WAL.
fn is_full(pgdata: &std::path::Path) -> bool {
    [pgdata.to_owned(), pgdata.join("pg_wal")].iter().any(|at| {
        rustix::fs::statvfs(at)
            .is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < SEGMENT_BYTES)
    })
}
