//! Timeline history files in `pg_wal`.
//!
//! Owns `NNNNNNNN.history`: reading true ones, and the *empty* ones that mark a number as used
//! (`safety.md` §1). It must never write a true one: Postgres does, on promotion.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pgaf_protocol::{Fork, History, Lsn, Position, TimelineId};

use crate::durable::{self, DurableError};

/// One `.history` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryFile {
    /// Its number.
    pub timeline: TimelineId,
    /// It is empty: a number that is used, and not a branch that anybody is on.
    pub empty: bool,
}

/// Why a history is not known, or not in place.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file or folder cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A line is not `timeline, LSN, reason`, or numbers do not grow.
    #[error("`{path}` is not a timeline history: line {line}", path = path.display())]
    Garbage {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An empty file cannot be made or removed.
    #[error(transparent)]
    Write(#[from] DurableError),
}

/// Reads the text of a history file: parents, oldest first.
///
/// # Errors
/// The number of the line that is wrong, from 1.
pub fn parse(timeline: TimelineId, text: &str) -> Result<History, usize> {
    let mut parents: Vec<Fork> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = number + 1;
        let mut words = line.split_whitespace();
        let parent = words
            .next()
            .and_then(|w| w.parse().ok())
            .map(TimelineId)
            .ok_or(wrong)?;
        let at: Lsn = words.next().and_then(|w| w.parse().ok()).ok_or(wrong)?;
        if parents.last().is_some_and(|last| last.timeline >= parent) || parent >= timeline {
            return Err(wrong);
        }
        parents.push(Fork {
            timeline: parent,
            at,
        });
    }
    Ok(History { timeline, parents })
}

/// Writes a history as Postgres does; for tests and for comparing.
#[must_use]
pub fn render(history: &History) -> String {
    let line = |f: &Fork| format!("{}\t{}\tno recovery target specified\n", f.timeline, f.at);
    history
        .parents
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The history of `timeline` as this data directory knows it: `None` when it has no (true) file
/// for it. Timeline 1 needs none.
///
/// # Errors
/// [`HistoryError`].
pub fn read(pgdata: &Path, timeline: TimelineId) -> Result<Option<History>, HistoryError> {
    if timeline <= TimelineId(1) {
        return Ok(Some(History::first()));
    }
    let path = path(pgdata, timeline);
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => match parse(timeline, &text) {
            Ok(history) => Ok(Some(history)),
            Err(line) => Err(HistoryError::Garbage { path, line }),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HistoryError::Read { path, source }),
    }
}

/// `pg_wal/NNNNNNNN.history`
fn path(pgdata: &Path, timeline: TimelineId) -> PathBuf {
    pgdata
        .join("pg_wal")
        .join(format!("{:08X}.history", timeline.0))
}

/// Lists the history files of a data directory, lowest number first.
///
/// # Errors
/// [`HistoryError::Read`].
pub fn list(pgdata: &Path) -> Result<Vec<HistoryFile>, HistoryError> {
    let folder = pgdata.join("pg_wal");
    let failed = |source| HistoryError::Read {
        path: folder.clone(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(timeline) = number(&entry.file_name()) else {
            continue;
        };
        match entry.metadata() {
            Ok(meta) => found.push(HistoryFile {
                timeline,
                empty: meta.len() == 0,
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
    }
    found.sort();
    Ok(found)
}

/// The number in a history file's name: eight hexadecimal digits, upper case.
fn number(name: &OsStr) -> Option<TimelineId> {
    let digits = name.to_str()?.strip_suffix(".history")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (format!("{number:08X}") == digits).then_some(TimelineId(number))
}

/// Marks each number above `own` and below `next` as used, unless it has a file: immediately before
/// `pg_promote`, so that it opens `next` and no lower one. Answers the numbers it wrote.
///
/// # Errors
/// [`HistoryError`].
pub fn write_empty_history_files(
    pgdata: &Path,
    own: TimelineId,
    next: TimelineId,
) -> Result<Vec<TimelineId>, HistoryError> {
    let there: Vec<_> = list(pgdata)?.into_iter().map(|f| f.timeline).collect();
    let used = (own.0 + 1..next.0).map(TimelineId);
    let missing: Vec<_> = used.filter(|timeline| !there.contains(timeline)).collect();
    for timeline in &missing {
        durable::write_file(&path(pgdata, *timeline), b"", 0o600)?;
    }
    Ok(missing)
}

/// Removes the empty files above `own` for which no true file with a higher number exists: before a
/// copy starts in recovery, which otherwise waits for those timelines for ever. Answers what it
/// removed.
///
/// # Errors
/// [`HistoryError`].
pub fn remove_empty_history_files(
    pgdata: &Path,
    own: TimelineId,
) -> Result<Vec<TimelineId>, HistoryError> {
    let files = list(pgdata)?;
    let highest_true = files.iter().filter(|f| !f.empty).map(|f| f.timeline).max();
    let keep = highest_true.unwrap_or(own).max(own);
    let mut removed = Vec::new();
    for file in files.iter().filter(|f| f.empty && f.timeline > keep) {
        durable::remove_file(&path(pgdata, file.timeline))?;
        removed.push(file.timeline);
    }
    Ok(removed)
}

/// Where a copy stands to a branch of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It can follow as it is.
    Fits,
    /// It has WAL past the point where the branch left its timeline.
    PastFork {
        /// That point.
        fork: Position,
    },
    /// Its timeline is no parent of the branch.
    Foreign,
}

/// Compares a position with a branch.
#[must_use]
pub fn relation(history: &History, position: Position) -> Relation {
    match history.end_of(position.timeline) {
        None => Relation::Foreign,
        Some(Some(end)) if end < position.lsn => Relation::PastFork {
            fork: Position {
                timeline: position.timeline,
                lsn: end,
            },
        },
        Some(_) => Relation::Fits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pg_wal")).unwrap();
        dir
    }

    fn put(dir: &Path, timeline: u32, text: &str) {
        fs::write(path(dir, TimelineId(timeline)), text).unwrap();
    }

    fn numbers(files: &[HistoryFile]) -> Vec<u32> {
        files.iter().map(|f| f.timeline.0).collect()
    }

    #[test]
    fn a_history_of_postgres_is_read_and_written_back() {
        let text = "1\t0/A000108\tno recovery target specified\n\n3\t0/B0000A0\tno recovery target specified\n";
        let history = parse(TimelineId(5), text).unwrap();
        assert_eq!(history.parents.len(), 2);
        assert_eq!(history.end_of(TimelineId(3)), Some(Some(Lsn(0xB00_00A0))));
        assert_eq!(render(&history), text);
    }

    #[test]
    fn lines_that_postgres_would_refuse_are_refused() {
        for (text, line) in [
            ("x\n", 1),
            ("1\n", 1),
            ("# a\n2\t0/1\n1\t0/2\n", 3),
            ("5\t0/1", 1),
        ] {
            assert_eq!(parse(TimelineId(5), text), Err(line), "{text:?}");
        }
    }

    #[test]
    fn used_numbers_get_empty_files_and_true_ones_stay() {
        let dir = data_directory();
        put(dir.path(), 3, "1\t0/100\tx\n");
        fs::write(dir.path().join("pg_wal/000000010000000000000001"), "").unwrap();
        fs::write(dir.path().join("pg_wal/0000000x.history"), "").unwrap();
        let written = write_empty_history_files(dir.path(), TimelineId(1), TimelineId(5)).unwrap();
        assert_eq!(written, [TimelineId(2), TimelineId(4)]);
        assert_eq!(numbers(&list(dir.path()).unwrap()), [2, 3, 4]);
        assert_eq!(read(dir.path(), TimelineId(2)).unwrap(), None);
        assert!(read(dir.path(), TimelineId(3)).unwrap().is_some());
        let again = write_empty_history_files(dir.path(), TimelineId(1), TimelineId(5)).unwrap();
        assert_eq!(again, []);
    }

    #[test]
    fn empty_files_are_removed_above_the_last_true_one_only() {
        let dir = data_directory();
        for number in [2, 4, 5] {
            put(dir.path(), number, "");
        }
        put(dir.path(), 3, "1\t0/100\tx\n");
        let removed = remove_empty_history_files(dir.path(), TimelineId(1)).unwrap();
        assert_eq!(removed, [TimelineId(4), TimelineId(5)]);
        assert_eq!(numbers(&list(dir.path()).unwrap()), [2, 3]);
    }

    #[test]
    fn a_position_is_compared_with_a_branch() {
        let at = |timeline, lsn| Position {
            timeline: TimelineId(timeline),
            lsn: Lsn(lsn),
        };
        let history = parse(TimelineId(3), "1\t0/64\tx\n").unwrap();
        assert_eq!(relation(&history, at(1, 0x64)), Relation::Fits);
        assert_eq!(
            relation(&history, at(1, 0x65)),
            Relation::PastFork { fork: at(1, 0x64) }
        );
        assert_eq!(relation(&history, at(2, 0x10)), Relation::Foreign);
    }
}
