//! Verdicts: every kind of evidence, and what contradicts it.

use pgaf_protocol::*;

use super::*;
use crate::group::Probe;
use crate::group::tests::world::World;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// A settled pair, with node A silent for `ms` and last probed with `outcome` then.
fn silent(ms: u64, outcome: ProbeOutcome) -> World {
    let mut world = World::pair();
    let last = world.live.of(A).unwrap().heard.unwrap();
    world.now = last.plus(core::time::Duration::from_millis(ms));
    let now = world.now;
    let a = world.live.nodes.get_mut(&A).unwrap();
    a.probe = Some(Probe {
        began: Time(last.0 + 1),
        ended: now,
        outcome,
    });
    let b = world.live.nodes.get_mut(&B).unwrap();
    b.heard = Some(now);
    b.report.as_mut().unwrap().upstream = None;
    b.look = Some((
        Look {
            number: 1,
            node: A,
            connected: false,
            heard: false,
        },
        now,
    ));
    world
}

fn verdict(world: &World) -> Verdict {
    judge(world.group(), &world.live, &world.settings, world.now, A)
}

#[test]
fn silence_with_a_failed_probe_and_a_witness_that_agrees_is_gone() {
    let world = silent(2500, ProbeOutcome::TimedOut);
    assert!(verdict(&world).is_gone(), "{:?}", verdict(&world));
}

#[test]
fn shorter_silence_is_only_suspect() {
    assert!(matches!(
        verdict(&silent(2499, ProbeOutcome::Refused)),
        Verdict::Suspect(_)
    ));
    assert_eq!(verdict(&silent(900, ProbeOutcome::Refused)), Verdict::Well);
}

#[test]
fn a_postgres_that_answers_is_not_gone_however_silent_its_keeper() {
    assert!(matches!(
        verdict(&silent(60_000, ProbeOutcome::Ok)),
        Verdict::Suspect(_)
    ));
}

#[test]
fn a_standby_that_still_streams_contradicts() {
    let mut world = silent(60_000, ProbeOutcome::TimedOut);
    let seen = UpstreamSeen {
        node: A,
        streaming: true,
        fresh: true,
        timeline: TimelineId(1),
    };
    world
        .live
        .nodes
        .get_mut(&B)
        .unwrap()
        .report
        .as_mut()
        .unwrap()
        .upstream = Some(seen);
    assert!(
        verdict(&world).text().contains("still streams"),
        "{:?}",
        verdict(&world)
    );
}

#[test]
fn a_witness_that_has_not_looked_or_still_reaches_it_contradicts() {
    let mut world = silent(5000, ProbeOutcome::TimedOut);
    world.live.nodes.get_mut(&B).unwrap().look = None;
    assert!(verdict(&world).text().contains("has not looked"));
    let look = Look {
        number: 2,
        node: A,
        connected: true,
        heard: false,
    };
    world.live.nodes.get_mut(&B).unwrap().look = Some((look, world.now));
    assert!(verdict(&world).text().contains("still reaches"));
}

#[test]
fn a_closed_session_and_a_refused_probe_are_enough_at_once() {
    let mut world = silent(10, ProbeOutcome::Refused);
    let now = world.now;
    let a = world.live.nodes.get_mut(&A).unwrap();
    a.session = Session::Closed { since: now };
    assert!(
        matches!(verdict(&world), Verdict::Suspect(_)),
        "a probe from before says nothing"
    );
    world.live.nodes.get_mut(&A).unwrap().probe = Some(Probe {
        began: now,
        ended: now,
        outcome: ProbeOutcome::Refused,
    });
    assert!(verdict(&world).is_gone());
}

#[test]
fn a_monitor_that_was_away_listens_first() {
    let mut world = silent(3000, ProbeOutcome::TimedOut);
    world.live.listening_since = Time(world.now.0 - 2900);
    assert!(
        verdict(&world).text().contains("listens first"),
        "{:?}",
        verdict(&world)
    );
    world.live.listening_since = Time(world.now.0 - 5000);
    world.live.nodes.get_mut(&A).unwrap().heard = None;
    assert!(verdict(&world).is_gone());
}

#[test]
fn a_crashed_postgres_gets_its_restart_budget_unless_a_start_failed_or_redo_is_long() {
    let mut world = World::pair();
    let now = world.now;
    let a = world.live.nodes.get_mut(&A).unwrap();
    a.down_since = Some(Time(now.0 - 100));
    a.report.as_mut().unwrap().postgres = Postgres::Down { crashed: true };
    assert!(matches!(verdict(&world), Verdict::Suspect(_)));
    let set = |world: &mut World, change: &dyn Fn(&mut Report)| {
        change(
            world
                .live
                .nodes
                .get_mut(&A)
                .unwrap()
                .report
                .as_mut()
                .unwrap(),
        );
    };
    let mut long = World {
        live: world.live.clone(),
        ..World::pair()
    };
    long.now = now;
    set(&mut long, &|r| r.redo_bytes = Some(64 << 20));
    assert!(verdict(&long).is_gone());
    set(&mut world, &|r| r.failed_starts = 1);
    assert!(verdict(&world).is_gone());
    set(&mut world, &|r| r.failed_starts = 0);
    world.live.nodes.get_mut(&A).unwrap().down_since = Some(Time(now.0 - 2000));
    assert!(verdict(&world).is_gone());
}

#[test]
fn a_keeper_that_stops_with_its_postgres_is_gone_at_once() {
    let mut world = World::pair();
    let report = world
        .live
        .nodes
        .get_mut(&A)
        .unwrap()
        .report
        .as_mut()
        .unwrap();
    report.leaving = true;
    assert!(
        matches!(verdict(&world), Verdict::Suspect(_)),
        "its Postgres still runs"
    );
    let report = world
        .live
        .nodes
        .get_mut(&A)
        .unwrap()
        .report
        .as_mut()
        .unwrap();
    report.postgres = Postgres::Down { crashed: false };
    assert!(verdict(&world).is_gone());
}
