//! One node.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

#[test]
fn an_existing_cluster_is_adopted_and_old_settings_of_ours_are_reset() {
    run(
        "single::an_existing_cluster_is_adopted_and_old_settings_of_ours_are_reset",
        || async {
            let mut node = Node::new(1);
            let made = Command::new("/usr/lib/postgresql/15/bin/initdb")
                .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
                .arg(&node.config.pgdata)
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(made.success());
            let auto = node.config.pgdata.join("postgresql.auto.conf");
            std::fs::write(
                &auto,
                "synchronous_standby_names = 'gone'\nwork_mem = '7MB'\n",
            )
            .unwrap();
            node.start().await;
            node.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
                .await;
            let report = node.until_reached().await;
            assert!(report.copy.is_some());
            node.sql("create table t(i int)").await;
            assert_eq!(node.sql("show synchronous_standby_names").await, "");
            assert_eq!(
                node.sql("show work_mem").await,
                "7MB",
                "the user's own stays"
            );
            node.stop().await;
        },
    );
}

#[test]
fn a_goal_that_cannot_be_journaled_is_not_obeyed_until_it_can() {
    run(
        "single::a_goal_that_cannot_be_journaled_is_not_obeyed_until_it_can",
        || async {
            let mut node = Node::new(1);
            let folder = node.config.journal.parent().unwrap().to_owned();
            let mode = |bits| std::fs::Permissions::from_mode(bits);
            node.start().await;
            node.until("has looked", |r| r.node == node.id).await;
            std::fs::set_permissions(&folder, mode(0o500)).unwrap();
            node.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
                .await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            assert_eq!(node.report().seen, stamp(0, 0));
            assert!(!node.config.pgdata.exists(), "nothing was done");
            std::fs::set_permissions(&folder, mode(0o700)).unwrap();
            node.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
                .await;
            node.until_reached().await;
            node.stop().await;
        },
    );
}
