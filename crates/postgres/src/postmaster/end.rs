//! Ending every process of a cluster, and being sure of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::pidfile;
use crate::processes;

/// How long processes may take to end after SIGKILL (chosen; a process in a system call that does
/// not return takes as long as that).
const AFTER_KILL: Duration = Duration::from_secs(10);
/// How long the logger may take to write what is in its pipe, when everybody else has gone (chosen).
const LOGGER: Duration = Duration::from_millis(500);

/// Why a cluster could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// `/proc` cannot be read.
    #[error("cannot list processes")]
    Processes(#[source] io::Error),
    /// These are still there, though killed (the kernel holds them, or they are another account's).
    #[error("processes {pids:?} of `{pgdata}` have not ended", pgdata = pgdata.display())]
    Remaining {
        /// Which.
        pids: Vec<i32>,
        /// The data directory.
        pgdata: PathBuf,
    },
    /// All processes that can be seen from here have ended, and somebody is still attached to the
    /// cluster's shared memory: it runs in another container.
    #[error("{attached} processes that cannot be seen from here use the shared memory of `{pgdata}`", pgdata = pgdata.display())]
    Attached {
        /// How many.
        attached: u64,
        /// The data directory.
        pgdata: PathBuf,
    },
    /// `postmaster.pid` cannot be removed.
    #[error("cannot clean up after the last server of `{pgdata}`", pgdata = pgdata.display())]
    CleanUp {
        /// The data directory.
        pgdata: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// The processes of a cluster: everybody who runs `postgres` in that directory. Zombies are dead.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn cluster_processes(pgdata: &Path) -> io::Result<Vec<i32>> {
    processes::of_cluster(pgdata)
}

/// Ends every process of a cluster and waits until they are gone: SIGQUIT, then SIGKILL after
/// `grace`. The postmaster too, if it still runs. After this nothing can be acknowledged any more
/// (`safety.md` §4.3), a stale `postmaster.pid` is removed, and a start cannot meet leftovers.
/// Answers how many it ended. Measured: 10 ms after `kill -9` of an idle postmaster.
///
/// Shared memory needs no hand: nobody is attached any more, and the next start removes it.
///
/// # Errors
/// [`EndError`].
pub async fn end_cluster(pgdata: &Path, grace: Duration) -> Result<usize, EndError> {
    let quit = Instant::now() + grace;
    let kill = quit + AFTER_KILL;
    let mut ended = 0;
    let mut empty = 0;
    // A process may start another one behind our back while we look: two looks must find nobody.
    while empty < 2 {
        let victims = victims(pgdata).map_err(EndError::Processes)?;
        if victims.is_empty() {
            empty += 1;
            continue;
        }
        empty = 0;
        ended += victims.len();
        let left = end(&victims, quit, kill).await;
        if !left.is_empty() {
            return Err(EndError::Remaining {
                pids: left,
                pgdata: pgdata.to_owned(),
            });
        }
    }
    let attached = still_attached(pgdata).await;
    if attached > 0 {
        return Err(EndError::Attached {
            attached,
            pgdata: pgdata.to_owned(),
        });
    }
    pidfile::remove_stale(pgdata).map_err(|source| EndError::CleanUp {
        pgdata: pgdata.to_owned(),
        source,
    })?;
    Ok(ended)
}

/// A process to end.
struct Victim {
    pid: i32,
    handle: AsyncFd<OwnedFd>,
    /// The collector of log lines: it ignores SIGQUIT, and ends by itself after all others.
    logger: bool,
}

/// Everybody of the cluster, parents first, so that the postmaster starts nobody in place of those
/// that end.
fn victims(pgdata: &Path) -> io::Result<Vec<Victim>> {
    let pids = processes::of_cluster(pgdata)?;
    let mut victims = Vec::new();
    for pid in &pids {
        let Ok(handle) = processes::open(*pid) else {
            continue;
        };
        // The number may have changed hands since it was listed; from here on it cannot.
        if !processes::of_cluster_is(*pid, pgdata) {
            continue;
        }
        let logger = processes::title(*pid).ends_with("logger");
        let handle = processes::watch(handle)?;
        victims.push(Victim {
            pid: *pid,
            handle,
            logger,
        });
    }
    let is_child = |pid| processes::stat(pid).is_some_and(|s| pids.contains(&s.parent));
    victims.sort_by_key(|v| is_child(v.pid));
    Ok(victims)
}

/// Ends them; answers who is left after all.
async fn end(victims: &[Victim], quit: Instant, kill: Instant) -> Vec<i32> {
    let others = || victims.iter().filter(|v| !v.logger);
    if Instant::now() < quit {
        others().for_each(|v| v.signal(Signal::QUIT));
        for victim in others() {
            victim.ends_by(quit).await;
        }
    }
    others().for_each(|v| v.signal(Signal::KILL));
    for victim in others() {
        victim.ends_by(kill).await;
    }
    for logger in victims.iter().filter(|v| v.logger) {
        if !logger.ends_by(Instant::now() + LOGGER).await {
            logger.signal(Signal::KILL);
            logger.ends_by(kill).await;
        }
    }
    victims
        .iter()
        .filter(|v| processes::lives(v.pid))
        .map(|v| v.pid)
        .collect()
}

impl Victim {
    fn signal(&self, signal: Signal) {
        // An error means that it has ended, which is what we want.
        let _ = rustix::process::pidfd_send_signal(self.handle.get_ref(), signal);
    }

    /// A pidfd becomes readable when its process ends.
    async fn ends_by(&self, deadline: Instant) -> bool {
        tokio::time::timeout_at(deadline, self.handle.readable())
            .await
            .is_ok()
    }
}

/// Who uses the cluster's shared memory though nobody is seen; the kernel may need a moment.
async fn still_attached(pgdata: &Path) -> u64 {
    for _ in 0..20 {
        if pidfile::attached(pgdata) == 0 {
            return 0;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pidfile::attached(pgdata)
}
