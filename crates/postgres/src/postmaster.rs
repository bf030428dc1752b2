//! The Postgres server process: starting, adopting, watching, stopping it.
//!
//! Owns the postmaster as a process, and the way to be sure that nothing of a cluster runs any
//! more. It must never start one while processes of the last one live (`safety.md` §6), and never
//! signal a process by a number alone: a pidfd names it.

mod end;
mod pidfile;
mod ready;
mod setting;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions};
use tokio::process::Command;
use tokio::sync::watch;

pub use end::{EndError, cluster_processes, end_cluster};
pub use pidfile::{Phase, PidFile};
pub use ready::{ReadyError, Recovery};
pub use setting::{SettingError, effective_setting};

use crate::locate::Installation;
use crate::{processes, reaper};

/// The file in PGDATA that gets what the server says before it has a log of its own. Source: the
/// old program's name for it.
pub const LOG: &str = "startup.log";
/// A longer log is set aside at the next start (chosen).
const LOG_BYTES: u64 = 1 << 20;

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

/// A running postmaster. Clones name the same process; dropping all of them leaves it running.
#[derive(Debug, Clone)]
pub struct Postmaster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pid: i32,
    pgdata: PathBuf,
    /// The process itself: signals go here, and never to a number.
    pidfd: OwnedFd,
    /// Told by the one task that waits for the process.
    exit: watch::Receiver<Option<Exit>>,
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

impl Postmaster {
    /// Starts `postgres` on `pgdata` as our child, in a process group of its own, its output in
    /// `startup.log` there. Returns as soon as the process exists: see [`Self::wait_ready`].
    ///
    /// A `postmaster.pid` that a dead server left is removed first.
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::StillRunning`] calls for [`end_cluster`].
    pub async fn start(
        postgres: &Installation,
        pgdata: &Path,
        options: &StartOptions,
    ) -> Result<Self, StartError> {
        let at = || pgdata.to_owned();
        let clean_up = |source| StartError::CleanUp {
            pgdata: at(),
            source,
        };
        let pids = processes_of(pgdata).await.map_err(clean_up)?;
        if !pids.is_empty() {
            return Err(StartError::StillRunning { pgdata: at(), pids });
        }
        pidfile::remove_stale(pgdata).map_err(clean_up)?;
        let path = pgdata.join(LOG);
        let log = open_log(&path).map_err(|source| StartError::Log { path, source })?;
        let program = postgres.program("postgres");
        let spawn = |source| StartError::Spawn {
            program: program.clone(),
            source,
        };
        let mut command = command(&program, pgdata, options);
        command.stdout(log.try_clone().map_err(spawn)?).stderr(log);
        let mut child = reaper::spawn(&mut command).map_err(spawn)?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .unwrap_or_default();
        // Nobody has waited for the child yet: its number is still its own.
        let pidfd = processes::open(pid).map_err(spawn)?;
        let (tell, exit) = watch::channel(None);
        tokio::spawn(async move {
            let exit = child.wait().await.map_or(Exit::Unknown, Exit::from_status);
            tracing::info!(pid, ?exit, "Postgres ended");
            let _ = tell.send(Some(exit));
        });
        tracing::info!(pid, pgdata = %pgdata.display(), port = options.port, "Postgres started");
        Ok(Self {
            shared: Arc::new(Shared {
                pid,
                pgdata: at(),
                pidfd,
                exit,
            }),
        })
    }

    /// Takes the postmaster that runs on `pgdata`, if one does: a later keeper's way to the server
    /// of an earlier one.
    ///
    /// # Errors
    /// [`AdoptError`].
    #[expect(
        clippy::unused_async,
        reason = "the runtime that it is called on watches the process"
    )]
    pub async fn adopt(pgdata: &Path) -> Result<Option<Self>, AdoptError> {
        let path = pgdata.join("postmaster.pid");
        let file = PidFile::read(pgdata).map_err(|source| AdoptError::PidFile { path, source })?;
        let Some(file) = file else {
            return Ok(None);
        };
        let pid = file.pid.saturating_abs();
        // The pidfd first: what is looked at afterwards is what it names, or has ended.
        let Ok(pidfd) = processes::open(pid) else {
            return Ok(None);
        };
        let Some(stat) = processes::stat(pid) else {
            return Ok(None);
        };
        if stat.is_dead() {
            if !reaper::has_owner(pid) {
                reap_own(&pidfd);
            }
            return Ok(None);
        }
        match runs_on(pid, pgdata) {
            Ok(true) if file.pid < 0 => {
                return Err(AdoptError::SingleUser {
                    pid,
                    pgdata: pgdata.to_owned(),
                });
            }
            Ok(true) if is_postmaster(pid, stat.parent, pgdata) => {}
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(AdoptError::Look { pid, source }),
        }
        let look = |source| AdoptError::Look { pid, source };
        let watched = processes::watch(pidfd.try_clone().map_err(look)?).map_err(look)?;
        let (tell, exit) = watch::channel(None);
        let ours = reaper::take(pid);
        tokio::spawn(async move {
            let _ = watched.readable().await;
            let status = ours.then(|| reap_own(watched.get_ref())).flatten();
            let exit = status.unwrap_or(Exit::Unknown);
            tracing::info!(pid, ?exit, "Postgres ended");
            let _ = tell.send(Some(exit));
        });
        tracing::info!(pid, pgdata = %pgdata.display(), "Postgres adopted");
        Ok(Some(Self {
            shared: Arc::new(Shared {
                pid,
                pgdata: pgdata.to_owned(),
                pidfd,
                exit,
            }),
        }))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.shared.pid
    }

    /// Its data directory.
    #[must_use]
    pub fn pgdata(&self) -> &Path {
        &self.shared.pgdata
    }

    /// How it ended; `None` while it runs. Costs nothing.
    #[must_use]
    pub fn try_exit(&self) -> Option<Exit> {
        *self.shared.exit.borrow()
    }

    /// Waits until it has ended; any number of callers may wait. Cancel-safe.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.shared.exit.clone();
        // The sender goes without a word only together with the runtime.
        exit.wait_for(Option::is_some)
            .await
            .map_or(Exit::Unknown, |e| e.unwrap_or(Exit::Unknown))
    }

    /// Tells it to stop, and returns at once.
    pub fn stop(&self, mode: StopMode) {
        self.signal(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
    }

    /// Tells it to stop and waits; `None` when it still runs after `limit`: the caller escalates.
    pub async fn stop_and_wait(&self, mode: StopMode, limit: Duration) -> Option<Exit> {
        self.stop(mode);
        tokio::time::timeout(limit, self.exited()).await.ok()
    }

    /// Sends SIGHUP: it reads its configuration again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        // The only error that a pidfd of our own account's process gives: it has ended.
        if let Err(error) = rustix::process::pidfd_send_signal(&self.shared.pidfd, signal) {
            tracing::debug!(pid = self.pid(), ?signal, %error, "not signalled");
        }
    }
}

impl Exit {
    fn from_status(status: std::process::ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

/// Reads `/proc` aside: there may be thousands of processes.
async fn processes_of(pgdata: &Path) -> io::Result<Vec<i32>> {
    let pgdata = pgdata.to_owned();
    tokio::task::spawn_blocking(move || processes::of_cluster(&pgdata)).await?
}

fn command(program: &Path, pgdata: &Path, options: &StartOptions) -> Command {
    let mut command = Command::new(program);
    command
        .arg("-D")
        .arg(pgdata)
        .arg("-p")
        .arg(options.port.to_string());
    command.arg("-h").arg(&options.listen_addresses);
    if let Some(directory) = &options.socket_directory {
        command.arg("-k").arg(directory);
    }
    for (name, value) in &options.settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
        .stdin(Stdio::null())
        // Ctrl-C in the terminal is for the keeper: it stops Postgres in its own way.
        .process_group(0)
        // Ours, or the keeper's with systemd: not the server's.
        .env_remove("PGAPPNAME")
        .env_remove("NOTIFY_SOCKET");
    command
}

/// A file, never a pipe: Postgres outlives the keeper, and must not die or block of it.
fn open_log(path: &Path) -> io::Result<File> {
    let full = std::fs::metadata(path).is_ok_and(|m| m.len() > LOG_BYTES);
    if full {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn runs_on(pid: i32, pgdata: &Path) -> io::Result<bool> {
    processes::is_postgres_in(pid, processes::Identity::of(pgdata)?)
}

/// Whether a `postgres` of this cluster is its postmaster: not the child of one, and not a program
/// run that happens to have the number of a stale file (`--single`, `-C NAME`, `--boot`).
fn is_postmaster(pid: i32, parent: i32, pgdata: &Path) -> bool {
    let title = processes::title(pid);
    let mut words = title.split_whitespace().skip(1);
    let other = |word: &str| matches!(word, "--single" | "--boot" | "--check" | "-C");
    !runs_on(parent, pgdata).unwrap_or(false) && !words.any(other)
}

/// Reaps it if it is our child: of this process before it executed itself anew.
fn reap_own(pidfd: &OwnedFd) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => Some(Exit::Unknown),
    }
}
