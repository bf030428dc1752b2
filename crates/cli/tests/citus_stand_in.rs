//! A Citus formation on a stand-in for the extension: the calls of a keeper are guarded on a machine without
//! Citus. What Citus itself does with them is shown by `citus.rs` and `cargo xtask walk`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says loudly when it leaves itself out"
)]

#[path = "pair/formation.rs"]
mod formation;
#[path = "pair/mod.rs"]
#[expect(dead_code, reason = "these tests start their own nodes")]
mod pair;
#[path = "stand_in/mod.rs"]
mod stand_in;

use formation::{ask, settled, start};
use pair::Pair;

fn said(pair: &Pair, coordinators: [u16; 2], sql: &str) -> String {
    ask(pair, &coordinators, sql).stdout
}

#[test]
fn a_worker_and_a_coordinator_move_with_the_stand_in() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    let Some(programs) = stand_in::lay_out(&pair.postgres, &pair.path("stand-in")) else {
        return;
    };
    pair.postgres = programs;
    let coordinators = [
        start(&mut pair, "coordinator", "c1", &[]),
        start(&mut pair, "coordinator", "c2", &[]),
    ];
    let workers = [
        start(&mut pair, "worker", "w1", &[]),
        start(&mut pair, "worker", "w2", &[]),
    ];
    pair.until("four settled nodes", |p| settled(p, 4));

    let rows = "select groupid, nodeport, noderole, isactive from pg_dist_node order by 1";
    let leads = |pair: &Pair, group: i32, ports: [u16; 2]| -> Option<u16> {
        let rows_now = said(pair, coordinators, rows);
        let line = |port: u16| format!("{group}|{port}|primary|t");
        assert!(
            rows_now
                .lines()
                .filter(|l| l.starts_with(&format!("{group}|")))
                .count()
                <= 1,
            "two rows of group {group}: {rows_now}"
        );
        ports
            .into_iter()
            .find(|port| rows_now.lines().any(|l| l == line(*port)))
    };
    pair.until("both groups in the node metadata", |p| {
        leads(p, 0, coordinators).is_some() && leads(p, 1, workers).is_some()
    });

    for (group, ports) in [(1, workers), (0, coordinators)] {
        let before = leads(&pair, group, ports);
        pair.run(
            "monitor",
            &["perform", "failover", "--group", &group.to_string()],
        )
        .expect(0, &[]);
        pair.until("the row of the group that moved", |p| {
            let now = leads(p, group, ports);
            now.is_some() && now != before
        });
        pair.until("four settled nodes", |p| settled(p, 4));
    }
    pair.until("no prepared update left", |p| {
        said(p, coordinators, "select count(*) from pg_prepared_xacts").trim() == "0"
    });
    let known = "select groupid from pgaf.citus_group where term > 1 order by 1";
    assert_eq!(
        said(&pair, coordinators, known),
        "0\n1\n",
        "terms were not raised"
    );
    let all = said(&pair, coordinators, "select count(*) from pg_dist_node");
    assert_eq!(all.trim(), "2");
}
