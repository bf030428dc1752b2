//! The common cases of `safety.md` §12, as the monitor lives them.

use alloc::string::ToString;

use pgaf_protocol::*;

use super::world::World;
use crate::group::Phase;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

#[test]
fn a_keeper_that_knows_a_later_goal_than_a_restored_store_is_given_a_newer_one() {
    let mut world = World::pair();
    let older = world.group().clone();
    // The standby was told something and the same again after that store was copied.
    world.group_mut().sequence.0 += 7;
    let later = Stamp {
        term: older.term,
        sequence: Sequence(older.sequence.0 + 7),
    };
    world
        .nodes
        .get_mut(&B)
        .unwrap()
        .goal
        .as_mut()
        .unwrap()
        .stamp = later;
    *world.group_mut() = older;
    crate::group::restored(world.group_mut());
    world.run(1000);
    assert_eq!(world.group().doubted, None);
    assert!(world.group().nodes[&B].goal.stamp > later);
    assert_eq!(world.state(2), "secondary/secondary");
}

#[test]
fn a_lone_node_is_single() {
    let mut world = World::new();
    world.add(true);
    world.run(200);
    assert_eq!(world.state(1), "single/single");
    assert_eq!(world.sync(), "''");
}

#[test]
fn a_pair_settles_with_confirmed_names() {
    let world = World::pair();
    assert_eq!(
        (world.state(1), world.state(2)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_2)");
    assert_eq!(
        world.group().possible.len(),
        1,
        "the confirmation removed '': {:?}",
        world.group().possible
    );
    assert_eq!(world.waiting, []);
}

#[test]
fn names_that_are_never_confirmed_leave_asynchronous_on_the_list() {
    let mut world = World::new();
    world.add(true);
    world.run(500);
    world.nodes.get_mut(&A).unwrap().stubborn = true;
    world.add(true);
    world.run(3000);
    assert!(
        world
            .group()
            .possible
            .iter()
            .any(|p| p.config.is_asynchronous())
    );
    assert_eq!(world.state(1), "wait_primary/primary");
    world.kill(A);
    world.run(5000);
    assert_eq!(
        world.state(2).split('/').next(),
        Some("secondary"),
        "no failover on a guess"
    );
    assert_eq!(world.waiting[0].id, "promise");
}

#[test]
fn a_switchover_moves_the_primary_and_both_settle() {
    let mut world = World::pair();
    world.failover(false).unwrap();
    world.run(3000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("secondary/secondary".into(), "primary/primary".into())
    );
    assert_eq!(world.group().term, Term(2));
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_1)");
    assert_eq!(
        world.nodes[&A].copy,
        Some(CopyId(100)),
        "it followed as it was"
    );
}

#[test]
fn a_dead_primary_is_replaced_and_comes_back() {
    let mut world = World::pair();
    world.kill(A);
    world.run(300);
    assert_eq!(world.state(2), "wait_primary/wait_primary");
    assert_eq!(world.state(1), "primary/demoted");
    assert_eq!(world.sync(), "''");
    world.start(A);
    world.run(3000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("secondary/secondary".into(), "primary/primary".into())
    );
}

#[test]
fn a_dead_standby_is_taken_out_and_comes_back() {
    let mut world = World::pair();
    world.kill(B);
    world.run(500);
    assert_eq!(world.state(1), "wait_primary/wait_primary");
    assert_eq!(world.state(2), "secondary/catchingup");
    world.start(B);
    world.run(2000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
}

#[test]
fn a_primary_alone_is_not_replaced_without_its_promise_or_an_operator() {
    let mut world = World::pair();
    world.kill(B);
    world.run(500);
    world.kill(A);
    world.start(B);
    world.run(10_000);
    assert_eq!(world.group().term, Term(1), "nobody was disturbed");
    assert_eq!(world.waiting.last().unwrap().nodes, [A]);
    assert!(
        world
            .waiting
            .last()
            .unwrap()
            .way_out
            .as_ref()
            .unwrap()
            .contains("--allow-data-loss")
    );
    assert!(
        world
            .failover(false)
            .unwrap_err()
            .message
            .contains("cannot be asked")
    );
    world.failover(true).unwrap();
    world.run(3000);
    assert_eq!(world.state(2), "wait_primary/wait_primary");
    world.start(A);
    world.run(3000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("secondary/secondary".into(), "primary/primary".into())
    );
}

#[test]
fn a_switchover_is_refused_in_advance_when_nobody_is_eligible() {
    let mut world = World::pair();
    world.kill(B);
    world.run(500);
    let refused = world.failover(false).unwrap_err();
    assert!(
        refused.message.contains("nobody could take over: node 2"),
        "{}",
        refused.message
    );
    assert_eq!(world.group().phase, Phase::Steady);
}

#[test]
fn a_switchover_whose_candidate_dies_goes_back_to_the_old_primary() {
    let mut world = World::pair();
    world.failover(false).unwrap();
    for _ in 0..200 {
        world.run(10);
        if matches!(&world.group().phase, Phase::Collecting(e) if e.reaching.is_none()) {
            break;
        }
    }
    world.kill(B);
    world.run(5000);
    assert_eq!(world.state(1), "wait_primary/wait_primary");
    assert_eq!(world.group().term, Term(2));
    assert_eq!(
        world.nodes[&A].history.timeline,
        TimelineId(1),
        "opened in place"
    );
}

#[test]
fn a_candidate_that_dies_while_it_is_promoted_is_followed_by_a_new_term() {
    let mut world = World::pair();
    world.failover(false).unwrap();
    for _ in 0..300 {
        world.run(10);
        if matches!(world.group().phase, Phase::Promoting { .. }) {
            break;
        }
    }
    world.kill(B);
    world.run(5000);
    assert_eq!(world.group().term, Term(3));
    assert_eq!(world.state(1), "wait_primary/wait_primary");
    assert_eq!(
        world.nodes[&A].history.timeline,
        TimelineId(3),
        "timeline 2 counts as used"
    );
}

#[test]
fn power_lost_everywhere_comes_back_in_any_order() {
    let mut world = World::pair();
    world.kill(A);
    world.kill(B);
    world.run(5000);
    assert_eq!(world.group().term, Term(1));
    world.start(B);
    world.run(3000);
    assert_eq!(
        world.state(2),
        "wait_primary/wait_primary",
        "B holds every acknowledged commit"
    );
    world.start(A);
    world.run(3000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("secondary/secondary".into(), "primary/primary".into())
    );
}

#[test]
fn a_group_asynchronous_by_choice_replicates_and_moves_on_command_only() {
    let mut world = World::new();
    world.add(false);
    world.run(500);
    world.add(false);
    world.run(2000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
    assert_eq!(world.sync(), "''");
    world.failover(false).unwrap();
    world.run(3000);
    assert_eq!(world.state(2).split('/').next(), Some("primary"));
    world.kill(B);
    world.run(5000);
    assert_eq!(world.group().term, Term(2));
    assert!(!world.waiting.is_empty());
}

#[test]
fn a_standby_that_is_dropped_leaves_the_names_first() {
    let mut world = World::pair();
    world.group_mut().nodes.get_mut(&B).unwrap().leaving = true;
    world.run(500);
    assert!(!world.group().nodes.contains_key(&B));
    assert_eq!(world.state(1), "single/single");
    let names: alloc::vec::Vec<_> = world
        .group()
        .possible
        .iter()
        .map(|p| p.config.to_string())
        .collect();
    assert_eq!(names, ["''"]);
}

#[test]
fn a_primary_that_is_dropped_hands_over_first() {
    let mut world = World::pair();
    world.group_mut().nodes.get_mut(&A).unwrap().leaving = true;
    world.run(3000);
    assert!(!world.group().nodes.contains_key(&A));
    assert_eq!(world.state(2), "single/single");
}

#[test]
fn a_promotion_under_the_lost_primary_alone_goes_on_with_whoever_comes_back() {
    let mut world = World::pair();
    let c = world.add(true);
    world.run(3000);
    assert_eq!(world.state(3), "secondary/secondary");
    world.kill(c);
    world.run(2000);
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_2)");
    world.kill(A);
    world.run(2000);
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_1)");
    world.start(c);
    world.run(5000);
    assert_eq!(
        (world.state(2), world.state(3)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_3)");
    assert_eq!(world.group().possible.len(), 1);
}

#[test]
fn an_old_primary_whose_keeper_works_on_it_keeps_its_goal() {
    let mut world = World::pair();
    world.kill(A);
    world.run(300);
    assert_eq!(world.group().nodes[&A].goal.state, NodeState::Demoted);
    // Its keeper is back, and its Postgres is down for long: it is being rewound.
    world.start(A);
    world.slow.insert(A);
    world.run(100);
    let stamp = world.group().nodes[&A].goal.stamp;
    world.run(5000);
    assert_eq!(world.group().nodes[&A].goal.state, NodeState::Catchingup);
    assert_eq!(world.group().nodes[&A].goal.stamp, stamp);
}

#[test]
fn a_restored_monitor_that_finds_only_standbys_elects_the_furthest() {
    let mut world = World::pair();
    for (id, lsn) in [(A, 5000), (B, 6000)] {
        let fake = world.nodes.get_mut(&id).unwrap();
        fake.role = CopyRole::Standby;
        fake.postgres = Postgres::Running {
            since: 1,
            in_recovery: true,
        };
        fake.position.lsn = Lsn(lsn);
        fake.upstream = None;
        fake.goal = None;
        world.group_mut().nodes.get_mut(&id).unwrap().goal.order = Order::promise(false);
    }
    let term = world.group().term;
    world.live = crate::group::LiveGroup::default();
    crate::group::restored(world.group_mut());
    world.run(5000);
    assert_eq!(
        (world.state(1), world.state(2)),
        ("secondary/secondary".into(), "primary/primary".into())
    );
    assert!(world.group().term > term);
}

#[test]
fn named_copies_that_cannot_follow_are_replaced_one_by_one_when_nobody_else_can_confirm() {
    let mut world = World::pair();
    let c = world.add(true);
    world.run(3000);
    assert_eq!(world.sync().matches("standby_").count(), 2);
    // As after a promotion: nothing of the term is confirmed, and both named copies have diverged.
    let primary = world.nodes.get_mut(&A).unwrap();
    (primary.confirmed, primary.stubborn) = (None, true);
    world.group_mut().nodes.get_mut(&A).unwrap().confirmed = None;
    for id in [B, c] {
        world.nodes.get_mut(&id).unwrap().position.timeline = TimelineId(9);
        world.group_mut().nodes.get_mut(&id).unwrap().admitted = None;
    }
    let copies = |world: &World| (world.nodes[&B].copy, world.nodes[&c].copy);
    let before = copies(&world);
    world.run(100);
    assert_ne!(copies(&world).0, before.0, "the first one is replaced");
    world.nodes.get_mut(&A).unwrap().stubborn = false;
    world.run(5000);
    assert_ne!(copies(&world).1, before.1, "and then the other one");
    assert_eq!(
        (world.state(1), world.state(2), world.state(3)),
        (
            "primary/primary".into(),
            "secondary/secondary".into(),
            "secondary/secondary".into()
        )
    );
    assert_eq!(world.group().possible.len(), 1);
}

#[test]
fn a_monitor_restored_in_the_middle_of_a_change_of_primary_asks_everybody_and_settles() {
    let mut world = World::pair();
    // The standby promised for a term that the older store has forgotten.
    let copy = world.nodes[&B].copy.unwrap();
    let seen = Stamp {
        term: Term(2),
        sequence: Sequence(world.group().sequence.0 + 5),
    };
    let fake = world.nodes.get_mut(&B).unwrap();
    fake.promise = Some(Promise {
        term: Term(2),
        copy,
        position: Some(fake.position),
    });
    fake.goal.as_mut().unwrap().stamp = seen;
    world.live = crate::group::LiveGroup::default();
    crate::group::restored(world.group_mut());
    world.run(8000);
    let mut states = [world.state(1), world.state(2)];
    states.sort();
    assert_eq!(states, ["primary/primary", "secondary/secondary"]);
    let group = world.group();
    assert_eq!(group.primary.unwrap().term, group.term);
    assert!(group.term > Term(2));
    assert!(group.possible.iter().all(|p| p.stamp.term == group.term));
}

#[test]
fn a_restored_monitor_makes_every_goal_anew_above_what_was_seen() {
    let mut world = World::pair();
    // Since the store was copied, both were told the same things again under higher stamps.
    let seen = Stamp {
        term: world.group().term,
        sequence: Sequence(world.group().sequence.0 + 9),
    };
    for fake in world.nodes.values_mut() {
        fake.goal.as_mut().unwrap().stamp = seen;
    }
    world.live = crate::group::LiveGroup::default();
    crate::group::restored(world.group_mut());
    world.run(5000);
    let group = world.group();
    assert_eq!(group.doubted, None);
    for node in group.nodes.values() {
        assert!(
            node.goal.stamp > seen,
            "node {} refuses its goal for ever",
            node.id
        );
    }
}
