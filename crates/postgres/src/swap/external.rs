//! Parts of a copy that are outside of its directory: WAL behind a symbolic link, tablespaces.
//!
//! Each copy has folders of its own, named `PATH.pgaf-TAG`; only those, and in others only what
//! Postgres made there, is ever removed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use super::names;
use crate::durable::{self, DurableError, failed, parent};

/// What tells folders of ours.
const MARK: &str = ".pgaf-";
/// The list of external folders of a copy that is being made.
const LIST: &str = "external";

/// External folders of an old copy, to be emptied when it is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct External {
    /// The target of `pg_wal`.
    wal: Option<PathBuf>,
    /// The targets of `pg_tblspc/*`.
    tablespaces: Vec<PathBuf>,
    /// Its `PG_VERSION`: folders of tablespaces begin with it.
    major: String,
}

/// Where PGDATA's WAL is, when it is elsewhere.
pub(super) fn wal_target(pgdata: &Path) -> Option<PathBuf> {
    let target = fs::read_link(pgdata.join("pg_wal")).ok()?;
    Some(pgdata.join(target))
}

fn tablespace_targets(pgdata: &Path) -> Vec<PathBuf> {
    let folder = pgdata.join("pg_tblspc");
    let links = names(&folder).unwrap_or_default();
    links
        .iter()
        .filter_map(|name| fs::read_link(folder.join(name)).ok())
        .collect()
}

/// A new folder for a copy's part of `path`: beside it, or inside when it is a mount point or its
/// parent is not ours.
pub(super) fn beside(path: &Path, tag: &str) -> PathBuf {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or("part");
    let plain = name.split_once(MARK).map_or(name, |(plain, _)| plain);
    let writable = Access::WRITE_OK | Access::EXEC_OK;
    if rustix::fs::access(parent(path), writable).is_ok() {
        path.with_file_name(format!("{plain}{MARK}{tag}"))
    } else {
        path.join(format!("{plain}{MARK}{tag}"))
    }
}

/// Writes the list of folders that a copy in `folder` is about to make.
pub(super) fn list(folder: &Path, paths: &[PathBuf]) -> Result<(), DurableError> {
    let text = serde_json::to_vec(paths).unwrap_or_default();
    durable::write_file(&folder.join(LIST), &text, 0o600)
}

/// Reads that list.
pub(super) fn listed(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read(folder.join(LIST)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Removes what an interrupted attempt in `folder` made elsewhere.
pub(super) fn remove_listed(folder: &Path) -> Result<(), DurableError> {
    let paths = listed(folder);
    let ours = |p: &&PathBuf| {
        p.file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|n| n.contains(MARK))
    };
    for path in paths.iter().filter(ours) {
        durable::remove_tree(path)?;
    }
    Ok(())
}

impl External {
    /// What `old` has outside, and `new` does not use.
    pub(super) fn of(old: &Path, new: &Path) -> Self {
        let same = |path: &Path| path.canonicalize().ok();
        let used: Vec<_> = wal_target(new)
            .into_iter()
            .chain(tablespace_targets(new))
            .filter_map(|path| same(&path))
            .collect();
        let unused = |path: &PathBuf| same(path).is_some_and(|path| !used.contains(&path));
        Self {
            wal: wal_target(old).filter(unused),
            tablespaces: tablespace_targets(old).into_iter().filter(unused).collect(),
            major: fs::read_to_string(old.join("PG_VERSION"))
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }

    /// Removes what Postgres had made there, and the folders themselves when they are then empty.
    pub(super) fn remove(&self) -> Result<(), DurableError> {
        if let Some(path) = &self.wal {
            remove_matching(path, is_wal)?;
        }
        // `PG_15_202209061`; nothing can match without a version.
        let prefix = format!("PG_{}_", self.major);
        for path in self.tablespaces.iter().filter(|_| !self.major.is_empty()) {
            remove_matching(path, |name| name.starts_with(&prefix))?;
        }
        Ok(())
    }
}

fn remove_matching(folder: &Path, matches: impl Fn(&str) -> bool) -> Result<(), DurableError> {
    let found = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("list", folder)(e)),
        Ok(_) => names(folder)?,
    };
    for name in found
        .iter()
        .filter(|name| name.to_str().is_some_and(&matches))
    {
        let path = folder.join(name);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(failed("remove", &path))?;
    }
    // Not empty, or a mount point: it stays.
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// Names in `pg_wal`: segments with their suffixes, histories, and Postgres' own folders.
fn is_wal(name: &str) -> bool {
    let digits = name.split('.').next().unwrap_or_default();
    let hexadecimal =
        matches!(digits.len(), 8 | 24) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal || matches!(name, "archive_status" | "summaries") || name.starts_with("xlogtemp.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_postgres_makes_in_pg_wal_is_taken_for_wal() {
        for name in [
            "000000010000000000000001",
            "00000002.history",
            "archive_status",
            "xlogtemp.12",
        ] {
            assert!(is_wal(name), "{name}");
        }
        for name in [
            "lost+found",
            "notes.txt",
            "pg_wal.pgaf-1234abcd",
            "0000000g.history",
        ] {
            assert!(!is_wal(name), "{name}");
        }
    }

    #[test]
    fn folders_of_the_next_copy_do_not_pile_up_names() {
        let dir = tempfile::tempdir().unwrap();
        let first = beside(&dir.path().join("wal"), "aaaaaaaa");
        assert_eq!(first, dir.path().join("wal.pgaf-aaaaaaaa"));
        assert_eq!(
            beside(&first, "bbbbbbbb"),
            dir.path().join("wal.pgaf-bbbbbbbb")
        );
    }
}
