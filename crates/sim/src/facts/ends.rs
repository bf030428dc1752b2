//! How servers end on the fake, and what happens while they do.

use pgaf_fsm::node::Names;

use super::*;

pub(super) fn a_fast_stop_cancels_waits_and_keeps_the_row(seed: u64) {
    let mut world = copies(seed, 1);
    world.starts(0, &leads(Names::Nobody));
    world.until_commits_wait(0);
    let (branch, lsn) = (
        world.server(0).branch.unwrap(),
        world.server(0).waiters[0].lsn,
    );
    world.begin_fast_stop(0);
    while !world.end_fast_stop(0) {
        world.pass(5);
    }
    assert_eq!(world.acknowledged(), 0, "it is no success");
    world.starts(0, &leads(Names::Nobody));
    assert!(world.disk(0).path.contains(branch, lsn), "and it is there");
}

pub(super) fn children_of_a_killed_postmaster_acknowledge(_seed: u64) {
    let acknowledged = (1..=20).any(|seed| {
        let mut world = copies(seed, 1);
        world.starts(0, &leads(any(0, NOBODY_COUNTS)));
        world.behead(0);
        world.commit(0);
        world.pass(500);
        assert!(world.hosts[0].pg.server.is_none(), "they end soon");
        world.acknowledged() == 1
    });
    assert!(acknowledged, "the children end at once");
}
