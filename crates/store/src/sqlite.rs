//! The default store: one SQLite file, written by one thread.
//!
//! WAL mode with `synchronous = FULL`: an answered commit survives a power loss. The database is
//! locked exclusively, twice: by SQLite, and by a lock file that says who holds it.

mod schema;
mod worker;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::batch::{Batch, Revision, Versioned};
use crate::counter::{Continuation, CounterFile, Marks};
use crate::error::{OpenError, StoreError};
use crate::event::{EventFilter, StoredEvent};
use crate::lock::{PRIVATE, StoreLock, beside};
use crate::{Pending, Store};

use worker::{Job, Worker};

/// Calls that may wait for the thread. More are refused: the disk has stopped. Chosen.
const QUEUE: usize = 256;

/// Stack of the store's thread in bytes. SQLite needs about 100 kB; chosen.
const STACK: usize = 512 * 1024;

/// A store in an SQLite file. Dropping it closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A store that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SqliteStore,
    /// Whether it goes on from where this host left it.
    pub continuation: Continuation,
    /// The numbers kept outside the database. After [`Continuation::Restored`] the first batch
    /// must carry them, together with what makes the restored contents harmless: until then every
    /// open answers `Restored` again.
    pub marks: BTreeMap<String, u64>,
}

impl SqliteStore {
    /// Opens the store at `path`; with `identity`, a random text, makes it when it is missing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, identity: Option<&str>) -> Result<Opened, OpenError> {
        let exists = path.exists();
        if !exists && identity.is_none() {
            return Err(OpenError::Missing(path.to_path_buf()));
        }
        let lock = StoreLock::take(path)?;
        let failed = |source| OpenError::Database {
            path: path.to_path_buf(),
            source,
        };
        if !exists {
            // SQLite gives the WAL the mode of the database.
            File::options()
                .create(true)
                .append(true)
                .mode(PRIVATE)
                .open(path)
                .map_err(|source| OpenError::File {
                    path: path.to_path_buf(),
                    source,
                })?;
        }
        let connection = schema::connect(path)?;
        let made = schema::prepare(&connection, path, identity)?;
        let marks = schema::marks(&connection).map_err(failed)?;
        let identity = schema::identity(&connection).map_err(failed)?;
        let counter_path = beside(path, "counter");
        let (counter, continuation) = prove(&counter_path, made, &identity, &marks)?;
        let outside = counter
            .as_ref()
            .map(|c| c.present().marks.clone())
            .unwrap_or_default();
        let (queue, jobs) = sync_channel(QUEUE);
        let worker = Worker::new(connection, counter, counter_path, identity, marks, lock)
            .map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("store".into())
            .stack_size(STACK)
            .spawn(move || worker.run(&jobs))
            .map_err(|source| OpenError::File {
                path: path.to_path_buf(),
                source,
            })?;
        Ok(Opened {
            store: Self {
                queue: Some(queue),
                thread: Some(thread),
            },
            continuation,
            marks: outside,
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        let refused = match &self.queue {
            None => Some(StoreError::Closed),
            Some(queue) => match queue.try_send(job(reply)) {
                Ok(()) => None,
                Err(TrySendError::Full(_)) => Some(StoreError::Busy { waiting: QUEUE }),
                Err(TrySendError::Disconnected(_)) => Some(StoreError::Closed),
            },
        };
        Box::pin(async move {
            match refused {
                Some(error) => Err(error),
                None => answer.await.unwrap_or(Err(StoreError::Closed)),
            }
        })
    }
}

/// Compares the counter file with the database.
fn prove(
    path: &Path,
    made: bool,
    identity: &str,
    marks: &BTreeMap<String, u64>,
) -> Result<(Option<CounterFile>, Continuation), OpenError> {
    let restored = |why: &str| Continuation::Restored { why: why.into() };
    let counter = CounterFile::open(path)?;
    if made {
        let counter = match counter {
            // The database was removed and made anew beside a counter that is still there.
            Some(counter) if !counter.present().marks.is_empty() => {
                return Ok((
                    None,
                    restored(&format!(
                        "the database is new, and `{}` belongs to another one",
                        counter.path().display()
                    )),
                ));
            }
            Some(_) | None => CounterFile::create(
                path,
                Marks {
                    identity: identity.into(),
                    ..Marks::default()
                },
            )?,
        };
        return Ok((Some(counter), Continuation::New));
    }
    Ok(match counter {
        // A database without marks was made, and never used: its `create` was cut off.
        None if marks.is_empty() => (None, Continuation::New),
        None => (
            None,
            restored("the counter beside the database is lost or damaged"),
        ),
        Some(counter) if counter.present().identity != identity => (
            None,
            restored("the counter beside the database belongs to another one"),
        ),
        Some(counter) => {
            let ahead = counter
                .present()
                .marks
                .iter()
                .find(|(name, value)| marks.get(*name).is_none_or(|m| m < value));
            let continuation = match ahead {
                None => Continuation::Proven,
                Some((name, value)) => restored(&format!(
                    "the counter beside the database knows {name} {value}, the database {}",
                    marks
                        .get(name)
                        .map_or_else(|| "does not".into(), |m| format!("only {m}"))
                )),
            };
            (Some(counter), continuation)
        }
    })
}

impl Store for SqliteStore {
    fn load_all(&self) -> Pending<BTreeMap<String, Versioned>> {
        self.ask(Job::Load)
    }

    fn commit(&self, batch: Batch) -> Pending<Revision> {
        self.ask(|reply| Job::Commit(batch, reply))
    }

    fn events(&self, filter: EventFilter) -> Pending<Vec<StoredEvent>> {
        self.ask(|reply| Job::Events(filter, reply))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The thread ends when the queue does; waiting for it means that the lock is free again.
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
