//! The thread that owns the database: group commit, reads, checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::oneshot;

use super::schema;
use crate::batch::{Batch, Revision, Versioned};
use crate::counter::{CounterFile, Marks};
use crate::error::StoreError;
use crate::event::{EventFilter, EventRecord, KEPT_EVENTS, StoredEvent};
use crate::lock::StoreLock;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A call that waits for the thread.
#[derive(Debug)]
pub(super) enum Job {
    /// [`crate::Store::load_all`].
    Load(Reply<BTreeMap<String, Versioned>>),
    /// [`crate::Store::commit`].
    Commit(Batch, Reply<Revision>),
    /// [`crate::Store::events`].
    Events(EventFilter, Reply<Vec<StoredEvent>>),
}

/// Batches in one transaction at most; the rest waits for the next. Chosen.
const GROUP: usize = 128;
/// Transactions after which a quiet moment is used for a checkpoint. Chosen: 64 are about 1 MB.
const CHECKPOINT_WHEN_QUIET: u32 = 64;
/// Transactions after which a checkpoint no longer waits for a quiet moment. Chosen.
const CHECKPOINT_AT_ONCE: u32 = 2048;
/// What counts as a quiet moment. Chosen.
const QUIET: Duration = Duration::from_secs(2);
/// Surplus events are removed once per this many. Chosen.
const PRUNE_EVERY: i64 = 512;

/// Everything the thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    connection: Connection,
    counter: Option<CounterFile>,
    counter_path: PathBuf,
    identity: String,
    /// The marks in the database; the counter must hold them before anything is answered.
    marks: BTreeMap<String, u64>,
    /// Whether the counter may lack some of them: comparing all of a large cluster's at each commit
    /// costs more than the commit.
    behind: bool,
    revision: Revision,
    since_checkpoint: u32,
    _lock: StoreLock,
}

impl Worker {
    pub(super) fn new(
        connection: Connection,
        counter: Option<CounterFile>,
        counter_path: PathBuf,
        identity: String,
        marks: BTreeMap<String, u64>,
        lock: StoreLock,
    ) -> rusqlite::Result<Self> {
        let revision = schema::meta(&connection, "revision")?;
        Ok(Self {
            connection,
            counter,
            counter_path,
            identity,
            marks,
            behind: true,
            revision: Revision(revision.and_then(|r| r.parse().ok()).unwrap_or_default()),
            since_checkpoint: 0,
            _lock: lock,
        })
    }

    /// Serves until every sender is gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => match self.wait(jobs) {
                    Some(job) => job,
                    None => break,
                },
            };
            match job {
                Job::Commit(batch, reply) => {
                    let mut group = vec![(batch, reply)];
                    while group.len() < GROUP && next.is_none() {
                        match jobs.try_recv() {
                            Ok(Job::Commit(batch, reply)) => group.push((batch, reply)),
                            Ok(other) => next = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
                Job::Load(reply) => {
                    let _ = reply.send(self.load());
                }
                Job::Events(filter, reply) => {
                    let found = events(&self.connection, &filter);
                    let _ = reply.send(found.map_err(|e| self.diagnose(&e)));
                }
            }
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "cannot close the monitor's store cleanly");
        }
    }

    /// The next call; a checkpoint while none comes.
    fn wait(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        if self.since_checkpoint >= CHECKPOINT_AT_ONCE {
            self.checkpoint();
        }
        if self.since_checkpoint >= CHECKPOINT_WHEN_QUIET {
            match jobs.recv_timeout(QUIET) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.checkpoint(),
            }
        }
        jobs.recv().ok()
    }

    fn checkpoint(&mut self) {
        self.since_checkpoint = 0;
        let outcome = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = outcome {
            tracing::warn!(%error, "cannot checkpoint the monitor's store");
        }
    }

    fn load(&mut self) -> Result<BTreeMap<String, Versioned>, StoreError> {
        self.guard()?;
        values(&self.connection).map_err(|error| self.diagnose(&error))
    }

    /// Brings the counter up to what the database holds.
    fn guard(&mut self) -> Result<(), StoreError> {
        if !self.behind {
            return Ok(());
        }
        let outcome = match &mut self.counter {
            Some(counter) => counter.raise(&self.marks).map_err(|e| e.to_string()),
            None if self.marks.is_empty() => Ok(()),
            None => CounterFile::create(
                &self.counter_path,
                Marks {
                    identity: self.identity.clone(),
                    serial: 1,
                    marks: self.marks.clone(),
                },
            )
            .map(|counter| self.counter = Some(counter))
            .map_err(|e| e.to_string()),
        };
        outcome.map_err(|reason| StoreError::Uncertain { reason })?;
        self.behind = false;
        Ok(())
    }

    /// Runs all batches in one transaction, and answers each.
    fn commit(&mut self, group: Vec<(Batch, Reply<Revision>)>) {
        let (batches, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = self.try_commit(&batches);
        match outcomes {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn try_commit(
        &mut self,
        batches: &[Batch],
    ) -> Result<Vec<Result<Revision, StoreError>>, StoreError> {
        self.guard_before(batches)?;
        let written = write_all(&self.connection, self.revision, &self.marks, batches);
        let (outcomes, revision) = match written {
            Ok(written) => written,
            Err(error) => {
                if !self.connection.is_autocommit() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                return Err(self.diagnose(&error));
            }
        };
        if revision > self.revision {
            self.revision = revision;
            self.since_checkpoint += 1;
        }
        let applied = batches.iter().zip(&outcomes).filter(|(_, o)| o.is_ok());
        for (name, value) in applied.flat_map(|(b, _)| &b.marks) {
            if is_higher(&self.marks, name, *value) {
                self.marks.insert(name.clone(), *value);
                self.behind = true;
            }
        }
        self.guard()?;
        Ok(outcomes)
    }

    /// A counter that is behind from an earlier failure comes first; a store that was restored is
    /// left as it is until a batch brings marks.
    fn guard_before(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        if batches.iter().all(Batch::is_empty) || self.counter.is_none() {
            return Ok(());
        }
        self.guard()
    }

    /// Says what kind of failure it is; asks the disk itself where SQLite only says "I/O error".
    fn diagnose(&self, error: &rusqlite::Error) -> StoreError {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { reason },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly { reason }
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                try_disk(&self.counter_path, reason)
            }
            Some(_) | None => StoreError::Failed { reason },
        }
    }
}

/// Writes a small file beside the database to learn what the disk says.
fn try_disk(beside: &Path, reason: String) -> StoreError {
    let mut path = beside.as_os_str().to_owned();
    path.push(".try");
    let outcome = std::fs::write(&path, [0_u8; 4096]);
    let _ = std::fs::remove_file(&path);
    match outcome.map_err(|e| e.kind()) {
        Err(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
            StoreError::Full { reason }
        }
        Err(std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied) => {
            StoreError::ReadOnly { reason }
        }
        Ok(()) | Err(_) => StoreError::Failed { reason },
    }
}

fn values(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Versioned>> {
    connection
        .prepare_cached("SELECT key, value, revision FROM value")?
        .query_map([], |row| {
            let value = Versioned {
                value: row.get(1)?,
                revision: Revision(row.get::<_, i64>(2)?.cast_unsigned()),
            };
            Ok((row.get(0)?, value))
        })?
        .collect()
}

type Outcomes = Vec<Result<Revision, StoreError>>;

fn write_all(
    connection: &Connection,
    mut revision: Revision,
    marks: &BTreeMap<String, u64>,
    batches: &[Batch],
) -> rusqlite::Result<(Outcomes, Revision)> {
    let before = revision;
    let transaction = connection.unchecked_transaction()?;
    let mut outcomes = Vec::with_capacity(batches.len());
    for batch in batches {
        outcomes.push(match conflict(connection, batch)? {
            Some(key) => Err(StoreError::Conflict { key }),
            None if batch.is_empty() => Ok(revision),
            None => {
                revision = Revision(revision.0 + 1);
                write(connection, revision, marks, batch)?;
                Ok(revision)
            }
        });
    }
    if revision == before {
        transaction.rollback()?;
    } else {
        connection
            .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")?
            .execute([revision.0.to_string()])?;
        transaction.commit()?;
    }
    Ok((outcomes, revision))
}

fn conflict(connection: &Connection, batch: &Batch) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT revision FROM value WHERE key = ?1")?;
    let mut failure = None;
    let conflict = batch.conflict(|key| {
        let found = statement
            .query_row([key], |row| row.get::<_, i64>(0))
            .optional();
        match found {
            Ok(revision) => revision.map(|r| Revision(r.cast_unsigned())),
            Err(error) => {
                failure = Some(error);
                None
            }
        }
    });
    failure.map_or(Ok(conflict), Err)
}

fn is_higher(marks: &BTreeMap<String, u64>, name: &str, value: u64) -> bool {
    marks.get(name).is_none_or(|mark| *mark < value)
}

fn write(
    connection: &Connection,
    revision: Revision,
    marks: &BTreeMap<String, u64>,
    batch: &Batch,
) -> rusqlite::Result<()> {
    for key in &batch.deletes {
        connection
            .prepare_cached("DELETE FROM value WHERE key = ?1")?
            .execute([key])?;
    }
    for (key, value) in &batch.puts {
        connection
            .prepare_cached(
                "INSERT INTO value VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE
                 SET value = excluded.value, revision = excluded.revision",
            )?
            .execute(params![key, value, revision.0.cast_signed()])?;
    }
    let risen = batch.marks.iter();
    for (name, value) in risen.filter(|(name, value)| is_higher(marks, name, **value)) {
        connection
            .prepare_cached(
                "INSERT INTO mark VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE
                 SET value = max(value, excluded.value)",
            )?
            .execute(params![name, value.cast_signed()])?;
    }
    for record in &batch.events {
        append(connection, record)?;
    }
    Ok(())
}

fn append(connection: &Connection, record: &EventRecord) -> rusqlite::Result<()> {
    let json = serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection
        .prepare_cached("INSERT INTO event (formation, grp, record) VALUES (?1, ?2, ?3)")?
        .execute(params![record.formation.0, record.group.0, json])?;
    let id = connection.last_insert_rowid();
    if id % PRUNE_EVERY == 0 {
        connection
            .prepare_cached("DELETE FROM event WHERE id <= ?1")?
            .execute([id - KEPT_EVENTS.cast_signed()])?;
    }
    Ok(())
}

fn events(connection: &Connection, filter: &EventFilter) -> rusqlite::Result<Vec<StoredEvent>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, record FROM event
         WHERE (?1 IS NULL OR formation = ?1) AND (?2 IS NULL OR grp = ?2)
         ORDER BY id DESC LIMIT ?3",
    )?;
    let formation = filter.formation.as_ref().map(|f| &f.0);
    let group = filter.group.map(|g| g.0);
    let mut found = statement
        .query_map(params![formation, group, filter.limit], |row| {
            let json: String = row.get(1)?;
            let record = serde_json::from_str(&json).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    1,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })?;
            Ok(StoredEvent {
                id: row.get(0)?,
                record,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    found.reverse();
    Ok(found)
}
