//! The whole monitor over a real socket: keepers' calls, pushes, restarts, refusals.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod fake;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use fake::{Nodes, wish};
use pgaf_monitor::{MonitorConfig, Running, StartError, create, start};
use pgaf_protocol::*;
use pgaf_store::OpenError;
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// Long enough for a slow machine, short enough for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(folder: &Path) -> MonitorConfig {
    let mut config = MonitorConfig::new(folder.join("monitor"), "localhost", 0);
    config.listen_addresses = "127.0.0.1".into();
    config
}

async fn monitor(folder: &Path) -> Running {
    let config = config(folder);
    create(&config).unwrap();
    start(config).await.unwrap()
}

/// A session, with what is pushed on it.
struct Session {
    client: Client,
    pushed: mpsc::UnboundedReceiver<tokio_postgres::Notification>,
}

async fn connect(address: SocketAddr) -> Session {
    let conninfo = format!(
        "host={} port={} user=autoctl_node dbname=pg_auto_failover",
        address.ip(),
        address.port()
    );
    let (client, mut connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    let (sender, pushed) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification);
            }
        }
    });
    Session { client, pushed }
}

impl Session {
    async fn text(&self, sql: &str, argument: &str) -> Result<String, tokio_postgres::Error> {
        Ok(self.client.query_one(sql, &[&argument]).await?.get(0))
    }

    async fn register(&self, wish: &Registration) -> Registered {
        let json = serde_json::to_string(wish).unwrap();
        let sql = "SELECT pgautofailover.keeper_register($1)";
        serde_json::from_str(&self.text(sql, &json).await.unwrap()).unwrap()
    }

    async fn report(&self, report: &Report) -> Result<Answer, tokio_postgres::Error> {
        let json = serde_json::to_string(report).unwrap();
        let sql = "SELECT pgautofailover.keeper_report($1)";
        Ok(serde_json::from_str(&self.text(sql, &json).await?).unwrap())
    }

    async fn states(&self) -> String {
        let sql = "SELECT reportedstate, goalstate FROM pgautofailover.node ORDER BY nodeid";
        let rows = self.client.simple_query(sql).await.unwrap();
        let words = rows.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some(format!("{}/{}", row.get(0).unwrap(), row.get(1).unwrap()))
            }
            tokio_postgres::SimpleQueryMessage::CommandComplete(_) | _ => None,
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// A monitor and a pair of fake nodes with a session each.
struct Pair {
    running: Running,
    nodes: Nodes,
    sessions: BTreeMap<NodeId, Session>,
}

impl Pair {
    async fn new(folder: &Path) -> Self {
        let running = monitor(folder).await;
        let mut pair = Self {
            nodes: Nodes::default(),
            sessions: BTreeMap::new(),
            running,
        };
        pair.add("one", 1).await;
        pair.until("single/single").await;
        pair.add("two", 2).await;
        pair.until("primary/primary secondary/secondary").await;
        pair
    }

    fn address(&self) -> SocketAddr {
        self.running.addresses[0]
    }

    async fn add(&mut self, token: &str, port: u16) {
        let session = connect(self.address()).await;
        let done = session.register(&wish(token, port)).await;
        self.nodes.add(&done);
        self.sessions.insert(done.node, session);
    }

    async fn round(&self) {
        for (id, session) in &self.sessions {
            if self.nodes.get(*id).alive {
                let answer = session.report(&self.nodes.report(*id)).await.unwrap();
                self.nodes.obey(*id, &answer);
            }
        }
    }

    async fn until(&self, states: &str) {
        let watcher = connect(self.address()).await;
        let began = Instant::now();
        while watcher.states().await != states {
            let now = watcher.states().await;
            assert!(began.elapsed() < PATIENCE, "{now} instead of {states}");
            self.round().await;
        }
    }

    /// Starts the monitor again on the same store; the keepers connect again.
    async fn restart(mut self, folder: &Path) -> Self {
        self.running.stop().await;
        self.running = start(config(folder)).await.unwrap();
        self.reconnect().await;
        self
    }

    /// Every keeper opens a new session.
    async fn reconnect(&mut self) {
        let address = self.address();
        for session in self.sessions.values_mut() {
            *session = connect(address).await;
        }
    }
}

#[tokio::test]
async fn a_pair_settles_and_switches_over_and_every_goal_is_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(folder.path()).await;
    let operator = connect(pair.address()).await;
    operator.client.batch_execute("LISTEN state").await.unwrap();
    let failover = "SELECT pgautofailover.perform_failover('default', 0)";
    operator.client.simple_query(failover).await.unwrap();

    let primary = pair.sessions.get_mut(&NodeId(1)).unwrap();
    loop {
        let pushed = tokio::time::timeout(PATIENCE, primary.pushed.recv());
        let pushed = pushed.await.unwrap().unwrap();
        assert_eq!(pushed.channel(), GOAL_CHANNEL);
        let answer: Answer = serde_json::from_str(pushed.payload()).unwrap();
        if matches!(&answer.goal.order, Order::Lead(lead) if lead.checkpoint) {
            break;
        }
    }

    pair.until("secondary/secondary primary/primary").await;
    let mut operator = operator;
    let mut words = Vec::new();
    while let Ok(Some(note)) =
        tokio::time::timeout(Duration::from_millis(200), operator.pushed.recv()).await
    {
        assert_eq!(note.channel(), "state");
        words.push(note.payload().to_owned());
    }
    assert!(words.len() >= 2, "{words:?}");
    assert!(words.iter().any(|w| {
        w.contains("\"reportedState\":\"primary\"") && w.contains("\"goalState\":\"primary\"")
    }));
    pair.running.stop().await;
}

/// Fault 7 of the old program: reports of a group wait for each other, and for a client that
/// registers and takes its time. Here no function changes anything inside a client's transaction.
#[tokio::test]
async fn a_client_that_dawdles_in_a_transaction_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(folder.path()).await;
    let slow = connect(pair.address()).await;
    slow.client.batch_execute("BEGIN").await.unwrap();
    assert!(!slow.states().await.is_empty());

    let in_time = tokio::time::timeout(PATIENCE, async {
        pair.round().await;
        pair.add("quick", 4).await;
        pair.round().await;
    });
    in_time.await.unwrap();
    let failover = "SELECT pgautofailover.perform_failover('default', 0)";
    let operator = connect(pair.address()).await;
    operator.client.simple_query(failover).await.unwrap();
    let watcher = connect(pair.address()).await;
    let began = Instant::now();
    while !watcher
        .states()
        .await
        .starts_with("secondary/secondary primary/primary")
    {
        let now = watcher.states().await;
        assert!(began.elapsed() < PATIENCE, "no failover: {now}");
        pair.round().await;
    }

    let json = serde_json::to_string(&wish("slow", 3)).unwrap();
    let sql = "SELECT pgautofailover.keeper_register($1)";
    let refused = slow.text(sql, &json).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::ACTIVE_SQL_TRANSACTION));
    pair.running.stop().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_switchover_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::new(folder.path()).await;
    let operator = connect(pair.address()).await;
    let failover = "SELECT pgautofailover.perform_failover('default', 0)";
    operator.client.simple_query(failover).await.unwrap();
    pair.round().await;
    let pair = pair.restart(folder.path()).await;
    pair.until("secondary/secondary primary/primary").await;
    let answer = pair.sessions[&NodeId(2)]
        .report(&pair.nodes.report(NodeId(2)))
        .await
        .unwrap();
    assert_eq!(answer.incarnation, Incarnation(2));
    assert_eq!(answer.goal.stamp.term, Term(2));
    pair.running.stop().await;
}

#[tokio::test]
async fn a_keeper_of_another_version_is_told_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let running = monitor(folder.path()).await;
    let session = connect(running.addresses[0]).await;
    let sql = "SELECT pgautofailover.keeper_report($1)";
    let error = session
        .text(sql, r#"{"protocol": 41, "what": "ever"}"#)
        .await
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "0A000");
    assert!(error.message().contains("41"), "{error}");
    assert!(error.hint().is_some());
    running.stop().await;
}

#[tokio::test]
async fn a_second_monitor_on_one_store_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let running = monitor(folder.path()).await;
    match start(config(folder.path())).await {
        Err(StartError::Store(OpenError::InUse { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(connect(running.addresses[0]).await.states().await, "");
    running.stop().await;
    start(config(folder.path())).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(folder.path());
    config.port = taken.local_addr().unwrap().port();
    create(&config).unwrap();
    let error = start(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains(&config.port.to_string()), "{error}");
}

#[tokio::test]
async fn a_directory_without_a_store_is_not_a_monitor() {
    let folder = tempfile::tempdir().unwrap();
    let error = start(config(folder.path())).await.unwrap_err();
    assert!(matches!(error, StartError::NotAMonitor(_)));
    assert!(!folder.path().join("monitor").exists());
}

#[tokio::test]
async fn a_store_restored_from_an_older_copy_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::new(folder.path()).await;
    let Pair {
        running,
        nodes,
        sessions,
    } = pair;
    running.stop().await;
    let store = config(folder.path()).store_file();
    let older = std::fs::read(&store).unwrap();
    let running = start(config(folder.path())).await.unwrap();
    let pair = Pair {
        running,
        nodes,
        sessions,
    };
    let pair = pair.restart(folder.path()).await;
    pair.round().await;
    pair.round().await;
    pair.until("primary/primary secondary/secondary").await;
    let operator = connect(pair.address()).await;
    let failover = "SELECT pgautofailover.perform_failover('default', 0)";
    operator.client.simple_query(failover).await.unwrap();
    pair.until("secondary/secondary primary/primary").await;
    let Pair {
        running,
        nodes,
        sessions,
    } = pair;
    running.stop().await;
    std::fs::write(&store, older).unwrap();

    let running = start(config(folder.path())).await.unwrap();
    let operator = connect(running.addresses[0]).await;
    let explained = operator
        .text("SELECT pgautofailover.explain($1)", "default")
        .await
        .unwrap();
    assert!(explained.contains("restored-monitor"), "{explained}");
    let refused = operator.client.simple_query(failover).await.unwrap_err();
    assert!(
        refused
            .as_db_error()
            .unwrap()
            .message()
            .contains("restored")
    );
    // Every member reports: the group goes on from what they say.
    let pair = Pair {
        running,
        nodes,
        sessions,
    };
    let pair = pair.restart(folder.path()).await;
    pair.until("secondary/secondary primary/primary").await;
    let answer = pair.sessions[&NodeId(2)]
        .report(&pair.nodes.report(NodeId(2)))
        .await
        .unwrap();
    assert_eq!(answer.goal.stamp.term, Term(2));
    pair.running.stop().await;
}

/// The database as it was; what SQLite wrote beside it since belongs to the newer one.
fn put_back_database(path: &Path, bytes: &[u8]) {
    let name = path.file_name().unwrap().to_str().unwrap();
    for tail in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(path.with_file_name(format!("{name}{tail}")));
    }
    std::fs::write(path, bytes).unwrap();
}

/// A monitor's folder as it was, put back in place of what is there.
fn put_back(folder: &Path, files: &[(std::path::PathBuf, Vec<u8>)]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (path, bytes) in files {
        std::fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn one_old_copy_is_restored_twice_and_every_keeper_is_known_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::new(folder.path()).await;
    let (nodes, sessions) = (pair.nodes, pair.sessions);
    pair.running.stop().await;
    let config = config(folder.path());
    let files = std::fs::read_dir(&config.pgdata).unwrap();
    let copy: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    let database: Vec<_> = copy
        .iter()
        .filter(|(path, _)| *path == config.store_file())
        .cloned()
        .collect();
    assert!(database.len() == 1 && copy.len() > 1, "{copy:?}");
    let running = start(config.clone()).await.unwrap();
    let mut pair = Pair {
        running,
        nodes,
        sessions,
    };
    // The database alone: what is kept outside it shows that it is older, and knows its lives.
    let mut lives = Vec::new();
    for _ in 0..2 {
        pair = pair.restart(folder.path()).await;
        pair.round().await;
        pair.round().await;
        pair.until("primary/primary secondary/secondary").await;
        let operator = connect(pair.address()).await;
        let failover = "SELECT pgautofailover.perform_failover('default', 0)";
        operator.client.simple_query(failover).await.unwrap();
        pair.until("secondary/secondary primary/primary").await;
        operator.client.simple_query(failover).await.unwrap();
        pair.until("primary/primary secondary/secondary").await;
        lives.push(pair.nodes.get(NodeId(1)).lineage);
        pair.running.stop().await;
        put_back_database(&database[0].0, &database[0].1);
        pair.running = start(config.clone()).await.unwrap();
    }
    pair = pair.restart(folder.path()).await;
    pair.round().await;
    pair.until("primary/primary secondary/secondary").await;
    lives.push(pair.nodes.get(NodeId(1)).lineage);
    let different: std::collections::BTreeSet<_> = lives.iter().collect();
    assert_eq!(different.len(), 3, "{lives:?}");
    // Everything that the monitor had: an operator says so.
    pair.running.stop().await;
    put_back(&config.pgdata, &copy);
    let mut restored = config.clone();
    restored.restored = true;
    pair.running = start(restored).await.unwrap();
    pair.reconnect().await;
    pair.round().await;
    pair.until("primary/primary secondary/secondary").await;
    pair.running.stop().await;
}

#[tokio::test]
async fn a_dead_host_is_noticed_by_its_closed_session_and_a_refused_probe() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(folder.path()).await;
    // Nobody listens at the addresses of the fake nodes: a real probe is refused.
    pair.nodes.kill(NodeId(1));
    let began = Instant::now();
    drop(pair.sessions.remove(&NodeId(1)));
    let standby = pair.sessions.get_mut(&NodeId(2)).unwrap();
    loop {
        let pushed = tokio::time::timeout(PATIENCE, standby.pushed.recv());
        let pushed = pushed.await.unwrap().unwrap();
        let answer: Answer = serde_json::from_str(pushed.payload()).unwrap();
        if matches!(&answer.goal.order, Order::Promise { .. }) {
            break;
        }
    }
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    pair.until("primary/demoted wait_primary/wait_primary")
        .await;
    pair.nodes.change(NodeId(1), |fake| fake.alive = true);
    let session = connect(pair.address()).await;
    pair.sessions.insert(NodeId(1), session);
    pair.until("secondary/secondary primary/primary").await;
    pair.running.stop().await;
}

#[tokio::test]
async fn a_monitor_on_a_full_disk_refuses_changes_and_answers_reads_and_heartbeats() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path()) else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    let pair = Pair::new(folder.path()).await;
    let operator = connect(pair.address()).await;
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![0; 4 << 20]).unwrap_err();
    // The write-ahead log has some room left: it takes a few changes before it is full.
    let mut refused = None;
    for value in 1000..1400 {
        let sql = format!("SELECT pgautofailover.set_setting('lease', '{value}')");
        if let Err(error) = operator.client.simple_query(&sql).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("a full disk takes every change");
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code().code(), "53100", "{refused}");
    assert!(refused.hint().is_some());
    assert_eq!(
        operator.states().await,
        "primary/primary secondary/secondary"
    );
    pair.round().await;
    let explain = "SELECT pgautofailover.explain($1)";
    assert!(
        operator
            .text(explain, "default")
            .await
            .unwrap()
            .contains("monitor-disk")
    );

    std::fs::remove_file(&ballast).unwrap();
    let failover = "SELECT pgautofailover.perform_failover('default', 0)";
    operator.client.simple_query(failover).await.unwrap();
    pair.until("secondary/secondary primary/primary").await;
    assert!(
        !operator
            .text(explain, "default")
            .await
            .unwrap()
            .contains("monitor-disk")
    );
    pair.running.stop().await;
}

#[tokio::test]
async fn a_monitor_on_a_read_only_disk_does_not_start_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    monitor(folder.path()).await.stop().await;
    disk.make_read_only();
    let error = start(config(folder.path())).await.unwrap_err();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    assert!(words.to_lowercase().contains("read-only"), "{words}");
}

/// A file system of 2 MB, gone with the value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Option<Self> {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder)
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Self(folder.to_owned()))
    }

    fn make_read_only(&self) {
        let status = std::process::Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}
