//! Which timeline's file holds which part of the WAL that a copy would replay.

use std::path::{Path, PathBuf};

use pgaf_protocol::{History, Lsn, Position, TimelineId};

use crate::control::ControlData;
use crate::history::{self, HistoryError};

/// The branch that a copy is on, and where its files are.
#[derive(Debug)]
pub(super) struct Chain {
    folder: PathBuf,
    segment_bytes: u64,
    history: History,
}

/// Where the newest timeline of a branch leaves its parent.
#[derive(Debug)]
pub(super) struct NewestFork {
    pub(super) at: Lsn,
    /// The newest timeline's segment with the fork in it; its parent has the same one.
    pub(super) file: PathBuf,
    /// The branch without its newest timeline.
    pub(super) parent: Chain,
}

impl Chain {
    /// The fork of the newest timeline, when it lies within a segment that both timelines have.
    pub(super) fn newest_fork(&self) -> Option<NewestFork> {
        let (fork, older) = self.history.parents.split_last()?;
        let number = fork.at.0 / self.segment_bytes;
        let file = self.path(self.history.timeline, number);
        let both = file.is_file() && self.path(fork.timeline, number).is_file();
        let within = !fork.at.0.is_multiple_of(self.segment_bytes);
        (both && within).then(|| NewestFork {
            at: fork.at,
            file,
            parent: Self {
                folder: self.folder.clone(),
                segment_bytes: self.segment_bytes,
                history: History {
                    timeline: fork.timeline,
                    parents: older.to_vec(),
                },
            },
        })
    }

    /// The newest branch that the copy's checkpoint lies on and that it has WAL of; Postgres takes
    /// the same one (`recovery_target_timeline = latest`).
    pub(super) fn of(pgdata: &Path, control: &ControlData) -> Result<Self, HistoryError> {
        let mut chain = Self {
            folder: pgdata.join("pg_wal"),
            segment_bytes: u64::from(control.segment_bytes),
            history: own(pgdata, control.timeline)?,
        };
        let files = history::list(pgdata)?;
        let newer = files
            .iter()
            .rev()
            .filter(|f| !f.empty && f.timeline > control.timeline);
        for file in newer {
            let Some(history) = history::read(pgdata, file.timeline)? else {
                continue;
            };
            if chain.is_on(&history, control) {
                chain.history = history;
                break;
            }
        }
        Ok(chain)
    }

    /// Whether the checkpoint and all that the copy needs lie before the fork, and a file of the
    /// branch with the fork in it is there.
    fn is_on(&self, history: &History, control: &ControlData) -> bool {
        let Some(Some(fork)) = history.end_of(control.timeline) else {
            return false;
        };
        let needed = control.min_recovery_end.is_none_or(|end| history.fits(end));
        let begin = begin_of(history, history.timeline);
        let has_file = self
            .path(history.timeline, begin.0 / self.segment_bytes)
            .is_file();
        control.checkpoint < fork && needed && has_file
    }

    /// The file with segment `number` of the newest timeline that has one, from `oldest` on.
    ///
    /// Source: `XLogFileReadAnyTLI` in `xlogrecovery.c`.
    pub(super) fn file(&self, number: u64, oldest: TimelineId) -> Option<(TimelineId, PathBuf)> {
        let parents = self.history.parents.iter().rev().map(|fork| fork.timeline);
        std::iter::once(self.history.timeline)
            .chain(parents)
            .take_while(|timeline| *timeline >= oldest)
            .filter(|timeline| begin_of(&self.history, *timeline).0 / self.segment_bytes <= number)
            .map(|timeline| (timeline, self.path(timeline, number)))
            .find(|(_, path)| path.is_file())
    }

    /// Whether pages of this timeline may occur.
    pub(super) fn holds(&self, timeline: TimelineId) -> bool {
        self.history.end_of(timeline).is_some()
    }

    /// The timeline that bytes up to `end` belong to: a branch of which nothing has been received
    /// does not count.
    pub(super) fn position(&self, end: Lsn) -> Position {
        let parent = self.history.parents.iter().find(|fork| end <= fork.at);
        let timeline = parent.map_or(self.history.timeline, |fork| fork.timeline);
        Position { timeline, lsn: end }
    }

    fn path(&self, timeline: TimelineId, number: u64) -> PathBuf {
        self.folder
            .join(segment_name(timeline, number, self.segment_bytes))
    }
}

/// The own history; a copy whose file is gone knows at least its timeline.
fn own(pgdata: &Path, timeline: TimelineId) -> Result<History, HistoryError> {
    let known = history::read(pgdata, timeline)?;
    Ok(known.unwrap_or(History {
        timeline,
        parents: Vec::new(),
    }))
}

/// Where a timeline of a branch begins.
fn begin_of(history: &History, timeline: TimelineId) -> Lsn {
    let parent = history
        .parents
        .iter()
        .rev()
        .find(|fork| fork.timeline < timeline);
    parent.map_or(Lsn::ZERO, |fork| fork.at)
}

/// Source: `XLogFileName` in `xlog_internal.h`.
pub(super) fn segment_name(timeline: TimelineId, number: u64, segment_bytes: u64) -> String {
    let per_id = (1_u64 << 32) / segment_bytes.max(1);
    format!(
        "{:08X}{:08X}{:08X}",
        timeline.0,
        number / per_id,
        number % per_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgaf_protocol::Fork;

    #[test]
    fn segments_are_named_as_postgres_does() {
        let name = |number| segment_name(TimelineId(2), number, 16 << 20);
        assert_eq!(name(1), "000000020000000000000001");
        assert_eq!(name(256), "000000020000000100000000");
        assert_eq!(
            segment_name(TimelineId(10), 5, 1 << 30),
            "0000000A0000000100000001"
        );
    }

    #[test]
    fn a_position_at_the_fork_is_still_the_parents() {
        let history = History {
            timeline: TimelineId(3),
            parents: vec![
                Fork {
                    timeline: TimelineId(1),
                    at: Lsn(100),
                },
                Fork {
                    timeline: TimelineId(2),
                    at: Lsn(200),
                },
            ],
        };
        let chain = Chain {
            folder: PathBuf::new(),
            segment_bytes: 16,
            history,
        };
        let timeline = |lsn| chain.position(Lsn(lsn)).timeline.0;
        assert_eq!(
            [timeline(100), timeline(101), timeline(200), timeline(201)],
            [1, 2, 2, 3]
        );
    }
}
