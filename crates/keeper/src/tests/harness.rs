//! Nodes of a test: each a real Postgres and a keeper's loop; the test is their monitor.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgaf_fsm::node::{Entry, Journal, StopMode};
use pgaf_postgres::client::{self, Client, Options};
use pgaf_postgres::conninfo::{Conninfo, Endpoint, SslMode};
use pgaf_postgres::locate::Installation;
use pgaf_protocol::{
    Answer, Follow, FormationId, Goal, GroupId, History, Incarnation, KeeperSettings, Lead, Lease,
    Lineage, Member, NodeId, NodeKind, NodeState, Order, PROTOCOL_VERSION, Peer, Registered,
    Report, Sequence, Stamp, SyncConfig, Term,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::failpoint::chaos;
use crate::fencer::Fencer;
use crate::journal::JournalFile;
use crate::keeper::{Ends, Keeper};
use crate::local::Local;
use crate::session::{Incoming, Outgoing};
use crate::{HbaLevel, KeeperConfig};

const PG_CTL: &str = "/usr/lib/postgresql/15/bin/pg_ctl";
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a fresh runtime, as an unprivileged user: Postgres refuses root.
pub(super) fn run<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if !std::path::Path::new(PG_CTL).exists() {
        eprintln!("SKIPPED {name}: no Postgres at {PG_CTL}");
        return;
    }
    if nix::unistd::geteuid().is_root() {
        let exe = std::env::current_exe().unwrap();
        let status = Command::new("setpriv")
            .args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--init-groups",
            ])
            .arg(exe)
            .args(["--exact", &format!("tests::{name}"), "--nocapture"])
            .env("HOME", "/tmp")
            .env("RUST_BACKTRACE", "0")
            .status()
            .unwrap();
        assert!(status.success(), "failed as an unprivileged user");
        return;
    }
    let _set = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .try_init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(test()));
}

/// A node, and the test's ends of its channels.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) config: KeeperConfig,
    peers: Vec<Peer>,
    running: Option<Loop>,
    answer: Rc<RefCell<Option<Answer>>>,
    /// Of each answer.
    pub(super) lease_ms: u32,
    /// Of the monitor that the test is.
    pub(super) incarnation: u64,
    _dir: Rc<tempfile::TempDir>,
}

struct Loop {
    answers: mpsc::Sender<Incoming>,
    reports: watch::Receiver<Outgoing>,
    leave: Option<oneshot::Sender<StopMode>>,
    task: tokio::task::JoinHandle<()>,
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

impl Node {
    /// A node that is registered, and has done nothing yet.
    pub(super) fn new(id: i64) -> Self {
        let dir = Rc::new(tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("sockets")).unwrap();
        let config = KeeperConfig {
            pgdata: at("data"),
            journal: at("state/pg_autoctl.state"),
            monitor: None,
            formation: FormationId::default(),
            name: format!("node_{id}"),
            host: "127.0.0.1".into(),
            kind: NodeKind::Standalone,
            cluster: "default".into(),
            pg_ctl: PathBuf::from(PG_CTL),
            socket_dir: Some(at("sockets")),
            port: free_port(),
            listen_addresses: "127.0.0.1".into(),
            username: None,
            dbname: "app".into(),
            auth_method: "trust".into(),
            hba_level: HbaLevel::Minimal,
            lan: None,
            sslmode: SslMode::Prefer,
            ssl: None,
            replication_password: None,
            maximum_backup_rate: None,
            backup_directory: None,
            max_failed_starts: 3,
            stop_limit: Duration::from_secs(5),
            fencer: super::fencer::command(&at("state/pg_autoctl.state"), &at("data")),
        };
        let mut journal = Journal::new(format!("token-{id}"), FormationId::default());
        journal.apply(Entry::Registered(Registered {
            protocol: PROTOCOL_VERSION,
            lineage: Lineage(1),
            node: NodeId(id),
            group: GroupId(0),
            name: config.name.clone(),
            state: NodeState::Init,
            term: Term(0),
            candidate_priority: 50,
            replication_quorum: true,
        }));
        JournalFile::at(&config.journal).store(&journal).unwrap();
        Self {
            id: NodeId(id),
            config,
            peers: Vec::new(),
            running: None,
            answer: Rc::default(),
            lease_ms: 3_600_000,
            incarnation: 1,
            _dir: dir,
        }
    }

    pub(super) fn peer(&self) -> Peer {
        Peer {
            node: self.id,
            name: self.config.name.clone(),
            host: self.config.host.clone(),
            port: self.config.port,
        }
    }

    pub(super) fn knows(&mut self, others: &[&Self]) {
        self.peers = others.iter().map(|n| n.peer()).collect();
    }

    /// Starts its keeper; what is on disk decides how it goes on.
    pub(super) async fn start(&mut self) {
        let (keeper, mut running) = self.prepare().await;
        let (leave, left) = oneshot::channel();
        running.leave = Some(leave);
        running.task = tokio::task::spawn_local(keeper(left));
        self.running = Some(running);
    }

    /// As [`Self::start`], with a keeper that is killed once at each failpoint it meets, and that
    /// is started again each time. Answers the places where that happened, at the end.
    pub(super) fn start_chaos(&mut self) -> Rc<RefCell<BTreeSet<String>>> {
        let seen: Rc<RefCell<BTreeSet<String>>> = Rc::default();
        let (answers, mut told) = mpsc::channel::<Incoming>(64);
        let (reports_in, reports) = watch::channel(nothing_said());
        let (leave, mut left) = oneshot::channel::<StopMode>();
        let mut twin = self.twin();
        let places = Rc::clone(&seen);
        let task = tokio::task::spawn_local(async move {
            loop {
                let (keeper, running) = twin.prepare().await;
                let (stop, stopped) = oneshot::channel();
                let killed = Rc::clone(&places);
                let mut task = tokio::task::spawn_local(chaos::KILLED.scope(killed, async move {
                    let keeper = std::panic::AssertUnwindSafe(keeper(stopped));
                    futures::FutureExt::catch_unwind(keeper).await.is_ok()
                }));
                let mut stop = Some(stop);
                let mut said = running.reports.clone();
                twin.repeat(&running.answers).await;
                let finished = loop {
                    tokio::select! {
                        done = &mut task => break done.unwrap_or(true),
                        Some(message) = told.recv() => {
                            let _dead = running.answers.send(message).await;
                        }
                        Ok(()) = said.changed() => {
                            reports_in.send_replace(said.borrow_and_update().clone());
                        }
                        Ok(mode) = &mut left, if stop.is_some() => {
                            let _dead = stop.take().unwrap().send(mode);
                        }
                    }
                };
                if finished || stop.is_none() {
                    return;
                }
            }
        });
        self.running = Some(Loop {
            answers,
            reports,
            leave: Some(leave),
            task,
        });
        seen
    }

    /// The same node, without its loop.
    fn twin(&self) -> Self {
        Self {
            id: self.id,
            config: self.config.clone(),
            peers: Vec::new(),
            running: None,
            answer: Rc::clone(&self.answer),
            lease_ms: self.lease_ms,
            incarnation: self.incarnation,
            _dir: Rc::clone(&self._dir),
        }
    }

    /// Says the last goal again, as a monitor does to each new session.
    async fn repeat(&self, answers: &mpsc::Sender<Incoming>) {
        let answer = self.answer.borrow().clone();
        if let Some(answer) = answer {
            let _dead = answers.send(message(answer)).await;
        }
    }

    async fn prepare(
        &mut self,
    ) -> (
        impl FnOnce(oneshot::Receiver<StopMode>) -> Pin<Box<dyn Future<Output = ()>>> + 'static,
        Loop,
    ) {
        let file = JournalFile::at(&self.config.journal);
        let journal = file.load().unwrap().unwrap();
        let installation = Installation::at(&self.config.pg_ctl).await.unwrap();
        let wake = Arc::new(Notify::new());
        let (published, journals) = watch::channel(Arc::new(journal.clone()));
        let config = Arc::new(self.config.clone());
        let fencer = Rc::new(Fencer::of(&config.journal, config.fencer.clone()));
        let watched = Rc::clone(&fencer);
        let local = Local::open(config, installation, journals, Arc::clone(&wake), watched)
            .await
            .unwrap();
        let (outgoing, reports) = watch::channel(nothing_said());
        let (answers, incoming) = mpsc::channel(64);
        let (_looks, looks) = mpsc::channel(1);
        let (wishes, _wanted) = mpsc::channel(1);
        let ends = Ends {
            incoming,
            outgoing,
            published,
            wake,
            looks,
            wishes,
            fencer,
            citus_orders: watch::channel(crate::citus::Orders::default()).0,
            citus_found: watch::channel(crate::citus::Found::default()).1,
        };
        let address = self.peer();
        let keeper = |mut left: oneshot::Receiver<StopMode>| {
            let keeper: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
                let mut keeper = Keeper::new(&local, file, address, journal, ends);
                loop {
                    tokio::select! {
                        _ = keeper.turn() => {}
                        mode = &mut left => {
                            keeper.leave(mode.unwrap_or(StopMode::Fast)).await;
                            return;
                        }
                    }
                }
            });
            keeper
        };
        let running = Loop {
            answers,
            reports,
            leave: None,
            task: tokio::task::spawn_local(async {}),
        };
        (keeper, running)
    }

    /// The keeper vanishes; its Postgres goes on.
    pub(super) async fn kill_keeper(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
            let _aborted = running.task.await;
        }
    }

    /// The keeper is told to stop, with its Postgres.
    pub(super) async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _sent = running.leave.take().unwrap().send(StopMode::Fast);
            drop(running.answers);
            let _done = tokio::time::timeout(PATIENCE, running.task).await;
        }
    }

    /// Sends a goal, as an answer with a lease.
    pub(super) async fn tell(&mut self, term: u64, sequence: u64, state: NodeState, order: Order) {
        let lease = Some(Lease {
            duration_ms: self.lease_ms,
        });
        let goal = Goal {
            stamp: stamp(term, sequence),
            state,
            order,
            rule: "test".into(),
        };
        let answer = Answer {
            protocol: PROTOCOL_VERSION,
            lineage: Lineage(1),
            incarnation: Incarnation(self.incarnation),
            goal,
            lease,
            peers: self.peers.clone(),
            settings: KeeperSettings::default(),
            look: None,
            citus: None,
        };
        *self.answer.borrow_mut() = Some(answer.clone());
        let answers = &self.running.as_ref().unwrap().answers;
        answers.send(message(answer)).await.unwrap();
    }

    pub(super) fn report(&self) -> Report {
        self.running
            .as_ref()
            .unwrap()
            .reports
            .borrow()
            .report
            .clone()
    }

    /// Waits until the report is as wanted; answers it.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Report) -> bool) -> Report {
        let mut reports = self.running.as_ref().unwrap().reports.clone();
        let began = Instant::now();
        let wait = async {
            loop {
                let report = reports.borrow_and_update().report.clone();
                if holds(&report) {
                    return report;
                }
                reports.changed().await.unwrap();
            }
        };
        let Ok(report) = tokio::time::timeout(PATIENCE, wait).await else {
            panic!("{}: never {what}; report: {:#?}", self.id, self.report());
        };
        eprintln!("TEST node {} {what} after {:?}", self.id, began.elapsed());
        report
    }

    /// Waits until the last goal is reached.
    pub(super) async fn until_reached(&self) -> Report {
        let goal = self.answer.borrow().clone().unwrap().goal;
        self.until(&format!("reaches {}", goal.state), |r| {
            r.reached == goal.stamp && r.state == goal.state
        })
        .await
    }

    pub(super) async fn client(&self) -> Client {
        let conninfo = Conninfo {
            endpoints: vec![Endpoint {
                host: Some(
                    self.config
                        .socket_dir
                        .as_ref()
                        .unwrap()
                        .display()
                        .to_string(),
                ),
                hostaddr: None,
                port: Some(self.config.port),
            }],
            user: Some("postgres".into()),
            dbname: Some("app".into()),
            ..Conninfo::default()
        };
        let options = Options {
            connect_timeout: Duration::from_secs(5),
            application_name: "test".into(),
        };
        client::connect(&conninfo, &options).await.unwrap()
    }

    pub(super) async fn sql(&self, text: &str) -> String {
        let rows = self
            .client()
            .await
            .simple(text, Duration::from_secs(10))
            .await
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        rows.first()
            .and_then(|row| row.get(0))
            .unwrap_or_default()
            .to_owned()
    }

    /// Whether an application is let in: over TCP, as the owner of its database.
    pub(super) async fn answers_clients(&self) -> bool {
        let target = Conninfo::single("127.0.0.1", self.config.port, "app_user", "app");
        let options = Options {
            connect_timeout: Duration::from_secs(5),
            application_name: "test".into(),
        };
        client::connect(&target, &options).await.is_ok()
    }

    pub(super) fn postmaster(&self) -> i32 {
        std::fs::read_to_string(self.config.pgdata.join("postmaster.pid"))
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// `kill -9` of the postmaster.
    pub(super) fn kill_postgres(&self) {
        let pid = nix::unistd::Pid::from_raw(self.postmaster());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    pub(super) fn member(&self) -> Member {
        Member {
            node: self.id,
            copy: self.report().copy.unwrap(),
        }
    }
}

fn message(answer: Answer) -> Incoming {
    Incoming::Answer {
        session: answer.incarnation,
        answer: Box::new(answer),
        sent: Some(crate::clock::now()),
        number: None,
    }
}

fn nothing_said() -> Outgoing {
    Outgoing {
        report: Report::default(),
        number: 0,
        heartbeat: Duration::from_millis(500),
        announce: None,
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if Rc::strong_count(&self._dir) > 1 {
            return;
        }
        // Nothing of a failed test may stay behind.
        if let Ok(pids) = pgaf_postgres::postmaster::cluster_processes(&self.config.pgdata) {
            for pid in pids {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

pub(super) fn stamp(term: u64, sequence: u64) -> Stamp {
    Stamp {
        term: Term(term),
        sequence: Sequence(sequence),
    }
}

/// An order to lead under `''`.
pub(super) fn lead_alone(at: Stamp) -> Order {
    Order::Lead(Lead {
        sync: SyncConfig::asynchronous(),
        sync_stamp: at,
        may_create: true,
        ..Lead::default()
    })
}

/// An order to lead with one standby that is admitted and named.
pub(super) fn lead_with(at: Stamp, members: &[Member], named: bool) -> Order {
    let members: BTreeSet<_> = members.iter().copied().collect();
    Order::Lead(Lead {
        sync: if named {
            SyncConfig::any(1, members.clone())
        } else {
            SyncConfig::asynchronous()
        },
        sync_stamp: at,
        admitted: members,
        ..Lead::default()
    })
}

/// An order to follow.
pub(super) fn follow(upstream: &Node, history: Option<History>) -> Order {
    Order::Follow(Follow {
        upstream: upstream.peer(),
        history,
        may_replace: true,
    })
}
