//! Faults of the old program that a story cannot tell: each is named as in `docs/old-faults.md`.

use alloc::string::ToString;

use pgaf_protocol::*;

use super::world::World;
use crate::group::operate::{
    set_candidate_priority, set_number_sync_standbys, set_replication_quorum,
};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn formation() -> FormationId {
    FormationId::default()
}

fn number(world: &World) -> u32 {
    world.cluster.formations[&formation()].number_sync_standbys
}

fn primary(world: &World) -> Option<NodeId> {
    world.group().primary.map(|l| l.node)
}

/// The old program gave `apply_settings`, which its keeper could not reach from `single`.
#[test]
fn no_12_a_priority_is_set_while_the_first_standby_joins() {
    let mut world = World::new();
    world.add(true);
    world.run(2000);
    world.add(true);
    for (node, priority) in [(A, 70), (B, 30), (A, 50)] {
        let name = world.group().nodes[&node].name.clone();
        set_candidate_priority(&mut world.cluster, &formation(), &name, priority).unwrap();
        set_replication_quorum(&mut world.cluster, &formation(), &name, true).unwrap();
        world.run(50);
    }
    world.run(3000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
}

/// The old program counted one silent member of the quorum as a missing vote, with the number at 0, too.
#[test]
fn no_20_with_the_number_at_zero_a_dead_standby_is_not_asked() {
    let mut world = World::three();
    set_number_sync_standbys(&mut world.cluster, &formation(), 0).unwrap();
    world.run(1000);
    world.kill(C);
    world.run(6000);
    world.kill(A);
    world.run(8000);
    assert_eq!(primary(&world), Some(B));
    assert_eq!(world.state(2), "wait_primary/wait_primary");
}

/// The old program's number was the formation's: a group of two blocked writes when its standby died.
#[test]
fn no_21_a_group_of_two_goes_on_alone_whatever_the_formation_asks_for() {
    let mut world = World::pair();
    let formation = world.cluster.formations.get_mut(&formation()).unwrap();
    formation.number_sync_standbys = 1;
    world.run(1000);
    world.kill(B);
    world.run(6000);
    assert_eq!(world.state(1), "wait_primary/wait_primary");
    assert_eq!(world.sync(), "''");
}

/// The old program raised an explicit 0 to 1.
#[test]
fn no_22_a_number_that_was_set_by_hand_stays() {
    assert_eq!(number(&World::three()), 1, "raised at the second standby");
    let mut world = World::pair();
    set_number_sync_standbys(&mut world.cluster, &formation(), 0).unwrap();
    world.add(true);
    world.run(3000);
    assert_eq!(number(&world), 0);
}

/// The old program added and subtracted 101, and left it there when an election broke off.
#[test]
fn no_23_priorities_are_as_the_user_set_them_after_a_move_that_breaks_off() {
    let mut world = World::three();
    for (node, priority) in [(A, 60), (B, 40), (C, 20)] {
        let name = world.group().nodes[&node].name.clone();
        set_candidate_priority(&mut world.cluster, &formation(), &name, priority).unwrap();
    }
    world.run(500);
    world.failover(false).unwrap();
    world.run(50);
    world.kill(B);
    world.run(200);
    world.start(B);
    world.run(10_000);
    let priorities = world.group().nodes.values().map(|n| n.candidate_priority);
    assert!(priorities.eq([60, 40, 20]));
}

/// The old program tore replication down on every standby, and nobody could take over.
#[test]
fn no_47_nobody_is_disturbed_when_nobody_can_take_over() {
    let mut world = World::three();
    for node in [B, C] {
        let name = world.group().nodes[&node].name.clone();
        set_candidate_priority(&mut world.cluster, &formation(), &name, 0).unwrap();
    }
    world.run(500);
    let term = world.group().term;
    world.kill(A);
    world.run(10_000);
    assert_eq!(world.group().term, term, "no election was begun");
    for standby in [2, 3] {
        let state = world.state(standby);
        assert!(!state.contains("report_lsn"), "{standby}: {state}");
    }
    assert!(!world.waiting.is_empty(), "it says what it waits for");
    world.start(A);
    world.run(5000);
    assert_eq!(world.state(1), "primary/primary".to_string());
}

/// The old program found the primary by its goal here and by its report there: after a failover both the
/// old and the new one could be named.
#[test]
fn no_45_there_is_one_record_of_who_leads_at_every_moment() {
    let mut world = World::three();
    world.kill(A);
    for _ in 0..400 {
        world.run(20);
        let group = world.group();
        let leads = |n: &&crate::group::Node| {
            matches!(n.goal.order, Order::Lead(_)) && Some(n.id) != primary(&world)
        };
        assert_eq!(group.nodes.values().filter(leads).count(), 0);
    }
    assert_ne!(primary(&world), Some(A));
}
