//! Timelines: which branch of history a copy is on, and where branches part.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::Lsn;

/// The number of a timeline; Postgres starts at 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TimelineId(pub u32);

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a copy has *received* WAL, and on which timeline (`safety.md` §1).
///
/// Ordered by timeline, then LSN: a newer term has a higher timeline, and what an older timeline
/// holds past the fork was never acknowledged.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The timeline of the last byte.
    pub timeline: TimelineId,
    /// The end of the last whole record.
    pub lsn: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.timeline, self.lsn)
    }
}

/// The end of one parent timeline: one line of a `.history` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fork {
    /// The parent.
    pub timeline: TimelineId,
    /// Where the child left it: the first byte that is not the parent's any more.
    pub at: Lsn,
}

/// A timeline and its parents, oldest first: the contents of `pg_wal/NNNNNNNN.history`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct History {
    /// The timeline this is the history of.
    pub timeline: TimelineId,
    /// Its parents; empty for timeline 1.
    #[serde(default)]
    pub parents: Vec<Fork>,
}

impl History {
    /// Timeline 1, which has no parents.
    #[must_use]
    pub fn first() -> Self {
        Self {
            timeline: TimelineId(1),
            parents: Vec::new(),
        }
    }

    /// Where the branch that this history describes leaves `timeline`: `None` when it never was
    /// on it, `Some(None)` when it still is.
    #[must_use]
    pub fn end_of(&self, timeline: TimelineId) -> Option<Option<Lsn>> {
        if timeline == self.timeline {
            return Some(None);
        }
        self.parents
            .iter()
            .find(|f| f.timeline == timeline)
            .map(|f| Some(f.at))
    }

    /// Whether a copy that has received up to `position` can follow this history as it is: its
    /// timeline is an ancestor (or this one) and it has nothing past the fork (`safety.md` §7).
    #[must_use]
    pub fn fits(&self, position: Position) -> bool {
        match self.end_of(position.timeline) {
            None => false,
            Some(None) => true,
            Some(Some(end)) => position.lsn <= end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_copy_fits_up_to_the_fork_and_no_further() {
        let history = History {
            timeline: TimelineId(3),
            parents: vec![Fork {
                timeline: TimelineId(1),
                at: Lsn(100),
            }],
        };
        let at = |t, l| Position {
            timeline: TimelineId(t),
            lsn: Lsn(l),
        };
        assert!(history.fits(at(1, 100)));
        assert!(!history.fits(at(1, 101)));
        assert!(!history.fits(at(2, 50)), "a timeline it never was on");
        assert!(history.fits(at(3, 9999)));
    }
}
