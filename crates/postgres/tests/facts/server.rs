//! Plain servers, without any configuration of ours: copies of one template, changed by one file.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Once, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use pgaf_postgres::client::{Client, Options, QueryError, connect};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::postmaster::cluster_processes;
use tokio::task::JoinHandle;

/// Long: other builds and tests share the machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// What has not happened by then does not happen; chosen, far above any retry interval that is set here.
const NEVER: Duration = Duration::from_millis(1000);

fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|e| Some(e.ok()?.path().join("bin")))
        .filter(|p| p.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

pub(crate) fn available() -> bool {
    programs().is_some()
}

/// A program of Postgres.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(programs().unwrap().join(name));
    command.stdin(Stdio::null());
    command
}

/// Postgres refuses to run as root: this test process becomes `postgres`, else `nobody`.
fn drop_privileges() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let user = ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).unwrap())
            .unwrap();
        nix::unistd::setgroups(&[user.gid]).unwrap();
        nix::unistd::setresgid(user.gid, user.gid, user.gid).unwrap();
        nix::unistd::setresuid(user.uid, user.uid, user.uid).unwrap();
        std::env::set_current_dir("/tmp").unwrap();
    });
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A stopped cluster with an empty table `t`, at the start of a segment; it goes with its last copy.
fn template() -> Arc<tempfile::TempDir> {
    static TEMPLATE: Mutex<Weak<tempfile::TempDir>> = Mutex::new(Weak::new());
    let mut there = TEMPLATE.lock().unwrap();
    if let Some(made) = there.upgrade() {
        return made;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let options = "--no-sync --no-instructions --wal-segsize=1 -U postgres -A trust -D";
    done(program("initdb").args(options.split(' ')).arg(&data));
    let mut single = program("postgres");
    let single = single
        .args(["--single", "-F", "-D"])
        .arg(&data)
        .arg("postgres");
    let mut child = single
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let statements = b"CREATE TABLE t (i bigint)\nSELECT pg_switch_wal()\n";
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), statements).unwrap();
    assert!(child.wait().unwrap().success());
    let made = Arc::new(dir);
    *there = Arc::downgrade(&made);
    made
}

/// A server, its folder and its settings.
pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) data: PathBuf,
    pub(crate) port: u16,
    pub(crate) child: Option<Child>,
    settings: BTreeMap<String, String>,
    _template: Arc<tempfile::TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in cluster_processes(&self.data).unwrap_or_default() {
            // Gone meanwhile is fine.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(12);
            eprintln!("log of port {}:\n{}", self.port, lines[tail..].join("\n"));
        }
    }
}

impl Server {
    /// A stopped copy of the template.
    pub(crate) fn copy() -> Self {
        drop_privileges();
        let template = template();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        done(
            Command::new("cp")
                .arg("-a")
                .arg(template.path().join("data"))
                .arg(&data),
        );
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut server = Self {
            dir,
            data,
            port,
            child: None,
            settings: BTreeMap::new(),
            _template: template,
        };
        let conf = server.data.join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).unwrap() + "include_if_exists = 'fact.conf'\n";
        std::fs::write(conf, text).unwrap();
        let socket = server.dir.path().to_str().unwrap().to_owned();
        for (name, value) in [
            ("port", port.to_string().as_str()),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", &socket),
            ("shared_buffers", "8MB"),
            ("fsync", "off"),
            ("autovacuum", "off"),
            ("wal_log_hints", "on"),
            ("wal_keep_size", "64MB"),
            ("logging_collector", "off"),
            ("wal_retrieve_retry_interval", "100ms"),
            ("wal_receiver_status_interval", "1s"),
        ] {
            server.set(name, value);
        }
        server
    }

    /// A primary that runs.
    pub(crate) async fn primary() -> Self {
        let mut server = Self::copy();
        server.start().await;
        server
    }

    /// A standby that streams from `primary` as `name`.
    pub(crate) async fn standby_of(primary: &Self, name: &str) -> Self {
        let mut server = Self::copy();
        server.follow(primary, name);
        server.start().await;
        until("the standby streams", async || {
            primary.streams_to(name).await
        })
        .await;
        server
    }

    /// Changes a setting in the file; it needs a [`Self::reload`].
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
        let text: String = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name} = '{value}'\n"))
            .collect();
        let path = self.data.join("fact.conf");
        let new = self.data.join("fact.conf.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Makes it a standby, from its next start on; a reload is enough for one that is one.
    pub(crate) fn follow(&mut self, primary: &Self, name: &str) {
        std::fs::write(self.data.join("standby.signal"), "").unwrap();
        self.set(
            "primary_conninfo",
            &format!(
                "host=127.0.0.1 port={} user=postgres application_name={name}",
                primary.port
            ),
        );
    }

    pub(crate) fn postmaster(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    pub(crate) fn reload(&self) {
        signal(self.postmaster(), Signal::SIGHUP);
    }

    /// Changes one setting and reloads.
    pub(crate) fn load(&mut self, name: &str, value: &str) {
        self.set(name, value);
        self.reload();
    }

    pub(crate) fn launch(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let child = program("postgres")
            .arg("-D")
            .arg(&self.data)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub(crate) async fn start(&mut self) {
        self.launch();
        until("the server answers", async || self.answers().await).await;
    }

    /// Ends it by a signal to its postmaster, and reaps it.
    pub(crate) fn end(&mut self, how: Signal) {
        signal(self.postmaster(), how);
        self.child.take().unwrap().wait().unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn conninfo(&self) -> Conninfo {
        let socket = self.dir.path().to_str().unwrap();
        Conninfo::single(socket, self.port, "postgres", "postgres")
    }

    pub(crate) async fn answers(&self) -> bool {
        let options = Options {
            connect_timeout: Duration::from_secs(5),
            application_name: "fact".into(),
        };
        connect(&self.conninfo(), &options).await.is_ok()
    }

    /// A session.
    pub(crate) async fn client(&self) -> Client {
        let options = Options {
            connect_timeout: LIMIT,
            application_name: "fact".into(),
        };
        connect(&self.conninfo(), &options).await.unwrap()
    }

    /// The first column of the first row, in a new session.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let rows = self.client().await.simple(sql, LIMIT).await.unwrap();
        rows[0].get(0).unwrap_or_default().to_owned()
    }

    /// Runs a statement in a session of its own, beside the test.
    pub(crate) async fn begin(&self, sql: &str) -> JoinHandle<Result<(), QueryError>> {
        let (client, sql) = (self.client().await, sql.to_owned());
        tokio::spawn(async move { client.batch(&sql, LIMIT).await })
    }

    /// How many commits wait for standbys.
    pub(crate) async fn waiting(&self) -> usize {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        self.ask(sql).await.parse().unwrap()
    }

    pub(crate) async fn wait_for(&self, commits: usize) {
        until("the commits wait", async || self.waiting().await == commits).await;
    }

    /// Whether a walsender of this name streams.
    pub(crate) async fn streams_to(&self, name: &str) -> bool {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
        );
        self.ask(&sql).await != "0"
    }

    /// The process of a kind, as `pg_stat_activity` names it.
    pub(crate) async fn process(&self, kind: &str) -> Option<i32> {
        let sql = format!(
            "SELECT coalesce((SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}'), 0)"
        );
        Some(self.ask(&sql).await.parse().unwrap()).filter(|pid| *pid != 0)
    }

    /// The timeline it writes.
    pub(crate) async fn timeline(&self) -> String {
        self.ask("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
            .await
    }

    /// Waits until a standby has replayed everything of this primary.
    pub(crate) async fn caught_up(&self, standby: &Self) {
        let end = self.ask("SELECT pg_current_wal_flush_lsn()").await;
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        until("the standby has caught up", async || {
            standby.ask(&sql).await == "t"
        })
        .await;
    }

    pub(crate) async fn promote(&self) {
        let _ = self.ask("SELECT pg_promote(true, 60)").await;
        until("it is promoted", async || {
            self.ask("SELECT pg_is_in_recovery()").await == "f"
        })
        .await;
    }

    pub(crate) fn history(&self, timeline: u32) -> PathBuf {
        self.data
            .join("pg_wal")
            .join(format!("{timeline:08X}.history"))
    }
}

pub(crate) fn signal(pid: i32, how: Signal) {
    kill(Pid::from_raw(pid), how).unwrap();
}

/// Whether a process is there, a zombie counted as dead.
pub(crate) fn lives(pid: i32) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).is_ok_and(
        |stat| {
            !stat
                .rsplit_once(") ")
                .is_some_and(|(_, s)| s.starts_with('Z'))
        },
    )
}

/// Waits for something, at most [`LIMIT`].
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Fails when something comes to hold.
pub(crate) async fn never(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < NEVER {
        assert!(!holds().await, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
