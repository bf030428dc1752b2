//! A Citus formation on a stand-in for the extension: the calls of a keeper are guarded on a machine without
//! Citus. What Citus itself does with them is shown by `citus.rs` and `cargo xtask walk`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says loudly when it leaves itself out"
)]

#[path = "pair/mod.rs"]
#[expect(dead_code, reason = "these tests start their own nodes")]
mod pair;
#[path = "stand_in/mod.rs"]
mod stand_in;

use pair::{Pair, free_port};

fn start(pair: &mut Pair, kind: &str, name: &str) -> u16 {
    let port = free_port();
    let (uri, text) = (pair.uri(), port.to_string());
    let words = [
        "create",
        kind,
        "--pgport",
        &text,
        "--hostname",
        "127.0.0.1",
        "--auth",
        "trust",
        "--ssl-self-signed",
        "--monitor",
        &uri,
        "--run",
    ];
    pair.spawn(name, &words);
    port
}

/// Asks whichever of the coordinators takes writes.
fn ask(pair: &Pair, coordinators: [u16; 2], sql: &str) -> String {
    let uri = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} dbname=citus target_session_attrs=read-write connect_timeout=2",
        coordinators[0], coordinators[1]
    );
    pair.any("monitor", &["psql", "-XAtc", sql, &uri]).stdout
}

fn settled(pair: &Pair) -> bool {
    let states = pair.states();
    let well = |s: &(String, String, String)| {
        s.1 == s.2 && ["primary", "secondary"].contains(&s.1.as_str())
    };
    states.len() == 4 && states.iter().all(well)
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
        start(&mut pair, "coordinator", "c1"),
        start(&mut pair, "coordinator", "c2"),
    ];
    let workers = [
        start(&mut pair, "worker", "w1"),
        start(&mut pair, "worker", "w2"),
    ];
    pair.until("four settled nodes", settled);

    let rows = "select groupid, nodeport, noderole, isactive from pg_dist_node order by 1";
    let leads = |pair: &Pair, group: i32, ports: [u16; 2]| -> Option<u16> {
        let said = ask(pair, coordinators, rows);
        let line = |port: u16| format!("{group}|{port}|primary|t");
        assert!(
            said.lines()
                .filter(|l| l.starts_with(&format!("{group}|")))
                .count()
                <= 1,
            "two rows of group {group}: {said}"
        );
        ports
            .into_iter()
            .find(|port| said.lines().any(|l| l == line(*port)))
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
        pair.until("four settled nodes", settled);
    }
    pair.until("no prepared update left", |p| {
        ask(p, coordinators, "select count(*) from pg_prepared_xacts").trim() == "0"
    });
    let known = "select groupid from pgaf.citus_group where term > 1 order by 1";
    assert_eq!(
        ask(&pair, coordinators, known),
        "0\n1\n",
        "terms were not raised"
    );
    let all = ask(&pair, coordinators, "select count(*) from pg_dist_node");
    assert_eq!(all.trim(), "2");
}
