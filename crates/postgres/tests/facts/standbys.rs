//! Standbys: how they stop receiving, are promoted, restart, and see their primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::signal::Signal;
use pgaf_postgres::postmaster::cluster_processes;

use crate::server::{LIMIT, Server, lives, never, signal, until};

const RECEIVER: &str = "walreceiver";

pub(crate) async fn no_commit_slips_through_a_promotion() {
    let primary = Server::primary().await;
    let mut standby = Server::copy();
    standby.set("synchronous_standby_names", "nobody");
    standby.follow(&primary, "standby");
    standby.start().await;
    primary.caught_up(&standby).await;
    let succeeded = Arc::new(AtomicUsize::new(0));
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let (client, count) = (standby.client().await, Arc::clone(&succeeded));
        sessions.push(tokio::spawn(async move {
            // Refused as long as it is a standby.
            while client
                .batch("INSERT INTO t VALUES (1)", LIMIT)
                .await
                .is_err()
            {}
            count.fetch_add(1, Ordering::SeqCst);
        }));
    }
    let start = Instant::now();
    standby.promote().await;
    println!("promoted in {:?}", start.elapsed());
    standby.wait_for(4).await;
    assert_eq!(succeeded.load(Ordering::SeqCst), 0);
    standby.load("synchronous_standby_names", "");
    for session in sessions {
        session.await.unwrap();
    }
}

pub(crate) async fn a_promise_needs_no_restart() {
    let primary = Server::primary().await;
    let mut standby = Server::standby_of(&primary, "standby").await;
    let reader = standby.client().await;
    let reads = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t";
    reader.batch(reads, LIMIT).await.unwrap();
    let started = standby.ask("SELECT pg_postmaster_start_time()").await;
    let start = Instant::now();
    standby.load("primary_conninfo", "");
    until("the receiver is gone", async || {
        standby.process(RECEIVER).await.is_none()
    })
    .await;
    println!("the receiver is gone after {:?}", start.elapsed());
    reader.batch("SELECT count(*) FROM t", LIMIT).await.unwrap();
    let now = standby.ask("SELECT pg_postmaster_start_time()").await;
    assert_eq!(now, started);
}

pub(crate) async fn sigterm_ends_a_receiver_that_held_replay_keeps() {
    let primary = Server::primary().await;
    let mut standby = Server::standby_of(&primary, "standby").await;
    standby.ask("SELECT pg_wal_replay_pause()").await;
    until("paused", async || {
        standby.ask("SELECT pg_get_wal_replay_pause_state()").await == "paused"
    })
    .await;
    let receiver = standby.process(RECEIVER).await.unwrap();
    standby.load("primary_conninfo", "");
    never("it ends by itself", async || !lives(receiver)).await;
    let refused = format!("SELECT pg_terminate_backend({receiver})");
    assert_eq!(standby.ask(&refused).await, "f");
    assert!(lives(receiver));
    signal(receiver, Signal::SIGTERM);
    until("it is gone", async || {
        standby.process(RECEIVER).await.is_none()
    })
    .await;
    never("it comes back", async || {
        standby.process(RECEIVER).await.is_some()
    })
    .await;
}

pub(crate) async fn a_promotion_waits_for_a_conflicting_query() {
    let mut primary = Server::primary().await;
    let mut standby = Server::copy();
    standby.set("max_standby_streaming_delay", "-1");
    standby.set("max_standby_archive_delay", "-1");
    standby.follow(&primary, "standby");
    standby.start().await;
    primary.caught_up(&standby).await;
    let reader = standby.client().await;
    let reads = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t";
    reader.batch(reads, LIMIT).await.unwrap();
    primary
        .client()
        .await
        .batch("DROP TABLE t", LIMIT)
        .await
        .unwrap();
    let end = primary.ask("SELECT pg_current_wal_flush_lsn()").await;
    until("it is received", async || {
        let received = format!("SELECT pg_last_wal_receive_lsn() >= '{end}'");
        standby.ask(&received).await == "t"
    })
    .await;
    primary.end(Signal::SIGQUIT);
    assert_eq!(standby.ask("SELECT pg_promote(true, 2)").await, "f");
    assert_eq!(standby.ask("SELECT pg_is_in_recovery()").await, "t");
    reader.batch("COMMIT", LIMIT).await.unwrap();
    until("it is promoted", async || {
        standby.ask("SELECT pg_is_in_recovery()").await == "f"
    })
    .await;
}

pub(crate) async fn received_is_not_known_after_a_restart() {
    let mut primary = Server::primary().await;
    let mut standby = Server::standby_of(&primary, "standby").await;
    let client = primary.client().await;
    client
        .batch("INSERT INTO t VALUES (1)", LIMIT)
        .await
        .unwrap();
    primary.caught_up(&standby).await;
    let received = "SELECT coalesce(pg_last_wal_receive_lsn(), '0/0')";
    let before = standby.ask(received).await;
    primary.end(Signal::SIGQUIT);
    standby.end(Signal::SIGINT);
    standby.start().await;
    // Nothing, until it has tried to connect; then where it would begin.
    until("it has tried to connect", async || {
        standby.ask(received).await != "0/0"
    })
    .await;
    let begin = standby.ask(received).await;
    let claim = format!("SELECT ('{begin}'::pg_lsn - '0/0') % 1048576, '{begin}' < '{before}'");
    let rows = standby.client().await.simple(&claim, LIMIT).await.unwrap();
    assert_eq!(
        (rows[0].get(0), rows[0].get(1)),
        (Some("0"), Some("t")),
        "{begin} {before}"
    );
    standby.end(Signal::SIGINT);
    standby.set("primary_conninfo", "");
    standby.start().await;
    never("without an upstream it stays unknown", async || {
        standby.ask(received).await != "0/0"
    })
    .await;
}

pub(crate) async fn a_frozen_primary_still_shows_as_streaming() {
    let primary = Server::primary().await;
    let standby = Server::standby_of(&primary, "standby").await;
    until("a message came", async || {
        standby
            .ask("SELECT count(last_msg_receipt_time) FROM pg_stat_wal_receiver")
            .await
            == "1"
    })
    .await;
    let frozen = cluster_processes(&primary.data).unwrap();
    for pid in &frozen {
        signal(*pid, Signal::SIGSTOP);
    }
    let old = "SELECT status = 'streaming' AND clock_timestamp() - last_msg_receipt_time > '2.5s' FROM pg_stat_wal_receiver";
    until("it streams, and says nothing", async || {
        standby.ask(old).await == "t"
    })
    .await;
    for pid in &frozen {
        signal(*pid, Signal::SIGCONT);
    }
}
