//! Timelines on the fake: which number a promotion takes, whose child it is, and who can follow.

use pgaf_fsm::node::Names;

use super::*;
use crate::apply::rejoin::no_rewind_required;

/// Hosts 1 and 2 are standbys that have the same, of a primary that is gone.
fn two_standbys(seed: u64) -> World {
    let mut world = copies(seed, 3);
    world.starts(0, &leads(any(0, NOBODY_COUNTS)));
    world.streams(1, 0);
    world.streams(2, 0);
    world.commit(0);
    world.pass(100);
    world.caught_up(1, 0);
    world.caught_up(2, 0);
    world.end_server(0, true);
    world
}

fn parents(world: &mut World, host: usize, timeline: u32) -> Vec<u32> {
    let history = world.disk(host).history(timeline).unwrap();
    history.parents.iter().map(|f| f.timeline.0).collect()
}

pub(super) fn two_candidates_open_one_timeline_and_rewind_does_not_see_it(seed: u64) {
    let mut world = two_standbys(seed);
    world.promote_now(1);
    world.promote_now(2);
    let (one, two) = (world.disk(1).clone(), world.disk(2).clone());
    assert_eq!((one.path.timeline(), two.path.timeline()), (2, 2));
    assert!(no_rewind_required(&two, &one));
    assert!(!two.path.same_up_to(&one.path, two.path.end()));
}

pub(super) fn an_empty_history_file_is_a_used_number(seed: u64) {
    let mut world = two_standbys(seed);
    world.disk(1).histories.insert(2, None);
    world.promote_now(1);
    assert_eq!(world.disk(1).path.timeline(), 3);
    assert_eq!(parents(&mut world, 1, 3), [1]);
}

pub(super) fn a_true_history_file_makes_the_dead_branch_the_parent(seed: u64) {
    let mut world = two_standbys(seed);
    world.promote_now(1);
    let dead = world.disk(1).history(2);
    world.disk(2).histories.insert(2, dead);
    world.promote_now(2);
    assert_eq!(world.disk(2).path.timeline(), 3);
    assert_eq!(parents(&mut world, 2, 3), [1, 2]);
}

pub(super) fn an_empty_history_file_holds_a_restarted_standby_for_ever(seed: u64) {
    let mut world = two_standbys(seed);
    world.end_server(1, false);
    world.disk(1).histories.insert(2, None);
    world.start_server(1, true, &receives_nothing(), false);
    world.pass(60_000);
    assert_eq!(world.server(1).doing, Doing::Starting);
    world.end_server(1, false);
    world.disk(1).histories.remove(&2);
    world.starts(1, &receives_nothing());
}

/// Host 1 is a new primary under `names`; host 2 has received more than the switch point, and is let in.
fn past_the_fork(seed: u64, names: &[u32]) -> World {
    let mut world = copies(seed, 3);
    world.starts(0, &leads(Names::Nobody));
    world.streams(1, 0);
    world.streams(2, 0);
    world.loads(1, &receives_nothing());
    world.until(|w| w.server(1).receiver.is_none());
    for _ in 0..10 {
        world.commit(0);
    }
    world.pass(100);
    world.caught_up(2, 0);
    world.end_server(0, true);
    world.loads(
        1,
        &Conf {
            names: any(1, names),
            ..receives_nothing()
        },
    );
    world.pass(1000);
    world.promote_now(1);
    world.loads(2, &follows(1));
    world
}

pub(super) fn a_standby_past_the_fork_is_turned_back_for_ever(seed: u64) {
    let mut world = past_the_fork(seed, NOBODY_COUNTS);
    world.commit(1);
    let mut seen = 0;
    for _ in 0..500 {
        world.pass(20);
        assert!(
            world
                .server(2)
                .receiver
                .as_ref()
                .is_none_or(|r| r.host != 1)
        );
        seen += usize::from(!world.server(1).senders.is_empty());
    }
    assert!(seen > 5, "it is let in again and again");
    assert_eq!(world.disk(2).path.timeline(), 1);
}

pub(super) fn a_standby_past_the_fork_acknowledges(_seed: u64) {
    let acknowledged = (1..=20).any(|seed| {
        let mut world = past_the_fork(seed, &[3]);
        let before = world.acknowledged();
        world.commit(1);
        world.pass(5000);
        assert_eq!(world.disk(2).path.timeline(), 1);
        world.acknowledged() > before
    });
    assert!(acknowledged, "it says nothing when it connects");
}
