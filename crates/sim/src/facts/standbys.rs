//! Standbys on the fake: how they stop receiving, are promoted, restart, and see their primary.

use super::*;
use crate::event::PgEvent;
use crate::pg::SEGMENT;

pub(super) fn no_commit_slips_through_a_promotion(seed: u64) {
    let mut world = copies(seed, 2);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.streams(1, 0);
    world.caught_up(1, 0);
    world.end_server(0, true);
    world.promote_now(1);
    for _ in 0..50 {
        world.commit(1);
        world.pass(5);
    }
    assert_eq!(world.acknowledged(), 0);
    assert!(!world.server(1).recovery);
}

pub(super) fn a_promise_needs_no_restart(seed: u64) {
    let mut world = copies(seed, 2);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.streams(1, 0);
    let boot = world.server(1).boot;
    world.loads(1, &receives_nothing());
    world.until(|w| w.server(1).receiver.is_none());
    world.commit(0);
    world.pass(5000);
    assert!(world.server(1).receiver.is_none());
    assert_eq!(world.server(1).boot, boot);
}

pub(super) fn sigterm_ends_a_receiver_that_held_replay_keeps(seed: u64) {
    let mut world = copies(seed, 2);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.streams(1, 0);
    world.hold_replay(1, 5000);
    world.loads(1, &receives_nothing());
    world.pass(4000);
    assert!(
        world.server(1).receiver.is_some(),
        "the startup process reads nothing while it waits"
    );
    world.end_receiver(1);
    world.pass(5000);
    assert!(world.server(1).receiver.is_none());
}

pub(super) fn a_promotion_waits_for_a_conflicting_query(seed: u64) {
    let mut world = copies(seed, 2);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.streams(1, 0);
    world.hold_replay(1, 5000);
    world.commit(0);
    world.pass(1000);
    world.end_server(0, true);
    let end = world.disk(1).path.end();
    assert!(
        world.server(1).replayed < end,
        "there is something to replay"
    );
    world.pg_event(1, 0, PgEvent::Promoted);
    world.pass(3000);
    assert!(world.server(1).recovery);
    world.until(|w| !w.server(1).recovery);
    assert!(world.server(1).replayed >= end);
}

pub(super) fn received_is_not_known_after_a_restart(seed: u64) {
    let mut world = copies(seed, 2);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.streams(1, 0);
    world.commit(0);
    world.caught_up(1, 0);
    let before = world.server(1).received.unwrap();
    world.end_server(0, true);
    world.end_server(1, false);
    world.starts(1, &follows(0));
    assert_eq!(world.server(1).received, None);
    world.until(|w| w.server(1).received.is_some());
    let begin = world.server(1).received.unwrap();
    assert_eq!(begin % SEGMENT, 0);
    assert!(begin < before);
    world.end_server(1, false);
    world.starts(1, &receives_nothing());
    world.pass(5000);
    assert_eq!(world.server(1).received, None);
}

pub(super) fn a_frozen_primary_still_shows_as_streaming(seed: u64) {
    let mut world = copies(seed, 2);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.streams(1, 0);
    world.freeze(0);
    world.pass(3000);
    let now = world.now;
    let seen = world.hosts[1].pg.look(now).unwrap().receiver.unwrap();
    assert!(seen.streaming && !seen.fresh, "{seen:?}");
}
