//! The numbers that grow for ever, and their canonical form.
//!
//! Sequences, copies, starts of Postgres and runs of the monitor are compared with each other and with
//! nothing else, so a state means the same when they are renumbered without gaps and in order. Sequences are numbered per node (the
//! goals of one node are compared with each other only) and once for the list of configurations. Without
//! this the space would be infinite: a standby that is lost and found again counts one up.

use std::collections::BTreeSet;

use pgaf_fsm::group::{Group, Live, Phase};
use pgaf_fsm::node::{Conf, Journal, Memory, Names as ConfNames, Work};
use pgaf_protocol::{
    CopyId, Goal, Incarnation, Lead, Member, NodeId, Order, Postgres, Promise, Report, Sequence,
    Stamp, SyncConfig,
};

use super::NODES;

/// Which numbers something uses: one bit each, for each of the orders they are compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Marks {
    /// Sequences of goals, per node; the last one is that of the list of configurations.
    pub(super) stamps: [u64; NODES + 1],
    pub(super) copies: u64,
    /// Starts of Postgres, per node.
    pub(super) boots: [u64; NODES],
    /// Runs of the monitor.
    pub(super) runs: u64,
}

/// The order of the stamps on the list of configurations.
const LIST: usize = NODES;

impl Marks {
    pub(super) fn add(&mut self, other: &Self) {
        for (a, b) in self.stamps.iter_mut().zip(other.stamps) {
            *a |= b;
        }
        self.copies |= other.copies;
        for (a, b) in self.boots.iter_mut().zip(other.boots) {
            *a |= b;
        }
        self.runs |= other.runs;
    }

    /// Whether the numbers have no gap.
    pub(super) fn is_dense(&self) -> bool {
        let dense = |mask: u64| (mask >> 1) & ((mask >> 1) + 1) == 0;
        self.stamps.iter().all(|m| dense(*m))
            && dense(self.copies)
            && dense(self.runs)
            && self.boots.iter().all(|m| dense(*m))
    }

    /// The highest sequence once there are no gaps.
    pub(super) fn highest(&self) -> u64 {
        self.stamps
            .iter()
            .map(|m| u64::from((m >> 1).count_ones()))
            .max()
            .unwrap_or(0)
    }

    /// The part of `self` that something with these marks can meet.
    pub(super) fn of_interest(&self, to: &Self) -> Self {
        let mut part = *self;
        for (a, b) in part.stamps.iter_mut().zip(to.stamps) {
            *a = if b == 0 { 0 } else { *a };
        }
        part.copies = if to.copies == 0 { 0 } else { part.copies };
        part.runs = if to.runs == 0 { 0 } else { part.runs };
        for (a, b) in part.boots.iter_mut().zip(to.boots) {
            *a = if b == 0 { 0 } else { *a };
        }
        part
    }
}

/// Reads all numbers, or renumbers them.
#[derive(Debug)]
pub(super) enum Names {
    Collect(Marks),
    Renumber(Marks),
}

impl Names {
    fn number(mask: &mut u64, renumber: bool, number: u64) -> u64 {
        if number == 0 {
            return 0;
        }
        assert!(number < 64, "the bounds let a number grow past 63");
        if renumber {
            u64::from(((*mask >> 1) & ((1 << (number - 1)) - 1)).count_ones()) + 1
        } else {
            *mask |= 1 << number;
            number
        }
    }

    fn parts(&mut self) -> (&mut Marks, bool) {
        match self {
            Self::Collect(marks) => (marks, false),
            Self::Renumber(marks) => (marks, true),
        }
    }

    pub(super) fn goal_stamp(&mut self, node: NodeId, stamp: &mut Stamp) {
        let (marks, renumber) = self.parts();
        let mask = &mut marks.stamps[index(node)];
        stamp.sequence = Sequence(Self::number(mask, renumber, stamp.sequence.0));
    }

    pub(super) fn list_stamp(&mut self, stamp: &mut Stamp) {
        let (marks, renumber) = self.parts();
        let mask = &mut marks.stamps[LIST];
        stamp.sequence = Sequence(Self::number(mask, renumber, stamp.sequence.0));
    }

    pub(super) fn copy(&mut self, copy: &mut CopyId) {
        let (marks, renumber) = self.parts();
        copy.0 = Self::number(&mut marks.copies, renumber, copy.0);
    }

    pub(super) fn boot(&mut self, node: NodeId, boot: &mut i64) {
        let (marks, renumber) = self.parts();
        let number = u64::try_from(*boot).unwrap_or(0);
        let number = Self::number(&mut marks.boots[index(node)], renumber, number);
        *boot = i64::try_from(number).unwrap_or(0);
    }

    pub(super) fn run(&mut self, run: &mut Incarnation) {
        let (marks, renumber) = self.parts();
        run.0 = Self::number(&mut marks.runs, renumber, run.0);
    }

    fn members(&mut self, members: &mut BTreeSet<Member>) {
        let old = core::mem::take(members);
        members.extend(old.into_iter().map(|mut member| {
            self.copy(&mut member.copy);
            member
        }));
    }

    fn sync(&mut self, sync: &mut SyncConfig) {
        self.members(&mut sync.members);
    }
}

/// Something that holds numbers.
pub(super) trait Numbered {
    fn visit(&mut self, names: &mut Names);
}

pub(super) fn index(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).unwrap_or(0).min(NODES - 1)
}

fn goal(node: NodeId, goal: &mut Goal, names: &mut Names) {
    names.goal_stamp(node, &mut goal.stamp);
    match &mut goal.order {
        Order::Lead(Lead {
            sync,
            sync_stamp,
            admitted,
            lease,
            ..
        }) => {
            names.sync(sync);
            names.list_stamp(sync_stamp);
            names.members(admitted);
            if let Some(stamp) = lease {
                names.list_stamp(stamp);
            }
        }
        Order::Promote(order) => {
            names.sync(&mut order.sync);
            names.list_stamp(&mut order.sync_stamp);
            names.members(&mut order.admitted);
        }
        Order::Fetch(order) => {
            if let Some(copy) = &mut order.replace {
                names.copy(copy);
            }
        }
        Order::Wait
        | Order::Follow(_)
        | Order::Promise { .. }
        | Order::Reach(_)
        | Order::Stop
        | Order::Drop => {}
    }
}

/// A goal on its way to a node.
pub(super) fn message(node: NodeId, it: &mut Goal, names: &mut Names) {
    goal(node, it, names);
}

fn promise(promise: &mut Option<Promise>, names: &mut Names) {
    if let Some(promise) = promise {
        names.copy(&mut promise.copy);
    }
}

impl Numbered for Group {
    fn visit(&mut self, names: &mut Names) {
        if let Names::Renumber(marks) = names {
            self.sequence = Sequence(marks.highest());
        }
        if let Some(copy) = self.primary.as_mut().and_then(|l| l.copy.as_mut()) {
            names.copy(copy);
        }
        if let Phase::Promoting { copy, .. } = &mut self.phase {
            names.copy(copy);
        }
        if let Some(mode) = &mut self.lease {
            names.list_stamp(&mut mode.since);
            names.copy(&mut mode.copy);
        }
        for entry in &mut self.possible {
            names.list_stamp(&mut entry.stamp);
            names.copy(&mut entry.primary);
            names.sync(&mut entry.config);
        }
        for (id, node) in &mut self.nodes {
            goal(*id, &mut node.goal, names);
            if let Some(copy) = &mut node.copy {
                names.copy(copy);
            }
            promise(&mut node.promise, names);
            if let Some(confirmed) = &mut node.confirmed {
                names.list_stamp(&mut confirmed.stamp);
                names.boot(*id, &mut confirmed.postmaster_start);
            }
            if let Some((_, copy)) = &mut node.admitted {
                names.copy(copy);
            }
            if let Some(fetched) = &mut node.fetched {
                names.goal_stamp(*id, &mut fetched.stamp);
                if let Some((copy, _)) = &mut fetched.before {
                    names.copy(copy);
                }
            }
        }
    }
}

impl Numbered for Report {
    fn visit(&mut self, names: &mut Names) {
        let node = self.node;
        names.goal_stamp(node, &mut self.seen);
        names.goal_stamp(node, &mut self.reached);
        if let Some(copy) = &mut self.copy {
            names.copy(copy);
        }
        if let Postgres::Running { since, .. } = &mut self.postgres {
            names.boot(node, since);
        }
        promise(&mut self.promise, names);
        if let Some(confirmed) = &mut self.confirmed {
            names.list_stamp(&mut confirmed.stamp);
            names.boot(node, &mut confirmed.postmaster_start);
        }
        if let Some(stamp) = &mut self.checkpointed {
            names.goal_stamp(node, stamp);
        }
        if let Some(stamp) = &mut self.leased {
            names.list_stamp(stamp);
        }
    }
}

impl Numbered for Live {
    fn visit(&mut self, names: &mut Names) {
        if let Some(report) = &mut self.report {
            report.visit(names);
        }
    }
}

impl Numbered for Journal {
    fn visit(&mut self, names: &mut Names) {
        let node = self.node;
        names.goal_stamp(node, &mut self.seen);
        names.goal_stamp(node, &mut self.reached);
        if let Some(run) = &mut self.incarnation {
            names.run(run);
        }
        if let Some(it) = &mut self.goal {
            goal(node, it, names);
        }
        if let Some(copy) = &mut self.copy {
            names.copy(copy);
        }
        match &mut self.work {
            Some(Work::Initdb { copy } | Work::Rewind { copy } | Work::Replace { copy }) => {
                names.copy(copy);
            }
            Some(Work::Promote { .. }) | None => {}
        }
    }
}

/// What a run of a keeper of this node remembers.
pub(super) fn memory(node: NodeId, memory: &mut Memory, names: &mut Names) {
    names.copy(&mut memory.fresh);
    if let Some(copy) = &mut memory.staged {
        names.copy(copy);
    }
    if let Some(stamp) = &mut memory.checkpointed {
        names.goal_stamp(node, stamp);
    }
    if let Some(confirmed) = &mut memory.confirmed {
        names.list_stamp(&mut confirmed.stamp);
        names.boot(node, &mut confirmed.postmaster_start);
    }
    if let Some(slots) = &mut memory.slots {
        names.boot(node, &mut slots.since);
    }
    if let Some(Conf {
        names: ConfNames::Sync(sync),
        ..
    }) = &mut memory.conf
    {
        names.sync(sync);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renumbering_closes_gaps_and_keeps_the_order() {
        let marks = Marks {
            copies: 0b1010_0100,
            ..Marks::default()
        };
        assert!(!marks.is_dense());
        let mut names = Names::Renumber(marks);
        let numbers = [2, 5, 7, 0].map(|n| {
            let mut copy = CopyId(n);
            names.copy(&mut copy);
            copy.0
        });
        assert_eq!(numbers, [1, 2, 3, 0]);
        let dense = Marks {
            copies: 0b1110,
            ..Marks::default()
        };
        assert!(dense.is_dense());
    }
}
