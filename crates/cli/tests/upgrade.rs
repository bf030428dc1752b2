//! The program is replaced under a running pair: Postgres goes on, and nothing fails over.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says loudly when it leaves itself out"
)]

#[path = "pair/mod.rs"]
mod pair;

use std::fs;

use pair::Pair;

/// Puts another file in the place of the installed program, as a package manager does.
fn install(pair: &Pair, contents: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let fresh = pair.path("pg_autoctl.new");
    fs::write(&fresh, contents).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(fresh, pair.path("pg_autoctl")).unwrap();
}

fn first_line(pair: &Pair, file: &str) -> String {
    let text = fs::read_to_string(pair.path(file)).unwrap();
    text.lines().next().unwrap().to_owned()
}

fn service(pair: &Pair, node: &str) -> String {
    let shown = pair.run(node, &["show", "file", "--pid", "--contents"]);
    shown.stdout.lines().next().unwrap().to_owned()
}

#[test]
fn the_program_is_replaced_and_postgres_goes_on() {
    let Some(mut pair) = Pair::settled() else {
        return;
    };
    let names = ["node1", "node2", "monitor"];
    let program = fs::read(pair.path("pg_autoctl")).unwrap();
    let leader = pair.primary();
    let postgres =
        |pair: &Pair| ["node1", "node2"].map(|n| first_line(pair, &format!("{n}/postmaster.pid")));
    let services = names.map(|n| service(&pair, n));
    let postmasters = postgres(&pair);
    pair.sql(&leader, "create table kept as select 1 as one")
        .expect(0, &[]);

    // What cannot be executed is refused, and nothing has changed.
    install(&pair, b"no program");
    // The command itself comes from a place of its own meanwhile.
    let other = pair.path("home").join("pg_autoctl");
    fs::write(&other, &program).unwrap();
    fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let upgrade = |pair: &Pair, node: &str| {
        pair.any(node, &[other.to_str().unwrap(), "upgrade", "--wait", "30"])
    };
    upgrade(&pair, "node1").expect(3, &["goes on as it is", "HINT"]);

    install(&pair, &program);
    assert_eq!(service(&pair, "node1"), services[0]);
    for (node, pid) in names.iter().zip(&services) {
        upgrade(&pair, node).expect(0, &["Postgres was not stopped"]);
        assert_eq!(service(&pair, node), *pid, "{}", pair.log(node));
        let file = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(file, pair.path("pg_autoctl"), "{node}");
        pair.wait_settled();
    }
    assert_eq!(postgres(&pair), postmasters, "Postgres was restarted");
    assert_eq!(pair.primary(), leader);
    let kept = pair.sql(&leader, "select one from kept");
    assert_eq!(kept.stdout.trim(), "1", "{kept:?}");
    let events = pair.run("monitor", &["show", "events", "-n", "200"]).stdout;
    assert!(!events.contains("a new primary is wanted"), "{events}");

    // The new programs act: a switchover, and a stop that takes Postgres with it.
    pair.run("monitor", &["perform", "switchover"])
        .expect(0, &[]);
    pair.wait_settled();
    assert_ne!(pair.primary(), leader);
    for node in ["node1", "node2", "monitor"] {
        assert_eq!(pair.stop(node), 0, "{}", pair.log(node));
    }
    assert!(!pair.path("node1/postmaster.pid").exists());
    pair.run("node1", &["upgrade"])
        .expect(12, &["does not run", "HINT"]);
}
