//! The pid file: who serves this data directory, as the old program writes it.
//!
//! Owns reading, writing, the lock that keeps two services apart, and signals. Must never signal a
//! process that is not a `pg_autoctl`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// Mode of the file. Source: the old program.
const MODE: u32 = 0o644;
/// How often a wait looks again. Chosen, no evidence.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A process name in `/proc` is cut after 15 bytes; ours is shorter.
const PROCESS_NAME: &str = "pg_autoctl";

/// What a pid file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    /// The service.
    pub(crate) pid: i32,
    /// Its data directory.
    pub(crate) pgdata: String,
    /// Its version.
    pub(crate) version: String,
    /// The version of the SQL API that it speaks.
    pub(crate) extension: String,
    /// The semaphore of the old program's log; 0 for ours.
    pub(crate) semaphore: i64,
    /// Its parts, with the process that runs each.
    pub(crate) services: Vec<(i32, String)>,
}

impl PidFile {
    /// Reads a file; `None` when it is absent or empty.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut next = || lines.next().unwrap_or_default().to_owned();
        let pid = next().trim().parse().ok().filter(|pid| *pid > 0)?;
        let (pgdata, version, extension) = (next(), next(), next());
        let semaphore = next().trim().parse().unwrap_or(0);
        let services = lines
            .filter_map(|line| {
                let (pid, name) = line.split_once(' ')?;
                Some((pid.parse().ok()?, name.to_owned()))
            })
            .collect();
        Some(Self {
            pid,
            pgdata,
            version,
            extension,
            semaphore,
            services,
        })
    }

    /// The text of the file.
    pub(crate) fn render(&self) -> String {
        let Self {
            pid,
            pgdata,
            version,
            extension,
            semaphore,
            services,
        } = self;
        let mut text = format!("{pid}\n{pgdata}\n{version}\n{extension}\n{semaphore}\n");
        for (pid, name) in services {
            text.push_str(&format!("{pid} {name}\n"));
        }
        text
    }

    /// The service that runs now, if one does.
    pub(crate) fn running(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::read(path)?.filter(|file| is_service(file.pid)))
    }

    /// Sends a signal to the service.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        signal::kill(Pid::from_raw(self.pid), signal)
    }

    /// Waits until the service has ended; answers whether it has.
    pub(crate) fn wait_for_end(&self, limit: Duration) -> bool {
        let start = Instant::now();
        while is_service(self.pid) {
            if start.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

/// Whether a process lives and is a `pg_autoctl`: numbers are used again after a reboot.
fn is_service(pid: i32) -> bool {
    let alive = match signal::kill(Pid::from_raw(pid), None) {
        Ok(()) | Err(Errno::EPERM) => true,
        Err(_) => false,
    };
    alive && is_not_a_zombie(pid) && {
        match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => name.trim_end() == PROCESS_NAME,
            // Without /proc there is nothing to doubt with.
            Err(_) => true,
        }
    }
}

fn is_not_a_zombie(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The name stands in parentheses and may hold anything; the state follows the last one.
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Why no service may start here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Another one runs.
    #[error("pg_autoctl is already running with pid {0}")]
    Running(i32),
    /// The file cannot be made.
    #[error("cannot write the pid file `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A pid file that is ours: locked while we live, removed at the end.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Takes the pid file, or says who has it.
    pub(crate) fn take(path: &Path, contents: &PidFile) -> Result<Self, ClaimError> {
        let write = |source| ClaimError::Write {
            path: path.to_owned(),
            source,
        };
        if let Some(other) = PidFile::running(path).map_err(write)?
            && other.pid != contents.pid
        {
            return Err(ClaimError::Running(other.pid));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(write)?;
        }
        // Not truncated on opening: until the lock is ours, the contents are another's.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path)
            .map_err(write)?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = PidFile::read(path)
                .ok()
                .flatten()
                .map_or(0, |file| file.pid);
            return Err(ClaimError::Running(holder));
        }
        let mut claim = Self {
            path: path.to_owned(),
            file,
        };
        claim.write(contents).map_err(write)?;
        Ok(claim)
    }

    /// Writes new contents.
    pub(crate) fn write(&mut self, contents: &PidFile) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(contents.render().as_bytes())?;
        self.file.sync_all()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nobody is served by an error here: a stale file is recognised by its dead process.
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pid: i32) -> PidFile {
        PidFile {
            pid,
            pgdata: "/srv/pg".into(),
            version: "0.1.0".into(),
            extension: "2.2".into(),
            semaphore: 0,
            services: vec![(pid, "postgres".into()), (pid, "node-active".into())],
        }
    }

    #[test]
    fn a_pid_file_reads_as_it_was_written() {
        assert_eq!(PidFile::parse(&sample(7).render()), Some(sample(7)));
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("-1\n/srv\n"), None);
    }

    #[test]
    fn a_file_of_a_dead_or_foreign_process_counts_as_not_running() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pid");
        fs::write(&path, sample(i32::MAX - 1).render()).unwrap();
        assert_eq!(PidFile::running(&path).unwrap(), None);
        fs::write(&path, sample(1).render()).unwrap();
        assert_eq!(PidFile::running(&path).unwrap(), None);
    }

    #[test]
    fn only_one_claim_holds_and_its_end_removes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("x.pid");
        let claim = Claim::take(&path, &sample(i32::MAX - 1)).unwrap();
        assert!(matches!(
            Claim::take(&path, &sample(8)),
            Err(ClaimError::Running(_))
        ));
        drop(claim);
        assert!(!path.exists());
    }
}
