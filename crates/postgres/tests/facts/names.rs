//! `synchronous_standby_names`: when commits wait, and what ends the wait.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::replica::Replica;
use crate::server::{LIMIT, Server, never, program, signal, until};

const NAMES: &str = "synchronous_standby_names";
const INSERT: &str = "INSERT INTO t VALUES (1)";

pub(crate) async fn show_proves_nothing() {
    let mut primary = Server::primary().await;
    let checkpointer = primary.process("checkpointer").await.unwrap();
    signal(checkpointer, Signal::SIGSTOP);
    primary.load(NAMES, "nobody");
    until("a new session shows it", async || {
        primary.ask(&format!("SHOW {NAMES}")).await == "nobody"
    })
    .await;
    let client = primary.client().await;
    client.batch(INSERT, LIMIT).await.unwrap();
    signal(checkpointer, Signal::SIGCONT);
    let mut commits = Vec::new();
    until("a commit waits", async || {
        commits.push(primary.begin(INSERT).await);
        primary.waiting().await > 0
    })
    .await;
    primary.load(NAMES, "");
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
}

pub(crate) async fn a_commit_that_waits_proves_that_all_will() {
    let mut primary = Server::primary().await;
    let (old, start) = (primary.client().await, Instant::now());
    primary.load(NAMES, "nobody");
    let mut commits = Vec::new();
    until("a probe waits", async || {
        let probe = "SELECT pg_logical_emit_message(true, 'probe', '')";
        commits.push(primary.begin(probe).await);
        primary.waiting().await > 0
    })
    .await;
    println!("commits wait after {:?}", start.elapsed());
    let before = primary.waiting().await;
    commits.push(tokio::spawn(async move { old.batch(INSERT, LIMIT).await }));
    commits.push(primary.begin(INSERT).await);
    primary.wait_for(before + 2).await;
    primary.load(NAMES, "");
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
}

pub(crate) async fn two_changes_at_once_are_weaker_than_both() {
    let mut primary = Server::primary().await;
    let from = primary.ask("SELECT pg_current_wal_flush_lsn()").await;
    let mut replicas = Vec::new();
    for name in ["one", "two", "three"] {
        let mut replica = Replica::connect(&primary, name, &from).await;
        replica.says_flushed(&from).await;
        replicas.push(replica);
    }
    primary.load(NAMES, "ANY 2 (one, two)");
    let priority = async |primary: &Server, name: &str| {
        let sql = "SELECT sync_priority FROM pg_stat_replication WHERE application_name = ";
        primary.ask(&format!("{sql}'{name}'")).await != "0"
    };
    until("both walsenders have the names", async || {
        priority(&primary, "one").await && priority(&primary, "two").await
    })
    .await;
    let mut commits = Vec::new();
    until("commits wait", async || {
        commits.push(primary.begin(INSERT).await);
        primary.waiting().await > 0
    })
    .await;
    let end = primary.ask("SELECT pg_current_wal_flush_lsn()").await;
    replicas[0].says_flushed(&end).await;
    never("one of two is not enough", async || {
        primary.waiting().await == 0
    })
    .await;
    // The first one's walsender does not get to look at the new names.
    let pid = "SELECT pid FROM pg_stat_replication WHERE application_name = 'one'";
    let frozen: i32 = primary.ask(pid).await.parse().unwrap();
    signal(frozen, Signal::SIGSTOP);
    primary.load(NAMES, "ANY 1 (three)");
    until("the third has the new names", async || {
        priority(&primary, "three").await
    })
    .await;
    // It has nothing of the commit, and its word counts the first one's.
    replicas[2].says_flushed(&from).await;
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    let flushed = "SELECT flush_lsn FROM pg_stat_replication WHERE application_name = 'three'";
    assert_eq!(primary.ask(flushed).await, from);
    signal(frozen, Signal::SIGCONT);
}

pub(crate) async fn the_empty_value_frees_waiting_commits() {
    let mut primary = Server::primary().await;
    primary.load(NAMES, "nobody");
    let mut commits = Vec::new();
    until("commits wait", async || {
        commits.push(primary.begin(INSERT).await);
        primary.waiting().await > 0
    })
    .await;
    let start = Instant::now();
    primary.load(NAMES, "");
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    println!("free after {:?}", start.elapsed());
}

pub(crate) async fn a_connecting_receiver_says_flushed_up_to_its_replay() {
    let mut primary = Server::primary().await;
    // Another one of the same system that went its own way, further, on the same timeline.
    let mut other = Server::primary().await;
    let rows = "INSERT INTO t SELECT generate_series(1, 500)";
    other.client().await.batch(rows, LIMIT).await.unwrap();
    other.end(Signal::SIGINT);
    primary.load(NAMES, "ANY 1 (other)");
    let mut commits = Vec::new();
    until("commits wait", async || {
        commits.push(primary.begin("INSERT INTO t VALUES (-1)").await);
        primary.waiting().await > 0
    })
    .await;
    other.follow(&primary, "other");
    other.start().await;
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    let lost = "SELECT count(*) FROM t WHERE i = -1";
    assert_eq!(other.ask(lost).await, "0", "it has none of them");
    assert_ne!(primary.ask(lost).await, "0");
}

pub(crate) async fn a_receiver_without_its_slot_is_refused() {
    let mut primary = Server::primary().await;
    let mut standby = Server::copy();
    standby.follow(&primary, "standby");
    standby.set("primary_slot_name", "mine");
    standby.start().await;
    primary.load(NAMES, "ANY 1 (standby)");
    let refused = "replication slot \"mine\" does not exist";
    until("it is refused", async || standby.log().contains(refused)).await;
    let mut commits = Vec::new();
    until("commits wait", async || {
        commits.push(primary.begin(INSERT).await);
        primary.waiting().await > 0
    })
    .await;
    never("nothing is reported", async || primary.waiting().await == 0).await;
    let start = Instant::now();
    primary
        .ask("SELECT pg_create_physical_replication_slot('mine', true)")
        .await;
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    println!("acknowledges {:?} after its slot", start.elapsed());
}

pub(crate) async fn a_base_backup_under_a_sync_name_acknowledges() {
    let mut primary = Server::primary().await;
    let folder = primary.dir.path().join("backup");
    let source = format!(
        "host=127.0.0.1 port={} user=postgres application_name=one",
        primary.port
    );
    let mut backup = program("pg_basebackup")
        .args(["-X", "stream", "-c", "fast", "-s", "1", "--max-rate=1M"])
        .args(["-d", &source, "-D"])
        .arg(&folder)
        .spawn()
        .unwrap();
    until("it streams", async || primary.streams_to("one").await).await;
    primary.load(NAMES, "ANY 1 (one)");
    let mut commits = Vec::new();
    until("commits wait", async || {
        commits.push(primary.begin(INSERT).await);
        primary.waiting().await > 0
    })
    .await;
    primary.ask("SELECT pg_switch_wal()").await;
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    assert!(
        backup.try_wait().unwrap().is_none(),
        "the backup is still being made"
    );
    backup.kill().unwrap();
    backup.wait().unwrap();
}
