//! Processes as `/proc` shows them.
//!
//! Owns reading `/proc`, and pidfds. A number names a process only as long as it lives: whoever
//! acts on one opens its pidfd first, and looks afterwards.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The parts of `/proc/PID/stat` that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// `R`, `S`, `D`, `Z`, …
    pub(crate) state: char,
    /// Its parent.
    pub(crate) parent: i32,
    /// User and system time, clock ticks.
    pub(crate) cpu_ticks: u64,
    /// Start, clock ticks since boot: with the number, the identity of a process.
    pub(crate) started_ticks: u64,
}

impl Stat {
    /// A zombie has ended, and waits to be reaped.
    pub(crate) const fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Source: `proc_pid_stat(5)`; the second field may hold blanks and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.rsplit_once(')')?.1;
        let field: Vec<&str> = rest.split_whitespace().collect();
        let number = |i: usize| field.get(i)?.parse::<u64>().ok();
        Some(Self {
            state: field.first()?.chars().next()?,
            parent: field.get(1)?.parse().ok()?,
            cpu_ticks: number(11)? + number(12)?,
            started_ticks: number(19)?,
        })
    }
}

/// All process ids.
pub(crate) fn all() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    Ok(pids)
}

fn proc(pid: i32, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{what}"))
}

/// Reads its `stat`; `None` when there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(proc(pid, "stat")).ok()?)
}

/// Whether there is such a process, dead or alive.
pub(crate) fn exists(pid: i32) -> bool {
    proc(pid, "stat").exists()
}

/// Whether a process lives; a zombie does not.
pub(crate) fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|s| !s.is_dead())
}

/// Bytes it has read, from disk or not; 0 when that is not shown.
pub(crate) fn bytes_read(pid: i32) -> u64 {
    let text = fs::read_to_string(proc(pid, "io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or_default()
}

/// What it shows as its title (`postgres: checkpointer`).
pub(crate) fn title(pid: i32) -> String {
    let bytes = fs::read(proc(pid, "cmdline")).unwrap_or_default();
    let text: Vec<u8> = bytes
        .iter()
        .map(|b| if *b == 0 { b' ' } else { *b })
        .collect();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Whether it runs `postgres`, in the given directory.
///
/// # Errors
/// When the system does not let us look (another account's process).
pub(crate) fn is_postgres_in(pid: i32, directory: Identity) -> io::Result<bool> {
    let program = fs::read_link(proc(pid, "exe"))?;
    // After an upgrade of the package the file of a running server is gone.
    let name = program
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    if !matches!(name, "postgres" | "postmaster") {
        return Ok(false);
    }
    // Compared by device and inode: a path may be another one by now, or in another container.
    Ok(Identity::of(&proc(pid, "cwd"))? == directory)
}

/// A file or folder, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
        })
    }
}

/// Opens a pidfd: from here on the process is this one, whatever becomes of its number.
///
/// # Errors
/// `ESRCH` (as a raw error) when there is no such process.
pub(crate) fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Watches a pidfd, which becomes readable when its process ends.
#[expect(
    deprecated,
    reason = "the successor is unsafe for a promise that an OwnedFd keeps: it stays open, and is \
              the same one, as long as it is owned"
)]
pub(crate) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Whether this process is of that cluster, and lives.
pub(crate) fn of_cluster_is(pid: i32, pgdata: &Path) -> bool {
    let here = Identity::of(pgdata).and_then(|directory| is_postgres_in(pid, directory));
    here.unwrap_or(false) && lives(pid)
}

/// The living processes that run `postgres` in this directory. None when there is no directory.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn of_cluster(pgdata: &Path) -> io::Result<Vec<i32>> {
    let directory = match Identity::of(pgdata) {
        Ok(directory) => directory,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    // Processes that come and go while we look, and other accounts', are not of this cluster:
    // Postgres runs under the account that owns the directory.
    let ours = |pid: &i32| is_postgres_in(*pid, directory).unwrap_or(false) && lives(*pid);
    Ok(all()?.into_iter().filter(ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_hide_the_fields() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 1 0 12345 1 2 3";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: 'S',
                parent: 3,
                cpu_ticks: 110,
                started_ticks: 12345
            }
        );
        assert!(!stat.is_dead());
    }

    #[test]
    fn we_live_and_are_not_postgres() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(lives(me) && exists(me));
        assert!(stat(me).unwrap().started_ticks > 0);
        let here = Identity::of(Path::new(".")).unwrap();
        assert!(!is_postgres_in(me, here).unwrap());
        assert!(open(me).is_ok());
        assert!(of_cluster(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
