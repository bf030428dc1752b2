//! Real Postgres for tests: dropped privileges, temporary clusters, free ports.

#![expect(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of tests, of which each test binary uses a part"
)]

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use pgaf_postgres::locate::{Installation, Search};
use pgaf_postgres::postmaster::{self, Phase, Postmaster, StartOptions};
use pgaf_postgres::{copy, initdb};

/// Long enough for any step of a small cluster on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

static UNPRIVILEGED: Once = Once::new();

/// Postgres refuses to run as root: as root, this whole test process becomes `postgres`, or
/// `nobody`. Every test that starts Postgres calls it first.
pub(crate) fn drop_privileges() {
    UNPRIVILEGED.call_once(|| {
        use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
        if !geteuid().is_root() {
            return;
        }
        let user = ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok()?);
        let user = user.expect("there is an account postgres or nobody");
        let name = std::ffi::CString::new(user.name).unwrap();
        initgroups(&name, user.gid).unwrap();
        setgid(user.gid).unwrap();
        setuid(user.uid).unwrap();
        std::env::set_current_dir("/").unwrap();
    });
}

/// The installed Postgres, or `None`, said loudly, when there is none.
pub(crate) async fn installation() -> Option<Installation> {
    drop_privileges();
    match Search::from_env(None).find().await {
        Ok(found) => Some(found),
        Err(error) => {
            eprintln!("SKIPPED: no Postgres to test with: {error}");
            None
        }
    }
}

/// A cluster in a temporary folder, which ends and goes with this value.
pub(crate) struct Cluster {
    pub(crate) postgres: Installation,
    pub(crate) folder: PathBuf,
    pub(crate) pgdata: PathBuf,
    pub(crate) port: u16,
    keep: Option<tempfile::TempDir>,
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Cluster {
    /// A place for a cluster, without one.
    pub(crate) async fn place() -> Option<Self> {
        let postgres = installation().await?;
        let keep = tempfile::tempdir().unwrap();
        let folder = keep.path().canonicalize().unwrap();
        let pgdata = folder.join("data");
        Some(Self {
            postgres,
            pgdata,
            folder,
            port: free_port(),
            keep: Some(keep),
        })
    }

    /// A new cluster, stopped, that trusts local replication.
    pub(crate) async fn new() -> Option<Self> {
        let cluster = Self::place().await?;
        let options = initdb::InitdbOptions {
            username: Some("postgres".to_owned()),
            ..Default::default()
        };
        initdb::initdb(&cluster.postgres, &cluster.pgdata, copy::draw(), &options)
            .await
            .unwrap();
        cluster.append("wal_log_hints = on\nfsync = off\nlog_min_messages = log\n");
        Some(cluster)
    }

    /// A place beside, for a standby of this cluster.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        Self {
            postgres: self.postgres.clone(),
            pgdata: folder.join("data"),
            folder,
            port: free_port(),
            keep: None,
        }
    }

    pub(crate) fn append(&self, conf: &str) {
        let path = self.pgdata.join("postgresql.conf");
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, old + conf).unwrap();
    }

    pub(crate) fn options(&self) -> StartOptions {
        StartOptions {
            port: self.port,
            listen_addresses: "127.0.0.1".to_owned(),
            socket_directory: Some(self.folder.clone()),
            settings: Vec::new(),
        }
    }

    pub(crate) async fn start(&self) -> Postmaster {
        let server = Postmaster::start(&self.postgres, &self.pgdata, &self.options())
            .await
            .unwrap();
        assert_eq!(
            server.wait_ready(LIMIT, |_| {}).await.unwrap(),
            Phase::Ready
        );
        server
    }

    /// Runs one statement through psql; its rows, unaligned.
    pub(crate) async fn sql(&self, statement: &str) -> String {
        let done = pgaf_postgres::command::Invocation::new(&self.postgres.program("psql"))
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
            ])
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-c",
                statement,
                "postgres",
            ])
            .deadline(LIMIT)
            .run()
            .await
            .unwrap();
        assert!(done.status.success(), "{statement}: {}", done.reason());
        done.stdout.trim().to_owned()
    }

    /// Turns a copy of `primary` into its standby.
    pub(crate) fn follow(&self, primary: &Self) {
        std::fs::write(self.pgdata.join("standby.signal"), "").unwrap();
        self.append(&format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'\nwal_retrieve_retry_interval = 100\n",
            primary.port
        ));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that failed leaves its server behind otherwise.
        for pid in postmaster::cluster_processes(&self.pgdata).unwrap_or_default() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited too long until {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
