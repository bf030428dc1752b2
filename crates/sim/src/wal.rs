//! Write-ahead log as it matters here: which bytes a copy holds, and who wrote them.
//!
//! Owns [`Path`]: the bytes of one copy as a list of stretches, each written by one *branch*. A branch is
//! one opening for writing by one copy. Two servers that both write timeline 2 write different branches,
//! although Postgres, which looks at timeline and LSN only, cannot tell them apart: so divergence is real
//! here and invisible to the fakes.

use pgaf_protocol::{CopyId, Term};

/// Where the WAL of a new cluster begins.
pub(crate) const START: u64 = 0x100_0000;

/// One opening for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) copy: CopyId,
    pub(crate) term: Term,
    pub(crate) timeline: u32,
}

/// The name of a branch: its index in the world's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BranchId(pub(crate) usize);

/// Bytes up to `end`, from the end of the stretch before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) branch: BranchId,
    pub(crate) timeline: u32,
    pub(crate) end: u64,
}

/// Everything one copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Path(Vec<Stretch>);

impl Path {
    /// No byte at all.
    pub(crate) const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The end of the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(START, |s| s.end)
    }

    /// The timeline of the last byte.
    pub(crate) fn timeline(&self) -> u32 {
        self.0.last().map_or(1, |s| s.timeline)
    }

    /// The timeline of the byte before `lsn`.
    pub(crate) fn timeline_at(&self, lsn: u64) -> u32 {
        self.0
            .iter()
            .find(|s| lsn <= s.end)
            .map_or_else(|| self.timeline(), |s| s.timeline)
    }

    /// Writes up to `end`.
    pub(crate) fn append(&mut self, branch: BranchId, timeline: u32, end: u64) {
        if end <= self.end() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.branch == branch && last.timeline == timeline => last.end = end,
            Some(_) | None => self.0.push(Stretch {
                branch,
                timeline,
                end,
            }),
        }
    }

    /// Loses what is past `lsn`.
    pub(crate) fn truncate(&mut self, lsn: u64) {
        while let Some(last) = self.0.last().copied() {
            let begin = self.0.len().checked_sub(2).map_or(START, |i| self.0[i].end);
            if lsn <= begin {
                self.0.pop();
            } else {
                if last.end > lsn
                    && let Some(last) = self.0.last_mut()
                {
                    last.end = lsn;
                }
                return;
            }
        }
    }

    /// Whether a record of a branch that ends at `lsn` is here.
    pub(crate) fn contains(&self, branch: BranchId, lsn: u64) -> bool {
        let mut begin = START;
        for stretch in &self.0 {
            if stretch.branch == branch && begin < lsn && lsn <= stretch.end {
                return true;
            }
            begin = stretch.end;
        }
        false
    }

    /// The end of what is here of a branch.
    pub(crate) fn end_of(&self, branch: BranchId) -> Option<u64> {
        let of = |s: &&Stretch| s.branch == branch;
        self.0.iter().rev().find(of).map(|s| s.end)
    }

    /// Whether both hold the same bytes up to `lsn`.
    pub(crate) fn same_up_to(&self, other: &Self, lsn: u64) -> bool {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut at = START;
        while at < lsn {
            let (Some(x), Some(y)) = (a.peek(), b.peek()) else {
                return false;
            };
            if x.branch != y.branch {
                return false;
            }
            at = x.end.min(y.end);
            let (x_end, y_end) = (x.end, y.end);
            if x_end == at {
                a.next();
            }
            if y_end == at {
                b.next();
            }
        }
        true
    }

    /// Receives what `other` has past our end. Answers whether the bytes before it were the same.
    pub(crate) fn receive(&mut self, other: &Self) -> bool {
        let end = self.end();
        let same = self.same_up_to(other, end.min(other.end()));
        for stretch in &other.0 {
            if stretch.end > end {
                self.append(stretch.branch, stretch.timeline, stretch.end);
            }
        }
        same
    }

    /// The branches of bytes past `lsn`.
    pub(crate) fn branches_after(&self, lsn: u64) -> impl Iterator<Item = BranchId> + '_ {
        self.0.iter().filter(move |s| s.end > lsn).map(|s| s.branch)
    }

    /// For traces.
    pub(crate) fn text(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|s| format!("b{}/t{}<{:x}", s.branch.0, s.timeline, s.end))
            .collect();
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_of_two_writers_are_not_the_same_bytes() {
        let mut a = Path::default();
        a.append(BranchId(0), 1, START + 100);
        let mut b = a.clone();
        a.append(BranchId(1), 2, START + 200);
        b.append(BranchId(2), 2, START + 150);
        assert!(a.same_up_to(&b, START + 100));
        assert!(!a.same_up_to(&b, START + 120));
        assert!(!b.receive(&a), "Postgres would not notice");
        assert!(b.contains(BranchId(1), START + 200));
        assert!(!b.contains(BranchId(1), START + 101 - 50));
    }

    #[test]
    fn what_is_cut_off_is_gone() {
        let mut a = Path::default();
        a.append(BranchId(0), 1, START + 100);
        a.append(BranchId(1), 2, START + 200);
        a.truncate(START + 100);
        assert_eq!((a.end(), a.timeline()), (START + 100, 1));
    }
}
