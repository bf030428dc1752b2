//! Lease mode on real Postgres: the fencer is a process of its own, here this very test binary.

use std::path::Path;
use std::time::{Duration, Instant};

use pgaf_protocol::{Lead, NodeState, Order, SyncConfig};

use super::harness::{Node, run, stamp};
use crate::fencer::{Fencer, file_beside};

const FILE: &str = "PGAF_TEST_FENCER_FILE";
const PGDATA: &str = "PGAF_TEST_FENCER_PGDATA";

/// How a keeper of these tests starts its fencer.
pub(super) fn command(journal: &Path, pgdata: &Path) -> Vec<String> {
    let exe = std::env::current_exe().unwrap();
    vec![
        "env".to_owned(),
        format!("{FILE}={}", file_beside(journal).display()),
        format!("{PGDATA}={}", pgdata.display()),
        exe.display().to_string(),
        "--exact".to_owned(),
        "tests::fencer::acts_as_the_fencer_of_other_tests".to_owned(),
        "--ignored".to_owned(),
        "--nocapture".to_owned(),
    ]
}

#[test]
#[ignore = "run by the tests of lease mode: the process that they start"]
fn acts_as_the_fencer_of_other_tests() {
    let path = |name| std::env::var_os(name).map(std::path::PathBuf::from);
    if let (Some(file), Some(pgdata)) = (path(FILE), path(PGDATA)) {
        crate::fence(&file, &pgdata).unwrap();
    }
}

fn lead(sequence: u64, lease: bool) -> Order {
    Order::Lead(Lead {
        sync: SyncConfig::asynchronous(),
        sync_stamp: stamp(1, 1),
        may_create: sequence == 1,
        lease: lease.then(|| stamp(1, 2)),
        ..Lead::default()
    })
}

/// A primary in lease mode, whose fencer runs.
async fn leased(lease_ms: u32) -> Node {
    let mut node = Node::new(1);
    node.start().await;
    node.tell(1, 1, NodeState::Single, lead(1, false)).await;
    node.until_reached().await;
    node.sql("create table t(i int)").await;
    node.sql("create role app_user login").await;
    node.lease_ms = lease_ms;
    // Until now it had a longer one: another run of the monitor knows nothing of that.
    node.incarnation += 1;
    node.tell(1, 2, NodeState::Primary, lead(2, true)).await;
    node.until("reports lease mode", |r| r.leased == Some(stamp(1, 2)))
        .await;
    node
}

fn fencer(node: &Node) -> Fencer {
    Fencer::of(&node.config.journal, Vec::new())
}

async fn until(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eprintln!("TEST {what} after {:?}", began.elapsed());
}

fn is_up(node: &Node) -> bool {
    pgaf_postgres::postmaster::cluster_processes(&node.config.pgdata).is_ok_and(|p| !p.is_empty())
}

#[test]
fn a_fencer_ends_postgres_with_the_lease_when_its_keeper_is_dead() {
    run(
        "fencer::a_fencer_ends_postgres_with_the_lease_when_its_keeper_is_dead",
        || async {
            let mut node = leased(3000).await;
            node.sql("insert into t values (1)").await;
            // Renewed half-way, by one write.
            tokio::time::sleep(Duration::from_millis(1000)).await;
            let renewed = Instant::now();
            node.tell(1, 2, NodeState::Primary, lead(2, true)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.kill_keeper().await;
            until(
                "not ended before the lease",
                Duration::from_secs(60),
                || {
                    assert!(is_up(&node), "ended after {:?}", renewed.elapsed());
                    renewed.elapsed() > Duration::from_millis(2800)
                },
            )
            .await;
            until("ended", Duration::from_millis(500), || !is_up(&node)).await;
            until("gone with it", Duration::from_secs(5), || {
                !fencer(&node).guards()
            })
            .await;
            // Its journal does not open it again without a word.
            node.start().await;
            let report = node.until("waits", |r| !r.postgres.is_running()).await;
            assert_eq!(report.leased, None);
            node.stop().await;
        },
    );
}

#[test]
fn a_keeper_that_comes_back_adopts_the_fencer_and_goes_on_with_its_postgres() {
    run(
        "fencer::a_keeper_that_comes_back_adopts_the_fencer_and_goes_on_with_its_postgres",
        || async {
            let mut node = leased(4000).await;
            let pid = node.postmaster();
            let began = Instant::now();
            node.kill_keeper().await;
            node.start().await;
            node.tell(1, 2, NodeState::Primary, lead(2, true)).await;
            node.until("reports lease mode", |r| r.leased == Some(stamp(1, 2)))
                .await;
            while began.elapsed() < Duration::from_millis(5000) {
                tokio::time::sleep(Duration::from_millis(300)).await;
                node.tell(1, 2, NodeState::Primary, lead(2, true)).await;
            }
            assert_eq!(node.postmaster(), pid, "no restart, past the old lease");
            node.sql("insert into t values (1)").await;
            node.stop().await;
            assert!(!fencer(&node).guards(), "a clean stop leaves no fencer");
            assert!(!is_up(&node));
        },
    );
}

#[test]
fn without_a_lease_a_primary_in_lease_mode_is_closed_and_opens_with_the_next_one() {
    run(
        "fencer::without_a_lease_a_primary_in_lease_mode_is_closed_and_opens_with_the_next_one",
        || async {
            let mut node = leased(1500).await;
            assert!(node.answers_clients().await);
            node.until("is closed", |r| r.closed && r.postgres.is_primary())
                .await;
            assert!(!node.answers_clients().await, "clients are kept out");
            assert_eq!(node.report().leased, None);
            node.lease_ms = 3_600_000;
            node.tell(1, 2, NodeState::Primary, lead(2, true)).await;
            node.until("is open again", |r| !r.closed && r.leased.is_some())
                .await;
            assert!(node.answers_clients().await);
            // The group is not asynchronous by choice any more.
            node.tell(1, 3, NodeState::WaitPrimary, lead(3, false))
                .await;
            node.until("has no lease mode", |r| {
                r.leased.is_none() && r.reached == stamp(1, 3)
            })
            .await;
            until("the fencer is gone", Duration::from_secs(5), || {
                !fencer(&node).guards()
            })
            .await;
            assert!(node.report().postgres.is_primary());
            node.stop().await;
        },
    );
}
