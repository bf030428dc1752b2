//! The invariants that need to see all nodes: one writer, nothing lost, no promise broken.

use super::postgres::Path;
use super::world::{Misc, State, World};

impl World {
    /// A client sees its commit succeed.
    ///
    /// Only the newest acknowledged record is kept: a record is on one way only, so whoever has it has all
    /// before it, and each new one is checked to be on the same way.
    pub(super) fn acknowledge(&mut self, state: &mut State, node: usize, end: u8) -> Option<u32> {
        let record = self.record(state, node, end)?;
        let misc = self.misc(state).clone();
        let path = self.pg(state, node).disk.as_ref()?.path.clone();
        let Some(newest) = misc.ledger else {
            return self.note(state, misc, record);
        };
        if path.contains(newest) {
            if record.end >= newest.end {
                return self.note(state, misc, record);
            }
            return None;
        }
        // A reply that was long on its way may still end a wait: harmless when the newest record comes
        // after this one.
        let held = (0..self.nodes).any(|other| {
            self.pg(state, other)
                .disk
                .as_ref()
                .is_some_and(|d| d.path.contains(newest) && d.path.contains(record))
        });
        if held {
            return None;
        }
        let text = format!(
            "one-writer, nothing-lost: node {} acknowledges {record:?} and lacks {newest:?}, which was acknowledged",
            node + 1
        );
        Some(self.break_with(text))
    }

    fn note(
        &mut self,
        state: &mut State,
        misc: Misc,
        record: super::postgres::Record,
    ) -> Option<u32> {
        state.misc = self.miscs.put(Misc {
            ledger: Some(record),
            ..misc
        });
        None
    }

    /// A copy was promoted: it has everything that was acknowledged, unless it opens late in a term that
    /// is over, under names that are revoked.
    pub(super) fn check_promotion(&mut self, state: &State, node: usize) -> Option<u32> {
        let newest = self.misc(state).ledger?;
        let path = &self.pg(state, node).disk.as_ref()?.path;
        let term = path.0.last()?.term;
        if path.contains(newest) || term < newest.term {
            return None;
        }
        let text = format!(
            "nothing-lost: node {} is promoted and lacks {newest:?}, which was acknowledged",
            node + 1
        );
        Some(self.break_with(text))
    }

    /// A standby takes WAL: it continues its own, and breaks no promise that the monitor has heard.
    pub(super) fn check_ship(
        &mut self,
        state: &State,
        from: usize,
        to: usize,
        before: &Path,
        path: &Path,
    ) -> Option<u32> {
        if !before.is_beginning_of(path) {
            let text = format!(
                "follows-wrongly: node {} takes WAL that does not continue its own: {before:?} and {path:?}",
                to + 1
            );
            return Some(self.break_with(text));
        }
        let copy = self.pg(state, to).disk.as_ref()?.copy;
        let group = &self.brain(state).group;
        let promise = group
            .nodes
            .values()
            .nth(to)?
            .promise
            .filter(|p| Some(p.copy) == copy)?;
        let position = promise.position?;
        // What comes from a copy that has promised as well, or leads that term, is no new WAL.
        let source = &self.keeper(state, from).journal;
        if source.promise >= Some(promise.term) || source.opened() >= Some(promise.term) {
            return None;
        }
        let wrote = path
            .0
            .iter()
            .filter(|s| s.end > before.end())
            .map(|s| u64::from(s.term))
            .find(|wrote| *wrote < promise.term.0)?;
        if u64::from(path.end()) <= position.lsn.0 {
            return None;
        }
        let text = format!(
            "never-back: node {} promised term {} at {position} and takes WAL of term {wrote}",
            to + 1,
            promise.term
        );
        Some(self.break_with(text))
    }

    /// What a keeper's step did to its own Postgres.
    pub(super) fn check_pg(&mut self, before: &State, after: &State, node: usize) -> Option<u32> {
        let old = self.pg(before, node).disk.as_ref()?;
        let new = self.pg(after, node).disk.as_ref();
        let newest = self.misc(before).ledger?;
        // The last copy that has what was acknowledged is not thrown away.
        let gone = old.path.contains(newest) && new.is_none_or(|d| !d.path.contains(newest));
        let elsewhere = (0..self.nodes).filter(|n| *n != node).any(|n| {
            let pg = self.pg(after, n);
            pg.disk.as_ref().is_some_and(|d| d.path.contains(newest))
        });
        if !gone || elsewhere {
            return None;
        }
        let text = format!(
            "nothing-lost: node {} throws away the last copy of {newest:?}, which was acknowledged",
            node + 1
        );
        Some(self.break_with(text))
    }
}
