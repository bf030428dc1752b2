//! The short form of a conversation in which nothing new is said.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Lsn, Report, Stamp};

/// A report in short: it says what the last report of the same session said, with these positions.
///
/// Most reports are such, and at ten thousand keepers reading the others in full is most of what a
/// monitor would do. On the wire it is a list, without names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Terse", into = "Terse")]
pub struct Beat {
    /// The LSN of [`Report::position`], on the same timeline.
    pub lsn: Option<Lsn>,
    /// [`Report::replayed`].
    pub replayed: Option<Lsn>,
    /// [`Report::redo_bytes`].
    pub redo_bytes: Option<u64>,
    /// Of each of [`Report::standbys`], in order: its flush position and its lag in bytes.
    pub standbys: Vec<(Lsn, u64)>,
}

/// A [`Beat`] on the wire: LSNs are numbers.
type Terse = (Option<u64>, Option<u64>, Option<u64>, Vec<(u64, u64)>);

impl From<Terse> for Beat {
    fn from((lsn, replayed, redo_bytes, standbys): Terse) -> Self {
        Self {
            lsn: lsn.map(Lsn),
            replayed: replayed.map(Lsn),
            redo_bytes,
            standbys: standbys.into_iter().map(|(f, lag)| (Lsn(f), lag)).collect(),
        }
    }
}

impl From<Beat> for Terse {
    fn from(beat: Beat) -> Self {
        let standbys = beat.standbys.into_iter().map(|(f, lag)| (f.0, lag));
        (
            beat.lsn.map(|l| l.0),
            beat.replayed.map(|l| l.0),
            beat.redo_bytes,
            standbys.collect(),
        )
    }
}

impl Beat {
    /// What is to be said instead of `next` after `last`; `None` when anything but a position has
    /// changed, whatever the field.
    #[must_use]
    pub fn between(last: &Report, next: &Report) -> Option<Self> {
        let beat = Self {
            lsn: next.position.map(|p| p.lsn),
            replayed: next.replayed,
            redo_bytes: next.redo_bytes,
            standbys: next
                .standbys
                .iter()
                .map(|s| (s.flushed, s.lag_bytes))
                .collect(),
        };
        let mut said = last.clone();
        (beat.apply(&mut said) && said == *next).then_some(beat)
    }

    /// Whether this can follow on `last` at all.
    #[must_use]
    pub fn fits(&self, last: &Report) -> bool {
        self.lsn.is_some() == last.position.is_some() && self.standbys.len() == last.standbys.len()
    }

    /// Makes the last report the one that is meant; answers whether it fits. One that does not is left
    /// as it is.
    #[must_use]
    pub fn apply(&self, last: &mut Report) -> bool {
        if !self.fits(last) {
            return false;
        }
        if let (Some(position), Some(lsn)) = (&mut last.position, self.lsn) {
            position.lsn = lsn;
        }
        last.replayed = self.replayed;
        last.redo_bytes = self.redo_bytes;
        for (standby, (flushed, lag)) in last.standbys.iter_mut().zip(&self.standbys) {
            (standby.flushed, standby.lag_bytes) = (*flushed, *lag);
        }
        true
    }
}

/// The answer in short: everything stands as in the last full answer to this session, but for the
/// lease, which is this one. On the wire it is a list; a list begins with `[`, a full answer with `{`,
/// and [`SAY_IT_WHOLE`] is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(Stamp, Option<u32>)", into = "(Stamp, Option<u32>)")]
pub struct Same {
    /// The goal that stands.
    pub stamp: Stamp,
    /// The lease in milliseconds, as [`crate::Lease::duration_ms`].
    pub lease_ms: Option<u32>,
}

impl From<(Stamp, Option<u32>)> for Same {
    fn from((stamp, lease_ms): (Stamp, Option<u32>)) -> Self {
        Self { stamp, lease_ms }
    }
}

impl From<Same> for (Stamp, Option<u32>) {
    fn from(same: Same) -> Self {
        (same.stamp, same.lease_ms)
    }
}

/// The answer to a [`Beat`] that the monitor cannot make a report of: it does not know the last one of
/// this session. The keeper sends the report itself.
pub const SAY_IT_WHOLE: &str = "null";

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;
    use crate::{NodeId, Position, StandbySeen, TimelineId};

    fn report(lsn: u64) -> Report {
        Report {
            position: Some(Position {
                timeline: TimelineId(1),
                lsn: Lsn(lsn),
            }),
            standbys: vec![StandbySeen {
                node: NodeId(2),
                streaming: true,
                flushed: Lsn(lsn),
                lag_bytes: 0,
                fresh: true,
                synchronous: true,
            }],
            ..Report::default()
        }
    }

    #[test]
    fn positions_that_moved_are_a_beat_and_make_the_very_report() {
        let mut next = report(20);
        next.replayed = Some(Lsn(19));
        next.redo_bytes = Some(5);
        next.standbys[0].lag_bytes = 7;
        let beat = Beat::between(&report(10), &next).unwrap();
        let mut said = report(10);
        assert!(beat.apply(&mut said));
        assert_eq!(said, next);
        // Backwards too: what follows from it is the monitor's to say.
        assert!(Beat::between(&next, &report(10)).is_some());
    }

    #[test]
    fn anything_else_is_said_whole() {
        let changed = |change: fn(&mut Report)| {
            let mut next = report(20);
            change(&mut next);
            Beat::between(&report(10), &next).is_none()
        };
        assert!(changed(|r| r.position = None));
        assert!(changed(|r| r.standbys.clear()));
        assert!(changed(|r| r.standbys[0].fresh = false));
        assert!(changed(|r| r.leaving = true));
        assert!(changed(|r| r.trouble = Some("x".to_string())));
        assert!(changed(|r| r.position = Some(Position {
            timeline: TimelineId(2),
            lsn: Lsn(20)
        })));
    }

    #[test]
    fn a_beat_that_does_not_fit_leaves_the_report_alone() {
        let mut last = report(10);
        assert!(!Beat::default().apply(&mut last));
        assert_eq!(last, report(10));
    }
}
