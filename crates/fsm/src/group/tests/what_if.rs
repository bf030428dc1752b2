//! What would happen is what happens: each answer is held to the same world with the fault in it.

use pgaf_protocol::*;

use super::world::World;
use crate::group::what_if;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ask(world: &World, node: NodeId, fault: Fault) -> WhatIf {
    what_if(
        &world.view(),
        world.group(),
        &world.live,
        &world.settings,
        world.now,
        (node, fault),
    )
    .unwrap()
}

fn primary(world: &World) -> Option<NodeId> {
    world.group().primary.map(|l| l.node)
}

/// Does what was asked about, and compares.
fn holds(mut world: World, node: NodeId, fault: Fault) {
    let said = ask(&world, node, fault);
    match fault {
        Fault::Down => world.kill(node),
        Fault::Silent => world.freeze(node),
    }
    world.run(12_000);
    let became = primary(&world).filter(|n| *n != node);
    assert_eq!(said.winner, became, "{said:#?}");
    assert_eq!(said.estimated_ms.is_none(), !said.blocks.is_empty());
    // Commits go on, or they wait for a standby that is not there.
    let waits = |id: &str| world.waiting.iter().any(|w| w.id == id);
    assert_eq!(
        said.winner.is_some() && said.estimated_ms.is_none(),
        said.winner.is_some() && waits("synchronous-standby"),
        "{said:#?} {:#?}",
        world.waiting
    );
}

#[test]
fn what_is_said_of_any_node_is_what_becomes_of_it() {
    for fault in Fault::ALL {
        for node in [A, B] {
            holds(World::pair(), node, fault);
        }
        for node in [A, B, C] {
            holds(World::three(), node, fault);
        }
        for (node, lost) in [(A, C), (A, B), (B, C)] {
            let mut world = World::three();
            world.kill(lost);
            world.run(12_000);
            holds(world, node, fault);
        }
    }
}

#[test]
fn priorities_choose_the_winner() {
    for (b, c, wins) in [
        (50, 60, Some(C)),
        (60, 50, Some(B)),
        (0, 50, Some(C)),
        (0, 0, None),
    ] {
        let mut world = World::three();
        for (node, priority) in [(B, b), (C, c)] {
            let node = world.group_mut().nodes.get_mut(&node).unwrap();
            node.candidate_priority = priority;
        }
        world.run(1000);
        let said = ask(&world, A, Fault::Down);
        assert_eq!(said.winner, wins, "{b} {c}: {said:#?}");
        holds(world, A, Fault::Down);
    }
}

#[test]
fn a_pair_fails_over_in_a_moment_and_loses_nothing() {
    let world = World::pair();
    let said = ask(&world, A, Fault::Down);
    assert!(said.is_primary && said.blocks.is_empty());
    assert_eq!((said.winner, said.bytes_at_risk), (Some(B), 0));
    assert_eq!(said.bytes_at_risk_forced, None);
    assert!(said.estimated_ms.unwrap() < 1000, "{said:#?}");
    assert!(
        said.steps
            .iter()
            .any(|s| s.contains("a new primary is wanted"))
    );
    let said = ask(&world, A, Fault::Silent);
    let ms = said.estimated_ms.unwrap();
    assert!((2500..5000).contains(&ms), "{said:#?}");
}

#[test]
fn the_loss_of_a_standby_says_that_the_next_loss_is_not_answered() {
    let world = World::pair();
    let said = ask(&world, B, Fault::Down);
    assert_eq!((said.winner, said.is_primary), (Some(A), false));
    assert!(
        said.automatic_failover_afterwards
            .unwrap()
            .starts_with("off")
    );
    let silent = ask(&world, B, Fault::Silent).estimated_ms.unwrap();
    assert!((2500..4000).contains(&silent), "{silent}");
    assert_eq!(ask(&World::three(), B, Fault::Silent).estimated_ms, Some(0));
    let said = ask(&World::three(), B, Fault::Down);
    assert_eq!(said.automatic_failover_afterwards.as_deref(), Some("on"));
}

#[test]
fn a_primary_that_acknowledges_alone_is_waited_for_and_the_way_out_is_named() {
    let mut world = World::pair();
    world.kill(B);
    world.run(5000);
    world.run(100);
    let said = ask(&world, A, Fault::Down);
    assert_eq!((said.winner, said.estimated_ms), (None, None));
    assert_eq!(said.bytes_at_risk_forced, None, "nobody is left to force");
    assert!(!said.blocks.is_empty());
    assert!(
        said.summary.contains("nobody would be promoted"),
        "{said:#?}"
    );
}

#[test]
fn nothing_is_changed_by_asking_and_a_stranger_is_no_node() {
    let world = World::pair();
    let before = (world.group().clone(), world.live.clone());
    let _ = ask(&world, A, Fault::Silent);
    assert_eq!(before, (world.group().clone(), world.live.clone()));
    let stranger = what_if(
        &world.view(),
        world.group(),
        &world.live,
        &world.settings,
        world.now,
        (NodeId(9), Fault::Down),
    );
    assert_eq!(stranger, None);
}

#[test]
fn the_question_can_be_asked_at_any_moment() {
    // Total: from the first registration on, in every phase, of every node.
    let mut world = World::new();
    world.add(true);
    for at in 0..120 {
        if at == 20 || at == 50 {
            world.add(true);
        }
        if at == 90 {
            world.kill(A);
        }
        world.run(50);
        let ids: alloc::vec::Vec<NodeId> = world.group().nodes.keys().copied().collect();
        for node in ids {
            for fault in Fault::ALL {
                let said = ask(&world, node, fault);
                assert_ne!(said.winner, Some(node));
                assert!(!said.summary.is_empty());
            }
        }
    }
}
