//! A machine of its own for each test: a home that is empty, and the real binary.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;

/// A temporary home with nothing in it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A path below the home.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(below)
    }

    /// The program, with an environment that holds only this home.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::cargo_bin("pg_autoctl").unwrap();
        command
            .args(words)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.folder.path());
        command
    }

    /// Runs a command.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&self.command(words).output().unwrap())
    }

    /// Runs a command with more environment.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Ran {
        let mut command = self.command(words);
        command.envs(variables.iter().copied());
        Ran::of(&command.output().unwrap())
    }

    /// Writes the configuration file of `pgdata`, and makes that directory.
    pub(crate) fn configure(&self, pgdata: &str, text: &str) -> PathBuf {
        let pgdata = self.path(pgdata);
        fs::create_dir_all(&pgdata).unwrap();
        let below = pgdata.strip_prefix("/").unwrap();
        let folder = self.path(".config/pg_autoctl").join(below);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("pg_autoctl.cfg"), text).unwrap();
        pgdata
    }

    /// A configured keeper whose monitor does not exist.
    pub(crate) fn keeper(&self) -> String {
        let text = include_str!("../data/old-keeper.cfg")
            .replace("localhost:15500", "127.0.0.1:1")
            .replace("/srv/pg/n1", &self.path("n1").display().to_string());
        self.configure("n1", &text).display().to_string()
    }

    /// A configured monitor that does not run.
    pub(crate) fn monitor(&self) -> String {
        let text = include_str!("../data/old-monitor.cfg")
            .replace("port = 15500", "port = 1")
            .replace("hostname = localhost", "hostname = 127.0.0.1")
            .replace("/srv/pg/mon", &self.path("mon").display().to_string());
        self.configure("mon", &text).display().to_string()
    }

    /// Every file of the home with its contents.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), &mut files);
        files
    }
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test with everything there is to see.
    pub(crate) fn expect(&self, code: i32, stderr: &[&str]) -> &Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        for text in stderr {
            assert!(
                self.stderr.contains(text),
                "no {text:?} in stderr:\n{}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
}

/// Every command, in the order of help.
pub(crate) const COMMANDS: &[&str] = &[
    "create monitor",
    "create postgres",
    "create coordinator",
    "create worker",
    "create formation",
    "drop monitor",
    "drop node",
    "drop formation",
    "config check",
    "config get",
    "config set",
    "show uri",
    "show events",
    "show state",
    "show settings",
    "show standby-names",
    "show file",
    "show systemd",
    "enable secondary",
    "enable maintenance",
    "enable ssl",
    "enable monitor",
    "disable secondary",
    "disable maintenance",
    "disable ssl",
    "disable monitor",
    "get node replication-quorum",
    "get node candidate-priority",
    "get formation settings",
    "get formation number-sync-standbys",
    "set node metadata",
    "set node replication-quorum",
    "set node candidate-priority",
    "set formation number-sync-standbys",
    "perform failover",
    "perform switchover",
    "perform promotion",
    "inspect explain",
    "inspect what-if",
    "inspect error",
    "inspect fsm",
    "inspect settings",
    "activate",
    "run",
    "watch",
    "stop",
    "reload",
    "upgrade",
    "status",
    "help",
    "version",
];
