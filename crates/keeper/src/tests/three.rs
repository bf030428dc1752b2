//! Three nodes: a candidate that lacks WAL fetches it from the other standby, and nobody restarts.

use std::time::{Duration, Instant};

use pgaf_postgres::client::Client;
use pgaf_protocol::{CopyId, Fetch, NodeState, Order, Position, Promote, SyncConfig, TimelineId};

use super::harness::{Node, follow, lead_alone, lead_with, run, stamp};

/// A primary and two standbys that stream from it.
async fn three() -> [Node; 3] {
    let [mut a, mut b, mut c] = [Node::new(1), Node::new(2), Node::new(3)];
    a.knows(&[&b, &c]);
    b.knows(&[&a, &c]);
    c.knows(&[&a, &b]);
    for node in [&mut a, &mut b, &mut c] {
        node.start().await;
    }
    a.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
        .await;
    let history = a.until_reached().await.history;
    a.sql("create table t(i int)").await;
    for (node, sequence) in [(&mut b, 2), (&mut c, 3)] {
        node.tell(
            1,
            sequence,
            NodeState::Catchingup,
            follow(&a, history.clone()),
        )
        .await;
        node.until_reached().await;
        node.until("knows its position", |r| r.position.is_some())
            .await;
    }
    let members = [b.member(), c.member()];
    a.tell(
        1,
        4,
        NodeState::WaitPrimary,
        lead_with(stamp(1, 1), &members, false),
    )
    .await;
    for node in [&b, &c] {
        node.until("streams", |r| r.upstream.is_some_and(|u| u.streaming))
            .await;
    }
    [a, b, c]
}

/// B has promised early, C has everything, A's host is dead; C hands out WAL to B.
async fn behind(a: &mut Node, b: &mut Node, c: &mut Node) -> (Position, Position) {
    b.tell(2, 5, NodeState::ReportLsn, Order::promise(false))
        .await;
    let had = promised(b).await;
    a.sql("insert into t select generate_series(1, 1000)").await;
    let limit = Instant::now() + Duration::from_secs(30);
    while c.sql("select count(*) from t").await != "1000" {
        assert!(Instant::now() < limit, "C does not receive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    a.kill_keeper().await;
    a.kill_postgres();
    c.tell(2, 6, NodeState::ReportLsn, Order::promise(false))
        .await;
    let end = promised(c).await;
    assert!(had < end);
    let serves = Order::Promise {
        fast: false,
        serves: [b.id].into(),
    };
    c.tell(2, 7, NodeState::ReportLsn, serves).await;
    (had, end)
}

async fn promised(node: &Node) -> Position {
    let report = node.until_reached().await;
    report.promise.unwrap().position.unwrap()
}

fn fetch(from: &Node, position: Position, replace: Option<CopyId>) -> Order {
    Order::Fetch(Fetch {
        source: from.peer(),
        position,
        replace,
    })
}

async fn reads(client: &Client) {
    client
        .simple("select count(*) from t", Duration::from_secs(10))
        .await
        .unwrap();
}

/// B is promoted with everything, C follows it.
async fn finish(b: &mut Node, c: &mut Node, end: Position) {
    let order = Order::Promote(Promote {
        sync: SyncConfig::any(1, [c.member()]),
        sync_stamp: stamp(2, 9),
        admitted: [c.member()].into(),
        position: end,
        timeline: TimelineId(2),
    });
    b.tell(2, 9, NodeState::StopReplication, order).await;
    c.tell(2, 10, NodeState::Catchingup, follow(b, None)).await;
    let history = b.until_reached().await.history;
    c.tell(2, 11, NodeState::Secondary, follow(b, history))
        .await;
    let named = lead_with(stamp(2, 9), &[c.member()], true);
    b.tell(2, 12, NodeState::Primary, named).await;
    b.until_reached().await;
    b.sql("insert into t values (0)").await;
    assert_eq!(b.sql("select count(*) from t").await, "1001");
    c.until_reached().await;
}

#[test]
fn a_candidate_fetches_from_the_other_standby_and_read_sessions_stay() {
    run(
        "three::a_candidate_fetches_from_the_other_standby_and_read_sessions_stay",
        || async {
            let [mut a, mut b, mut c] = three().await;
            let sessions = [b.client().await, c.client().await];
            let pids = [b.postmaster(), c.postmaster()];
            let (_, end) = behind(&mut a, &mut b, &mut c).await;
            let began = Instant::now();
            b.tell(2, 8, NodeState::FastForward, fetch(&c, end, None))
                .await;
            let now = promised(&b).await;
            eprintln!("TEST fetched within {:?}", began.elapsed());
            assert!(now >= end, "{now} {end}");
            assert_eq!(b.sql("select count(*) from t").await, "1000");
            finish(&mut b, &mut c, now).await;
            for session in &sessions {
                reads(session).await;
            }
            assert_eq!([b.postmaster(), c.postmaster()], pids, "no restart");
            b.stop().await;
            c.stop().await;
        },
    );
}

#[test]
fn a_candidate_of_another_branch_takes_a_base_backup_from_the_standby() {
    run(
        "three::a_candidate_of_another_branch_takes_a_base_backup_from_the_standby",
        || async {
            let [mut a, mut b, mut c] = three().await;
            let old = b.member().copy;
            let (_, end) = behind(&mut a, &mut b, &mut c).await;
            b.tell(2, 8, NodeState::FastForward, fetch(&c, end, Some(old)))
                .await;
            let now = promised(&b).await;
            assert!(now >= end, "{now} {end}");
            assert_ne!(b.member().copy, old);
            finish(&mut b, &mut c, now).await;
            b.stop().await;
            c.stop().await;
        },
    );
}
