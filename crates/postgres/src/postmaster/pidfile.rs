//! `postmaster.pid`: what a server writes about itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    pub fn read(pgdata: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(path(pgdata)) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Source: `src/include/utils/pidfile.h`, the same in Postgres 13 to 18.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let line = |i: usize| lines.get(i).copied().filter(|l| !l.is_empty());
        let memory = line(6).and_then(|l| {
            let mut numbers = l.split_whitespace().filter_map(|n| n.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        });
        Some(Self {
            pid: line(0)?.parse().ok()?,
            data_directory: PathBuf::from(line(1).unwrap_or_default()),
            started: line(2).and_then(|l| l.parse().ok()).unwrap_or_default(),
            port: line(3).and_then(|l| l.parse().ok()).unwrap_or_default(),
            socket_directory: line(4).map(PathBuf::from),
            listen_address: line(5).map(str::to_owned),
            shared_memory: memory,
            phase: line(7).and_then(Phase::parse),
        })
    }
}

impl Phase {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "starting" => Some(Self::Starting),
            "ready" => Some(Self::Ready),
            "standby" => Some(Self::Standby),
            "stopping" => Some(Self::Stopping),
            _ => None,
        }
    }
}

fn path(pgdata: &Path) -> PathBuf {
    pgdata.join("postmaster.pid")
}

/// Removes what a dead server left: `postmaster.pid`, and the lock of its socket. Postgres takes
/// them over by itself, unless their number is meanwhile that of another process of the same
/// account, as it easily is in a container. Called when no process of the cluster is left.
pub(super) fn remove_stale(pgdata: &Path) -> io::Result<()> {
    let Some(file) = PidFile::read(pgdata)? else {
        // An empty or garbled file blocks a start just as well.
        return ignore_missing(fs::remove_file(path(pgdata)));
    };
    if let Some(directory) = &file.socket_directory {
        let lock = directory.join(format!(".s.PGSQL.{}.lock", file.port));
        let owner = fs::read_to_string(&lock).unwrap_or_default();
        let owner = owner
            .lines()
            .next()
            .and_then(|line| line.trim().parse::<i32>().ok());
        if owner == Some(file.pid) {
            ignore_missing(fs::remove_file(lock))?;
        }
    }
    ignore_missing(fs::remove_file(path(pgdata)))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// How many processes are attached to the shared memory that `postmaster.pid` names. Sees those of
/// other containers too, as long as they share memory.
///
/// Source: `/proc/sysvipc/shm`, see `sysvipc(7)`.
pub(super) fn attached(pgdata: &Path) -> u64 {
    let file = PidFile::read(pgdata).ok().flatten();
    let Some((key, id)) = file.and_then(|f| f.shared_memory) else {
        return 0;
    };
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let mut rows = table
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| {
        // The key is shown signed, and written unsigned.
        let shown = row.first().and_then(|k| k.parse::<i64>().ok());
        let same_key = shown.is_some_and(|k| k & 0xffff_ffff == i64::try_from(key).unwrap_or(-1));
        same_key && row.get(1).and_then(|i| i.parse().ok()) == Some(id)
    });
    row.and_then(|row| row.get(6)?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_postgres_are_understood() {
        let text =
            "4711\n/var/lib/data\n1732528302\n5433\n/tmp\n*\n  2097153         3\nready   \n";
        let file = PidFile::parse(text).unwrap();
        assert_eq!(
            (file.pid, file.port, file.started),
            (4711, 5433, 1_732_528_302)
        );
        assert_eq!(file.socket_directory.as_deref(), Some(Path::new("/tmp")));
        assert_eq!(file.shared_memory, Some((2_097_153, 3)));
        assert_eq!(file.phase, Some(Phase::Ready));
    }

    #[test]
    fn a_file_that_is_being_written_is_read_as_far_as_it_goes() {
        assert_eq!(PidFile::parse(""), None);
        let file = PidFile::parse("-12\n/data\n").unwrap();
        assert_eq!((file.pid, file.port, file.phase), (-12, 0, None));
        let file = PidFile::parse("12\n/data\n1\n5432\n\n\n").unwrap();
        assert_eq!((file.socket_directory, file.listen_address), (None, None));
    }

    #[test]
    fn stale_files_go_and_a_lock_of_another_server_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pgdata = dir.path();
        remove_stale(pgdata).unwrap();
        let text = format!("12\n/data\n1\n5432\n{}\n", pgdata.display());
        fs::write(path(pgdata), &text).unwrap();
        let lock = pgdata.join(".s.PGSQL.5432.lock");
        fs::write(&lock, "13\n").unwrap();
        remove_stale(pgdata).unwrap();
        assert!(!path(pgdata).exists() && lock.exists());
        fs::write(path(pgdata), &text).unwrap();
        fs::write(&lock, "12\n").unwrap();
        remove_stale(pgdata).unwrap();
        assert!(!lock.exists());
        assert_eq!(attached(pgdata), 0);
    }
}
