//! Elections of three and more: who is chosen, who lacks what, and whom it waits for.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::*;

use super::world::World;
use crate::group::{Event, Facts, Phase};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn states(world: &World) -> Vec<String> {
    world
        .group()
        .nodes
        .keys()
        .map(|id| world.state(id.0))
        .collect()
}

fn priority(world: &mut World, node: NodeId, priority: u32) {
    world
        .group_mut()
        .nodes
        .get_mut(&node)
        .unwrap()
        .candidate_priority = priority;
}

/// So much more than the others has arrived at a standby, at the moment its primary dies.
fn ahead(world: &mut World, node: NodeId, bytes: u64) {
    world.kill(A);
    world.nodes.get_mut(&node).unwrap().position.lsn.0 += bytes;
}

fn primary(world: &World) -> Option<NodeId> {
    world.group().primary.map(|l| l.node)
}

#[test]
fn among_equals_the_most_advanced_standby_is_chosen() {
    let mut world = World::three();
    ahead(&mut world, C, 500);
    world.run(3000);
    assert_eq!(primary(&world), Some(C));
    assert_eq!(world.state(2), "secondary/secondary");
    assert!(
        world
            .events
            .iter()
            .all(|e| e.goal != NodeState::FastForward)
    );
}

#[test]
fn a_candidate_fetches_what_only_a_standby_that_may_not_lead_has() {
    let mut world = World::three();
    priority(&mut world, C, 0);
    ahead(&mut world, C, 500);
    let end = world.nodes[&C].position;
    world.run(3000);
    assert_eq!(primary(&world), Some(B));
    assert!(world.nodes[&B].position >= end);
    let told = |state| world.events.iter().any(|e| e.node == B && e.goal == state);
    assert!(told(NodeState::FastForward));
    assert_eq!(world.state(3), "secondary/secondary");
    world.start(A);
    world.run(3000);
    assert_eq!(world.state(1), "secondary/secondary");
}

#[test]
fn a_candidate_fetches_from_a_standby_that_is_being_removed() {
    let mut world = World::three();
    world.group_mut().nodes.get_mut(&C).unwrap().leaving = true;
    ahead(&mut world, C, 500);
    let end = world.nodes[&C].position;
    world.run(5000);
    assert_eq!(primary(&world), Some(B));
    assert!(world.nodes[&B].position >= end);
    assert!(!world.group().nodes.contains_key(&C), "it went then");
}

#[test]
fn the_higher_priority_leads_when_it_is_near_and_can_fetch_the_rest() {
    let mut world = World::three();
    priority(&mut world, B, 90);
    ahead(&mut world, C, 500);
    world.run(3000);
    assert_eq!(primary(&world), Some(B));
}

#[test]
fn the_higher_priority_is_not_waited_for_when_it_is_far_behind_or_does_not_get_on() {
    let mut far = World::three();
    priority(&mut far, B, 90);
    let bytes = far.settings.enable_sync_wal_log_threshold + 1;
    ahead(&mut far, C, bytes);
    far.run(3000);
    assert_eq!(primary(&far), Some(C));
    let mut slow = World::three();
    priority(&mut slow, B, 90);
    ahead(&mut slow, C, 500);
    for _ in 0..100 {
        slow.run(10);
        if matches!(&slow.group().phase, Phase::Collecting(e) if e.fetching.is_some()) {
            break;
        }
    }
    slow.slow.insert(B);
    slow.run(5000);
    assert_eq!(primary(&slow), Some(C));
    slow.slow.clear();
    slow.run(3000);
    assert_eq!(slow.state(2), "secondary/secondary", "it follows");
}

#[test]
fn a_source_that_dies_is_waited_for_by_name_and_served_from_when_it_is_back() {
    let mut world = World::three();
    priority(&mut world, C, 0);
    ahead(&mut world, C, 500);
    // C promises, and is gone before B can begin.
    world.slow.insert(B);
    world.run(200);
    assert!(world.group().nodes[&C].promise.is_some());
    world.kill(C);
    world.slow.clear();
    world.run(12_000);
    let waits = world.waiting.first().unwrap();
    assert_eq!(
        (waits.id.as_str(), &waits.nodes[..]),
        ("candidate", &[C][..])
    );
    assert_eq!(world.group().nodes[&B].reported, NodeState::ReportLsn);
    world.start(C);
    world.run(5000);
    assert_eq!(primary(&world), Some(B));
}

#[test]
fn a_fetch_that_does_not_get_on_is_given_up_as_the_old_primary_is_back() {
    let mut world = World::three();
    priority(&mut world, C, 0);
    ahead(&mut world, C, 500);
    world.nodes.get_mut(&A).unwrap().position = world.nodes[&C].position;
    for _ in 0..100 {
        world.run(10);
        if matches!(&world.group().phase, Phase::Collecting(e) if e.fetching.is_some()) {
            break;
        }
    }
    // B was told to fetch, and gets nothing.
    world.slow.insert(B);
    world.run(2000);
    assert!(matches!(world.group().phase, Phase::Collecting(_)));
    world.start(A);
    world.run(4000);
    assert_eq!(world.group().phase, Phase::Steady);
    assert_eq!(primary(&world), Some(A));
    assert!(world.events.iter().any(|e| e.rule == "failover.given-up"));
    // Nobody knows yet what it received: it stops first.
    assert_eq!(world.group().nodes[&B].goal.state, NodeState::ReportLsn);
    world.slow.clear();
    world.run(3000);
    assert_eq!(world.state(2), "secondary/secondary");
}

#[test]
fn an_old_primary_without_its_data_takes_it_from_a_standby_that_may_not_lead() {
    let mut world = World::three();
    priority(&mut world, C, 0);
    ahead(&mut world, C, 500);
    // The only one that may lead has promised, and is lost.
    for _ in 0..100 {
        world.run(10);
        if world.group().nodes[&B].promise.is_some() {
            break;
        }
    }
    world.kill(B);
    let lost = world.nodes.get_mut(&A).unwrap();
    lost.copy = None;
    lost.role = CopyRole::Standby;
    world.start(A);
    world.run(15_000);
    assert_eq!(primary(&world), Some(A));
    let fetched = |e: &Event| e.node == A && e.rule == "election.old-primary-fetches";
    assert!(world.events.iter().any(fetched));
    world.start(B);
    world.run(3000);
    assert_eq!(states(&world)[1..], ["secondary/secondary"; 2]);
}

#[test]
fn a_copy_of_another_branch_is_replaced_from_the_source_and_stands_for_the_old_one() {
    let mut world = World::three();
    priority(&mut world, C, 0);
    // B has a tail of a branch that nobody else has; its position is below C's all the same.
    world.nodes.get_mut(&C).unwrap().history = History {
        timeline: TimelineId(3),
        parents: [Fork {
            timeline: TimelineId(1),
            at: Lsn(500),
        }]
        .to_vec(),
    };
    world.nodes.get_mut(&C).unwrap().position.timeline = TimelineId(3);
    let before = world.nodes[&B].copy.unwrap();
    world.kill(A);
    world.run(3000);
    assert_eq!(primary(&world), Some(B));
    let after = world.nodes[&B].copy.unwrap();
    assert_ne!(before, after);
    assert!(
        world
            .events
            .iter()
            .any(|e| e.goal == NodeState::FastForward)
    );
    let listed = |copy| {
        world
            .group()
            .possible
            .iter()
            .any(|p| p.primary == copy || p.config.members.iter().any(|m| m.copy == copy))
    };
    assert!(!listed(before) && listed(after));
}

#[test]
fn when_nobody_may_lead_it_says_so_and_a_priority_is_the_way_out() {
    let mut world = World::three();
    priority(&mut world, B, 0);
    priority(&mut world, C, 0);
    world.kill(A);
    world.run(5000);
    assert_eq!(world.group().term, Term(1), "nobody was disturbed");
    assert_eq!(world.waiting.first().unwrap().id, "candidate");
    priority(&mut world, C, 10);
    world.run(3000);
    assert_eq!(primary(&world), Some(C));
}

#[test]
fn a_node_that_an_operator_named_is_promoted_though_its_priority_is_zero() {
    let mut world = World::three();
    priority(&mut world, C, 0);
    let (live, settings, now) = (world.live.clone(), world.settings.clone(), world.now);
    crate::group::operate::perform_promotion(
        &mut world.cluster,
        &FormationId::default(),
        &world_name(C),
        |_| live.clone(),
        &settings,
        now,
    )
    .unwrap();
    world.run(4000);
    assert_eq!(primary(&world), Some(C));
    assert_eq!(
        states(&world),
        [
            "secondary/secondary",
            "secondary/secondary",
            "primary/primary"
        ]
    );
}

fn world_name(node: NodeId) -> String {
    "node_".to_string() + &node.to_string()
}

#[test]
fn newcomers_begin_anew_when_the_only_node_with_data_is_removed() {
    let mut world = World::new();
    world.add(true);
    world.run(500);
    world.group_mut().nodes.get_mut(&A).unwrap().leaving = true;
    world.slow.insert(A);
    world.run(100);
    // It is told to go, and two others register before it says that it is gone.
    assert_eq!(world.state(1), "single/dropped");
    let (b, c) = (world.add(true), world.add(true));
    world.run(100);
    world.slow.clear();
    world.run(3000);
    assert_eq!(primary(&world), Some(b));
    assert_eq!(
        (world.state(b.0), world.state(c.0)),
        ("primary/primary".into(), "secondary/secondary".into())
    );
    assert_eq!(world.group().term, Term(2));
}

#[test]
fn a_node_that_is_removed_and_gone_before_it_says_so_leaves_the_table() {
    let mut world = World::three();
    world.group_mut().nodes.get_mut(&C).unwrap().leaving = true;
    world.slow.insert(C);
    world.run(200);
    assert_eq!(world.state(3), "secondary/dropped");
    world.kill(C);
    world.run(500);
    assert!(!world.group().nodes.contains_key(&C));
    assert_eq!(world.state(1), "primary/primary");
}

#[test]
fn a_standby_that_is_frozen_is_taken_out_early_and_the_primary_is_replaced_without_it() {
    let mut world = World::three();
    assert_eq!(world.sync().matches("standby_").count(), 2);
    world.freeze(C);
    world.run(3000);
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_2)");
    assert_eq!(world.state(3), "secondary/catchingup");
    assert_eq!(world.group().possible.len(), 1, "confirmed");
    world.kill(A);
    world.run(2000);
    assert_eq!(primary(&world), Some(B));
    world.frozen.clear();
    world.start(A);
    world.run(4000);
    assert_eq!(
        states(&world),
        [
            "secondary/secondary",
            "primary/primary",
            "secondary/secondary"
        ]
    );
}

#[test]
fn a_standby_whose_postgres_stays_down_is_taken_out_too() {
    let mut world = World::three();
    world.nodes.get_mut(&C).unwrap().postgres = Postgres::Down { crashed: true };
    world.slow.insert(C);
    world.run(1000);
    assert_eq!(
        world.sync().matches("standby_").count(),
        2,
        "it may be back"
    );
    world.run(2500);
    assert_eq!(world.sync(), "ANY 1 (pgautofailover_standby_2)");
    world.slow.clear();
    world.run(3000);
    assert_eq!(world.sync().matches("standby_").count(), 2);
}

/// One of two standbys freezes at the moment the primary dies.
fn frozen_at_once() -> World {
    let mut world = World::three();
    world.freeze(C);
    world.kill(A);
    world.run(8000);
    assert_eq!(primary(&world), Some(A), "nobody is promoted");
    let waits = world.waiting.first().unwrap();
    assert_eq!(
        (waits.id.as_str(), &waits.nodes[..]),
        ("promise", &[A, C][..])
    );
    assert!(waits.why.contains("1 more promise"), "{}", waits.why);
    assert!(
        waits
            .way_out
            .as_ref()
            .unwrap()
            .contains("--allow-data-loss")
    );
    world
}

#[test]
fn a_standby_and_the_primary_lost_at_once_are_waited_for_until_either_is_back() {
    let mut thawed = frozen_at_once();
    thawed.frozen.clear();
    thawed.run(3000);
    assert!(primary(&thawed) != Some(A));
    let mut back = frozen_at_once();
    back.start(A);
    back.run(4000);
    let leads = primary(&back).unwrap();
    assert!(leads != C && back.state(leads.0) == "primary/primary");
}

#[test]
fn the_named_way_out_strikes_entries_by_name_and_records_the_possible_loss() {
    let mut world = frozen_at_once();
    let events = world.failover(true).unwrap();
    let struck: Vec<_> = events
        .iter()
        .filter(|e| e.rule == "operator.allow-data-loss")
        .collect();
    assert_eq!(struck.len(), 1);
    let text = &struck[0].description;
    assert!(
        text.contains("ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)"),
        "{text}"
    );
    assert!(text.contains("last heard of at 1:0/"), "{text}");
    world.run(3000);
    assert_eq!(primary(&world), Some(B));
}

/// Whom the primary needs to have replaced, for nobody else can confirm.
fn may_be_replaced(world: &World) -> Vec<NodeId> {
    let (view, group) = (world.view(), world.group());
    let facts = Facts {
        formation: &view,
        group,
        live: &world.live,
        settings: &world.settings,
        now: world.now,
        phase_since: world.now,
    };
    let nodes = group.nodes.values().filter(|n| facts.is_only_way(n));
    nodes.map(|n| n.id).collect()
}

/// Power was lost everywhere while one primary after the other was promoted: the last one's names
/// are two crashed former primaries, and one of those promised what the last one has.
#[test]
fn one_of_two_crashed_former_primaries_may_be_replaced_when_nobody_else_can_confirm() {
    let mut world = World::three();
    let leader = world.group().primary.unwrap();
    for node in world.group_mut().nodes.values_mut() {
        node.confirmed = None;
        if node.id != leader.node {
            node.role = CopyRole::Primary { term: Term(0) };
            node.admitted = node.copy.filter(|_| node.id == C).map(|c| (leader.term, c));
        }
    }
    assert_eq!(may_be_replaced(&world), [B]);
    // A standby that may stream confirms: then nobody is replaced.
    world.group_mut().nodes.get_mut(&C).unwrap().role = CopyRole::Standby;
    assert_eq!(may_be_replaced(&world), []);
}

/// Found by simulated seed 302 of four nodes: two crashed former primaries could not be replaced, for
/// they were named, and one standby alone could not confirm `ANY 2` without them.
#[test]
fn a_crashed_former_primary_may_be_replaced_when_too_few_others_can_confirm() {
    let mut world = World::three();
    let d = world.add(true);
    world.run(3000);
    let leader = world.group().primary.unwrap();
    for node in world.group_mut().nodes.values_mut() {
        node.confirmed = None;
        if node.id == B || node.id == C {
            node.role = CopyRole::Primary { term: Term(0) };
        }
    }
    assert!(leader.node == A && world.group().nodes[&d].admitted.is_some());
    assert_eq!(may_be_replaced(&world), [], "one is enough");
    world.group_mut().possible.last_mut().unwrap().config.number = 2;
    assert_eq!(may_be_replaced(&world), [B], "one at a time");
}

/// A promotion names everybody who promised, also who does not count: when that one alone streams,
/// the others leave the names, or they could never be replaced.
#[test]
fn a_named_standby_outside_the_quorum_lets_the_others_be_replaced() {
    let mut world = World::three();
    let d = world.add(true);
    world.run(3000);
    let all = listed(&world);
    assert_eq!(all.nodes(), [B, C, d].into());
    world.kill(B);
    world.kill(d);
    world.run(10_000);
    let group = world.group_mut();
    group.nodes.get_mut(&C).unwrap().replication_quorum = false;
    group.possible.last_mut().unwrap().config = all;
    world.run(3000);
    let listed = listed(&world);
    assert_eq!((listed.number, listed.nodes()), (1, [C].into()));
}

fn listed(world: &World) -> SyncConfig {
    world.group().possible.last().unwrap().config.clone()
}
