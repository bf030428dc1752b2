//! Replication settings: who counts, how many must have a commit, and the safe order of changes.

use alloc::string::String;
use alloc::vec::Vec;

use pgaf_protocol::*;

use super::world::World;
use crate::group::operate;

/// So many nodes, settled.
fn group(nodes: usize) -> World {
    let mut world = World::pair();
    for _ in 2..nodes {
        world.add(true);
        world.run(3000);
    }
    world
}

fn number(world: &World) -> u32 {
    world.cluster.formations[&FormationId::default()].number_sync_standbys
}

fn set_number(world: &mut World, number: i64) {
    operate::set_number_sync_standbys(&mut world.cluster, &FormationId::default(), number).unwrap();
}

fn set_quorum(world: &mut World, node: i64, quorum: bool) {
    let name = world.group().nodes[&NodeId(node)].name.clone();
    let formation = FormationId::default();
    operate::set_replication_quorum(&mut world.cluster, &formation, &name, quorum).unwrap();
}

/// The configuration that is listed now, and every later one, in order.
fn listed(world: &mut World, ms: u64) -> Vec<SyncConfig> {
    let newest = |world: &World| world.group().possible.last().unwrap().config.clone();
    let mut all: Vec<SyncConfig> = [newest(world)].into();
    for _ in 0..ms / 10 {
        world.run(10);
        let now = newest(world);
        if all.last() != Some(&now) {
            all.push(now);
        }
    }
    all
}

/// Between names, one thing at a time: a name more, or another number, or a name less.
fn one_thing_at_a_time(steps: &[SyncConfig]) {
    for pair in steps.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        let added = to.members.difference(&from.members).count();
        let removed = from.members.difference(&to.members).count();
        let renumbered = usize::from(from.number != to.number);
        assert_eq!(added + removed + renumbered, 1, "{from} -> {to}");
    }
}

fn texts(steps: &[SyncConfig]) -> Vec<String> {
    steps
        .iter()
        .map(|s| alloc::format!("{s}").replace("pgautofailover_standby_", ""))
        .collect()
}

#[test]
fn the_number_is_raised_at_the_second_standby_unless_it_was_set_by_hand() {
    let world = group(2);
    assert_eq!(number(&world), 0);
    assert_eq!(number(&group(3)), 1);
    let mut by_hand = group(3);
    set_number(&mut by_hand, 0);
    by_hand.add(true);
    by_hand.run(3000);
    assert_eq!(number(&by_hand), 0);
    let mut not_counted = World::pair();
    not_counted.add(false);
    not_counted.run(3000);
    assert_eq!(number(&not_counted), 0, "it does not count");
}

#[test]
fn a_number_that_the_group_cannot_have_is_clamped_where_it_is_used() {
    let mut world = group(4);
    set_number(&mut world, 2);
    let steps = listed(&mut world, 3000);
    assert_eq!(texts(&steps).last().unwrap(), "ANY 2 (2, 3, 4)");
    set_quorum(&mut world, 4, false);
    let steps = listed(&mut world, 3000);
    one_thing_at_a_time(&steps);
    assert_eq!(texts(&steps).last().unwrap(), "ANY 1 (2, 3)");
    assert_eq!(number(&world), 2, "the setting stands");
}

#[test]
fn names_grow_first_and_shrink_last() {
    let mut world = group(4);
    set_quorum(&mut world, 4, false);
    let steps = listed(&mut world, 3000);
    assert_eq!(texts(&steps), ["ANY 1 (2, 3, 4)", "ANY 1 (2, 3)"]);
    set_quorum(&mut world, 4, true);
    set_quorum(&mut world, 2, false);
    let steps = listed(&mut world, 3000);
    one_thing_at_a_time(&steps);
    assert_eq!(
        texts(&steps),
        ["ANY 1 (2, 3)", "ANY 1 (2, 3, 4)", "ANY 1 (3, 4)"]
    );
}

#[test]
fn who_does_not_count_any_more_leaves_though_too_few_are_left_for_the_number() {
    let mut world = group(5);
    set_number(&mut world, 3);
    world.run(3000);
    assert!(world.sync().starts_with("ANY 3 "), "{}", world.sync());
    for node in [3, 4] {
        world.kill(NodeId(node));
    }
    world.run(4000);
    set_quorum(&mut world, 5, false);
    let steps = listed(&mut world, 4000);
    one_thing_at_a_time(&steps);
    assert_eq!(
        texts(&steps),
        [
            "ANY 3 (2, 3, 4, 5)",
            "ANY 2 (2, 3, 4, 5)",
            "ANY 2 (2, 3, 4)"
        ]
    );
}

#[test]
fn a_change_of_priority_moves_nobody_and_counts_at_the_next_move() {
    let mut world = group(3);
    let name = world.group().nodes[&NodeId(3)].name.clone();
    let formation = FormationId::default();
    operate::set_candidate_priority(&mut world.cluster, &formation, &name, 90).unwrap();
    world.run(2000);
    assert_eq!(world.group().primary.unwrap().node, NodeId(1));
    assert_eq!(world.group().term, Term(1));
    world.failover(false).unwrap();
    world.run(4000);
    assert_eq!(world.group().primary.unwrap().node, NodeId(3));
}
