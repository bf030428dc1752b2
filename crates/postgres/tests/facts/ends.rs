//! How servers end, and what happens while they do.

use nix::sys::signal::Signal;
use pgaf_postgres::postmaster::cluster_processes;

use crate::server::{LIMIT, Server, program, signal, until};

pub(crate) async fn a_fast_stop_cancels_waits_and_keeps_the_row() {
    let mut primary = Server::copy();
    primary.set("synchronous_standby_names", "nobody");
    primary.start().await;
    let commit = primary.begin("INSERT INTO t VALUES (42)").await;
    primary.wait_for(1).await;
    primary.end(Signal::SIGINT);
    assert!(commit.await.unwrap().is_err(), "it is no success");
    primary.start().await;
    let row = "SELECT count(*) FROM t WHERE i = 42";
    assert_eq!(primary.ask(row).await, "1");
}

pub(crate) async fn children_of_a_killed_postmaster_acknowledge() {
    let mut primary = Server::primary().await;
    // It computes for a while, asks nobody, and commits.
    let work = "DO $$ BEGIN FOR i IN 1..5000000 LOOP PERFORM i; END LOOP; INSERT INTO t VALUES (42); END $$";
    let commit = primary.begin(work).await;
    until("it works", async || {
        let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active' AND pid <> pg_backend_pid()";
        primary.ask(active).await == "1"
    })
    .await;
    primary.end(Signal::SIGKILL);
    assert!(!commit.is_finished(), "it ended before the postmaster");
    commit.await.unwrap().unwrap();
    gone(&primary).await;
    primary.start().await;
    let row = "SELECT count(*) FROM t WHERE i = 42";
    assert_eq!(primary.ask(row).await, "1");
}

pub(crate) async fn an_unreaped_postmaster_blocks_the_start() {
    let mut primary = Server::primary().await;
    signal(primary.postmaster(), Signal::SIGKILL);
    gone(&primary).await;
    let again = program("postgres")
        .arg("-D")
        .arg(&primary.data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success(), "{said}");
    assert!(
        said.contains("lock file \"postmaster.pid\" already exists"),
        "{said}"
    );
    primary.child.take().unwrap().wait().unwrap();
    primary.start().await;
    let client = primary.client().await;
    client
        .batch("INSERT INTO t VALUES (1)", LIMIT)
        .await
        .unwrap();
}

/// Waits until no process of it lives; a zombie does not.
async fn gone(server: &Server) {
    until("every process is gone", async || {
        cluster_processes(&server.data).unwrap().is_empty()
    })
    .await;
}
