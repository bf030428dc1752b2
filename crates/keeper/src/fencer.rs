//! The fencer: a small process that ends Postgres when the primary's lease does (`safety.md` §5.3).
//!
//! The keeper starts it, and it outlives a keeper that is killed or frozen. Both share one file:
//! the keeper writes the end of each new lease there (one `write`, never synced), the fencer looks at
//! it when the end that it knows has come. Whoever holds the lock of that file is the fencer.
//!
//! ```text
//!   keeper ── write: lease ends at T ──► pg_autoctl.fencer ◄── lock, read at T ── fencer
//!                                                                  │ not later than T?
//!                                                                  ▼
//!                                              SIGQUIT, SIGKILL to every process of the cluster
//! ```

mod guard;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use pgaf_fsm::node::Outcome;
use pgaf_protocol::Time;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

pub use guard::{FenceError, fence};

/// A fencer that was started has taken its lock by then (usual: 5 ms; chosen).
const START_LIMIT: Duration = Duration::from_secs(2);
/// A fencer that was told to end has gone by then; then it is killed (chosen).
const END_LIMIT: Duration = Duration::from_secs(1);
/// Between two looks at the lock (chosen: the start of a primary waits for it).
const LOOK: Duration = Duration::from_millis(2);

/// The keeper's side.
#[derive(Debug)]
pub(crate) struct Fencer {
    path: PathBuf,
    /// The program and its arguments.
    command: Vec<String>,
    file: RefCell<Option<File>>,
}

/// The file of the fencer, beside the journal.
#[must_use]
pub fn file_beside(journal: &Path) -> PathBuf {
    journal.with_extension("fencer")
}

impl Fencer {
    /// The fencer of a node, running or not.
    pub(crate) fn of(journal: &Path, command: Vec<String>) -> Self {
        Self {
            path: file_beside(journal),
            command,
            file: RefCell::new(None),
        }
    }

    /// Whether a fencer guards the data directory: one of an earlier keeper counts.
    pub(crate) fn guards(&self) -> bool {
        self.holder().is_some()
    }

    /// Tells the end of the lease that is held now; `None`: it is over. Costs one `write`.
    pub(crate) fn renew(&self, until: Option<Time>) {
        let file = self.file.borrow();
        let Some(file) = file.as_ref() else { return };
        // A lease that cannot be written down ends earlier than it could: that is safe.
        if let Err(error) = write_end(file, until.unwrap_or_default()) {
            tracing::warn!(%error, "cannot tell the fencer of a new lease");
        }
    }

    /// Starts a fencer for a lease that ends then, unless there is one.
    pub(crate) async fn start(&self, until: Time) -> Outcome {
        match self.begin(until).await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed {
                why: format!("cannot start the fencer: {error}"),
            },
        }
    }

    async fn begin(&self, until: Time) -> io::Result<()> {
        let file = open(&self.path)?;
        write_end(&file, until)?;
        *self.file.borrow_mut() = Some(file);
        if self.guards() {
            return Ok(());
        }
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| io::Error::other("no command is configured for it"))?;
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .arg0("pgaf_fencer")
            .current_dir("/")
            .env("PG_AUTOCTL_DEBUG", "1")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log()?);
        let mut child = pgaf_postgres::reaper::spawn(&mut command)?;
        let pid = child.id();
        let mut ended = tokio::spawn(async move { child.wait().await });
        let locked = async {
            while !self.guards() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = locked => {
                tracing::info!(pid, "the fencer guards the end of the lease");
                Ok(())
            }
            status = &mut ended => Err(io::Error::other(format!("it ended at once: {status:?}"))),
            () = tokio::time::sleep(START_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// A file, never a pipe of the keeper: the fencer outlives it.
    fn log(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.with_extension("fencer.log"))
    }

    /// Ends the fencer: nothing needs guarding any more.
    pub(crate) async fn end(&self) -> Outcome {
        for signal in [Signal::TERM, Signal::KILL] {
            let Some(pid) = self.holder() else {
                return Outcome::Done;
            };
            if let Err(error) = self.signal(pid, signal) {
                return Outcome::Failed {
                    why: format!("cannot end the fencer: {error}"),
                };
            }
            let gone = async {
                while self.guards() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if tokio::time::timeout(END_LIMIT, gone).await.is_ok() {
                tracing::info!("the fencer has ended: there is no lease to guard");
                return Outcome::Done;
            }
        }
        Outcome::Failed {
            why: "the fencer does not end".into(),
        }
    }

    /// The number is looked up again once the process is held: it cannot be another one's then.
    fn signal(&self, pid: i32, signal: Signal) -> io::Result<()> {
        let Some(raw) = Pid::from_raw(pid) else {
            return Ok(());
        };
        let Ok(process) = pidfd_open(raw, PidfdFlags::empty()) else {
            return Ok(());
        };
        if self.holder() == Some(pid) {
            pidfd_send_signal(&process, signal)?;
        }
        Ok(())
    }

    /// The process that holds the lock.
    fn holder(&self) -> Option<i32> {
        let mut file = self.file.borrow_mut();
        if file.is_none() {
            // No fencer was ever started here, as a rule.
            *file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&self.path)
                .ok();
        }
        let mut lock = whole_file();
        fcntl(file.as_ref()?.as_fd(), FcntlArg::F_GETLK(&mut lock)).ok()?;
        (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
    }
}

/// A lock of the whole file for one writer.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// The end of the lease in milliseconds of CLOCK_BOOTTIME, and the same inverted: half a write is
/// none.
fn write_end(file: &File, until: Time) -> io::Result<()> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&until.0.to_le_bytes());
    bytes[8..].copy_from_slice(&(!until.0).to_le_bytes());
    file.write_all_at(&bytes, 0)
}

/// What was written last; nothing readable reads as over.
fn read_end(file: &File) -> Time {
    let mut bytes = [0; 16];
    for _ in 0..3 {
        if file.read_exact_at(&mut bytes, 0).is_err() {
            break;
        }
        let half = |i: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[i..i + 8]);
            u64::from_le_bytes(word)
        };
        if half(0) == !half(8) {
            return Time(half(0));
        }
    }
    Time(0)
}
