//! A real monitor and real Postgres nodes, run by the real binary as an unprivileged user.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A monitor with its nodes, gone when the test is over.
pub(crate) struct Pair {
    folder: tempfile::TempDir,
    pub(crate) postgres: PathBuf,
    pub(crate) monitor_port: u16,
    children: Vec<(String, Child)>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails the test unless the command ended so, with these words on stderr.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        for text in words {
            assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}

/// A port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Pair {
    /// A running monitor; `None`, and said loudly, where there is no Postgres or nobody to run it.
    pub(crate) fn monitor(auth: &str) -> Option<Self> {
        let postgres = newest_postgres()?;
        let root = nix::unistd::geteuid().is_root();
        if root
            && nix::unistd::User::from_name("postgres")
                .ok()
                .flatten()
                .is_none()
        {
            eprintln!("SKIPPED: there is no user postgres to run Postgres as");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("pgaf-test-")
            .tempdir()
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("pg_autoctl");
        fs::copy(assert_cmd::cargo::cargo_bin("pg_autoctl"), program).unwrap();
        let mut pair = Self {
            folder,
            postgres,
            monitor_port: free_port(),
            children: Vec::new(),
        };
        for below in ["home", "run", "sock"] {
            fs::create_dir(pair.path(below)).unwrap();
            pair.give(&pair.path(below));
        }
        pair.give(&pair.path(""));
        let port = pair.monitor_port.to_string();
        pair.spawn(
            "monitor",
            &[
                "create",
                "monitor",
                "--pgport",
                &port,
                "--hostname",
                "127.0.0.1",
                "--auth",
                auth,
                "--ssl-self-signed",
                "--run",
            ],
        );
        pair.until("the monitor serves", |p| {
            p.run("monitor", &["show", "uri"]).code == 0
        });
        Some(pair)
    }

    /// A monitor, and two nodes that are primary and secondary.
    pub(crate) fn settled() -> Option<Self> {
        let mut pair = Self::monitor("trust")?;
        pair.node("node1", free_port(), &[]);
        pair.until("a first node", |p| p.states().len() == 1);
        pair.node("node2", free_port(), &[]);
        pair.wait_settled();
        Some(pair)
    }

    /// Starts `create postgres --run`.
    pub(crate) fn node(&mut self, name: &str, port: u16, extra: &[&str]) {
        self.create("postgres", name, port, &[&["--name", name], extra].concat());
    }

    /// Starts `create KIND --run` of a node, which the monitor names unless `extra` does.
    pub(crate) fn create(&mut self, kind: &str, name: &str, port: u16, extra: &[&str]) {
        let port = port.to_string();
        let uri = self.uri();
        let words = [
            "create",
            kind,
            "--pgport",
            &port,
            "--hostname",
            "127.0.0.1",
            "--auth",
            "trust",
            "--ssl-self-signed",
            "--monitor",
            &uri,
            "--run",
        ];
        self.spawn(name, &[&words[..], extra].concat());
    }

    pub(crate) fn uri(&self) -> String {
        format!(
            "postgres://autoctl_node@127.0.0.1:{}/pg_auto_failover?sslmode=require",
            self.monitor_port
        )
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Makes a file or folder the unprivileged user's.
    pub(crate) fn give(&self, path: &Path) {
        if nix::unistd::geteuid().is_root() {
            let done = Command::new("chown")
                .args(["-R", "postgres"])
                .arg(path)
                .status()
                .unwrap();
            assert!(done.success());
        }
    }

    /// A command in the environment of a node, or of the monitor.
    pub(crate) fn command(&self, node: &str, words: &[&str]) -> Command {
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--init-groups",
                "--",
            ]);
            command.arg(words[0]);
            command
        } else {
            Command::new(words[0])
        };
        let path = format!(
            "{}:{}:/usr/bin:/bin",
            self.path("").display(),
            self.postgres.display()
        );
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", path)
            .env("LANG", "C")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PG_CONFIG", self.postgres.join("pg_config"))
            .env("PG_REGRESS_SOCK_DIR", self.path("sock"))
            .env("PGHOST", self.path("sock"))
            .env("PGDATA", self.path(node))
            .current_dir(self.path(""))
            .stdin(Stdio::null());
        command
    }

    /// Runs `pg_autoctl` to its end.
    pub(crate) fn run(&self, node: &str, words: &[&str]) -> Ran {
        self.any(node, &[&["pg_autoctl"], words].concat())
    }

    /// Runs any program to its end.
    pub(crate) fn any(&self, node: &str, words: &[&str]) -> Ran {
        let output = self.command(node, words).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts `pg_autoctl`, its log in a file of its own.
    pub(crate) fn spawn(&mut self, node: &str, words: &[&str]) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{node}.log")))
            .unwrap();
        let child = self
            .command(node, &[&["pg_autoctl"], words].concat())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push((node.to_owned(), child));
    }

    pub(crate) fn log(&self, node: &str) -> String {
        fs::read_to_string(self.path(&format!("{node}.log"))).unwrap_or_default()
    }

    /// Ends a service with SIGTERM and waits for it; its exit code.
    pub(crate) fn stop(&mut self, node: &str) -> i32 {
        let at = self
            .children
            .iter()
            .position(|(name, _)| name == node)
            .unwrap();
        let (_, child) = &self.children[at];
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.ended(node)
    }

    /// Waits for the end of a service; its exit code.
    pub(crate) fn ended(&mut self, node: &str) -> i32 {
        let at = self
            .children
            .iter()
            .position(|(name, _)| name == node)
            .unwrap();
        let (name, mut child) = self.children.remove(at);
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            if start.elapsed() > PATIENCE {
                let log = self.log(&name);
                self.children.push((name, child));
                panic!("{node} goes on:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// (name, reported, goal) of every node.
    pub(crate) fn states(&self) -> Vec<(String, String, String)> {
        let ran = self.run("monitor", &["show", "state", "--json"]);
        let rows: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.iter()
            .map(|r| {
                let goal = text(r, "assigned_group_state");
                (text(r, "nodename"), text(r, "current_group_state"), goal)
            })
            .collect()
    }

    /// The node that is primary.
    pub(crate) fn primary(&self) -> String {
        let states = self.states();
        let found = states.iter().find(|s| s.1 == "primary" && s.2 == "primary");
        found
            .unwrap_or_else(|| panic!("no primary in {states:?}"))
            .0
            .clone()
    }

    pub(crate) fn wait_settled(&self) {
        self.until("primary and secondary", |p| {
            let mut goals: Vec<(String, String)> =
                p.states().into_iter().map(|s| (s.1, s.2)).collect();
            goals.sort();
            let both = |s: &str| (s.to_owned(), s.to_owned());
            goals == [both("primary"), both("secondary")]
        });
    }

    pub(crate) fn explain(&self) -> String {
        self.run("monitor", &["inspect", "explain"]).stdout
    }

    /// Waits until something holds; fails with everything there is to see.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > PATIENCE {
                let logs: String = self
                    .children
                    .iter()
                    .map(|(n, _)| format!("== {n}\n{}\n", self.log(n)))
                    .collect();
                panic!(
                    "waited in vain for {what}: {:?}\n{}\n{logs}",
                    self.states(),
                    self.explain()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The port of a node's Postgres, from its configuration.
    pub(crate) fn port(&self, node: &str) -> String {
        self.run(node, &["config", "get", "postgresql.port"])
            .stdout
            .trim()
            .to_owned()
    }

    /// Runs SQL on a node's own socket.
    pub(crate) fn sql(&self, node: &str, text: &str) -> Ran {
        let port = self.port(node);
        self.any(
            node,
            &["psql", "-p", &port, "-d", "postgres", "-XAtc", text],
        )
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        use nix::unistd::Pid;
        for (_, child) in &self.children {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        let start = Instant::now();
        for (name, child) in &mut self.children {
            while start.elapsed() < Duration::from_secs(15) && matches!(child.try_wait(), Ok(None))
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
            let pid = fs::read_to_string(self.folder.path().join(name).join("postmaster.pid")).ok();
            let pid = pid.and_then(|text| text.lines().next()?.parse().ok());
            if let Some(pid) = pid {
                let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            }
        }
    }
}

fn newest_postgres() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PG_CONFIG") {
        return Path::new(&named).parent().map(Path::to_path_buf);
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(_, bin): &(u32, PathBuf)| bin.join("initdb").exists())
        .collect();
    found.sort();
    let newest = found.pop();
    if newest.is_none() {
        eprintln!("SKIPPED: there is no Postgres in /usr/lib/postgresql");
    }
    newest.map(|(_, bin)| bin)
}
