//! The arithmetic of `safety.md` §4.4: when is the past over, and who holds all of it?
//!
//! Sets are of copies. `R` is the set of copies that promised for the present term and whose
//! position is known.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use pgaf_protocol::{CopyId, Possible, Term};

/// What a term's entries amount to: several of one term count as the weakest reading of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermConfig {
    /// The term.
    pub term: Term,
    /// Its primary, or chosen candidate.
    pub primary: CopyId,
    /// The copies that may acknowledge; empty: `''` is possible.
    pub copies: BTreeSet<CopyId>,
    /// How many of them an acknowledged commit has for certain.
    pub number: usize,
}

impl TermConfig {
    /// Whether nothing more can be acknowledged in this term, and everything that was is in
    /// `promised`: the rest cannot form any quorum (`safety.md` §4.4).
    #[must_use]
    pub fn is_revoked_by(&self, promised: &BTreeSet<CopyId>) -> bool {
        !self.copies.is_empty() && self.missing(promised) == 0
    }

    /// How many more of [`Self::copies`] must promise; meaningless when `''` is possible.
    #[must_use]
    pub fn missing(&self, promised: &BTreeSet<CopyId>) -> usize {
        let have = self.copies.intersection(promised).count();
        (self.copies.len() + 1).saturating_sub(self.number + have)
    }
}

/// The possible configurations, one per term, newest first.
#[must_use]
pub fn by_term(possible: &[Possible]) -> Vec<TermConfig> {
    let mut terms: Vec<TermConfig> = Vec::new();
    for entry in possible {
        let copies: BTreeSet<CopyId> = entry.config.members.iter().map(|m| m.copy).collect();
        let number = usize::try_from(entry.config.number).unwrap_or(usize::MAX);
        match terms.iter_mut().find(|t| t.term == entry.stamp.term) {
            None => terms.push(TermConfig {
                term: entry.stamp.term,
                primary: entry.primary,
                copies,
                number,
            }),
            Some(t) if t.copies.is_empty() || copies.is_empty() => {
                t.copies.clear();
                t.number = 0;
            }
            Some(t) => {
                t.copies.extend(copies);
                t.number = t.number.min(number);
            }
        }
    }
    terms.sort_by_key(|t| core::cmp::Reverse(t.term));
    terms
}

/// Walks back from the newest term: the first one that `promised` neither holds nor revokes.
/// `None`: nothing more can be acknowledged in the past, and everything that was is in `promised`.
#[must_use]
pub fn obstacle(possible: &[Possible], promised: &BTreeSet<CopyId>) -> Option<TermConfig> {
    for term in by_term(possible) {
        if promised.contains(&term.primary) {
            return None;
        }
        if !term.is_revoked_by(promised) {
            return Some(term);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use pgaf_protocol::{Member, NodeId, Sequence, Stamp, SyncConfig};

    fn entry(term: u64, sequence: u64, primary: u64, number: u32, copies: &[u64]) -> Possible {
        Possible {
            stamp: Stamp {
                term: Term(term),
                sequence: Sequence(sequence),
            },
            primary: CopyId(primary),
            config: SyncConfig::any(
                number,
                copies.iter().map(|c| Member {
                    node: NodeId(i64::try_from(*c).unwrap()),
                    copy: CopyId(*c),
                }),
            ),
        }
    }

    fn set(copies: &[u64]) -> BTreeSet<CopyId> {
        copies.iter().copied().map(CopyId).collect()
    }

    #[test]
    fn in_a_pair_the_only_named_standby_revokes() {
        let list = [entry(1, 5, 1, 1, &[2])];
        assert_eq!(obstacle(&list, &set(&[2])), None);
        assert_eq!(
            obstacle(&list, &set(&[1])),
            None,
            "the primary holds everything itself"
        );
        assert!(obstacle(&list, &set(&[])).is_some());
    }

    #[test]
    fn any_one_of_two_needs_both_standbys_or_the_primary() {
        let list = [entry(1, 5, 1, 1, &[2, 3])];
        assert!(obstacle(&list, &set(&[2])).is_some());
        assert_eq!(obstacle(&list, &set(&[2, 3])), None);
        assert_eq!(
            obstacle(&[entry(1, 5, 1, 2, &[2, 3])], &set(&[3])),
            None,
            "ANY 2 of two: one"
        );
    }

    #[test]
    fn asynchronous_is_passed_by_its_primary_only() {
        let list = [entry(1, 5, 1, 1, &[2]), entry(1, 6, 1, 1, &[])];
        assert!(obstacle(&list, &set(&[2, 3])).is_some());
        assert_eq!(obstacle(&list, &set(&[1])), None);
    }

    #[test]
    fn entries_of_one_term_count_as_their_weakest_reading() {
        let list = [entry(1, 5, 1, 2, &[2, 3]), entry(1, 6, 1, 1, &[3, 4])];
        assert_eq!(
            by_term(&list),
            vec![TermConfig {
                term: Term(1),
                primary: CopyId(1),
                copies: set(&[2, 3, 4]),
                number: 1
            }]
        );
        assert!(obstacle(&list, &set(&[2, 3])).is_some());
    }

    #[test]
    fn a_candidate_nobody_heard_of_again_is_revoked_by_its_names() {
        // Term 2's candidate 2 opened, if at all, under ANY 1 (1): copy 1 alone ends both terms.
        let list = [entry(1, 5, 1, 1, &[2]), entry(2, 9, 2, 1, &[1])];
        assert_eq!(obstacle(&list, &set(&[1])), None);
        assert_eq!(obstacle(&list, &set(&[2])), None);
    }
}
