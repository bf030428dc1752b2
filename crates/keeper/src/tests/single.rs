//! One node.

use std::time::Instant;

use pgaf_protocol::{NodeState, Postgres};

use super::harness::{Node, lead_alone, run, stamp};

#[test]
fn a_new_node_makes_its_cluster_and_takes_writes() {
    run(
        "single::a_new_node_makes_its_cluster_and_takes_writes",
        || async {
            let mut node = Node::new(1);
            node.start().await;
            node.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
                .await;
            let report = node.until_reached().await;
            assert!(report.postgres.is_primary());
            assert_eq!(report.confirmed.unwrap().stamp, stamp(1, 1));
            node.sql("create table t(i int)").await;
            node.sql("insert into t values (1)").await;
            node.stop().await;
        },
    );
}

#[test]
fn a_killed_postmaster_is_back_at_once() {
    run("single::a_killed_postmaster_is_back_at_once", || async {
        let mut node = Node::new(1);
        node.start().await;
        node.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
            .await;
        node.until_reached().await;
        node.sql("create table t(i int)").await;
        let Postgres::Running { since: before, .. } = node.report().postgres else {
            panic!("not running");
        };
        let began = Instant::now();
        node.kill_postgres();
        node.until(
            "runs again",
            |r| matches!(r.postgres, Postgres::Running { since, .. } if since != before),
        )
        .await;
        node.sql("insert into t values (1)").await;
        assert!(began.elapsed().as_millis() < 1500, "{:?}", began.elapsed());
        node.stop().await;
    });
}

#[test]
fn a_keeper_that_comes_back_goes_on_with_its_postgres() {
    run(
        "single::a_keeper_that_comes_back_goes_on_with_its_postgres",
        || async {
            let mut node = Node::new(1);
            node.start().await;
            node.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
                .await;
            node.until_reached().await;
            let pid = node.postmaster();
            node.kill_keeper().await;
            node.start().await;
            node.until("sees Postgres", |r| r.postgres.is_primary())
                .await;
            assert_eq!(node.postmaster(), pid, "no restart");
            node.tell(1, 2, NodeState::Single, lead_alone(stamp(1, 1)))
                .await;
            node.until_reached().await;
            assert_eq!(node.postmaster(), pid, "no restart");
            // And without a monitor at all, after everything has died.
            node.kill_keeper().await;
            node.kill_postgres();
            node.start().await;
            node.until("opens alone", |r| r.postgres.is_primary()).await;
            node.stop().await;
        },
    );
}
