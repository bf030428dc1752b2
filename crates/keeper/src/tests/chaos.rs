//! A keeper that is killed once at every journal write and every step ends where it should.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use pgaf_protocol::{NodeState, Order, Promote, Reach, SyncConfig, TimelineId};

use super::harness::{Node, follow, lead_alone, lead_with, run, stamp};

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
#[test]
fn a_pair_comes_up_fails_over_and_rejoins_though_its_keepers_die_everywhere() {
    run(
        "chaos::a_pair_comes_up_fails_over_and_rejoins_though_its_keepers_die_everywhere",
        || async {
            let (mut a, mut b) = (Node::new(1), Node::new(2));
            a.knows(&[&b]);
            b.knows(&[&a]);
            let killed_a = a.start_chaos();
            let killed_b = b.start_chaos();
            // Bring-up.
            a.tell(1, 1, NodeState::Single, lead_alone(stamp(1, 1)))
                .await;
            let report = a.until_reached().await;
            a.sql("create table t(i int)").await;
            b.tell(1, 2, NodeState::Catchingup, follow(&a, report.history))
                .await;
            b.until_reached().await;
            b.until("knows its position", |r| r.position.is_some())
                .await;
            let standby = b.member();
            let order = lead_with(stamp(1, 1), &[standby], false);
            a.tell(1, 3, NodeState::WaitPrimary, order).await;
            b.until("streams", |r| r.upstream.is_some_and(|u| u.streaming))
                .await;
            let order = lead_with(stamp(1, 4), &[standby], true);
            a.tell(1, 4, NodeState::Primary, order).await;
            a.until_reached().await;
            a.sql("insert into t values (1)").await;
            let old = a.member();
            let mut killed = count(&[&killed_a, &killed_b]);
            // Failover: A promises by being stopped, B is promoted.
            a.tell(2, 5, NodeState::Demoted, Order::promise(false))
                .await;
            b.tell(2, 6, NodeState::ReportLsn, Order::promise(false))
                .await;
            a.until_reached().await;
            b.until_reached().await;
            // A keeper that has just come back reads it again.
            let promised = b
                .until("knows how far it got", |r| {
                    r.promise.is_some_and(|p| p.position.is_some())
                })
                .await;
            let end = promised.promise.unwrap().position.unwrap();
            b.tell(
                2,
                7,
                NodeState::StopReplication,
                Order::Promote(Promote {
                    sync: SyncConfig::any(1, [old]),
                    sync_stamp: stamp(2, 7),
                    admitted: [].into(),
                    position: end,
                    timeline: TimelineId(2),
                }),
            )
            .await;
            b.until_reached().await;
            b.tell(
                2,
                8,
                NodeState::WaitPrimary,
                lead_with(stamp(2, 8), &[], false),
            )
            .await;
            let report = b.until_reached().await;
            b.sql("insert into t values (2)").await;
            killed += count(&[&killed_a, &killed_b]);
            // A comes back.
            a.tell(2, 9, NodeState::Catchingup, follow(&b, report.history))
                .await;
            a.until_reached().await;
            a.until("knows its position", |r| {
                r.position.is_some() && r.copy.is_some()
            })
            .await;
            let standby = a.member();
            let order = lead_with(stamp(2, 8), &[standby], false);
            b.tell(2, 10, NodeState::WaitPrimary, order).await;
            a.until("streams", |r| r.upstream.is_some_and(|u| u.streaming))
                .await;
            let order = lead_with(stamp(2, 11), &[standby], true);
            b.tell(2, 11, NodeState::Primary, order).await;
            b.until_reached().await;
            b.sql("insert into t values (3)").await;
            assert_eq!(b.sql("select count(*) from t").await, "3");
            killed += count(&[&killed_a, &killed_b]);
            switchover(&mut b, &mut a).await;
            a.sql("insert into t values (4)").await;
            assert_eq!(a.sql("select count(*) from t").await, "4");
            a.stop().await;
            b.stop().await;
            killed += count(&[&killed_a, &killed_b]);
            eprintln!("TEST keepers were killed {killed} times");
            assert!(killed > 120, "{killed}");
        },
    );
}

/// A planned move: the old primary promises and stops, the candidate gets its end, is promoted, and
/// the old primary follows.
async fn switchover(old: &mut Node, new: &mut Node) {
    old.tell(3, 12, NodeState::Draining, Order::promise(true))
        .await;
    old.until_reached().await;
    let stopped = old
        .until("knows its end", |r| {
            r.promise.is_some_and(|p| p.position.is_some())
        })
        .await;
    let position = stopped.promise.unwrap().position.unwrap();
    let reach = Order::Reach(Reach { position });
    new.tell(3, 13, NodeState::PreparePromotion, reach).await;
    new.until_reached().await;
    new.until("has it all", |r| {
        r.promise
            .is_some_and(|p| p.position.is_some_and(|at| at >= position))
    })
    .await;
    let member = old.member();
    let promote = Order::Promote(Promote {
        sync: SyncConfig::any(1, [member]),
        sync_stamp: stamp(3, 14),
        admitted: [member].into(),
        position,
        timeline: TimelineId(3),
    });
    new.tell(3, 14, NodeState::StopReplication, promote).await;
    new.until_reached().await;
    let order = lead_with(stamp(3, 15), &[member], false);
    new.tell(3, 15, NodeState::WaitPrimary, order).await;
    let report = new.until_reached().await;
    old.tell(3, 16, NodeState::Catchingup, follow(new, report.history))
        .await;
    old.until_reached().await;
    old.until("streams", |r| r.upstream.is_some_and(|u| u.streaming))
        .await;
}

/// How often keepers were killed; from here on each failpoint kills again.
fn count(places: &[&Rc<RefCell<BTreeSet<String>>>]) -> usize {
    places
        .iter()
        .map(|places| {
            eprintln!("TEST killed at {:?}", places.borrow());
            std::mem::take(&mut *places.borrow_mut()).len()
        })
        .sum()
}
