//! From one sync configuration to another in safe steps (`safety.md` §2).
//!
//! Between two sets of names, one thing at a time: add, or change the number, or remove; grow
//! first, shrink last; and the next step only once the last one is confirmed. Two changes at once
//! let a mixture be in force that is weaker than both. `''` is the weakest reading there is, so a
//! step from it or to it mixes into nothing weaker: it waits for no confirmation.

use pgaf_protocol::SyncConfig;

/// The next configuration on the way from `current` to `wanted`; `None`: stay.
///
/// `confirmed` tells whether `current` is known to be in force; `last_confirmed` is what may
/// always be gone back to.
#[must_use]
pub fn next_step(
    current: &SyncConfig,
    confirmed: bool,
    last_confirmed: Option<&SyncConfig>,
    wanted: &SyncConfig,
) -> Option<SyncConfig> {
    if current == wanted {
        return None;
    }
    if current.is_asynchronous() || wanted.is_asynchronous() {
        return Some(wanted.clone());
    }
    if !confirmed {
        return last_confirmed.filter(|last| *last == wanted).cloned();
    }
    let mut next = current.clone();
    if let Some(member) = wanted.members.difference(&current.members).next() {
        next.members.insert(*member);
    } else if wanted.number != current.number {
        next.number = wanted.number;
    } else if let Some(member) = current.members.difference(&wanted.members).next() {
        next.members.remove(member);
    }
    (next != *current).then_some(next)
}

/// The way on from a configuration that nobody can confirm: one member more, and nothing less.
///
/// Whatever mixture of both is in force, a commit is on as many members of the larger set: the
/// list reads both entries as that one.
#[must_use]
pub(super) fn grown(current: &SyncConfig, wanted: &SyncConfig) -> Option<SyncConfig> {
    if current.is_asynchronous() {
        return None;
    }
    let member = wanted.members.difference(&current.members).next()?;
    let mut next = current.clone();
    next.members.insert(*member);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use pgaf_protocol::{CopyId, Member, NodeId};

    fn any(number: u32, nodes: &[i64]) -> SyncConfig {
        let member = |n: &i64| Member {
            node: NodeId(*n),
            copy: CopyId(u64::try_from(*n).unwrap()),
        };
        SyncConfig::any(number, nodes.iter().map(member))
    }

    fn walk(from: &SyncConfig, to: &SyncConfig) -> Vec<SyncConfig> {
        let mut steps = Vec::new();
        let mut current = from.clone();
        while let Some(next) = next_step(&current, true, None, to) {
            steps.push(next.clone());
            current = next;
            assert!(steps.len() < 20, "does not end");
        }
        assert_eq!(&current, to);
        steps
    }

    #[test]
    fn names_change_one_thing_at_a_time_and_grow_first() {
        assert_eq!(
            walk(&any(1, &[1, 2]), &any(2, &[2, 3])),
            [any(1, &[1, 2, 3]), any(2, &[1, 2, 3]), any(2, &[2, 3]),]
        );
    }

    #[test]
    fn asynchronous_is_one_step_away_and_needs_no_confirmation() {
        let off = SyncConfig::asynchronous();
        assert_eq!(
            next_step(&any(1, &[2]), false, None, &off),
            Some(off.clone())
        );
        assert_eq!(
            next_step(&off, false, None, &any(1, &[2])),
            Some(any(1, &[2]))
        );
    }

    #[test]
    fn an_unconfirmed_step_can_only_be_taken_back() {
        let (old, now, wanted) = (any(1, &[2]), any(1, &[2, 3]), any(1, &[3]));
        assert_eq!(next_step(&now, false, Some(&old), &wanted), None);
        assert_eq!(next_step(&now, false, Some(&old), &old), Some(old.clone()));
        assert_eq!(next_step(&now, true, Some(&old), &wanted), Some(wanted));
    }

    #[test]
    fn names_that_nobody_can_confirm_grow_and_do_not_shrink() {
        let (now, wanted) = (any(1, &[2]), any(1, &[3]));
        assert_eq!(grown(&now, &wanted), Some(any(1, &[2, 3])));
        assert_eq!(grown(&any(1, &[2, 3]), &wanted), None);
        assert_eq!(grown(&SyncConfig::asynchronous(), &wanted), None);
    }
}
