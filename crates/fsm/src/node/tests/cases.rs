//! Cases worth a name.

use pgaf_protocol::{CopyRole, NodeState, Order, Postgres, StandbySeen, SyncConfig, Term, Time};

use super::world::{OTHER, World, at, orders, peer, second, stamp};
use crate::node::{Conf, Extras, Outcome, Plan, Step, StopMode, decide, report};

fn order(state: NodeState, nth: usize) -> Order {
    orders()
        .into_iter()
        .filter(|(s, _)| *s == state)
        .nth(nth)
        .map(|(_, order)| order)
        .unwrap()
}

#[test]
fn a_promise_by_a_standby_needs_no_restart_and_names_its_position() {
    let mut world = World::running(CopyRole::Standby, Some(Conf::follow(&peer())));
    let state = NodeState::ReportLsn;
    world.obey(stamp(2, 3), state, order(state, 0), true);
    let plan = world.settle();
    assert_eq!(world.words(), ["stop-receiving", "journal", "write-hba"]);
    let said = report(&world.view(), &plan, &Extras::default());
    let promise = said.promise.unwrap();
    assert_eq!((promise.term, promise.position), (Term(2), Some(at(100))));
    assert_eq!(said.state, state);
}

#[test]
fn a_promise_without_a_position_yet_is_not_reached() {
    let mut world = World::running(CopyRole::Standby, Some(Conf::follow(&peer())));
    world.obey(
        stamp(2, 3),
        NodeState::ReportLsn,
        Order::promise(false),
        true,
    );
    let said = report(&world.view(), &decide(&world.view()), &Extras::default());
    assert_eq!(said.promise.unwrap().position, None);
    assert_ne!(said.state, NodeState::ReportLsn);
}

#[test]
fn a_promise_by_a_primary_stops_it_and_keeps_it_stopped() {
    let names = Conf::primary(&SyncConfig::any(1, [OTHER]));
    let mut world = World::running(CopyRole::Primary { term: Term(1) }, Some(names));
    world.obey(stamp(2, 3), NodeState::Demoted, Order::promise(true), true);
    let plan = world.settle();
    assert_eq!(world.words(), ["stop", "read-position", "journal"]);
    assert!(matches!(
        world.steps[0],
        Step::Stop {
            mode: StopMode::Fast
        }
    ));
    assert!(plan.reached);
    // Its keeper comes back without a word from the monitor, and waits for ever.
    world.memory = crate::node::Memory::new(world.now, world.memory.fresh);
    world.settle();
    assert!(world.observation.is_down());
    // The same term may open it again, in place.
    let state = NodeState::WaitPrimary;
    world.obey(stamp(2, 4), state, order(state, 0), true);
    assert!(world.settle().reached);
    assert!(world.observation.postgres.is_primary());
}

#[test]
fn a_crashed_primary_opens_in_place_without_asking() {
    let names = Conf::primary(&SyncConfig::any(1, [OTHER]));
    let mut world = World::running(CopyRole::Primary { term: Term(2) }, Some(names));
    let state = NodeState::Primary;
    world.obey(stamp(2, 3), state, order(state, 0), true);
    world.settle();
    world.memory.heard = false;
    world.observation.postgres = Postgres::Down { crashed: true };
    world.observation.server = None;
    world.observation.leftovers = true;
    world.memory.saw(&world.observation, world.now);
    assert_eq!(decide(&world.view()).step, Some(Step::EndCluster));
    world.take(&Step::EndCluster);
    assert!(matches!(
        decide(&world.view()).step,
        Some(Step::Start { standby: false, .. })
    ));
}

#[test]
fn a_keeper_that_starts_asks_before_it_opens_a_former_primary() {
    let mut world = World::with_copy(CopyRole::Primary { term: Term(2) }, true);
    world.journal.peers = [peer()].into();
    let state = NodeState::Primary;
    world.obey(stamp(2, 3), state, order(state, 0), false);
    assert_eq!(decide(&world.view()).step, None, "the monitor first");
    world.now = Time(2000);
    assert_eq!(decide(&world.view()).step, Some(Step::AskPeers));
    world.memory.peers_newer = Some(true);
    let plan = decide(&world.view());
    assert_eq!(plan.step, None);
    assert!(plan.waiting.unwrap().contains("newer timeline"));
    world.memory.peers_newer = Some(false);
    assert!(matches!(
        decide(&world.view()).step,
        Some(Step::Start { closed: true, .. })
    ));
}

fn primary_under_names() -> World {
    let names = Conf::primary(&SyncConfig::any(1, [OTHER]));
    let mut world = World::running(CopyRole::Primary { term: Term(2) }, Some(names));
    let state = NodeState::Primary;
    world.obey(stamp(2, 3), state, order(state, 0), true);
    assert!(world.settle().reached);
    world
}

fn stream(world: &mut World, fresh: bool) {
    world.observation.server.as_mut().unwrap().senders = [StandbySeen {
        node: OTHER.node,
        streaming: true,
        flushed: at(100).lsn,
        lag_bytes: 0,
        fresh,
        synchronous: true,
    }]
    .into();
}

#[test]
fn a_primary_without_lease_and_standbys_fences_itself_and_opens_again() {
    let mut world = primary_under_names();
    let Order::Lead(lead) = &mut world.journal.goal.as_mut().unwrap().order else {
        panic!("another order");
    };
    lead.admitted.insert(OTHER);
    stream(&mut world, true);
    world.settle();
    world.memory.lease_until = None;
    let plan: Plan = world.settle();
    assert!(!plan.fence, "its standby streams");
    // The standby freezes as well.
    stream(&mut world, false);
    let plan = decide(&world.view());
    assert!(plan.fence);
    assert_eq!(
        plan.step,
        Some(Step::Stop {
            mode: StopMode::Immediate
        })
    );
    world.steps.clear();
    let plan = world.settle();
    assert!(plan.fence);
    assert!(
        world
            .steps
            .iter()
            .any(|s| matches!(s, Step::Start { closed: true, .. })),
        "{:?}",
        world.words()
    );
    assert!(report(&world.view(), &plan, &Extras::default()).closed);
    // It streams again, in the same term.
    stream(&mut world, true);
    world.steps.clear();
    let plan = world.settle();
    assert!(!plan.fence);
    assert!(world.steps.contains(&Step::WriteHba { closed: false }));
    assert!(plan.reached);
}

#[test]
fn a_primary_under_no_names_needs_no_lease() {
    let mut world = World::with_copy(CopyRole::Primary { term: Term(2) }, true);
    let state = NodeState::WaitPrimary;
    world.obey(stamp(2, 3), state, order(state, 0), true);
    assert!(world.settle().reached);
    world.memory.lease_until = None;
    let plan = world.settle();
    assert!(plan.reached && !plan.fence);
}

#[test]
fn a_promotion_that_was_killed_half_way_is_found_out_from_the_disk() {
    let state = NodeState::StopReplication;
    let mut world = World::running(CopyRole::Standby, Some(Conf::promise()));
    world.memory.end = Some(at(100));
    world.obey(stamp(2, 3), state, order(state, 0), true);
    while !matches!(world.steps.last(), Some(Step::Promote { .. })) {
        world.memory.saw(&world.observation, world.now);
        let step = decide(&world.view()).step.unwrap();
        world.steps.push(step.clone());
        world.take(&step);
    }
    // Killed with its Postgres, right after pg_promote had done its work.
    world.observation.postgres = Postgres::Down { crashed: true };
    world.observation.server = None;
    world.memory = crate::node::Memory::new(world.now, world.memory.fresh);
    world.memory.obeyed(false, world.now);
    world.memory.leased(Time(u64::MAX));
    world.steps.clear();
    assert!(world.settle().reached);
    assert!(world.observation.postgres.is_primary());
    assert!(
        !world.words().contains(&"promote".into()),
        "{:?}",
        world.words()
    );
}

#[test]
fn a_promotion_of_an_older_term_is_ended_before_anything_is_promised() {
    let mut world = World::running(CopyRole::Standby, Some(Conf::promise()));
    world.journal.work = Some(crate::node::Work::Promote { term: Term(2) });
    world.memory.end = Some(at(100));
    world.obey(
        stamp(3, 9),
        NodeState::ReportLsn,
        Order::promise(false),
        true,
    );
    assert_eq!(
        decide(&world.view()).step,
        Some(Step::Stop {
            mode: StopMode::Immediate
        })
    );
}

#[test]
fn a_standby_with_wal_of_a_dead_branch_is_rewound_only_when_it_may() {
    let mut world = World::running(CopyRole::Standby, Some(Conf::follow(&peer())));
    let state = NodeState::Secondary;
    world.obey(stamp(2, 3), state, order(state, 0), true);
    let plan = world.settle();
    assert!(!plan.reached);
    assert!(plan.waiting.unwrap().contains("may be replaced"));
    let state = NodeState::Catchingup;
    world.obey(stamp(2, 4), state, order(state, 2), true);
    assert!(world.settle().reached);
    assert!(
        world.words().contains(&"rewind".into()),
        "{:?}",
        world.words()
    );
    assert_ne!(world.journal.copy, Some(super::world::OWN));
}

#[test]
fn a_clean_former_primary_follows_before_the_new_one_has_a_history() {
    let mut world = World::with_copy(CopyRole::Primary { term: Term(1) }, true);
    let state = NodeState::Catchingup;
    world.obey(stamp(2, 3), state, order(state, 0), true);
    assert!(world.settle().reached);
    assert!(world.observation.postgres.is_standby());
    assert_eq!(world.journal.copy, Some(super::world::OWN));
    world.obey(
        stamp(2, 4),
        state,
        Order::Follow(pgaf_protocol::Follow {
            upstream: peer(),
            history: Some(second(100)),
            may_replace: true,
        }),
        true,
    );
    world.steps.clear();
    assert!(world.settle().reached);
    assert_eq!(world.words(), ["journal"], "nothing but the journal");
}

#[test]
fn a_new_goal_for_the_same_branch_throws_no_base_backup_away() {
    let mut world = World::with_copy(CopyRole::Primary { term: Term(1) }, false);
    let follow = |timeline: u32| {
        let mut history = second(100);
        history.timeline = pgaf_protocol::TimelineId(timeline);
        Order::Follow(pgaf_protocol::Follow {
            upstream: peer(),
            history: Some(history),
            may_replace: true,
        })
    };
    let copy = pgaf_protocol::CopyId(77);
    world.obey(stamp(2, 3), NodeState::Demoted, follow(2), true);
    world.memory.finished(
        &Step::BaseBackup {
            upstream: peer(),
            copy,
        },
        &Outcome::Done,
        &world.journal,
        None,
        Time(5),
    );
    world.obey(stamp(2, 4), NodeState::Catchingup, follow(2), true);
    assert_eq!(world.memory.staged(&world.journal), Some(copy));
    world.obey(stamp(3, 5), NodeState::Catchingup, follow(3), true);
    assert_eq!(
        world.memory.staged(&world.journal),
        None,
        "of a dead branch"
    );
}

#[test]
fn a_candidate_without_names_opens_under_nobodys_and_loads_none_by_itself() {
    let mut world = World::running(CopyRole::Standby, Some(Conf::promise()));
    world.memory.end = Some(at(100));
    let state = NodeState::StopReplication;
    let Order::Promote(mut promote) = order(state, 0) else {
        panic!("another order");
    };
    promote.sync = SyncConfig::asynchronous();
    world.obey(stamp(2, 3), state, Order::Promote(promote), true);
    assert!(world.settle().reached);
    assert!(world.observation.postgres.is_primary());
    let names = &world.observation.server.as_ref().unwrap().names;
    assert_eq!(names, "nobody", "{:?}", world.words());
    let state = NodeState::WaitPrimary;
    world.obey(stamp(2, 4), state, order(state, 0), true);
    assert!(world.settle().reached);
    assert_eq!(world.observation.server.as_ref().unwrap().names, "");
}

#[test]
fn a_candidate_without_names_that_crashed_after_it_opened_goes_on_under_nobodys() {
    let mut world = World::with_copy(CopyRole::Primary { term: Term(2) }, true);
    let state = NodeState::StopReplication;
    let Order::Promote(mut promote) = order(state, 0) else {
        panic!("another order");
    };
    promote.sync = SyncConfig::asynchronous();
    world.obey(stamp(2, 3), state, Order::Promote(promote), true);
    assert!(world.settle().reached, "{:?}", world.words());
    let names = &world.observation.server.as_ref().unwrap().names;
    assert_eq!(names, "nobody", "{:?}", world.words());
}

#[test]
fn a_copy_without_a_position_that_is_starting_is_waited_for_and_promises_then() {
    let mut world = World::with_copy(CopyRole::Standby, false);
    let state = NodeState::ReportLsn;
    world.obey(stamp(2, 3), state, order(state, 0), true);
    world.memory.no_position = Some("never recovered".into());
    let started = Step::Start {
        standby: true,
        conf: Conf::promise(),
        closed: false,
    };
    assert_eq!(decide(&world.view()).step, Some(started.clone()));
    world.take(&started);
    let server = world.observation.server.take();
    let running = core::mem::replace(&mut world.observation.postgres, Postgres::Starting);
    let plan = decide(&world.view());
    assert_eq!(
        (plan.step, plan.reached),
        (None, false),
        "no stop, no promise"
    );
    world.observation.postgres = running;
    world.observation.server = server;
    let plan = world.settle();
    assert!(plan.reached);
    assert!(world.memory.end.is_some());
}

#[test]
fn a_standby_whose_wal_is_gone_or_whose_copy_is_damaged_takes_a_base_backup() {
    let state = NodeState::Catchingup;
    let mut gone = World::running(CopyRole::Standby, Some(Conf::follow(&peer())));
    gone.observation.wal_gone = true;
    gone.obey(stamp(2, 3), state, order(state, 1), true);
    let mut damaged = World::with_copy(CopyRole::Standby, false);
    damaged.obey(stamp(2, 3), state, order(state, 1), true);
    damaged.observation.start_hopeless = true;
    damaged.observation.starts_failed = 2;
    for mut world in [gone, damaged] {
        while world.steps.last().map(Step::word) != Some("base-backup") {
            world.now = Time(world.now.0 + 1000);
            world.memory.saw(&world.observation, world.now);
            let step = decide(&world.view()).step.unwrap();
            world.steps.push(step.clone());
            world.take(&step);
        }
        assert!(
            !world.words().contains(&"rewind".into()),
            "{:?}",
            world.words()
        );
        world.observation.wal_gone = false;
        world.observation.start_hopeless = false;
        assert!(world.settle().reached);
    }
}

#[test]
fn a_primary_that_was_told_to_follow_is_ended_even_before_its_keeper_hears_again() {
    let mut world = World::running(CopyRole::Primary { term: Term(1) }, None);
    let state = NodeState::Catchingup;
    world.obey(stamp(2, 3), state, order(state, 1), false);
    assert_eq!(
        decide(&world.view()).step,
        Some(Step::Stop {
            mode: StopMode::Immediate
        })
    );
}

#[test]
fn the_walsender_of_a_silent_standby_that_is_taken_out_is_ended_before_names_are_confirmed() {
    let mut world = primary_under_names();
    stream(&mut world, false);
    let third = pgaf_protocol::Member {
        node: pgaf_protocol::NodeId(3),
        copy: pgaf_protocol::CopyId(0xc),
    };
    let lead = |nodes: &[pgaf_protocol::Member], sequence| {
        Order::Lead(pgaf_protocol::Lead {
            sync: SyncConfig::any(1, nodes.iter().copied()),
            sync_stamp: stamp(2, sequence),
            admitted: [OTHER, third].into(),
            ..pgaf_protocol::Lead::default()
        })
    };
    // Still named: it may answer, so it is waited for first.
    world.obey(
        stamp(2, 4),
        NodeState::Primary,
        lead(&[OTHER, third], 4),
        true,
    );
    let slots = decide(&world.view()).step.unwrap();
    world.take(&slots);
    assert!(
        matches!(decide(&world.view()).step, Some(Step::Confirm { .. })),
        "{:?}",
        decide(&world.view()).step
    );
    // Taken out: its walsender goes, and only then the names are confirmed.
    world.obey(stamp(2, 5), NodeState::Primary, lead(&[third], 5), true);
    assert_eq!(
        decide(&world.view()).step,
        Some(Step::EndSender { node: OTHER.node })
    );
    world.take(&Step::EndSender { node: OTHER.node });
    world.settle();
    assert!(world.words().contains(&"confirm-names".into()));
}

#[test]
fn a_full_disk_is_said_and_changes_no_step() {
    let mut world = World::running(CopyRole::Standby, Some(Conf::follow(&peer())));
    let before = decide(&world.view());
    world.observation.disk_full = true;
    let full = decide(&world.view());
    assert_eq!((&full.step, full.reached), (&before.step, before.reached));
    let said = report(&world.view(), &full, &Extras::default());
    assert!(said.trouble.unwrap().starts_with("the disk is full"));
    world.observation.disk_full = false;
    let said = report(&world.view(), &decide(&world.view()), &Extras::default());
    assert_eq!(said.trouble, None);
}
