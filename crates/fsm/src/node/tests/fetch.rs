//! Fetching WAL that a candidate lacks, and handing it out.

use std::string::String;

use pgaf_protocol::{CopyId, CopyRole, Fetch, NodeState, Order, Postgres, SyncConfig, Term};

use super::world::{OTHER, OWN, World, at, peer, stamp};
use crate::node::{Conf, Outcome, Replication, Step, decide};

const STATE: NodeState = NodeState::FastForward;

fn fetch(lsn: u64, replace: Option<CopyId>) -> Order {
    Order::Fetch(Fetch {
        source: peer(),
        position: at(lsn),
        replace,
    })
}

/// A standby that has promised with everything up to 100.
fn promised() -> World {
    let mut world = World::running(CopyRole::Standby, Some(Conf::promise()));
    world.obey(
        stamp(2, 3),
        NodeState::ReportLsn,
        Order::promise(false),
        true,
    );
    let plan = world.settle();
    assert_eq!(world.said(&plan).promise.unwrap().position, Some(at(100)));
    world.steps.clear();
    world
}

#[test]
fn a_candidate_fetches_from_the_named_source_and_promises_again_without_a_restart() {
    let mut world = promised();
    world.obey(stamp(2, 4), STATE, fetch(200, None), true);
    let first = decide(&world.view());
    assert_eq!(
        first.step,
        Some(Step::Load {
            conf: Conf::follow(&peer())
        })
    );
    assert_eq!(world.said(&first).state, NodeState::ReportLsn);
    let plan = world.settle();
    assert_eq!(world.words(), ["load", "stop-receiving", "journal"]);
    let said = world.said(&plan);
    assert_eq!((said.state, said.reached), (STATE, stamp(2, 4)));
    let promise = said.promise.unwrap();
    assert_eq!((promise.term, promise.position), (Term(2), Some(at(200))));
    assert!(world.memory.receives_nothing());
}

#[test]
fn while_it_fetches_nothing_is_promised_that_may_still_move() {
    let mut world = promised();
    world.obey(stamp(2, 4), STATE, fetch(200, None), true);
    world.take(&Step::Load {
        conf: Conf::follow(&peer()),
    });
    world.memory.saw(&world.observation, world.now);
    let said = world.said(&decide(&world.view()));
    assert_eq!(said.promise.unwrap().position, None);
    assert_eq!(said.upstream.unwrap().node, peer().node);
}

#[test]
fn a_candidate_that_has_everything_already_only_promises() {
    let mut world = promised();
    world.obey(stamp(2, 4), STATE, fetch(90, None), true);
    assert!(world.settle().reached);
    assert_eq!(world.words(), ["journal"]);
}

#[test]
fn a_copy_that_cannot_go_on_is_replaced_from_the_source_once() {
    let mut diverged = promised();
    diverged.obey(stamp(2, 4), STATE, fetch(200, Some(OWN)), true);
    let mut gone = promised();
    gone.observation.wal_gone = true;
    gone.obey(stamp(2, 4), STATE, fetch(200, None), true);
    for mut world in [diverged, gone] {
        while world.steps.last().map(Step::word) != Some("swap-in") {
            world.memory.saw(&world.observation, world.now);
            let step = decide(&world.view()).step.unwrap();
            world.steps.push(step.clone());
            world.take(&step);
        }
        world.observation.wal_gone = false;
        let plan = world.settle();
        assert!(plan.reached, "{plan:?}");
        let words = world.words();
        assert_eq!(
            words.iter().filter(|w| *w == "base-backup").count(),
            1,
            "{words:?}"
        );
        let promise = world.said(&plan).promise.unwrap();
        assert_ne!(promise.copy, OWN);
        assert!(promise.position >= Some(at(200)));
    }
}

#[test]
fn a_keeper_that_starts_in_the_middle_of_it_receives_nothing_until_it_hears_the_goal() {
    let mut world = promised();
    world.obey(stamp(2, 4), STATE, fetch(200, None), false);
    world.memory.conf = Some(Conf::follow(&peer()));
    world.memory.heard = false;
    let plan = world.settle();
    assert!(!plan.reached);
    assert!(world.memory.receives_nothing(), "{:?}", world.words());
    assert_eq!(world.said(&plan).reached, stamp(2, 3));
    world.memory.obeyed(false, world.now);
    assert!(world.settle().reached);
}

#[test]
fn a_promised_standby_hands_out_wal_to_whom_it_is_told_and_to_nobody_later() {
    let mut world = promised();
    let serves = |nodes: &[i64]| Order::Promise {
        fast: false,
        serves: nodes.iter().copied().map(pgaf_protocol::NodeId).collect(),
    };
    world.obey(stamp(2, 4), NodeState::ReportLsn, serves(&[3]), true);
    let plan = world.settle();
    assert!(
        matches!(
            &world.steps[..],
            [Step::EnsureSlots { admitted, .. }, Step::Journal(_)] if admitted.len() == 1
        ) || matches!(
            &world.steps[..],
            [Step::Journal(_), Step::EnsureSlots { .. }]
        )
    );
    assert_eq!(
        world.said(&plan).promise.unwrap().position,
        Some(at(100)),
        "its promise stands"
    );
    world.steps.clear();
    world.obey(stamp(2, 5), NodeState::ReportLsn, serves(&[]), true);
    world.settle();
    assert!(
        world
            .steps
            .iter()
            .any(|s| matches!(s, Step::EnsureSlots { admitted, .. } if admitted.is_empty())),
        "{:?}",
        world.words()
    );
}

#[test]
fn a_former_primary_that_hands_out_wal_runs_as_a_standby_that_receives_nothing() {
    let mut world = World::with_copy(CopyRole::Primary { term: Term(1) }, false);
    let order = Order::Promise {
        fast: false,
        serves: [OTHER.node].into(),
    };
    world.obey(stamp(2, 3), NodeState::Draining, order, true);
    let plan = world.settle();
    assert!(plan.reached);
    assert!(matches!(
        world.observation.postgres,
        Postgres::Running {
            in_recovery: true,
            ..
        }
    ));
    let conf = world.memory.conf.clone().unwrap();
    assert_eq!(conf.replication, Replication::Promise);
    assert_eq!(world.journal.role, CopyRole::Standby);
    assert_eq!(world.said(&plan).promise.unwrap().position, Some(at(100)));
}

#[test]
fn a_primary_that_is_told_to_fetch_is_ended_first() {
    let names = Conf::primary(&SyncConfig::any(1, [OTHER]));
    let mut world = World::running(CopyRole::Primary { term: Term(1) }, Some(names));
    world.obey(stamp(2, 4), STATE, fetch(200, None), true);
    assert!(world.settle().reached);
    assert_eq!(world.words().first().map(String::as_str), Some("stop"));
}

#[test]
fn a_copy_that_is_new_has_not_failed_to_start() {
    let mut world = promised();
    world.memory.failed_starts = 2;
    let copy = CopyId(9);
    world.memory.began(&Step::SwapIn { copy });
    let done = (Step::SwapIn { copy }, Outcome::Done);
    world
        .memory
        .finished(&done.0, &done.1, &world.journal, None, world.now);
    assert_eq!(world.memory.failed_starts, 0);
}
