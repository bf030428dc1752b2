//! Standbys: observed, stopped, replayed to the end, promoted; slots.

use std::time::{Duration, Instant};

use pgaf_postgres::client::Client;
use pgaf_postgres::conf::{Enforced, Replication};
use pgaf_protocol::{Lsn, TimelineId};

use crate::cluster::{Cluster, LIMIT, cpu_time, until};

#[tokio::test]
async fn an_observation_tells_what_the_keeper_reports() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    until("a reply came", async || {
        primary.server.observe(LIMIT).await.unwrap().senders[0]
            .reply_time
            .is_some()
    })
    .await;
    let up = primary.server.observe(LIMIT).await.unwrap();
    assert!(!up.in_recovery && up.lsn.is_valid() && up.received.is_none());
    assert_eq!(up.timeline, TimelineId(1));
    assert_eq!(up.senders[0].application_name, "pgautofailover_standby_2");
    until("the receiver is seen", async || {
        standby
            .server
            .observe(LIMIT)
            .await
            .unwrap()
            .receiver
            .is_some()
    })
    .await;
    let down = standby.server.observe(LIMIT).await.unwrap();
    let receiver = down.receiver.unwrap();
    assert!(down.in_recovery && down.received.is_some() && down.replayed.is_some());
    assert_eq!(
        (receiver.status.as_str(), receiver.port),
        ("streaming", Some(i32::from(primary.port)))
    );
    assert!(receiver.last_message_age.unwrap() < LIMIT);
    assert_eq!(receiver.slot.as_deref(), Some("pgautofailover_standby_2"));
    assert_eq!(down.system_identifier, up.system_identifier);
    assert_eq!(down.limits, up.limits);
    assert_eq!(down.names.value, "pgautofailover_nobody");
    // What a heartbeat costs here, and in the server's backend.
    let pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_autoctl'";
    for node in [&primary, &standby] {
        let backend: i32 = node.ask(pid).await.parse().unwrap();
        let (own, before) = (
            i32::try_from(std::process::id()).unwrap(),
            cpu_time(backend),
        );
        let before_own = cpu_time(own);
        let start = Instant::now();
        for _ in 0..1000 {
            node.server.observe(LIMIT).await.unwrap();
        }
        println!(
            "observe: {:?} each; CPU of the backend {:?}, ours {:?} for 1000",
            start.elapsed() / 1000,
            cpu_time(backend) - before,
            cpu_time(own) - before_own
        );
    }
}

#[tokio::test]
async fn a_promise_ends_reception_without_a_restart_and_nothing_arrives_after_it() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    let user = primary.client().await;
    user.batch("CREATE TABLE t AS SELECT generate_series(1, 1000) i", LIMIT)
        .await
        .unwrap();
    let session = standby.client().await;
    let end = primary.server.observe(LIMIT).await.unwrap().lsn;
    until("caught up", async || {
        standby.server.observe(LIMIT).await.unwrap().received >= Some(end)
    })
    .await;
    let following = standby.following(&primary, 2);
    let promise = Enforced {
        replication: Replication::Promise,
        ..following.clone()
    };
    let stopped = standby
        .server
        .stop_receiving(&promise, LIMIT)
        .await
        .unwrap();
    println!("stop_receiving: {:?}", stopped.took);
    assert!(stopped.position.lsn >= end, "{stopped:?} {end}");
    user.batch("INSERT INTO t SELECT generate_series(1, 1000)", LIMIT)
        .await
        .unwrap();
    let again = standby
        .server
        .stop_receiving(&promise, LIMIT)
        .await
        .unwrap();
    println!("stop_receiving, repeated: {:?}", again.took);
    assert_eq!(again.position, stopped.position, "nothing arrives any more");
    session.simple("SELECT 1", LIMIT).await.unwrap();
    for _ in 0..3 {
        standby.server.load(&following, LIMIT).await.unwrap();
        until("it streams again", async || {
            let seen = standby.server.observe(LIMIT).await.unwrap();
            seen.receiver.is_some_and(|r| r.status == "streaming")
        })
        .await;
        let stopped = standby
            .server
            .stop_receiving(&promise, LIMIT)
            .await
            .unwrap();
        println!("stop_receiving: {:?}", stopped.took);
    }
}

#[tokio::test]
async fn a_promise_after_a_restart_waits_until_everything_on_disk_is_replayed() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let mut standby = Cluster::standby_of(&primary, 2).await;
    standby.ask("SELECT pg_wal_replay_pause()").await;
    until("paused", async || {
        standby.ask("SELECT pg_get_wal_replay_pause_state()").await == "paused"
    })
    .await;
    let user = primary.client().await;
    user.batch("CREATE TABLE t AS SELECT 1 AS i", LIMIT)
        .await
        .unwrap();
    let end = primary.server.observe(LIMIT).await.unwrap().lsn;
    until("received, and not replayed", async || {
        let seen = standby.server.observe(LIMIT).await.unwrap();
        seen.received >= Some(end) && seen.replayed < Some(end)
    })
    .await;
    standby.stop("immediate");
    // Replay is on its way for as long as this commit is younger than that.
    let auto = standby.pgdata.join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&auto).unwrap() + "recovery_min_apply_delay = '4s'\n";
    std::fs::write(&auto, text).unwrap();
    standby.start().await;
    let before = standby.server.observe(LIMIT).await.unwrap();
    println!("replayed {:?} of {end}", before.replayed);
    assert!(before.received.is_none() && before.replayed < Some(end));
    let promise = Enforced {
        replication: Replication::Promise,
        ..standby.following(&primary, 2)
    };
    let stopped = standby
        .server
        .stop_receiving(&promise, LIMIT)
        .await
        .unwrap();
    println!("stop_receiving while replaying: {:?}", stopped.took);
    assert!(stopped.position.lsn >= end, "{stopped:?} {end}");
}

#[tokio::test]
async fn a_candidate_is_promoted_without_a_restart() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    let session = standby.client().await;
    let started = standby
        .server
        .observe(LIMIT)
        .await
        .unwrap()
        .postmaster_start;
    let promise = Enforced {
        replication: Replication::Promise,
        ..standby.following(&primary, 2)
    };
    standby
        .server
        .stop_receiving(&promise, LIMIT)
        .await
        .unwrap();
    let start = Instant::now();
    standby.server.await_replay(LIMIT).await.unwrap();
    println!("await_replay: {:?}", start.elapsed());
    let promoted = standby.server.promote(LIMIT).await.unwrap();
    println!("promote: {:?}", promoted.took);
    assert_eq!(promoted.timeline, TimelineId(2));
    assert_eq!(promoted.postmaster_start, started, "no restart");
    assert_eq!(
        standby.server.promote(LIMIT).await.unwrap().timeline,
        TimelineId(2)
    );
    session.simple("SELECT 1", LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_receiver_that_paused_replay_keeps_alive_is_ended() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    standby.ask("SELECT pg_wal_replay_pause()").await;
    until("paused", async || {
        standby.ask("SELECT pg_get_wal_replay_pause_state()").await == "paused"
    })
    .await;
    let promise = Enforced {
        replication: Replication::Promise,
        ..standby.following(&primary, 2)
    };
    let stopped = standby
        .server
        .stop_receiving(&promise, LIMIT)
        .await
        .unwrap();
    println!("stop_receiving while paused: {:?}", stopped.took);
    let receivers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
    assert_eq!(standby.ask(receivers).await, "0");
}

/// A reader on the standby that replay has to wait for; `conflict` runs on the primary.
async fn in_conflict(primary: &Cluster, standby: &Cluster, read: &str, conflict: &str) -> Client {
    let user = primary.client().await;
    let sql = "CREATE TABLE t AS SELECT generate_series(1, 1000) i; DELETE FROM t WHERE i < 500";
    user.batch(sql, LIMIT).await.unwrap();
    let caught_up = async || {
        let end = primary.server.observe(LIMIT).await.unwrap().lsn;
        until("received", async || {
            standby.server.observe(LIMIT).await.unwrap().received >= Some(end)
        })
        .await;
    };
    caught_up().await;
    standby.server.await_replay(LIMIT).await.unwrap();
    let reader = standby.client().await;
    reader.batch(read, LIMIT).await.unwrap();
    user.batch(conflict, LIMIT).await.unwrap();
    caught_up().await;
    reader
}

#[tokio::test]
async fn sessions_that_hold_replay_up_are_ended_for_the_candidate() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    let read = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t";
    let reader = in_conflict(&primary, &standby, read, "DROP TABLE t").await;
    let start = Instant::now();
    let replay = standby.server.await_replay(LIMIT).await.unwrap();
    println!("await_replay with a lock in its way: {:?}", start.elapsed());
    assert_eq!(replay.ended.len(), 1, "{replay:?}");
    assert!(
        replay.replayed
            >= standby
                .server
                .observe(LIMIT)
                .await
                .unwrap()
                .received
                .unwrap()
    );
    assert!(reader.simple("SELECT 1", LIMIT).await.is_err());
}

#[tokio::test]
async fn a_promise_is_made_in_time_though_a_reader_holds_replay_up() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    let read = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t";
    let reader = in_conflict(&primary, &standby, read, "DROP TABLE t").await;
    let promise = Enforced {
        replication: Replication::Promise,
        ..standby.following(&primary, 2)
    };
    let stopped = standby
        .server
        .stop_receiving(&promise, LIMIT)
        .await
        .unwrap();
    println!("stop_receiving with a lock in its way: {:?}", stopped.took);
    assert!(stopped.took < Duration::from_secs(15), "{stopped:?}");
    assert!(reader.simple("SELECT 1", LIMIT).await.is_err());
    let promoted = standby.server.promote(LIMIT).await.unwrap();
    println!("promote after that: {:?}", promoted.took);
}

#[tokio::test]
async fn slots_are_copied_from_their_holders_and_only_ours_are_touched() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    primary
        .ask("SELECT pg_create_physical_replication_slot('mine', true)")
        .await;
    let (slot, hold) = (
        ["pgautofailover_standby_2".to_owned()],
        ["pgautofailover_hold_2".to_owned()],
    );
    let held = primary
        .server
        .ensure_slots(&[], &hold, LIMIT)
        .await
        .unwrap();
    assert_eq!(held.created, hold);
    let position = "SELECT string_agg(restart_lsn::text, ' ' ORDER BY slot_name) FROM pg_replication_slots WHERE slot_name <> 'mine'";
    let reserved = primary.ask(position).await;
    primary.ask("SELECT pg_switch_wal()").await;
    primary.server.checkpoint(LIMIT).await.unwrap();
    let admitted = primary
        .server
        .ensure_slots(&slot, &[], LIMIT)
        .await
        .unwrap();
    assert_eq!(
        (admitted.created.as_slice(), admitted.dropped.as_slice()),
        (&slot[..], &hold[..])
    );
    assert_eq!(primary.ask(position).await, reserved, "no WAL was let go");
    assert_eq!(
        primary
            .server
            .ensure_slots(&slot, &[], LIMIT)
            .await
            .unwrap(),
        Default::default()
    );
    let gone = primary.server.ensure_slots(&[], &[], LIMIT).await.unwrap();
    assert_eq!(gone.dropped, slot);
    assert_eq!(
        primary
            .ask("SELECT string_agg(slot_name, ' ') FROM pg_replication_slots")
            .await,
        "mine"
    );
}

#[tokio::test]
async fn a_standby_holds_wal_for_others_only_up_to_what_they_have() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    let hold = ["pgautofailover_hold_3".to_owned()];
    standby
        .server
        .ensure_slots(&[], &hold, LIMIT)
        .await
        .unwrap();
    primary.ask("SELECT pg_switch_wal()").await;
    primary
        .ask("SELECT pg_logical_emit_message(true, 'test', 'x')")
        .await;
    let end = primary.server.observe(LIMIT).await.unwrap().lsn;
    until("replayed", async || {
        standby.server.observe(LIMIT).await.unwrap().replayed >= Some(end)
    })
    .await;
    let far = Lsn(end.0 + 1_000_000_000);
    let wanted = [
        (hold[0].clone(), far),
        ("pgautofailover_hold_9".to_owned(), far),
    ];
    standby.server.advance_slots(&wanted, LIMIT).await.unwrap();
    let held = standby
        .ask("SELECT restart_lsn FROM pg_replication_slots")
        .await;
    assert!(
        held.parse::<Lsn>().unwrap() >= end && held.parse::<Lsn>().unwrap() < far,
        "{held}"
    );
    standby
        .server
        .advance_slots(&[(hold[0].clone(), Lsn(1))], LIMIT)
        .await
        .unwrap();
    assert_eq!(
        standby
            .ask("SELECT restart_lsn FROM pg_replication_slots")
            .await,
        held
    );
}

#[tokio::test]
async fn a_standby_connects_only_through_its_slot_and_soon_after_it_is_made() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    let slot = ["pgautofailover_standby_2".to_owned()];
    let busy = primary.server.ensure_slots(&[], &[], LIMIT).await.unwrap();
    assert_eq!(busy.busy, slot);
    primary.server.end_walsender(&slot[0], LIMIT).await.unwrap();
    until("dropped", async || {
        primary.server.end_walsender(&slot[0], LIMIT).await.unwrap();
        primary
            .server
            .ensure_slots(&[], &[], LIMIT)
            .await
            .is_ok_and(|c| c.dropped == slot)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // One that is being refused shows for a moment.
    let senders = primary.server.observe(LIMIT).await.unwrap().senders;
    assert!(
        senders.iter().all(|s| s.state != "streaming"),
        "{senders:?}"
    );
    let start = Instant::now();
    primary
        .server
        .ensure_slots(&slot, &[], LIMIT)
        .await
        .unwrap();
    until("it streams", async || {
        primary
            .server
            .observe(LIMIT)
            .await
            .unwrap()
            .senders
            .iter()
            .any(|s| s.state == "streaming")
    })
    .await;
    println!("from slot to streaming: {:?}", start.elapsed());
    drop(standby);
}
