//! Bad input and faults, on a real monitor and real Postgres: each gets a clear message with a
//! hint, the documented exit code, and loses nothing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says loudly when it leaves itself out"
)]

#[path = "pair/mod.rs"]
mod pair;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;

use pair::{Pair, free_port};

#[test]
fn a_wrong_password_is_refused_and_the_right_one_opens() {
    let Some(pair) = Pair::monitor("scram-sha-256") else {
        return;
    };
    let with = |password: &str| {
        let port = pair.monitor_port;
        format!(
            "postgres://autoctl_node{password}@127.0.0.1:{port}/pg_auto_failover?sslmode=require"
        )
    };
    let state = |uri: &str| pair.run("elsewhere", &["show", "state", "--monitor", uri]);
    state(&with("")).expect(6, &["password"]);

    // On the monitor's own host its owner needs none, to be able to set one.
    let socket = pair.run("monitor", &["show", "file", "--pid", "--contents"]);
    assert_eq!(socket.code, 0, "{socket:?}");
    let folder = socket_folder(&pair);
    let port = pair.monitor_port.to_string();
    let set = "ALTER USER autoctl_node PASSWORD 'h3lp'";
    let psql = |sql: &str| {
        let words = ["psql", "-h", &folder, "-p", &port, "-U", "autoctl_node"];
        pair.any(
            "monitor",
            &[&words[..], &["-XAtc", sql, "pg_auto_failover"]].concat(),
        )
    };
    psql(set).expect(0, &[]);

    state(&with(":h3lp")).expect(0, &[]);
    let refused = state(&with(":wr0ng"));
    refused.expect(6, &["password"]);
    assert!(!refused.stderr.contains("wr0ng"), "{refused:?}");
    pair.run("monitor", &["show", "state"]).expect(0, &[]);
}

#[test]
fn an_unreachable_monitor_ends_a_command_and_only_delays_a_keeper() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    let nowhere = "postgres://autoctl_node@127.0.0.1:1/pg_auto_failover?sslmode=require";
    pair.run("elsewhere", &["show", "state", "--monitor", nowhere])
        .expect(6, &[]);
    pair.run("elsewhere", &["show", "state", "--monitor", "http://x/y"])
        .expect(1, &["postgres://autoctl_node@host"]);

    let stopped = pair.stop("monitor");
    assert_eq!(stopped, 0, "{}", pair.log("monitor"));
    pair.node("node1", free_port(), &[]);
    pair.until("a message that it waits", |p| {
        p.log("node1").contains("waits for the monitor")
    });
    pair.spawn("monitor", &["run"]);
    pair.until("the node to be single", |p| {
        p.states().first().is_some_and(|s| s.1 == "single")
    });
}

#[test]
fn a_name_and_an_address_belong_to_one_node() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    let port = free_port();
    pair.node("node1", port, &[]);
    pair.until("a single node", |p| {
        p.states().first().is_some_and(|s| s.1 == "single")
    });

    let (same, other) = (port.to_string(), free_port().to_string());
    let create = |name: &str, port: &str| create(&pair, "twin", name, port);
    let name = create("node1", &other);
    assert_ne!(name.code, 0, "{name:?}");
    assert!(
        name.stderr.contains("has a node named \"node1\" already"),
        "{name:?}"
    );
    let address = create("twin", &same);
    assert_ne!(address.code, 0, "{address:?}");
    assert!(!pair.path("twin").exists(), "no data directory was made");
    assert_eq!(pair.states().len(), 1);
}

#[test]
fn data_of_another_cluster_is_not_taken_in() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    pair.node("node1", free_port(), &[]);
    pair.until("a single node", |p| {
        p.states().first().is_some_and(|s| s.1 == "single")
    });
    let foreign = pair.path("foreign").display().to_string();
    pair.any(
        "foreign",
        &["initdb", "-D", &foreign, "-A", "trust", "--no-sync"],
    )
    .expect(0, &[]);
    let before = fs::read(pair.path("foreign/global/pg_control")).unwrap();

    let port = free_port().to_string();
    let refused = create(&pair, "foreign", "foreign", &port);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("system identifier"), "{refused:?}");
    assert_eq!(
        fs::read(pair.path("foreign/global/pg_control")).unwrap(),
        before
    );

    fs::write(pair.path("foreign/PG_VERSION"), "12\n").unwrap();
    let version = create(&pair, "foreign", "foreign", &port);
    assert_ne!(version.code, 0, "{version:?}");
    assert!(version.stderr.contains("12"), "{version:?}");
    assert_eq!(pair.states().len(), 1);
}

#[test]
fn a_port_that_is_taken_is_said_and_the_node_comes_up_when_it_is_free() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    pair.node("node1", port, &[]);
    pair.until("words about the port", |p| {
        let text = p.log("node1") + &p.explain();
        text.contains(&format!("port {port}")) || text.contains("in use")
    });
    drop(taken);
    if pair.states().is_empty() {
        // Refused in advance: nothing was registered, and the same command works now.
        assert_ne!(pair.ended("node1"), 0);
        pair.node("node1", port, &[]);
    }
    pair.until("a single node", |p| {
        p.states().first().is_some_and(|s| s.1 == "single")
    });
}

#[test]
fn a_second_monitor_on_one_store_is_refused() {
    let Some(pair) = Pair::monitor("trust") else {
        return;
    };
    fs::remove_file(pid_file(&pair, "monitor")).unwrap();
    let second = pair.run("monitor", &["run"]);
    assert_ne!(second.code, 0, "{second:?}");
    assert!(second.stderr.contains("another"), "{second:?}");
    pair.run("monitor", &["show", "state"]).expect(0, &[]);
}

#[test]
fn the_keeper_of_a_dropped_node_is_told_and_keeps_its_data() {
    let Some(mut pair) = Pair::settled() else {
        return;
    };
    let standby = if pair.primary() == "node1" {
        "node2"
    } else {
        "node1"
    };
    assert_eq!(pair.stop(standby), 0, "{}", pair.log(standby));
    pair.run("monitor", &["drop", "node", "--name", standby, "--force"])
        .expect(0, &[]);
    pair.spawn(standby, &["run"]);
    pair.ended(standby);
    assert!(
        pair.log(standby).contains("removed"),
        "{}",
        pair.log(standby)
    );
    assert!(
        pair.path(standby).join("PG_VERSION").exists(),
        "its data is kept"
    );
    pair.until("a single node", |p| {
        p.states().iter().all(|s| s.1 == "single")
    });
}

#[test]
fn sync_names_overridden_by_alter_system_are_named_and_never_confirmed() {
    let Some(pair) = Pair::settled() else { return };
    let primary = pair.primary();
    let sql = "ALTER SYSTEM SET synchronous_standby_names = ''";
    pair.sql(&primary, sql).expect(0, &[]);
    pair.sql(&primary, "SELECT pg_reload_conf()").expect(0, &[]);
    pair.until("the override to be named", |p| {
        let text = p.explain();
        text.contains("postgresql.auto.conf") || text.contains("ALTER SYSTEM")
    });
    pair.sql(&primary, "ALTER SYSTEM RESET synchronous_standby_names")
        .expect(0, &[]);
    pair.sql(&primary, "SELECT pg_reload_conf()").expect(0, &[]);
    pair.until("the override to be over", |p| {
        !p.explain().contains("postgresql.auto.conf")
    });
    pair.wait_settled();
}

#[test]
fn a_monitor_restored_from_an_older_copy_waits_for_every_member() {
    let Some(mut pair) = Pair::settled() else {
        return;
    };
    assert_eq!(pair.stop("monitor"), 0);
    let (store, copy) = (pair.path("monitor"), pair.path("monitor-copy"));
    let (from, to) = (store.display().to_string(), copy.display().to_string());
    pair.any("monitor", &["cp", "-a", &from, &to])
        .expect(0, &[]);
    pair.spawn("monitor", &["run"]);
    pair.until("the monitor", |p| !p.states().is_empty());
    pair.wait_settled();
    let before = pair.primary();
    // The keepers come back to the restarted monitor within their back-off.
    pair.until("a switchover that is accepted", |p| {
        p.run("monitor", &["perform", "failover"]).code == 0
    });
    pair.wait_settled();
    assert_ne!(pair.primary(), before);

    assert_eq!(pair.stop("monitor"), 0);
    // The database goes back in time; what stands beside it does not.
    for entry in fs::read_dir(&copy).unwrap().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().contains("sqlite") || name.to_string_lossy().ends_with(".db") {
            fs::copy(entry.path(), store.join(&name)).unwrap();
            pair.give(&store.join(&name));
        }
    }
    pair.spawn("monitor", &["run"]);
    // What the old store says first is not true any more: the newer term stands in the end.
    pair.until("the newer primary and its standby", |p| {
        let states = p.states();
        let is = |state: &str, old: bool| {
            states
                .iter()
                .any(|s| s.1 == state && s.2 == state && (s.0 == before) == old)
        };
        is("primary", false) && is("secondary", true)
    });
    let log = pair.log("monitor");
    assert!(
        log.contains("older copy") || log.contains("restored"),
        "{log}"
    );
}

#[test]
fn a_failover_without_an_eligible_standby_is_refused_in_advance() {
    let Some(mut pair) = Pair::settled() else {
        return;
    };
    let primary = pair.primary();
    let standby = if primary == "node1" { "node2" } else { "node1" };
    assert_eq!(pair.stop(standby), 0);
    pair.until("a primary alone", |p| {
        p.states().iter().any(|s| s.1 == "wait_primary")
    });
    let shown = pair.run("monitor", &["show", "state"]);
    shown.expect(0, &["automatic failover is off"]);
    assert!(!shown.stdout.contains("failover"), "notes are no data");
    let refused = pair.run("monitor", &["perform", "failover"]);
    refused.expect(6, &["nobody could take over"]);
    pair.sql(&primary, "create table still_here(n int)")
        .expect(0, &[]);
    pair.spawn(standby, &["run"]);
    pair.wait_settled();
}

#[test]
fn a_node_that_moved_keeps_its_id() {
    let Some(mut pair) = Pair::settled() else {
        return;
    };
    let standby = if pair.primary() == "node1" {
        "node2"
    } else {
        "node1"
    };
    let id = |p: &Pair| {
        let sql = format!("select nodeid from pgautofailover.node where nodename = '{standby}'");
        p.any("monitor", &["psql", &p.uri(), "-XAtc", &sql])
            .stdout
            .trim()
            .to_owned()
    };
    let before = id(&pair);
    assert_eq!(pair.stop(standby), 0);
    let port = free_port().to_string();
    pair.spawn(standby, &["run", "--pgport", &port]);
    pair.until("the new port at the monitor", |p| {
        let uri = p.uri();
        let sql = format!("select nodeport from pgautofailover.node where nodename = '{standby}'");
        p.any("monitor", &["psql", &uri, "-XAtc", &sql])
            .stdout
            .trim()
            == port
    });
    pair.wait_settled();
    assert_eq!(id(&pair), before);
}

#[test]
fn too_little_space_for_a_copy_is_said_and_the_copy_is_made_when_there_is_room() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    pair.node("node1", free_port(), &[]);
    pair.until("a single node", |p| {
        p.states().first().is_some_and(|s| s.1 == "single")
    });
    let small = pair.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "pgaf-test"])
        .arg(&small)
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    }
    let _unmount = Unmount(small.clone());
    fs::set_permissions(&small, fs::Permissions::from_mode(0o700)).unwrap();
    pair.give(&small);
    pair.node("small", free_port(), &[]);
    pair.until("words about the space", |p| {
        let text = (p.log("small") + &p.explain()).to_lowercase();
        text.contains("space") || text.contains("bytes are free")
    });
    let grown = std::process::Command::new("mount")
        .args(["-o", "remount,size=400m"])
        .arg(&small)
        .status();
    assert!(grown.unwrap().success());
    pair.wait_settled();
    assert_eq!(pair.stop("small"), 0);
}

#[test]
fn psql_walks_through_the_monitor_and_hears_a_failover() {
    let Some(pair) = Pair::settled() else { return };
    let shown = pair.run("monitor", &["show", "uri", "--formation", "monitor"]);
    let uri = shown.expect(0, &[]).stdout.trim().to_owned();
    let psql = |sql: &str| {
        let ran = pair.any("monitor", &["psql", &uri, "-XAtc", sql]);
        ran.expect(0, &[]).stdout.clone()
    };
    let nodes = psql("select nodename, reportedstate from pgautofailover.node order by nodeid");
    assert_eq!(nodes.lines().count(), 2, "{nodes}");
    for table in ["event", "formation", "node"] {
        assert!(psql("\\dt pgautofailover.*").contains(table));
    }

    let mut listener = pair
        .command("monitor", &["psql", &uri, "-XAt"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = listener.stdin.take().unwrap();
    let mut output = BufReader::new(listener.stdout.take().unwrap());
    input
        .write_all(b"LISTEN state;\n\\echo it listens\n")
        .unwrap();
    let mut heard = String::new();
    while !heard.contains("it listens") {
        assert_ne!(output.read_line(&mut heard).unwrap(), 0, "{heard}");
    }
    let before = pair.primary();
    pair.run("monitor", &["perform", "failover"]).expect(0, &[]);
    pair.wait_settled();
    assert_ne!(pair.primary(), before);
    input.write_all(b"SELECT 1;\n").unwrap();
    drop(input);
    output.read_to_string(&mut heard).unwrap();
    assert!(listener.wait().unwrap().success());
    assert!(heard.contains("notification \"state\""), "{heard}");
    assert!(heard.contains("draining"), "{heard}");
}

#[test]
fn garbage_on_the_monitors_port_does_no_harm() {
    let Some(pair) = Pair::monitor("trust") else {
        return;
    };
    let address = ("127.0.0.1", pair.monitor_port);
    let mut noise: u32 = 1;
    for length in 0..300_usize {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noise.to_be_bytes()[0]
            })
            .collect();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        // The monitor may hang up before it has read everything.
        let _ = stream.write_all(&bytes);
    }
    pair.run("monitor", &["show", "state"]).expect(0, &[]);
    pair.run("monitor", &["status"]).expect(0, &[]);
    assert!(!pair.log("monitor").contains("panicked"));
}

#[test]
fn a_full_disk_under_the_monitor_refuses_changes_and_answers_reads() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    assert_eq!(pair.stop("monitor"), 0);
    let (here, there) = (pair.path("monitor"), pair.path("monitor-before"));
    fs::rename(&here, &there).unwrap();
    fs::create_dir(&here).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "pgaf-test"])
        .arg(&here)
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    }
    let _unmount = Unmount(here.clone());
    let from = format!("{}/.", there.display());
    let copied = std::process::Command::new("cp")
        .args(["-a", &from])
        .arg(&here)
        .status();
    assert!(copied.unwrap().success());
    pair.give(&here);
    pair.spawn("monitor", &["run"]);
    pair.node("node1", free_port(), &[]);
    pair.until("a single node", |p| {
        p.states().first().is_some_and(|s| s.1 == "single")
    });

    let ballast = here.join("ballast");
    fs::write(&ballast, vec![0; 4 << 20]).unwrap_err();
    // The write-ahead log has some room left: it takes a few changes before it is full.
    let set = |priority: usize| {
        let text = priority.to_string();
        let words = [
            "set",
            "node",
            "candidate-priority",
            &text,
            "--name",
            "node1",
        ];
        pair.run("monitor", &words)
    };
    let refused = (0..400)
        .map(|n| set(n % 100))
        .find(|ran| ran.code != 0)
        .unwrap();
    refused.expect(6, &["HINT"]);
    pair.run("monitor", &["show", "state"]).expect(0, &[]);
    assert!(
        pair.explain().contains("monitor-disk"),
        "{}",
        pair.explain()
    );

    fs::remove_file(&ballast).unwrap();
    pair.until("changes again", |_| set(77).code == 0);
    assert_eq!(pair.stop("monitor"), 0);
}

/// `create postgres` without `--run`, to its end.
fn create(pair: &Pair, pgdata: &str, name: &str, port: &str) -> pair::Ran {
    let uri = pair.uri();
    let words = ["create", "postgres", "--pgport", port, "--name", name];
    let rest = [
        "--hostname",
        "127.0.0.1",
        "--auth",
        "trust",
        "--ssl-self-signed",
    ];
    pair.run(pgdata, &[&words[..], &rest, &["--monitor", &uri]].concat())
}

/// Takes a mount away again.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

fn pid_file(pair: &Pair, node: &str) -> String {
    pair.run(node, &["show", "file", "--pid"])
        .stdout
        .trim()
        .to_owned()
}

/// The folder of the monitor's Unix socket.
fn socket_folder(pair: &Pair) -> String {
    let port = pair.monitor_port;
    let mut folders = vec![pair.path("sock"), pair.path("run"), pair.path("monitor")];
    folders.extend(walk(&pair.path("run")));
    let found = folders
        .into_iter()
        .find(|folder| folder.join(format!(".s.PGSQL.{port}")).exists());
    found
        .unwrap_or_else(|| panic!("no socket"))
        .display()
        .to_string()
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = below.map(|e| e.path()).filter(|p| p.is_dir());
    folders
        .flat_map(|p| [vec![p.clone()], walk(&p)].concat())
        .collect()
}
