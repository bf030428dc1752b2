//! Lease mode at a keeper (`safety.md` §5.3-4).

use alloc::vec::Vec;

use pgaf_protocol::{CopyRole, Incarnation, Lead, NodeState, Order, SyncConfig, Term, Time};

use super::world::{World, stamp};
use crate::node::{Conf, Extras, Memory, Step, StopMode, decide, report};

fn lead(lease: bool) -> Order {
    Order::Lead(Lead {
        sync: SyncConfig::asynchronous(),
        sync_stamp: stamp(2, 2),
        lease: lease.then(|| stamp(2, 3)),
        ..Lead::default()
    })
}

/// A primary that holds a lease until then.
fn leased(until: u64) -> World {
    let conf = Conf::primary(&SyncConfig::asynchronous());
    let mut world = World::running(CopyRole::Primary { term: Term(2) }, Some(conf));
    world.obey(stamp(2, 4), NodeState::Primary, lead(true), true);
    world.memory.lease_until = None;
    world.memory.granted(Time(until), Incarnation(1));
    assert!(world.settle().reached);
    assert!(world.now < Time(until));
    world
}

fn has_opened(steps: &[Step]) -> bool {
    steps.iter().any(|s| {
        matches!(
            s,
            Step::Start {
                standby: false,
                closed: false,
                ..
            } | Step::WriteHba { closed: false }
        )
    })
}

#[test]
fn lease_mode_is_reported_once_its_fencer_runs() {
    let conf = Conf::primary(&SyncConfig::asynchronous());
    let mut world = World::running(CopyRole::Primary { term: Term(2) }, Some(conf));
    world.obey(stamp(2, 4), NodeState::Primary, lead(true), true);
    let said = report(&world.view(), &decide(&world.view()), &Extras::default());
    assert_eq!(said.leased, None);
    world.settle();
    assert!(world.words().contains(&"start-fencer".into()));
    let said = report(&world.view(), &decide(&world.view()), &Extras::default());
    assert_eq!(said.leased, Some(stamp(2, 3)));
    assert!(!world.journal.stated_alone());
}

#[test]
fn at_the_end_of_the_lease_postgres_is_ended_and_is_closed_until_the_next_one() {
    let mut world = leased(60_000);
    world.now = Time(60_000);
    assert_eq!(
        decide(&world.view()).step,
        Some(Step::Stop {
            mode: StopMode::Immediate
        })
    );
    // The fencer has done the same, and is gone.
    world.observation.fencer = false;
    world.steps = Vec::new();
    world.settle();
    assert!(world.observation.postgres.is_primary());
    assert!(!has_opened(&world.steps), "{:?}", world.words());
    let waits = world.observation.server.as_ref().map(|s| s.names.clone());
    assert_eq!(waits.as_deref(), Some("nobody"), "whoever gets in waits");
    let until = Time(world.now.0 + 100_000);
    world.memory.granted(until, Incarnation(1));
    world.steps = Vec::new();
    world.settle();
    assert_eq!(world.words()[..2], ["start-fencer", "load-empty-names"]);
    assert!(has_opened(&world.steps));
}

#[test]
fn a_keeper_that_starts_has_no_lease_and_asks_while_the_old_fencer_guards() {
    let mut world = leased(60_000);
    world.memory = Memory::new(world.now, world.memory.fresh);
    world.memory.saw(&world.observation, world.now);
    let plan = decide(&world.view());
    assert_eq!(plan.step, None, "goes on until it has asked");
    let mut late = world.clone();
    late.now = Time(world.now.0 + 2000);
    let stop = Some(Step::Stop {
        mode: StopMode::Immediate,
    });
    assert_eq!(decide(&late.view()).step, stop, "nobody answered");
    let mut unguarded = world.clone();
    unguarded.observation.fencer = false;
    assert_eq!(
        decide(&unguarded.view()).step,
        stop,
        "nobody guards the old lease"
    );
}

#[test]
fn a_keeper_that_starts_over_a_stopped_primary_in_lease_mode_waits_for_a_goal() {
    let mut world = World::with_copy(CopyRole::Primary { term: Term(2) }, false);
    world.obey(stamp(2, 4), NodeState::Primary, lead(true), false);
    let plan = world.settle();
    assert!(world.observation.is_down());
    assert!(plan.waiting.unwrap().contains("waits for the monitor"));
}

#[test]
fn a_jump_of_the_clock_ends_the_lease() {
    let mut world = leased(60_000);
    world.memory.clock_jumped();
    world.now = Time(world.memory.started.0 + 3000);
    assert!(matches!(
        decide(&world.view()).step,
        Some(Step::Stop { .. })
    ));
}

#[test]
fn a_lease_of_an_earlier_run_of_the_monitor_is_over_with_it() {
    let mut world = leased(60_000);
    world.memory.granted(Time(50_000), Incarnation(1));
    assert_eq!(world.memory.lease_until, Some(Time(60_000)));
    world.memory.granted(Time(50_000), Incarnation(2));
    assert_eq!(world.memory.lease_until, Some(Time(50_000)));
}

#[test]
fn the_fencer_ends_with_the_mode_and_not_before_postgres_when_the_right_to_lead_is_gone() {
    let mut world = leased(u64::MAX);
    world.steps = Vec::new();
    world.obey(stamp(2, 5), NodeState::WaitPrimary, lead(false), true);
    world.settle();
    assert_eq!(world.words()[0], "end-fencer");
    assert!(world.observation.postgres.is_primary());

    let mut world = leased(u64::MAX);
    world.steps = Vec::new();
    world.obey(stamp(3, 5), NodeState::Draining, Order::promise(true), true);
    world.settle();
    assert_eq!(world.words()[..2], ["stop", "end-fencer"]);
}
