//! The Postgres server process: starting, adopting, watching, stopping it.
//!
//! Owns the postmaster as a process, and the way to be sure that nothing of a cluster runs any
//! more. It must never start one while processes of the last one live (`safety.md` §6), and never
//! signal a process by a number alone: a pidfd names it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::locate::Installation;

/// How a postmaster is started: its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOptions {
    /// `-p`
    pub port: u16,
    /// `-h`
    pub listen_addresses: String,
    /// `-k`, when the server shall not use its default.
    pub socket_directory: Option<PathBuf>,
    /// `-c name=value` each.
    pub settings: Vec<(String, String)>,
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// SIGTERM: waits for sessions to end.
    Smart,
    /// SIGINT: ends sessions, writes a checkpoint.
    Fast,
    /// SIGQUIT: ends at once; the next start replays WAL.
    Immediate,
}

/// How a postmaster ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code; 0 after a clean stop.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was not our child: nobody tells.
    Unknown,
}

/// What `postmaster.pid` says about the server's state (its last line).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Starting or replaying WAL; refuses connections.
    Starting,
    /// Accepts connections.
    Ready,
    /// A standby that takes no connections: replay goes on, `hot_standby` is off.
    Standby,
    /// Stopping.
    Stopping,
}

/// The contents of `postmaster.pid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// The process; 0 or below is not a postmaster (single-user mode writes a negative one).
    pub pid: i32,
    /// The data directory as it was given.
    pub data_directory: PathBuf,
    /// Start, seconds since 1970.
    pub started: i64,
    /// Port; 0 while it is not known yet.
    pub port: u16,
    /// First Unix socket directory.
    pub socket_directory: Option<PathBuf>,
    /// First address it listens on.
    pub listen_address: Option<String>,
    /// System V shared memory: key and id.
    pub shared_memory: Option<(u64, u64)>,
    /// State; `None` while the line is not there yet.
    pub phase: Option<Phase>,
}

impl PidFile {
    /// Reads `postmaster.pid` of a data directory; `None` when there is none, or an empty one.
    ///
    /// # Errors
    /// The system's reason, but for a missing file.
    pub fn read(_pgdata: &Path) -> std::io::Result<Option<Self>> {
        todo!()
    }
}

/// A running postmaster. Clones name the same process; dropping all of them leaves it running.
#[derive(Debug, Clone)]
pub struct Postmaster {
    pid: i32,
    pgdata: PathBuf,
}

/// Why a postmaster was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Processes of this cluster are still there.
    #[error("processes of `{pgdata}` are still running: {pids:?}", pgdata = pgdata.display())]
    StillRunning {
        /// The data directory.
        pgdata: PathBuf,
        /// Their process ids.
        pids: Vec<i32>,
    },
    /// Its log file cannot be opened.
    #[error("cannot open `{path}`", path = path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The program cannot be started, or watched.
    #[error("cannot start `{program}`", program = program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// What the last one left cannot be removed.
    #[error("cannot clean up after the last server of `{pgdata}`", pgdata = pgdata.display())]
    CleanUp {
        /// The data directory.
        pgdata: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Why it is not known whether a postmaster runs.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// `postmaster.pid` cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The process is there, and the system does not let us look at it (another account's).
    #[error("cannot look at process {pid}")]
    Look {
        /// The process.
        pid: i32,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A server in single-user mode has the data directory.
    #[error("process {pid} runs Postgres in single-user mode on `{pgdata}`", pgdata = pgdata.display())]
    SingleUser {
        /// The process.
        pid: i32,
        /// The data directory.
        pgdata: PathBuf,
    },
}

/// Why a server is not ready.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// It ended.
    #[error("Postgres ended while it was starting ({exit:?}): {log}")]
    Exited {
        /// How.
        exit: Exit,
        /// The last lines of its start-up log.
        log: String,
    },
    /// It lives, and nothing has moved for this long: it waits for WAL, or hangs. It still runs.
    #[error("Postgres has made no progress in starting for {} ms", limit.as_millis())]
    Stalled {
        /// The limit.
        limit: Duration,
    },
}

/// Why a cluster could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// `/proc` cannot be read.
    #[error("cannot list processes")]
    Processes(#[source] std::io::Error),
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
}

/// What a server that becomes ready is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What its startup process shows, such as `recovering 000000010000000000000003`.
    pub activity: String,
}

impl Postmaster {
    /// Starts `postgres` on `pgdata` as our child, in a process group of its own, its output in
    /// `startup.log` there. Returns as soon as the process exists: see [`Self::wait_ready`].
    ///
    /// A `postmaster.pid` that a dead server left is removed first.
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::StillRunning`] calls for [`end_cluster`].
    pub async fn start(
        _postgres: &Installation,
        _pgdata: &Path,
        _options: &StartOptions,
    ) -> Result<Self, StartError> {
        todo!()
    }

    /// Takes the postmaster that runs on `pgdata`, if one does: a later keeper's way to the server
    /// of an earlier one.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub async fn adopt(_pgdata: &Path) -> Result<Option<Self>, AdoptError> {
        todo!()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its data directory.
    #[must_use]
    pub fn pgdata(&self) -> &Path {
        &self.pgdata
    }

    /// How it ended; `None` while it runs. Costs nothing.
    #[must_use]
    pub fn try_exit(&self) -> Option<Exit> {
        todo!()
    }

    /// Waits until it has ended; any number of callers may wait. Cancel-safe.
    pub async fn exited(&self) -> Exit {
        todo!()
    }

    /// Tells it to stop, and returns at once.
    pub fn stop(&self, _mode: StopMode) {
        todo!()
    }

    /// Tells it to stop and waits; `None` when it still runs after `limit`: the caller escalates.
    pub async fn stop_and_wait(&self, _mode: StopMode, _limit: Duration) -> Option<Exit> {
        todo!()
    }

    /// Sends SIGHUP: it reads its configuration again.
    pub fn reload(&self) {
        todo!()
    }

    /// Waits until it is [`Phase::Ready`] or [`Phase::Standby`], however long recovery takes, as
    /// long as something moves within each `stall`. `on_progress` hears of recovery, at most once a
    /// second. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadyError`]; the server is left as it is.
    pub async fn wait_ready(
        &self,
        _stall: Duration,
        _on_progress: impl FnMut(&Recovery) + Send,
    ) -> Result<Phase, ReadyError> {
        todo!()
    }
}

/// The processes of a cluster: everybody who runs `postgres` in that directory. Zombies are dead.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn processes(_pgdata: &Path) -> std::io::Result<Vec<i32>> {
    todo!()
}

/// Ends every process of a cluster and waits until they are gone: SIGQUIT, then SIGKILL after
/// `grace`. The postmaster too, if it still runs. After this nothing can be acknowledged any more
/// (`safety.md` §4.3), a stale `postmaster.pid` is removed, and a start cannot meet leftovers.
/// Answers how many it ended.
///
/// # Errors
/// [`EndError`].
pub async fn end_cluster(_pgdata: &Path, _grace: Duration) -> Result<usize, EndError> {
    todo!()
}

/// Why a setting is not known.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// `postgres -C` did not run to its end.
    #[error("cannot ask `postgres -C {name}`")]
    Run {
        /// The setting.
        name: String,
        /// Why.
        #[source]
        source: crate::command::CommandError,
    },
    /// The configuration has an error, or there is no such setting.
    #[error("`postgres -C {name}` fails: {reason}")]
    Refused {
        /// The setting.
        name: String,
        /// What it said.
        reason: String,
    },
}

/// The value of a setting that a stopped server would start with (`postgres -C`). 15 ms.
///
/// # Errors
/// [`SettingError`].
pub async fn effective_setting(
    _postgres: &Installation,
    _pgdata: &Path,
    _name: &str,
) -> Result<String, SettingError> {
    todo!()
}
