//! `pg_rewind`: taking a copy back to where it left the primary's history.
//!
//! Owns running it, its marker, and what of the node's own files must survive it. It must never be
//! cut short by a caller's deadline: half a rewind is no copy, and its marker says so.

mod recover;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pgaf_protocol::{CopyId, NodeId};

use crate::basebackup::{BackupProgress, conninfo_for, parse_progress};
use crate::command::{CommandError, Finished, Invocation, Verdict};
use crate::conninfo::{Conninfo, Secret};
use crate::durable::{self, DurableError, failed, parent};
use crate::locate::Installation;
use crate::swap::{self, carry};
use crate::{copy, processes};
use recover::recover;

/// The file that says that a rewind was begun; holds the names of the kept files.
const STARTED: &str = "started";
/// The folder with the node's own files.
const KEPT: &str = "kept";
/// What makes Postgres start as a standby, or recover to a target.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];

/// What to rewind, to whom.
#[derive(Debug, Clone)]
pub struct Rewind<'a> {
    /// The programs.
    pub postgres: &'a Installation,
    /// The data directory; no process of it runs.
    pub pgdata: &'a Path,
    /// The current primary. Its password goes through the environment.
    pub source: &'a Conninfo,
    /// Who rewinds.
    pub node: NodeId,
    /// The name of the copy when it has been rewound.
    pub copy: CopyId,
    /// A folder *outside* of PGDATA (pg_rewind removes what the source does not have), on a local
    /// disk, that exists while a rewind is under way: marker and kept files.
    pub marker: &'a Path,
    /// Files and folders of the node, not of the data, relative to PGDATA: they are afterwards as
    /// they were, present or absent.
    pub keep: &'a [&'a str],
}

/// How a rewind ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewound {
    /// The copy can follow as it is; nothing was changed, its name stays.
    NotNeeded,
    /// It has been rewound, and has its new name.
    Done,
    /// It was refused or failed before it changed anything: the copy is what it was.
    Refused {
        /// What pg_rewind said.
        reason: String,
    },
    /// It failed in the middle: the copy is none any more, the marker stays, and a base backup has
    /// to replace it.
    Broken {
        /// What pg_rewind said.
        reason: String,
    },
}

/// Why a rewind could not even begin, or be completed around pg_rewind. When the marker is there
/// afterwards ([`interrupted`]), the copy is broken.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// Postgres runs there, or another rewind does (then without process ids).
    #[error("processes of `{pgdata}` are still running: {pids:?}", pgdata = pgdata.display())]
    Running {
        /// The data directory.
        pgdata: PathBuf,
        /// Their process ids.
        pids: Vec<i32>,
    },
    /// A rewind or base backup was interrupted before: the copy is not one.
    #[error("an earlier rewind of `{pgdata}` did not end", pgdata = pgdata.display())]
    Interrupted {
        /// The data directory.
        pgdata: PathBuf,
    },
    /// pg_rewind cannot be run.
    #[error("cannot run pg_rewind")]
    Run(#[source] CommandError),
    /// Processes cannot be listed.
    #[error("cannot list processes")]
    Processes(#[source] std::io::Error),
    /// The copy cannot be named.
    #[error("the rewound copy cannot be named")]
    Name(#[source] copy::CopyError),
    /// Marker or kept files cannot be written.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// Rewinds a copy whose Postgres is down, after crash recovery if it needs that. Signal files are
/// gone afterwards, or not what they were: whoever starts the copy sets them anew.
///
/// The work goes on, in a task of its own, when the caller stops waiting: whoever comes
/// then finds [`RewindError::Running`] until it is over. Measured for an empty cluster: 0.2 s.
///
/// # Errors
/// [`RewindError`].
pub async fn rewind(
    request: Rewind<'_>,
    on_progress: impl FnMut(BackupProgress) + Send + 'static,
) -> Result<Rewound, RewindError> {
    let (source, password) = conninfo_for(request.source, &application_name(request.node));
    let work = Work {
        program: request.postgres.program("pg_rewind"),
        postgres: request.postgres.clone(),
        pgdata: request.pgdata.to_owned(),
        source,
        password,
        copy: request.copy,
        marker: request.marker.to_owned(),
        keep: request.keep.iter().map(|name| (*name).to_owned()).collect(),
    };
    tokio::spawn(work.run(on_progress))
        .await
        .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// `application_name` of a node's rewind; never that of a standby.
#[must_use]
pub fn application_name(node: NodeId) -> String {
    format!("pgaf_rewind_{node}")
}

/// A rewind, on its own.
struct Work {
    program: PathBuf,
    postgres: Installation,
    pgdata: PathBuf,
    source: String,
    password: Option<Secret>,
    copy: CopyId,
    marker: PathBuf,
    keep: Vec<String>,
}

/// How far pg_rewind had come by what it said.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    /// It has begun to change the target.
    changes: bool,
    not_required: bool,
}

impl Work {
    async fn run(
        self,
        on_progress: impl FnMut(BackupProgress) + Send,
    ) -> Result<Rewound, RewindError> {
        let _exclusive = Exclusive::take(&self.pgdata)?;
        let pids = processes::of_cluster(&self.pgdata).map_err(RewindError::Processes)?;
        if !pids.is_empty() {
            return Err(RewindError::Running {
                pgdata: self.pgdata.clone(),
                pids,
            });
        }
        if interrupted(&self.marker) {
            return Err(RewindError::Interrupted {
                pgdata: self.pgdata.clone(),
            });
        }
        self.mark()?;
        if let Err(reason) = recover(&self.postgres, &self.pgdata).await? {
            // Recovery has changed nothing that the next start would not.
            forget(&self.marker)?;
            return Ok(Rewound::Refused { reason });
        }
        let (said, end) = self.pg_rewind(on_progress).await;
        let failed = match end {
            Ok(done) if done.status.success() => None,
            Ok(done) => Some(done.reason()),
            Err(error) if !said.changes => {
                forget(&self.marker)?;
                return Err(RewindError::Run(error));
            }
            Err(error) => Some(error.to_string()),
        };
        match failed {
            None if said.not_required => {
                forget(&self.marker)?;
                Ok(Rewound::NotNeeded)
            }
            None => {
                self.complete()?;
                Ok(Rewound::Done)
            }
            Some(reason) if said.changes => Ok(Rewound::Broken { reason }),
            Some(reason) => {
                forget(&self.marker)?;
                Ok(Rewound::Refused { reason })
            }
        }
    }

    /// Saves the node's own files, and then says durably that this copy is being changed.
    fn mark(&self) -> Result<(), DurableError> {
        durable::remove_tree(&self.marker)?;
        let kept = self.marker.join(KEPT);
        fs::create_dir_all(&kept).map_err(failed("create", &kept))?;
        let names: Vec<_> = self.keep.iter().map(String::as_str).collect();
        carry(&self.pgdata, &kept, &names)?;
        durable::fsync_dir(&self.marker)?;
        durable::fsync_dir(parent(&self.marker))?;
        let text = serde_json::to_vec(&self.keep).unwrap_or_default();
        durable::write_file(&self.marker.join(STARTED), &text, 0o600)
    }

    async fn pg_rewind(
        &self,
        mut on_progress: impl FnMut(BackupProgress) + Send,
    ) -> (Said, Result<Finished, CommandError>) {
        let mut said = Said::default();
        let mut run = Invocation::new(&self.program)
            .arg("--target-pgdata")
            .arg(&self.pgdata)
            .args(["--source-server", &self.source, "--progress"]);
        if let Some(password) = &self.password {
            run = run.secret_env("PGPASSWORD", password);
        }
        let end = run
            .on_line(|line| {
                said.hear(line);
                if let Some(progress) = parse_progress(line) {
                    on_progress(progress);
                }
                Verdict::Ordinary
            })
            .run()
            .await;
        (said, end)
    }

    /// What is the source's goes, what is the node's comes back, the copy gets its name.
    fn complete(&self) -> Result<(), RewindError> {
        restore_kept(&self.marker, &self.pgdata)?;
        swap::remove_foreign(&self.pgdata)?;
        for name in SIGNALS
            .into_iter()
            .chain(["postmaster.pid", "postmaster.opts"])
        {
            durable::remove_file(&self.pgdata.join(name))?;
        }
        copy::write(&self.pgdata, self.copy).map_err(RewindError::Name)?;
        durable::sync_filesystem(&self.pgdata)?;
        forget(&self.marker)?;
        Ok(())
    }
}

impl Said {
    /// Source: `src/bin/pg_rewind/pg_rewind.c` of Postgres 13 to 18: "no rewind required" ends it
    /// before anything is done, "need to copy" stands right before the first change.
    fn hear(&mut self, line: &str) {
        self.not_required |= line.contains("no rewind required");
        self.changes |= line.contains("need to copy") || parse_progress(line).is_some();
    }
}

/// Data directories that this process rewinds at the moment: one rewind at a time in each, also
/// when nobody waits for it any more.
static UNDER_WAY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

struct Exclusive(PathBuf);

impl Exclusive {
    fn take(pgdata: &Path) -> Result<Self, RewindError> {
        let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.insert(pgdata.to_owned()) {
            Ok(Self(pgdata.to_owned()))
        } else {
            Err(RewindError::Running {
                pgdata: pgdata.to_owned(),
                pids: Vec::new(),
            })
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        UNDER_WAY
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.0);
    }
}

/// Whether a rewind was begun and never ended: the copy must not be started, only replaced.
#[must_use]
pub fn interrupted(marker: &Path) -> bool {
    marker.join(STARTED).exists()
}

/// Puts the node's own files, which an interrupted rewind had saved, into `directory`: the new copy
/// that is to replace the broken one. Does nothing when no rewind was interrupted.
///
/// # Errors
/// When they cannot be copied.
pub fn restore_kept(marker: &Path, directory: &Path) -> Result<(), DurableError> {
    let path = marker.join(STARTED);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("read", &path)(e)),
    };
    let names: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    carry(&marker.join(KEPT), directory, &names)
}

/// Forgets a rewind: after it ended, or after the copy was replaced.
///
/// # Errors
/// When the marker cannot be removed.
pub fn forget(marker: &Path) -> Result<(), DurableError> {
    // The marker before what it vouches for.
    durable::remove_file(&marker.join(STARTED))?;
    durable::remove_tree(marker).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pg_rewind_says_tells_how_far_it_came() {
        let mut said = Said::default();
        said.hear("pg_rewind: servers diverged at WAL location 0/3000148 on timeline 1");
        said.hear("pg_rewind: reading source file list");
        assert!(!said.changes && !said.not_required);
        said.hear("pg_rewind: need to copy 52 MB (total source directory size is 71 MB)");
        assert!(said.changes);
        let mut said = Said::default();
        said.hear("pg_rewind: no rewind required");
        assert!(!said.changes && said.not_required);
    }

    #[test]
    fn an_interrupted_rewind_keeps_the_nodes_files_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (marker, new) = (dir.path().join("state/rewind"), dir.path().join("new"));
        fs::create_dir_all(marker.join(KEPT)).unwrap();
        fs::create_dir(&new).unwrap();
        fs::write(new.join("server.crt"), "theirs").unwrap();
        fs::write(marker.join(KEPT).join("server.key"), "mine").unwrap();
        restore_kept(&marker, &new).unwrap();
        assert!(new.join("server.crt").exists(), "nothing was interrupted");
        fs::write(marker.join(STARTED), r#"["server.key","server.crt"]"#).unwrap();
        assert!(interrupted(&marker));
        restore_kept(&marker, &new).unwrap();
        assert_eq!(fs::read_to_string(new.join("server.key")).unwrap(), "mine");
        assert!(!new.join("server.crt").exists());
        forget(&marker).unwrap();
        assert!(!interrupted(&marker) && !marker.exists());
        forget(&marker).unwrap();
    }
}
