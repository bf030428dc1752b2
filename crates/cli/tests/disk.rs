//! Full disks under Postgres: nothing acknowledged is lost, nobody worse takes over, it is said, and
//! it heals when there is room again. A small tmpfs is the disk.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says loudly when it leaves itself out"
)]

#[path = "pair/mod.rs"]
#[expect(dead_code, reason = "this test starts its own nodes")]
mod pair;

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pair::{Pair, free_port};

/// A disk of its own for a node; gone when the test is over, before the pair's folder is.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whatever still runs there is ended with the pair.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

impl Disk {
    fn mount(pair: &Pair, node: &str, size: &str) -> Option<Self> {
        let folder = pair.path(node);
        fs::create_dir(&folder).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "pgaf-test"])
            .arg(&folder)
            .status();
        if !mounted.is_ok_and(|s| s.success()) {
            eprintln!("SKIPPED: needs the right to mount a tmpfs");
            return None;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        pair.give(&folder);
        Some(Self(folder))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        let block = vec![0_u8; 1 << 16];
        while file.write_all(&block).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

/// Writes one megabyte and its number; whether it was acknowledged.
fn write(pair: &Pair, node: &str, number: u32) -> bool {
    let insert = format!(
        "set statement_timeout = '20s'; insert into t select {number}, g, repeat('x', 1000) from generate_series(1, 1000) g"
    );
    let ran = pair.sql(node, &insert);
    // A wait for a standby that is cancelled is a warning, and no acknowledgement.
    ran.code == 0 && !ran.stderr.contains("WARNING")
}

fn count(pair: &Pair, node: &str) -> Vec<u32> {
    let ran = pair.sql(
        node,
        "select n from t group by n having count(*) = 1000 order by n",
    );
    ran.stdout.lines().filter_map(|l| l.parse().ok()).collect()
}

fn says_so(pair: &Pair, node: &str) -> bool {
    pair.log(node).contains("the disk is full") && pair.explain().contains("the disk is full")
}

/// Everything that was acknowledged is there, and at both.
fn nothing_is_lost(pair: &Pair, acknowledged: &[u32]) {
    let kept = count(pair, "node1");
    let lost: Vec<_> = acknowledged.iter().filter(|n| !kept.contains(n)).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", acknowledged.len());
    pair.until("the same at the standby", |p| count(p, "small") == kept);
}

#[test]
fn a_full_disk_under_a_standby_and_then_under_the_primary_loses_nothing_and_heals() {
    let Some(mut pair) = Pair::monitor("trust") else {
        return;
    };
    pair.node("node1", free_port(), &[]);
    pair.until("a single node", |p| {
        p.states().first().is_some_and(|s| s.1 == "single")
    });
    let Some(disk) = Disk::mount(&pair, "small", "400m") else {
        return;
    };
    pair.node("small", free_port(), &[]);
    pair.wait_settled();
    pair.sql("node1", "create table t (n int, g int, fill text)")
        .expect(0, &[]);
    let (acknowledged, next) = (Cell::new(Vec::<u32>::new()), Cell::new(0));
    let put = |p: &Pair, node: &str| {
        next.set(next.get() + 1);
        let done = write(p, node, next.get());
        if done {
            let mut all = acknowledged.take();
            all.push(next.get());
            acknowledged.set(all);
        }
        done
    };
    assert!(put(&pair, "node1"));

    // The standby's disk is full: the primary goes on, and it is said.
    disk.fill();
    pair.until("words about the standby's disk", |p| {
        put(p, "node1");
        says_so(p, "small")
    });
    pair.until("commits without the standby", |p| put(p, "node1"));
    let states = pair.states();
    assert!(
        states
            .iter()
            .any(|s| s.0 == "node1" && s.1.contains("primary")),
        "{states:?}"
    );
    let events = pair.run("monitor", &["show", "events", "-n", "500"]).stdout;
    assert!(!events.contains("a new primary is wanted"), "{events}");
    disk.free();
    pair.wait_settled();
    assert_eq!(pair.primary(), "node1");

    // The primary's disk is full. While it has segments left it goes on, refuses what does not fit,
    // and says so; when it needs a new one it ends, and the standby, which has room, takes over.
    pair.until("a switchover", |p| {
        p.run("monitor", &["perform", "switchover"]).code == 0
    });
    pair.wait_settled();
    assert_eq!(pair.primary(), "small");
    disk.fill();
    pair.until("words about the primary's disk", |p| {
        put(p, "small");
        says_so(p, "small")
    });
    let wal = "select count(pg_logical_emit_message(true, 'ballast', repeat('x', 1000000))) from generate_series(1, 40)";
    pair.until("the other node to take over", |p| {
        p.sql("small", wal);
        p.states()
            .iter()
            .any(|s| s.0 == "node1" && s.1 == s.2 && s.1.contains("primary"))
    });
    pair.until("commits at the new primary", |p| put(p, "node1"));
    pair.until("words about the old one's disk", |p| says_so(p, "small"));
    disk.free();
    pair.wait_settled();
    assert_eq!(pair.primary(), "node1");
    nothing_is_lost(&pair, &acknowledged.take());
    for node in ["small", "node1", "monitor"] {
        assert_eq!(pair.stop(node), 0, "{}", pair.log(node));
    }
}
