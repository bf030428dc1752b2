//! A pair, from nothing through failovers.

use pgaf_protocol::{NodeState, Order, Promote, Reach, SyncConfig, TimelineId};

use super::harness::{Node, follow, lead_alone, lead_with, run, stamp};

/// A primary with a named standby, in term 1.
async fn pair() -> (Node, Node) {
    pair_of(Node::new(1), Node::new(2)).await
}

async fn pair_of(mut a: Node, mut b: Node) -> (Node, Node) {
    a.knows(&[&b]);
    b.knows(&[&a]);
    a.start().await;
    b.start().await;
    a.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
        .await;
    let report = a.until_reached().await;
    a.sql("create table t(i int)").await;
    b.tell(1, 2, NodeState::Catchingup, follow(&a, report.history))
        .await;
    b.until_reached().await;
    let seen = b
        .until("knows its position", |r| r.position.is_some())
        .await;
    assert!(seen.history.is_some());
    a.tell(
        1,
        3,
        NodeState::WaitPrimary,
        lead_with(stamp(1, 1), &[b.member()], false),
    )
    .await;
    a.until("sees the standby", |r| {
        r.standbys.iter().any(|s| s.streaming && s.fresh)
    })
    .await;
    b.until("streams", |r| r.upstream.is_some_and(|u| u.streaming))
        .await;
    a.tell(
        1,
        4,
        NodeState::Primary,
        lead_with(stamp(1, 4), &[b.member()], true),
    )
    .await;
    let report = a.until_reached().await;
    assert_eq!(report.confirmed.unwrap().stamp, stamp(1, 4));
    a.sql("insert into t values (1)").await;
    (a, b)
}

fn promote(old: &Node, at: pgaf_protocol::Position, term: u64, sequence: u64, tli: u32) -> Order {
    Order::Promote(Promote {
        sync: SyncConfig::any(1, [old.member()]),
        sync_stamp: stamp(term, sequence),
        admitted: [old.member()].into(),
        position: at,
        timeline: TimelineId(tli),
    })
}

#[test]
fn a_pair_comes_up_with_names_in_force() {
    run("pair::a_pair_comes_up_with_names_in_force", || async {
        let (mut a, mut b) = pair().await;
        assert_eq!(
            a.sql("show synchronous_standby_names").await,
            "ANY 1 (pgautofailover_standby_2)"
        );
        b.stop().await;
        a.stop().await;
    });
}

#[test]
fn a_planned_move_needs_no_rewind() {
    run("pair::a_planned_move_needs_no_rewind", || async {
        let (mut a, mut b) = pair().await;
        let old_copy = a.report().copy;
        a.tell(2, 5, NodeState::Demoted, Order::promise(true)).await;
        let promised = a
            .until("promises", |r| {
                r.promise
                    .is_some_and(|p| p.term.0 == 2 && p.position.is_some())
            })
            .await;
        let end = promised.promise.unwrap().position.unwrap();
        b.tell(
            2,
            6,
            NodeState::PreparePromotion,
            Order::Reach(Reach { position: end }),
        )
        .await;
        b.until("has the end and promises", |r| {
            r.promise
                .is_some_and(|p| p.term.0 == 2 && p.position >= Some(end))
        })
        .await;
        let order = promote(&a, end, 2, 7, 2);
        b.tell(2, 7, NodeState::StopReplication, order).await;
        a.tell(2, 8, NodeState::Catchingup, follow(&b, None)).await;
        let report = b.until_reached().await;
        assert_eq!(report.history.as_ref().unwrap().timeline, TimelineId(2));
        b.tell(
            2,
            9,
            NodeState::Primary,
            lead_with(stamp(2, 7), &[a.member()], true),
        )
        .await;
        a.tell(2, 10, NodeState::Secondary, follow(&b, report.history))
            .await;
        b.until_reached().await;
        b.sql("insert into t values (2)").await;
        a.until_reached().await;
        assert_eq!(a.report().copy, old_copy, "followed as it was");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_failover_without_the_old_primary_brings_it_back_by_rewind() {
    run(
        "pair::a_failover_without_the_old_primary_brings_it_back_by_rewind",
        || async {
            let (mut a, mut b) = pair().await;
            let old = a.member();
            // The whole host of A dies.
            a.kill_keeper().await;
            a.kill_postgres();
            b.tell(2, 5, NodeState::ReportLsn, Order::promise(false))
                .await;
            let promised = b.until_reached().await;
            let end = promised.promise.unwrap().position.unwrap();
            b.tell(
                2,
                6,
                NodeState::StopReplication,
                Order::Promote(Promote {
                    sync: SyncConfig::any(1, [old]),
                    sync_stamp: stamp(2, 6),
                    admitted: [].into(),
                    position: end,
                    timeline: TimelineId(2),
                }),
            )
            .await;
            b.until_reached().await;
            b.tell(
                2,
                7,
                NodeState::WaitPrimary,
                lead_with(stamp(2, 7), &[], false),
            )
            .await;
            let report = b.until_reached().await;
            b.sql("insert into t values (3)").await;
            // A comes back; its journal says primary of term 1.
            a.start().await;
            a.tell(2, 8, NodeState::Catchingup, follow(&b, report.history))
                .await;
            a.until_reached().await;
            assert_ne!(a.report().copy, Some(old.copy), "another copy");
            assert!(
                !a.config.pgdata.with_file_name("backup").exists(),
                "by pg_rewind"
            );
            a.until("knows its position", |r| r.position.is_some())
                .await;
            b.tell(
                2,
                9,
                NodeState::WaitPrimary,
                lead_with(stamp(2, 7), &[a.member()], false),
            )
            .await;
            a.until("streams", |r| r.upstream.is_some_and(|u| u.streaming))
                .await;
            b.tell(
                2,
                10,
                NodeState::Primary,
                lead_with(stamp(2, 10), &[a.member()], true),
            )
            .await;
            b.until_reached().await;
            b.sql("insert into t values (4)").await;
            assert_eq!(b.sql("select count(*) from t").await, "3");
            a.stop().await;
            b.stop().await;
        },
    );
}

#[test]
fn a_primary_without_lease_and_standby_is_closed_until_the_standby_streams() {
    run(
        "pair::a_primary_without_lease_and_standby_is_closed_until_the_standby_streams",
        || async {
            let (mut a, b) = (Node::new(1), Node::new(2));
            a.lease_ms = 100;
            let (mut a, mut b) = pair_of(a, b).await;
            a.sql("create role app_user login").await;
            assert!(a.answers_clients().await);
            b.stop().await;
            a.until("is closed", |r| r.closed && r.postgres.is_primary())
                .await;
            assert!(!a.answers_clients().await, "clients are kept out");
            b.start().await;
            let order = follow(&a, Some(pgaf_protocol::History::first()));
            b.tell(1, 5, NodeState::Secondary, order).await;
            a.until("is open again", |r| !r.closed && r.postgres.is_primary())
                .await;
            assert!(a.answers_clients().await);
            a.sql("insert into t values (2)").await;
            a.stop().await;
            b.stop().await;
        },
    );
}

#[test]
fn a_standby_whose_wal_was_given_up_takes_a_base_backup_by_itself() {
    run(
        "pair::a_standby_whose_wal_was_given_up_takes_a_base_backup_by_itself",
        || async {
            let (mut a, mut b) = pair().await;
            let member = b.member();
            let order = lead_with(stamp(1, 5), &[member], false);
            a.tell(1, 5, NodeState::WaitPrimary, order).await;
            a.until_reached().await;
            b.stop().await;
            for setting in ["max_slot_wal_keep_size = '16MB'", "wal_keep_size = 0"] {
                a.sql(&format!("alter system set {setting}")).await;
            }
            a.sql("select pg_reload_conf()").await;
            for _ in 0..4 {
                a.sql("insert into t values (5)").await;
                a.sql("select pg_switch_wal()").await;
            }
            a.sql("checkpoint").await;
            let lost = "select wal_status from pg_replication_slots";
            assert_eq!(a.sql(lost).await, "lost");
            b.start().await;
            let history = a.report().history;
            b.tell(1, 6, NodeState::Secondary, follow(&a, history))
                .await;
            b.until("has another copy", |r| {
                r.copy.is_some_and(|copy| copy != member.copy)
            })
            .await;
            // As the monitor would: the new copy is checked, and admitted.
            let order = lead_with(stamp(1, 5), &[b.member()], false);
            a.tell(1, 7, NodeState::WaitPrimary, order).await;
            b.until("streams", |r| r.upstream.is_some_and(|u| u.streaming))
                .await;
            a.stop().await;
            b.stop().await;
        },
    );
}
