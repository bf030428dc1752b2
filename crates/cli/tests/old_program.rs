//! The old program's monitor, asked by both programs: the same bytes on stdout, the same exit code.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests may panic, and say when they leave themselves out"
)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

/// Where Debian's package postgresql-15-auto-failover puts the old program.
const OLD_PROGRAM: &str = "/usr/bin/pg_autoctl";
/// The server that it was built for.
const BINDIR: &str = "/usr/lib/postgresql/15/bin";
/// Creating a monitor takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A monitor and one node of the old program, as an unprivileged user.
struct Old {
    folder: tempfile::TempDir,
    port: u16,
}

impl Old {
    /// None, and said so, where the old program or a user to run it is missing.
    fn start() -> Option<Self> {
        let version = Command::new(OLD_PROGRAM).arg("version").output();
        let is_old = version.is_ok_and(|out| out.stdout.starts_with(b"pg_autoctl version 2."));
        let user = User::from_name("postgres").ok().flatten();
        let (true, true, Some(user)) = (is_old, Path::new(BINDIR).exists(), user) else {
            eprintln!("SKIPPED: no pg_autoctl 2.x of Debian at {OLD_PROGRAM}");
            return None;
        };
        if !geteuid().is_root() && geteuid() != user.uid {
            eprintln!("SKIPPED: needs to be root or postgres");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(
            folder.path(),
            Some(user.uid.as_raw()),
            Some(user.gid.as_raw()),
        )
        .unwrap();
        let old = Self {
            folder,
            port: common::free_port(),
        };
        old.create_monitor();
        old.create_node();
        Some(old)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn uri(&self) -> String {
        format!(
            "postgres://autoctl_node@localhost:{}/pg_auto_failover?sslmode=require",
            self.port
        )
    }

    /// A program as the unprivileged user, with a home of its own.
    fn command(&self, program: &Path) -> Command {
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env("PATH", format!("{BINDIR}:/usr/bin:/bin"))
            .current_dir(self.folder.path());
        command
    }

    fn ask(&self, program: &Path, words: &[&str]) -> Output {
        self.command(program).args(words).output().unwrap()
    }

    fn create_monitor(&self) {
        let port = self.port.to_string();
        self.service(
            "mon",
            &["create", "monitor", "--pgdata", "mon", "--pgport", &port],
        );
        // Asking makes folders, and creating fails when they appear under its hands.
        let start = Instant::now();
        let log = || fs::read_to_string(self.path("mon.log")).unwrap_or_default();
        while !log().contains("Postgres is now serving") {
            assert!(start.elapsed() < PATIENCE, "{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        self.until(&["show", "uri", "--pgdata", "mon"], |out| {
            out.status.success()
        });
    }

    fn create_node(&self) {
        let (port, uri) = (common::free_port().to_string(), self.uri());
        let words = ["create", "postgres", "--pgdata", "n1", "--pgport", &port];
        self.service(
            "n1",
            &[&words[..], &["--monitor", &uri, "--name", "node a"]].concat(),
        );
        let single = "             single |              single";
        self.until(&["show", "state", "--pgdata", "mon"], |out| {
            String::from_utf8_lossy(&out.stdout).contains(single)
        });
    }

    /// Starts a service in the background; it ends by [`Drop`].
    fn service(&self, name: &str, words: &[&str]) {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let child = self
            .command(Path::new(OLD_PROGRAM))
            .args(words)
            .args([
                "--hostname",
                "localhost",
                "--auth",
                "trust",
                "--ssl-self-signed",
                "--run",
            ])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        drop(child.unwrap());
    }

    fn until(&self, words: &[&str], done: impl Fn(&Output) -> bool) {
        let start = Instant::now();
        loop {
            let out = self.ask(Path::new(OLD_PROGRAM), words);
            if done(&out) {
                return;
            }
            let log = || fs::read_to_string(self.path("mon.log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "{words:?}: {out:?}\n{}", log());
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        for name in ["n1", "mon"] {
            let below = self.folder.path().strip_prefix("/").unwrap().join(name);
            let file = self.path("pg_autoctl").join(below).join("pg_autoctl.pid");
            let text = fs::read_to_string(&file).unwrap_or_default();
            let Some(pid) = text.lines().next().and_then(|line| line.parse().ok()) else {
                continue;
            };
            let start = Instant::now();
            while kill(Pid::from_raw(pid), Signal::SIGQUIT).is_ok() && file.exists() {
                if start.elapsed() > PATIENCE {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// The new program where an unprivileged user may run it.
fn new_program(old: &Old) -> PathBuf {
    let program = old.path("pg_autoctl_new");
    fs::copy(assert_cmd::cargo::cargo_bin("pg_autoctl"), &program).unwrap();
    program
}

#[test]
fn both_programs_print_the_same_about_an_old_monitor() {
    let Some(old) = Old::start() else { return };
    let new = new_program(&old);
    let uri = old.uri();
    let by_uri: &[&str] = &["--monitor", &uri];
    let mut differences = String::new();
    for (words, place) in [
        ("show uri", ["--pgdata", "mon"].as_slice()),
        ("show uri --json", &["--pgdata", "mon"]),
        ("show uri --formation monitor", &["--pgdata", "n1"]),
        ("show uri --formation default", &["--pgdata", "n1"]),
        ("show uri --formation default --json", by_uri),
        ("show uri --formation nope", by_uri),
        ("show state", &["--pgdata", "mon"]),
        ("show state --json", &["--pgdata", "n1"]),
        ("show state --formation nope", by_uri),
        ("show events", &["--pgdata", "mon"]),
        ("show events --count 2 --json", &["--pgdata", "n1"]),
        ("show settings", &["--pgdata", "mon"]),
        ("show settings --json", by_uri),
        ("show settings --formation nope", by_uri),
        ("show standby-names", &["--pgdata", "mon"]),
        ("show standby-names --json", &["--pgdata", "n1"]),
        ("get formation number-sync-standbys", &["--pgdata", "n1"]),
        ("get node candidate-priority --json", &["--pgdata", "n1"]),
        ("get node replication-quorum", &["--pgdata", "n1"]),
        ("show file", &["--pgdata", "n1"]),
        ("show file --json", &["--pgdata", "mon"]),
        ("show file --config --contents", &["--pgdata", "n1"]),
        ("show file --pid --contents --json", &["--pgdata", "n1"]),
        ("status --json", &["--pgdata", "n1"]),
        ("config get --json", &["--pgdata", "mon"]),
        ("config get postgresql.port", &["--pgdata", "n1"]),
        ("config get postgresql.nope", &["--pgdata", "n1"]),
    ] {
        let words = [&words.split(' ').collect::<Vec<_>>()[..], place].concat();
        let (theirs, ours) = (
            old.ask(Path::new(OLD_PROGRAM), &words),
            old.ask(&new, &words),
        );
        if (theirs.status.code(), &theirs.stdout) != (ours.status.code(), &ours.stdout) {
            differences.push_str(&format!("{words:?}\nold: {theirs:?}\nnew: {ours:?}\n\n"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
