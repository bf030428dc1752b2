//! A Citus formation, run by the real binary. With real Citus where it is installed; elsewhere this
//! says that it was skipped.

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

use std::path::Path;
use std::process::Command;

use formation::{ask, settled};
use pair::Pair;

/// Whether the Postgres under test has the extension; said loudly when not.
fn has_citus() -> bool {
    let control = |folder: &Path| folder.join("extension/citus.control").exists();
    let found = match std::env::var_os("PG_CONFIG") {
        // The Postgres that the tests are told to use.
        Some(program) => Command::new(program)
            .arg("--sharedir")
            .output()
            .is_ok_and(|said| control(Path::new(String::from_utf8_lossy(&said.stdout).trim()))),
        None => std::fs::read_dir("/usr/share/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .any(|folder| control(&folder.path())),
    };
    if !found {
        eprintln!("SKIPPED: Citus is not installed, nothing of this test was run");
    }
    found
}

fn start(pair: &mut Pair, kind: &str, name: &str, extra: &[&str]) -> u16 {
    formation::start(pair, kind, name, &[&["--pg-hba-lan"], extra].concat())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, step by step")]
fn a_worker_and_a_coordinator_move_under_writes_with_real_citus() {
    if !has_citus() {
        return;
    }
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    // Workers before their coordinator; groups and names are the monitor's.
    let mut workers = Vec::new();
    for name in ["w1", "w2"] {
        workers.push(start(&mut pair, "worker", name, &[]));
        pair.until("a worker is registered", |p| {
            p.states().len() == workers.len()
        });
    }
    // The one that registers first is the primary, whichever was started first.
    let first = start(&mut pair, "coordinator", "c1", &["--name", "coord"]);
    pair.until("the first coordinator is registered", |p| {
        p.states().len() == 3
    });
    let coordinators = [first, start(&mut pair, "coordinator", "c2", &[])];
    pair.until("four settled nodes", |p| settled(p, 4));
    let mut names: Vec<String> = pair.states().into_iter().map(|s| s.0).collect();
    names.sort();
    assert_eq!(names[2..], ["worker1a", "worker1b"]);
    let rows = "select groupid, nodeport, isactive, metadatasynced from pg_dist_node order by 1";
    pair.until("both are listed and know it", |p| {
        ask(p, &coordinators, rows).stdout.matches("|t|t").count() == 2
    });

    ask(
        &pair,
        &coordinators,
        "create table t(id bigserial primary key, v int); \
         select create_distributed_table('t', 'id', shard_count => 4); \
         insert into t(v) select generate_series(1, 100)",
    )
    .expect(0, &[]);

    let writer = writer(&pair, &coordinators);
    let move_ = |group: &str| {
        pair.run("monitor", &["perform", "failover", "--group", group])
            .expect(0, &[]);
        pair.until("four settled nodes", |p| settled(p, 4));
    };
    move_("1");
    pair.until("the worker's row is moved and known", |p| {
        let listed = ask(p, &coordinators, rows).stdout;
        listed.contains(&format!("1|{}|t|t", workers[1]))
    });
    let (written, failed) = stop(writer, &pair);
    assert!(written > 0, "nothing was written");
    assert_eq!(failed, 0, "a planned worker move fails no write");
    move_("0");
    pair.until("the coordinator's row is moved", |p| {
        let listed = ask(p, &coordinators, rows).stdout;
        listed.contains(&format!("0|{}|t", coordinators[1]))
    });
    let count = ask(&pair, &coordinators, "select count(*) from t").stdout;
    assert_eq!(count.trim(), (100 + written).to_string());
    ask(&pair, &coordinators, "create table ddl(a int)").expect(0, &[]);
    pair.until("distributed DDL works again", |p| {
        let ddl = "select create_distributed_table('ddl', 'a')";
        ask(p, &coordinators, ddl).code == 0
    });
    let held = ask(
        &pair,
        &coordinators,
        "select count(*) from pg_prepared_xacts",
    )
    .stdout;
    assert_eq!(held.trim(), "0");
    let uri = pair.run("monitor", &["show", "uri", "--formation", "default"]);
    assert!(
        uri.stdout
            .contains("/citus?target_session_attrs=read-write"),
        "{uri:?}"
    );
}

/// One session that inserts until its file of commands ends.
fn writer(pair: &Pair, coordinators: &[u16]) -> std::process::Child {
    let script = pair.path("writer.sh");
    let ports: Vec<String> = coordinators.iter().map(ToString::to_string).collect();
    let text = format!(
        "while [ ! -e {stop} ]; do echo \"insert into t(v) values (0) returning 'ok';\"; sleep 0.005; done | \
         psql -XAtq 'host=127.0.0.1,127.0.0.1 port={} dbname=citus target_session_attrs=read-write' > {out} 2>&1\n",
        ports.join(","),
        stop = pair.path("stop").display(),
        out = pair.path("writer.out").display(),
    );
    std::fs::write(&script, text).unwrap();
    let mut command: Command = pair.command("monitor", &["sh", &script.display().to_string()]);
    command.spawn().unwrap()
}

/// How many rows were acknowledged, and how many statements said something else.
fn stop(mut writer: std::process::Child, pair: &Pair) -> (usize, usize) {
    std::fs::write(pair.path("stop"), "").unwrap();
    writer.wait().unwrap();
    let out: &Path = &pair.path("writer.out");
    let said = std::fs::read_to_string(out).unwrap();
    let ok = said.lines().filter(|l| *l == "ok").count();
    (ok, said.lines().count() - ok)
}

#[test]
fn formations_are_created_and_dropped() {
    let Some(pair) = Pair::monitor("trust") else {
        return;
    };
    let create = [
        "create",
        "formation",
        "--formation",
        "other",
        "--kind",
        "citus",
        "--dbname",
        "app",
    ];
    pair.run("monitor", &create).expect(
        0,
        &["Created formation \"other\" of kind \"citus\" on the monitor, with secondary enabled."],
    );
    pair.run("monitor", &create).expect(6, &["already exists"]);
    let ran = pair.run("monitor", &["show", "uri"]);
    assert!(ran.stdout.contains("other"), "{ran:?}");
    let drop = ["drop", "formation", "--formation", "other"];
    pair.run("monitor", &drop)
        .expect(0, &["Dropped formation \"other\" on the monitor"]);
    pair.run("monitor", &drop).expect(6, &["other"]);
    pair.run("monitor", &["create", "formation", "--formation", "x"])
        .expect(1, &["--kind"]);
    pair.run(
        "monitor",
        &["create", "formation", "--formation", "x", "--kind", "odd"],
    )
    .expect(6, &["odd"]);
}
