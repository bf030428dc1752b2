//! Real Postgres servers in temporary folders.
//!
//! Postgres refuses to run as root: the whole test process becomes `postgres` (else `nobody`)
//! first. Servers are killed and their folders removed when a test ends, failed or not.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use pgaf_postgres::client::{Client, Options, connect};
use pgaf_postgres::conf::{
    self, Defaults, Enforced, Replication, StandbyNames, Upstream, set_standby_signal,
};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::hba::REPLICATION_ROLE;
use pgaf_postgres::server::{Objects, Server};

/// Long: other builds and tests share the machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// `None`, loudly, when there is no Postgres here.
pub(crate) fn bin() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|e| Some(e.ok()?.path().join("bin")))
        .filter(|p| p.join("initdb").exists())
        .collect();
    found.sort();
    let newest = found.pop();
    if newest.is_none() {
        eprintln!("SKIPPED: no Postgres in /usr/lib/postgresql");
    }
    newest
}

fn drop_privileges() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let user = ["postgres", "nobody"]
            .iter()
            .find_map(|name| nix::unistd::User::from_name(name).unwrap())
            .unwrap();
        nix::unistd::setgroups(&[user.gid]).unwrap();
        nix::unistd::setresgid(user.gid, user.gid, user.gid).unwrap();
        nix::unistd::setresuid(user.uid, user.uid, user.uid).unwrap();
        std::env::set_current_dir("/tmp").unwrap();
    });
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A server that runs, its folder, and the handle under test.
pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) pgdata: PathBuf,
    pub(crate) port: u16,
    pub(crate) server: Server,
    bin: PathBuf,
    child: Option<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop("immediate");
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!(
                "log of port {}, newest first:\n{}",
                self.port,
                tail.join("\n")
            );
        }
    }
}

impl Cluster {
    fn empty() -> Option<Self> {
        drop_privileges();
        let bin = bin()?;
        let dir = tempfile::tempdir().unwrap();
        let pgdata = dir.path().join("data");
        let port = free_port();
        let socket = dir.path().to_str().unwrap();
        let conninfo = Conninfo::single(socket, port, "postgres", "postgres");
        let server = Server::new(conninfo, pgdata.clone());
        Some(Self {
            dir,
            pgdata,
            port,
            server,
            bin,
            child: None,
        })
    }

    /// A primary with our configuration and objects.
    pub(crate) async fn primary() -> Option<Self> {
        let mut cluster = Self::empty()?;
        let made = Command::new(cluster.bin.join("initdb"))
            .args([
                "--no-sync",
                "--no-instructions",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-D",
            ])
            .arg(&cluster.pgdata)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let hba = cluster.pgdata.join("pg_hba.conf");
        let rule = format!("host replication {REPLICATION_ROLE} 127.0.0.1/32 trust\n");
        std::fs::write(&hba, std::fs::read_to_string(&hba).unwrap() + &rule).unwrap();
        conf::install(&cluster.pgdata, &cluster.defaults(), &cluster.enforced()).unwrap();
        cluster.start().await;
        let objects = Objects {
            username: None,
            dbname: "postgres".into(),
            replication_password: None,
            extensions: Vec::new(),
        };
        cluster
            .server
            .ensure_objects(&objects, LIMIT)
            .await
            .unwrap();
        Some(cluster)
    }

    /// A standby of `primary` that streams through the slot of node `id`.
    pub(crate) async fn standby_of(primary: &Self, id: u32) -> Self {
        let slot = format!("pgautofailover_standby_{id}");
        let mut wanted = vec![slot.clone()];
        let seen = primary.server.observe(LIMIT).await.unwrap();
        wanted.extend(seen.senders.iter().map(|s| s.application_name.clone()));
        primary
            .server
            .ensure_slots(&wanted, &[], LIMIT)
            .await
            .unwrap();
        let mut cluster = Self::empty().unwrap();
        let made = Command::new(cluster.bin.join("pg_basebackup"))
            .args([
                "--no-sync",
                "-c",
                "fast",
                "-X",
                "stream",
                "-U",
                REPLICATION_ROLE,
            ])
            .args(["-h", "127.0.0.1", "-p", &primary.port.to_string(), "-D"])
            .arg(&cluster.pgdata)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        set_standby_signal(&cluster.pgdata, true).unwrap();
        conf::write_enforced(&cluster.pgdata, &cluster.following(primary, id)).unwrap();
        cluster.start().await;
        until("the standby streams", async || {
            let seen = primary.server.observe(LIMIT).await.unwrap();
            seen.senders
                .iter()
                .any(|s| s.application_name == slot && s.state == "streaming")
        })
        .await;
        cluster
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            memory_bytes: 256 << 20,
            cpus: 2,
            disk_bytes: 4 << 30,
            stat_statements: false,
            ssl: false,
            major: 15,
        }
    }

    /// A primary's file, asynchronous.
    pub(crate) fn enforced(&self) -> Enforced {
        Enforced {
            listen_addresses: "127.0.0.1".into(),
            port: self.port,
            socket_dir: Some(self.dir.path().to_str().unwrap().into()),
            ssl: None,
            auth_method: "trust".into(),
            names: StandbyNames::Empty,
            replication: Replication::Primary,
            receiver_timeout: Duration::from_secs(5),
            logical: false,
            citus: None,
            major: 15,
        }
    }

    /// A standby's file.
    pub(crate) fn following(&self, primary: &Self, id: u32) -> Enforced {
        let conninfo = Conninfo::single("127.0.0.1", primary.port, REPLICATION_ROLE, "postgres");
        let slot = format!("pgautofailover_standby_{id}");
        Enforced {
            names: StandbyNames::Nobody,
            replication: Replication::Follow(Upstream { conninfo, slot }),
            ..self.enforced()
        }
    }

    pub(crate) async fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let child = Command::new(self.bin.join("postgres"))
            .arg("-D")
            .arg(&self.pgdata)
            .args(["-c", "logging_collector=off"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the server answers", async || {
            self.server.observe(LIMIT).await.is_ok()
        })
        .await;
    }

    pub(crate) fn stop(&mut self, mode: &str) {
        use nix::sys::signal::{Signal, kill};
        if self.child.is_some() {
            // A test that failed may have left it frozen.
            self.signal_all(Signal::SIGCONT);
        }
        let Some(mut child) = self.child.take() else {
            return;
        };
        let signal = if mode == "fast" {
            Signal::SIGINT
        } else {
            Signal::SIGQUIT
        };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, signal).unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal to every process of the server.
    pub(crate) fn signal_all(&self, signal: nix::sys::signal::Signal) {
        let postmaster = self.child.as_ref().unwrap().id();
        let children = Command::new("pgrep")
            .args(["-P", &postmaster.to_string()])
            .output()
            .unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        for pid in children.lines().chain([postmaster.to_string().as_str()]) {
            let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
            // Gone meanwhile is fine.
            let _ = nix::sys::signal::kill(pid, signal);
        }
    }

    /// A session of a user.
    pub(crate) async fn client(&self) -> Client {
        let options = Options {
            connect_timeout: LIMIT,
            application_name: "test".into(),
        };
        connect(self.server.conninfo(), &options).await.unwrap()
    }

    /// The first column of the first row, as text.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let rows = self.client().await.simple(sql, LIMIT).await.unwrap();
        rows[0].get(0).unwrap_or_default().to_owned()
    }
}

/// Waits for something, at most [`LIMIT`].
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// CPU time of a process so far.
pub(crate) fn cpu_time(pid: i32) -> Duration {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    // utime and stime, in ticks of 10 ms.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
