//! Maintenance of a standby and of the primary, and how it ends when something happens meanwhile.

use pgaf_protocol::NodeId;

use super::world::World;
use crate::group::Refusal;
use crate::group::operate::{self, Now};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn start(world: &mut World, node: NodeId) -> Result<(), Refusal> {
    let live = world.live.clone();
    let at = Now {
        live: &live,
        settings: &world.settings,
        now: world.now,
    };
    operate::start_maintenance(&mut world.cluster, node, at).map(drop)
}

fn stop(world: &mut World, node: NodeId) -> Result<(), Refusal> {
    operate::stop_maintenance(&mut world.cluster, node).map(drop)
}

#[test]
fn a_standby_leaves_the_names_and_rests_until_it_is_called_back() {
    let mut world = World::pair();
    start(&mut world, B).unwrap();
    world.run(1000);
    assert_eq!(
        (world.state(1), world.state(2)),
        (
            "wait_primary/wait_primary".into(),
            "maintenance/maintenance".into()
        )
    );
    assert_eq!(world.sync(), "''");
    // Asked again, nothing changes.
    start(&mut world, B).unwrap();
    stop(&mut world, B).unwrap();
    world.run(3000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_2)");
    assert_eq!(stop(&mut world, B).unwrap_err().sqlstate, "55000");
}

#[test]
fn a_primary_hands_over_first_and_rests_as_a_standby() {
    let mut world = World::pair();
    start(&mut world, A).unwrap();
    world.run(5000);
    assert_eq!(
        (world.state(1), world.state(2)),
        (
            "maintenance/maintenance".into(),
            "wait_primary/wait_primary".into()
        )
    );
    stop(&mut world, A).unwrap();
    world.run(5000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("secondary/secondary".into(), "primary/primary".into())
    );
}

#[test]
fn maintenance_of_a_primary_that_nobody_can_follow_is_refused() {
    let mut world = World::pair();
    start(&mut world, B).unwrap();
    world.run(1000);
    let refusal = start(&mut world, A).unwrap_err();
    assert!(refusal.message.contains("is in maintenance"), "{refusal}");
    assert_eq!(world.state(1), "wait_primary/wait_primary");
}

#[test]
fn a_group_of_three_keeps_its_synchronous_standby_and_fails_over_without_the_one_that_rests() {
    let mut world = World::pair();
    let c = world.add(true);
    world.run(3000);
    start(&mut world, B).unwrap();
    world.run(1000);
    assert_eq!(world.state(2), "maintenance/maintenance");
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_3)");
    world.kill(A);
    world.run(5000);
    assert_eq!(world.state(2), "maintenance/maintenance");
    assert_eq!(world.group().primary.unwrap().node, c);
    stop(&mut world, B).unwrap();
    world.run(5000);
    assert_eq!(world.state(2), "secondary/secondary");
    assert_eq!(world.state(3), "primary/primary");
}

#[test]
fn an_asynchronous_group_does_not_wait_for_the_promise_of_one_that_rests() {
    let mut world = World::new();
    for quorum in [false; 3] {
        world.add(quorum);
        world.run(2000);
    }
    start(&mut world, B).unwrap();
    world.run(1000);
    assert_eq!(world.state(2), "maintenance/maintenance");
    world.kill(A);
    world.run(8000);
    assert_eq!(world.group().primary.unwrap().node, NodeId(3));
    assert_eq!(world.state(2), "maintenance/maintenance");
}

#[test]
fn a_standby_on_its_way_is_promoted_when_the_primary_is_lost() {
    let mut world = World::pair();
    // The primary goes before it can confirm that the standby does not count any more.
    world.nodes.get_mut(&A).unwrap().stubborn = true;
    start(&mut world, B).unwrap();
    world.run(300);
    assert!(
        world.state(2).contains("wait_maintenance"),
        "{}",
        world.state(2)
    );
    world.kill(A);
    world.run(5000);
    assert!(!world.group().nodes[&B].maintenance);
    // `''` may have been in force: only the old primary's own promise shows what it held.
    assert!(!world.waiting.is_empty());
    world.nodes.get_mut(&A).unwrap().stubborn = false;
    world.start(A);
    world.run(5000);
    let mut states = [world.state(1), world.state(2)];
    states.sort();
    assert_eq!(states, ["primary/primary", "secondary/secondary"]);
}

#[test]
fn maintenance_that_cannot_begin_is_given_up_in_time() {
    let mut world = World::pair();
    world.nodes.get_mut(&A).unwrap().stubborn = true;
    start(&mut world, B).unwrap();
    world.run(2000);
    assert!(world.group().nodes[&B].maintenance);
    assert!(world.waiting.iter().any(|w| w.id == "maintenance"));
    world.run(50_000);
    assert!(!world.group().nodes[&B].maintenance);
    world.nodes.get_mut(&A).unwrap().stubborn = false;
    world.run(5000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
}

#[test]
fn a_primary_that_is_lost_before_it_hands_over_comes_back_as_a_standby_that_nobody_maintains() {
    let mut world = World::pair();
    start(&mut world, A).unwrap();
    world.kill(A);
    world.run(5000);
    assert_eq!(world.group().primary.unwrap().node, B);
    world.start(A);
    world.run(5000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("secondary/secondary".into(), "primary/primary".into())
    );
}
