//! When commits wait on the fake, and what ends the wait.

use pgaf_fsm::node::Names;

use super::*;
use crate::net::Place;
use crate::pg::SyncNames;
use crate::wal::{Branch, BranchId};

pub(super) fn show_proves_nothing(_seed: u64) {
    let alone = (1..=50).any(|seed| {
        let mut world = copies(seed, 1);
        world.starts(0, &leads(any(0, NOBODY_COUNTS)));
        world.loads(0, &leads(Names::Nobody));
        world.until(|w| w.server(0).names == SyncNames::Nobody);
        world.commit(0);
        world.pass(3);
        world.acknowledged() == 1
    });
    assert!(alone, "a session shows the names only when commits wait");
}

pub(super) fn a_commit_that_waits_proves_that_all_will(seed: u64) {
    let mut world = copies(seed, 1);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.loads(0, &leads(Names::Nobody));
    world.until_commits_wait(0);
    let before = world.acknowledged();
    for _ in 0..20 {
        world.commit(0);
        world.pass(50);
    }
    assert_eq!(world.acknowledged(), before);
}

pub(super) fn two_changes_at_once_are_weaker_than_both(seed: u64) {
    let mut world = copies(seed, 4);
    world.starts(0, &leads(any(2, &[2, 3])));
    for standby in 1..4 {
        world.streams(standby, 0);
    }
    world.pass(1000);
    for standby in [2, 3] {
        world.net.cut(Place::Node(0), Place::Node(standby));
    }
    world.until_commits_wait(0);
    world.pass(1000);
    let waiting = world.server(0).waiters.clone();
    assert!(!waiting.is_empty(), "one of two is not enough");
    // The third standby's walsender reads the new names before the first one's does.
    let sender = |world: &World, node: i64| {
        let mut senders = world.server(0).senders.iter();
        let sender = senders.find(|s| s.node == NodeId(node));
        (sender.unwrap().conn, sender.unwrap().flushed)
    };
    let file = world.conf_file(&leads(any(1, &[4])));
    world.disk(0).conf = file;
    let (conn, flushed) = sender(&world, 4);
    assert!(flushed < waiting[0].lsn, "it has nothing of the commit");
    world.sender_looks(0, conn);
    world.sender_reply(0, conn, flushed, 1);
    assert!(world.server(0).waiters.is_empty());
}

pub(super) fn the_empty_value_frees_waiting_commits(seed: u64) {
    let mut world = copies(seed, 1);
    world.starts(0, &leads(Names::Nobody));
    world.until_commits_wait(0);
    world.loads(0, &leads(any(0, NOBODY_COUNTS)));
    world.until(|w| w.server(0).waiters.is_empty());
    assert_eq!(world.acknowledged(), 1);
}

/// A copy that went its own way on the same timeline, with so many bytes.
fn goes_astray(world: &mut World, host: usize, bytes: u64) {
    let branch = BranchId(world.branches.len());
    world.branches.push(Branch {
        copy: CopyId(99),
        term: Default::default(),
        timeline: 1,
    });
    let disk = world.disk(host);
    let end = disk.path.end() + bytes;
    disk.path.append(branch, 1, end);
    disk.flushed = end;
    disk.redo = end;
}

pub(super) fn a_connecting_receiver_says_flushed_up_to_its_replay(seed: u64) {
    let mut world = copies(seed, 2);
    goes_astray(&mut world, 1, 5000);
    world.starts(0, &leads(any(1, &[2])));
    world.until_commits_wait(0);
    world.start_server(1, true, &follows(0), false);
    while !world.server(0).waiters.is_empty() {
        let next = world.now + 1;
        world.run_until(next);
        // That it goes on with the primary's WAL is noticed as well.
        let noticed = world.failed.take();
        assert!(noticed.is_none_or(|what| what.starts_with("follows-wrongly")));
        assert!(world.now < 10_000, "{}", world.trace());
    }
    assert!(world.acknowledged() > 0);
    let path = world.disk(1).path.clone();
    assert!(
        world.ledger.missing(&path).is_some(),
        "it acknowledged what it does not have"
    );
}

pub(super) fn a_receiver_without_its_slot_is_refused(seed: u64) {
    let mut world = copies(seed, 2);
    world.disk(0).slots.clear();
    world.starts(0, &leads(any(1, &[2])));
    world.starts(1, &follows(0));
    world.until_commits_wait(0);
    for _ in 0..100 {
        world.pass(20);
        assert!(world.server(0).senders.is_empty());
        assert_eq!(world.acknowledged(), 0);
    }
    world.disk(0).slots.insert(NodeId(2));
    let made = world.now;
    world.until(|w| w.acknowledged() == 1);
    assert!(world.now - made < 1000);
}
