//! Taking a base backup into a second directory.
//!
//! Owns `pg_basebackup`. It must never write into PGDATA, and never put a password into an
//! argument. The copy is put in place by [`crate::swap`], when it is whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgaf_protocol::{CopyId, NodeId};

use crate::client::{self, Options};
use crate::command::{CommandError, Finished, Invocation, Verdict};
use crate::conninfo::{Conninfo, Secret};
use crate::durable::parent;
use crate::locate::Installation;
use crate::swap::{self, Staging};
use crate::{copy, durable, postmaster};

/// Without progress for this long a base backup is given up (chosen: a checkpoint at the source,
/// which comes first, may take minutes on a busy disk).
pub const STALL: Duration = Duration::from_secs(300);

/// Room for the WAL that comes along: two segments of the usual size at least (chosen).
const WAL_ROOM: u64 = 32 << 20;
/// For the question how large the source is (chosen).
const ASK: Duration = Duration::from_secs(5);

/// What to copy, from where.
#[derive(Debug, Clone)]
pub struct BaseBackup<'a> {
    /// The programs.
    pub postgres: &'a Installation,
    /// The source: the current primary. Its password goes through the environment; its
    /// `application_name` is replaced by `pgaf_basebackup_N`.
    pub source: &'a Conninfo,
    /// Who takes it.
    pub node: NodeId,
    /// The name of the new copy, written before it can be used.
    pub copy: CopyId,
    /// `--max-rate`, such as `100M`.
    pub max_rate: Option<&'a str>,
    /// Locations of the source's tablespaces (`pg_tablespace_location`): each goes into a new
    /// sibling directory here.
    pub tablespaces: &'a [PathBuf],
    /// Given up when nothing moves for this long; [`STALL`].
    pub stall: Duration,
}

/// How far it is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Received.
    pub done: u64,
    /// Expected: an estimate of the source.
    pub total: u64,
}

/// Why there is no base backup. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum BaseBackupError {
    /// Not enough room.
    #[error("not enough space in `{directory}`: {needed} bytes needed, {available} available", directory = directory.display())]
    Space {
        /// Where.
        directory: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        available: u64,
    },
    /// A tablespace of the source has its path taken here.
    #[error("the source has a tablespace at `{location}`, which is taken on this host", location = location.display())]
    Tablespace {
        /// The path.
        location: PathBuf,
    },
    /// `pg_basebackup` failed.
    #[error("pg_basebackup fails: {reason}")]
    Failed {
        /// The last lines it said.
        reason: String,
    },
    /// It did not run to its end, or made no progress.
    #[error("cannot take a base backup")]
    Run(#[source] CommandError),
    /// The copy cannot be named.
    #[error("the base backup cannot be named")]
    Name(#[source] copy::CopyError),
    /// The copy cannot be completed or made durable.
    #[error(transparent)]
    Durable(#[from] crate::durable::DurableError),
}

/// Takes a base backup into `staging`, whole and on disk when this returns. Dropping the future
/// kills `pg_basebackup`; the staging directory is then incomplete, and the next
/// [`Staging::prepare`] removes it.
///
/// Measured for an empty cluster of 39 MB on the same host: 0.35 s.
///
/// # Errors
/// [`BaseBackupError`].
pub async fn base_backup(
    request: &BaseBackup<'_>,
    staging: &Staging,
    mut on_progress: impl FnMut(BackupProgress) + Send,
) -> Result<(), BaseBackupError> {
    let directory = parent(staging.path()).to_owned();
    let free = free_bytes(&directory);
    let needed = size_of(request.source)
        .await
        .map_or(0, |size| size.saturating_add(WAL_ROOM));
    if needed > free {
        return Err(BaseBackupError::Space {
            directory,
            needed,
            available: free,
        });
    }
    staging.note_external(&spaces(request).cloned().collect::<Vec<_>>())?;
    let mut short = None;
    let mut last = None;
    let run = invocation(request, staging)
        .stall(request.stall)
        .on_line(|line| {
            let Some(progress) = parse_progress(line) else {
                return Verdict::Ordinary;
            };
            // The source's own estimate comes with the first line, after a second.
            if last.is_none() && progress.total > free {
                short = Some(progress.total);
                return Verdict::Stop;
            }
            let moved = last.replace(progress) != Some(progress);
            on_progress(progress);
            if moved {
                Verdict::Progress
            } else {
                Verdict::Ordinary
            }
        })
        .run()
        .await;
    let result = match run {
        Ok(done) if done.status.success() => complete(staging, request.copy).await,
        Ok(done) if done.reason().contains("No space left on device") => {
            let needed = last.map_or(needed, |progress| progress.total.max(needed));
            Err(BaseBackupError::Space {
                directory,
                needed,
                available: free,
            })
        }
        Ok(done) => Err(failure(&done)),
        Err(CommandError::Stopped { .. }) => Err(BaseBackupError::Space {
            directory,
            needed: short.unwrap_or(needed),
            available: free,
        }),
        Err(source) => Err(BaseBackupError::Run(source)),
    };
    if result.is_err() {
        let staging = staging.clone();
        let discarded = tokio::task::spawn_blocking(move || staging.discard()).await;
        if let Ok(Err(error)) = discarded {
            tracing::warn!(%error, "what the base backup left stays until the next attempt");
        }
    }
    result
}

/// Bytes of all databases of the source, as far as it tells: the check before anything is copied.
/// `pg_basebackup` says it after a second only, when a small disk may be full.
async fn size_of(source: &Conninfo) -> Option<u64> {
    let options = Options {
        connect_timeout: ASK,
        application_name: "pgaf keeper".to_owned(),
    };
    let question = "SELECT pg_catalog.sum(pg_catalog.pg_database_size(oid))::int8 \
                    FROM pg_catalog.pg_database";
    let answer = async {
        let client = client::connect(source, &options)
            .await
            .map_err(|e| e.to_string())?;
        client
            .query_one(question, &[], ASK)
            .await
            .map_err(|e| e.to_string())
    };
    match answer.await {
        Ok(row) => u64::try_from(row.try_get::<_, i64>(0).ok()?).ok(),
        Err(error) => {
            tracing::debug!(error, "the size of the source is not known beforehand");
            None
        }
    }
}

/// Tablespaces outside of the source's data directory; those inside come along.
fn spaces<'a>(request: &BaseBackup<'a>) -> impl Iterator<Item = &'a PathBuf> {
    request
        .tablespaces
        .iter()
        .filter(|location| location.is_absolute())
}

fn invocation<'a>(request: &BaseBackup<'_>, staging: &Staging) -> Invocation<'a> {
    let (source, password) = conninfo_for(request.source, &application_name(request.node));
    let map = |location: &PathBuf| {
        let mut mapping = std::ffi::OsString::from("--tablespace-mapping=");
        mapping.push(escape(location));
        mapping.push("=");
        mapping.push(escape(&staging.tablespace_directory(location)));
        mapping
    };
    let mut run = Invocation::new(&request.postgres.program("pg_basebackup"))
        .args(["--no-password", "--dbname", &source, "--pgdata"])
        .arg(staging.path())
        // The copy is synced in one pass, when its own files are in it too.
        .args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--progress",
            "--verbose",
            "--no-sync",
        ])
        .args(
            request
                .max_rate
                .iter()
                .map(|rate| format!("--max-rate={rate}")),
        )
        .args(spaces(request).map(map));
    if let Some(wal) = staging.wal_directory() {
        run = run.arg("--waldir").arg(wal);
    }
    match &password {
        Some(password) => run.secret_env("PGPASSWORD", password),
        None => run,
    }
}

/// `application_name` of a node's base backup: never one that is in `synchronous_standby_names`,
/// under which it would acknowledge commits (`safety.md` §2.5).
#[must_use]
pub fn application_name(node: NodeId) -> String {
    format!("pgaf_basebackup_{node}")
}

/// A connection string for a program's arguments, and the password apart from it.
pub(crate) fn conninfo_for(source: &Conninfo, name: &str) -> (String, Option<Secret>) {
    let mut source = source.clone();
    let password = source.password.take();
    source.application_name = Some(name.to_owned());
    (source.to_keywords(), password)
}

/// `=` parts a mapping, unless a backslash stands before it.
fn escape(path: &Path) -> String {
    path.display().to_string().replace('=', "\\=")
}

fn failure(done: &Finished) -> BaseBackupError {
    // pg_basebackup: error: directory "/srv/space" exists but is not empty
    let taken = done.stderr.iter().find_map(|line| {
        let path = line
            .split_once("directory \"")?
            .1
            .split_once("\" exists but is not empty")?
            .0;
        Some(PathBuf::from(path))
    });
    match taken {
        Some(location) => BaseBackupError::Tablespace { location },
        None => BaseBackupError::Failed {
            reason: done.reason(),
        },
    }
}

/// Names the copy and makes all of it durable.
async fn complete(staging: &Staging, copy: CopyId) -> Result<(), BaseBackupError> {
    let staging = staging.clone();
    let work = move || -> Result<(), BaseBackupError> {
        // The source's own, which pg_basebackup takes along.
        let names = [
            copy::FILE,
            "postmaster.opts",
            postmaster::LOG,
            "startup.log.1",
        ];
        for name in names {
            durable::remove_file(&staging.path().join(name))?;
        }
        swap::remove_foreign(staging.path())?;
        copy::write(staging.path(), copy).map_err(BaseBackupError::Name)?;
        durable::sync_filesystem(staging.path())?;
        for folder in staging.external_directories()? {
            durable::sync_filesystem(&folder)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Bytes that this account may still write there; as good as endless when nobody knows.
fn free_bytes(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Reads `  3967/40123 kB (9%), 0/1 tablespace (…)`, with or without what follows.
pub(crate) fn parse_progress(line: &str) -> Option<BackupProgress> {
    let (numbers, _) = line.split_once(" kB (")?;
    let (done, total) = numbers.trim().split_once('/')?;
    let bytes = |kilobytes: &str| kilobytes.parse::<u64>().ok()?.checked_mul(1024);
    Some(BackupProgress {
        done: bytes(done)?,
        total: bytes(total)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_both_programs() {
        let read = |line| parse_progress(line).map(|p| (p.done, p.total));
        let backup = " 3967/40123 kB (9%), 0/1 tablespace (/tmp/backup/base/1/2619            )";
        assert_eq!(read(backup), Some((3967 * 1024, 40123 * 1024)));
        assert_eq!(
            read("40123/40123 kB (100%), 1/1 tablespace"),
            Some((40123 * 1024, 40123 * 1024))
        );
        assert_eq!(read("    0/20493 kB (0%) copied"), Some((0, 20493 * 1024)));
        assert_eq!(read("pg_basebackup: checkpoint completed"), None);
        assert_eq!(read("a/b kB (1%)"), None);
    }

    #[test]
    fn the_password_and_the_name_of_a_standby_are_not_in_the_arguments() {
        let mut source = Conninfo::single("db1", 5432, "replicator", "replication");
        source.password = Some(Secret::new("hunter2"));
        source.application_name = Some("pgautofailover_standby_3".to_owned());
        let (text, password) = conninfo_for(&source, &application_name(NodeId(3)));
        assert!(
            !text.contains("hunter2") && !text.contains("standby_3"),
            "{text}"
        );
        assert!(text.contains("pgaf_basebackup_3"), "{text}");
        assert_eq!(password, Some(Secret::new("hunter2")));
    }
}
