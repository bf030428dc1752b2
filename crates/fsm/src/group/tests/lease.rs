//! Groups that are asynchronous by choice: a lease instead of names (`safety.md` §5.3-4).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::*;

use super::world::World;
use crate::group::{Phase, longest_ms, restored};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn asynchronous(nodes: usize) -> World {
    let mut world = World::new();
    world.add(true);
    world.run(2000);
    for _ in 1..nodes {
        world.add(false);
        world.run(3000);
    }
    world
}

fn rules(world: &World) -> Vec<String> {
    world.events.iter().map(|e| e.rule.clone()).collect()
}

fn event<'a>(world: &'a World, rule: &str) -> &'a str {
    let found = world.events.iter().rev().find(|e| e.rule == rule);
    found.map_or("", |e| e.description.as_str())
}

fn waits(world: &World, id: &str) -> bool {
    world.waiting.iter().any(|w| w.id == id)
}

#[test]
fn a_group_that_is_asynchronous_by_choice_is_put_into_lease_mode_and_that_is_announced() {
    let world = asynchronous(2);
    assert_eq!(world.state(1), "primary/primary");
    assert_eq!(world.sync(), "''");
    assert!(world.group().lease.is_some_and(|mode| mode.reported));
    assert!(event(&world, "lease.on").contains("asynchronous by choice"));
    assert!(event(&world, "lease.on").contains("16777216 bytes"));
    let alone = asynchronous(1);
    assert_eq!(alone.group().lease, None, "nobody could take over");
}

#[test]
fn the_primary_is_replaced_only_after_its_lease_and_the_event_names_the_possible_loss() {
    let mut world = asynchronous(2);
    // What the standby has not received when the primary dies.
    world.nodes.get_mut(&B).unwrap().upstream = None;
    let end = world.nodes[&A].position.lsn.0 + 900;
    world.nodes.get_mut(&A).unwrap().position.lsn.0 = end;
    world.run(10);
    let granted = world.now;
    world.kill(A);
    world.run(2000);
    assert!(waits(&world, "lease"), "{:?}", world.waiting);
    assert_eq!(world.group().term, Term(1));
    let over = granted.0 + longest_ms(world.settings.lease_ms);
    while world.group().term == Term(1) {
        assert!(world.now.0 < over + 100, "no failover after the lease");
        world.run(10);
    }
    assert!(
        world.now.0 >= over,
        "the term was raised before the lease was over"
    );
    world.run(500);
    assert_eq!(world.state(2), "wait_primary/wait_primary");
    let loss = event(&world, "failover.possible-loss");
    assert!(
        loss.contains("node 1 \"node_1\"") && loss.contains("bytes after"),
        "{loss}"
    );
}

#[test]
fn a_group_without_a_fencer_waits_for_its_primary() {
    let mut world = asynchronous(2);
    world.nodes.get_mut(&A).unwrap().unguarded = true;
    world.run(100);
    assert!(world.group().lease.is_some_and(|mode| !mode.reported));
    world.kill(A);
    world.run(20_000);
    assert_eq!(world.group().term, Term(1));
    assert!(waits(&world, "promise"), "{:?}", world.waiting);
}

#[test]
fn a_standby_that_is_too_far_behind_is_not_promoted() {
    let mut world = asynchronous(2);
    world.nodes.get_mut(&B).unwrap().upstream = None;
    world.nodes.get_mut(&B).unwrap().alive = false;
    world.settings.promote_wal_log_threshold = 500;
    world.nodes.get_mut(&A).unwrap().position.lsn.0 += 5000;
    // Its last report comes before the standby's silence is a verdict.
    world.live.nodes.get_mut(&B).unwrap().session =
        crate::group::Session::Open { since: world.now };
    world.run(10);
    world.kill(A);
    world.start(B);
    world.slow.insert(B);
    world.run(20_000);
    assert_eq!(world.group().term, Term(1), "{:?}", rules(&world));
    let waiting = world.waiting.last().unwrap();
    assert!(
        waiting
            .way_out
            .as_ref()
            .unwrap()
            .contains("--allow-data-loss")
    );
}

#[test]
fn a_restarted_monitor_waits_out_the_longest_lease() {
    let mut world = asynchronous(2);
    world.run(100);
    world.kill(A);
    // Nothing live is left, but for what the shell says at its start.
    world.live = crate::group::LiveGroup {
        listening_since: world.now,
        ..crate::group::LiveGroup::default()
    };
    world.live.note_lease(9000, world.now);
    let closed = crate::group::Session::Closed { since: world.now };
    world.live.nodes.entry(A).or_default().session = closed;
    let over = world.now.0 + longest_ms(9000);
    while world.group().term == Term(1) {
        assert!(world.now.0 < over + 3000, "{:?}", world.waiting);
        world.run(10);
    }
    assert!(world.now.0 >= over);
    world.run(500);
    assert_eq!(world.state(2), "wait_primary/wait_primary");
}

#[test]
fn an_old_primary_that_is_back_before_the_promotion_goes_on_and_nothing_is_lost() {
    let mut world = asynchronous(2);
    world.kill(A);
    world.slow.insert(B);
    world.run(8000);
    assert!(matches!(world.group().phase, Phase::Collecting(_)));
    world.nodes.get_mut(&A).unwrap().position.lsn.0 += 700;
    world.start(A);
    world.run(50);
    world.slow.remove(&B);
    world.run(3000);
    assert_eq!(world.state(1), "primary/primary", "{:?}", rules(&world));
    assert_eq!(event(&world, "failover.possible-loss"), "");
    assert_eq!(world.group().primary.unwrap().node, A);
    assert!(
        world.group().lease.is_some_and(|m| m.since.term == Term(2)),
        "again, in its term"
    );
}

#[test]
fn a_primary_whose_postgres_does_not_start_is_replaced_by_its_promise_without_waiting() {
    let mut world = asynchronous(2);
    let fake = world.nodes.get_mut(&A).unwrap();
    fake.broken = true;
    fake.postgres = Postgres::Down { crashed: true };
    world.run(1000);
    assert_eq!(
        world.group().primary.unwrap().node,
        B,
        "{:?}",
        world.waiting
    );
    assert!(event(&world, "failover.begin").contains("asked to promise"));
}

#[test]
fn from_asynchronous_to_names_the_lease_goes_last() {
    let mut world = asynchronous(2);
    world.nodes.get_mut(&A).unwrap().stubborn = true;
    world
        .group_mut()
        .nodes
        .get_mut(&B)
        .unwrap()
        .replication_quorum = true;
    world.run(1000);
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_2)");
    assert!(world.group().lease.is_some(), "names are not in force yet");
    world.nodes.get_mut(&A).unwrap().stubborn = false;
    world.run(1000);
    assert_eq!(world.group().lease, None);
    assert_eq!(world.group().possible.len(), 1);
    assert!(event(&world, "lease.off").contains("in the replication quorum"));
}

#[test]
fn from_names_to_asynchronous_the_lease_comes_first() {
    let mut world = World::pair();
    world.nodes.get_mut(&A).unwrap().unguarded = true;
    world
        .group_mut()
        .nodes
        .get_mut(&B)
        .unwrap()
        .replication_quorum = false;
    world.run(1000);
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_2)");
    assert!(waits(&world, "lease-mode"), "{:?}", world.waiting);
    world.nodes.get_mut(&A).unwrap().unguarded = false;
    world.run(1000);
    assert_eq!(world.sync(), "''");
    assert_eq!(world.state(1), "primary/primary");
}

#[test]
fn a_standby_that_is_lost_ends_the_lease_and_a_monitor_outage_cannot_stop_the_only_copy() {
    let mut world = asynchronous(2);
    world.kill(B);
    world.run(1000);
    assert_eq!(world.group().lease, None);
    assert_eq!(world.state(1), "wait_primary/wait_primary");
    world.kill(A);
    world.start(B);
    world.run(20_000);
    assert_eq!(
        world.group().term,
        Term(1),
        "`''` without a lease waits for its primary"
    );
}

#[test]
fn the_furthest_of_two_standbys_takes_over() {
    let mut world = asynchronous(3);
    world.nodes.get_mut(&B).unwrap().upstream = None;
    world.slow.insert(B);
    world.run(100);
    world.slow.remove(&B);
    world.kill(A);
    world.run(8000);
    assert_eq!(
        world.group().primary.unwrap().node,
        C,
        "{:?}",
        rules(&world)
    );
}

#[test]
fn a_report_of_an_earlier_lease_mode_does_not_count() {
    let mut world = asynchronous(2);
    let mode = world.group().lease.unwrap();
    let mut report = world.live.nodes[&A].report.clone().unwrap();
    world.group_mut().lease.as_mut().unwrap().since.sequence.0 += 100;
    report.leased = Some(mode.since);
    let mut live = world.live.clone();
    let now = world.now;
    crate::group::fold(world.group_mut(), &mut live, report, now);
    assert!(world.group().lease.is_some_and(|mode| !mode.reported));
}

#[test]
fn a_restored_monitor_knows_of_no_lease_mode() {
    let mut world = asynchronous(2);
    restored(world.group_mut());
    assert_eq!(world.group().lease, None);
    world.run(1000);
    assert!(
        world.group().lease.is_some_and(|mode| mode.reported),
        "asked for anew"
    );
    assert_eq!(world.state(1).to_string(), "primary/primary");
}
