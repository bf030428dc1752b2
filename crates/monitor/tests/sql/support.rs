//! A fake backend, a server on a free port, and ways to talk to it.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pgaf_monitor::sql::{
    Assigned, AuthMethod, Backend, Call, Channel, ChannelSet, Closed, EndpointConfig, EventQuery,
    EventRow, FormationRow, GroupRow, Hub, Limits, Listeners, NodeAddress, NodeRow, Notice,
    NoticeLevel, Reply, ReplyValue, ScramVerifier, SessionInfo, Snapshot, SqlError, Transaction,
    serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// 2026-01-02 03:04:05.25 UTC
pub(crate) const TIME: i64 = 1_767_323_045_250_000;

pub(crate) fn node(id: i64, name: &str, state: &'static str) -> NodeRow {
    NodeRow {
        formation: "default".to_owned(),
        node_id: id,
        group: 0,
        name: name.to_owned(),
        host: format!("host{id}"),
        port: 5432,
        system_identifier: Some(7_000_000_000_000_000_000),
        goal_state: state.into(),
        reported_state: state.into(),
        postgres_is_running: true,
        replication_state: "sync".into(),
        report_time: TIME,
        timeline: 1,
        lsn: 0x16_B374_D848,
        wal_report_time: TIME,
        health: 1,
        health_check_time: TIME,
        state_change_time: TIME,
        candidate_priority: 50,
        replication_quorum: true,
        cluster: "default".to_owned(),
    }
}

pub(crate) fn event(id: i64) -> EventRow {
    EventRow {
        event_id: id,
        event_time: TIME + id,
        formation: "default".to_owned(),
        node_id: 1,
        group: 0,
        name: "node_1".to_owned(),
        host: "host1".to_owned(),
        port: 5432,
        reported_state: "primary".into(),
        goal_state: "draining".into(),
        replication_state: "sync".into(),
        timeline: 1,
        lsn: 7,
        candidate_priority: 50,
        replication_quorum: true,
        description: format!("event {id}"),
    }
}

pub(crate) fn snapshot() -> Snapshot {
    let formation = |name: &str, kind: &'static str| FormationRow {
        formation: name.to_owned(),
        kind: kind.into(),
        dbname: "postgres".to_owned(),
        opt_secondary: true,
        number_sync_standbys: 1,
    };
    Snapshot {
        formations: vec![formation("default", "pgsql"), formation("other", "citus")],
        nodes: vec![
            Arc::new(node(1, "node_1", "primary")),
            Arc::new(node(2, "node_2", "secondary")),
        ],
        groups: vec![GroupRow {
            formation: "default".to_owned(),
            group: 0,
            synchronous_standby_names: "ANY 1 (pgautofailover_standby_2)".to_owned(),
        }],
        settings: vec![("heartbeat_interval".into(), "500".to_owned())],
    }
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) snapshot: Mutex<Arc<Snapshot>>,
    pub(crate) calls: Mutex<Vec<(Transaction, Call)>>,
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) verifier: Mutex<Option<ScramVerifier>>,
    pub(crate) hub: Hub,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fake {
    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.calls)
            .iter()
            .map(|(_, call)| call.clone())
            .collect()
    }

    pub(crate) fn transactions(&self) -> Vec<Transaction> {
        lock(&self.calls)
            .iter()
            .map(|(transaction, _)| *transaction)
            .collect()
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        lock(&self.log).push(text.into());
    }

    pub(crate) fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits until the log has a line that starts so.
    pub(crate) async fn wait_for(&self, start: &str) {
        for _ in 0..500 {
            if self.log().iter().any(|line| line.starts_with(start)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {start:?} in {:?}", self.log());
    }
}

fn answer(session: &SessionInfo, call: &Call) -> Result<Reply, SqlError> {
    let active = Assigned {
        node_id: 3,
        group: 0,
        state: "wait_standby".into(),
        candidate_priority: 50,
        replication_quorum: true,
    };
    let address = || NodeAddress {
        node_id: 1,
        name: "node_1".to_owned(),
        host: "host1".to_owned(),
        port: 5432,
    };
    let value = match call {
        Call::RegisterNode(_) => ReplyValue::Registered {
            active,
            name: "node_3".to_owned(),
        },
        Call::NodeActive(_) => ReplyValue::Active(active),
        Call::SetNodeSystemIdentifier { .. } => ReplyValue::NodeAddress(Some(address())),
        Call::SetGroupSystemIdentifier { .. } => ReplyValue::NodeAddresses(Vec::new()),
        Call::PerformFailover { formation, .. } if formation == "refuse" => {
            return Err(SqlError::new("XX000", "cannot fail over")
                .with_detail("Nobody is eligible.")
                .with_hint("Add a standby."));
        }
        Call::PerformFailover { formation, .. } if formation == "fatal" => {
            return Err(SqlError::fatal("57P01", "the monitor gives up"));
        }
        Call::PerformFailover { .. } | Call::DropFormation { .. } => ReplyValue::Void,
        Call::CreateFormation {
            formation,
            kind,
            dbname,
            opt_secondary,
            number_sync_standbys,
        } => ReplyValue::Formation {
            formation: formation.clone(),
            kind: kind.clone(),
            dbname: dbname.clone(),
            opt_secondary: *opt_secondary,
            number_sync_standbys: *number_sync_standbys,
        },
        Call::KeeperReport(text) => {
            session
                .handle
                .push(Channel::Goal, Arc::from("{\"goal\":1}"));
            ReplyValue::Text(text.clone())
        }
        Call::KeeperRegister(text) => ReplyValue::Text(text.clone()),
        Call::Ask(_) => ReplyValue::Text("{}".to_owned()),
        Call::SetCandidatePriority { .. } => {
            return Ok(Reply {
                notices: vec![Notice {
                    level: NoticeLevel::Notice,
                    code: "55000".into(),
                    message: "fewer than two candidates remain".to_owned(),
                    detail: None,
                    hint: None,
                }],
                value: ReplyValue::Bool(true),
            });
        }
        Call::UpdateNodeMetadata { .. }
        | Call::RemoveNode { .. }
        | Call::PerformPromotion { .. }
        | Call::StartMaintenance { .. }
        | Call::StopMaintenance { .. }
        | Call::SetSecondary { .. }
        | Call::SetReplicationQuorum { .. }
        | Call::SetNumberSyncStandbys { .. }
        | Call::SetSetting { .. } => ReplyValue::Bool(true),
    };
    Ok(value.into())
}

/// What the old command line waits for: its first message never counts.
async fn announce(hub: Hub) {
    let json = r#"{"type":"state","formation":"default","groupId":0,"nodeId":1,"name":"node_1","host":"host1","port":5432,"reportedState":"primary","goalState":"primary","health":"good"}"#;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        hub.publish(Channel::State, json);
    }
}

#[async_trait]
impl Backend for Fake {
    async fn snapshot(&self) -> Result<Arc<Snapshot>, SqlError> {
        Ok(Arc::clone(&lock(&self.snapshot)))
    }

    async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, SqlError> {
        let last = 20;
        let first = last - i64::from(query.limit.min(20)) + 1;
        Ok((first..=last).map(event).collect())
    }

    async fn call(
        &self,
        session: &SessionInfo,
        transaction: Transaction,
        call: Call,
    ) -> Result<Reply, SqlError> {
        lock(&self.calls).push((transaction, call.clone()));
        if matches!(call, Call::SetNumberSyncStandbys { .. }) {
            tokio::spawn(announce(self.hub.clone()));
        }
        answer(session, &call)
    }

    async fn end_transaction(&self, _: &SessionInfo, commit: bool) -> Result<(), SqlError> {
        self.note(format!("end commit={commit}"));
        Ok(())
    }

    fn subscribe(&self, session: &SessionInfo, channels: ChannelSet) {
        self.note(format!(
            "subscribe state={} log={}",
            channels.state, channels.log
        ));
        self.hub.subscribe(session, channels);
    }

    fn session_opened(&self, session: &SessionInfo) {
        self.note(format!("opened {}", session.application_name));
    }

    fn session_closed(&self, session: &SessionInfo, how: Closed) {
        self.note(format!("closed {how:?} {}", session.application_name));
        self.hub.forget(session.id);
    }

    async fn password_verifier(&self) -> Result<Option<ScramVerifier>, SqlError> {
        Ok(lock(&self.verifier).clone())
    }

    async fn set_password(
        &self,
        _: &SessionInfo,
        verifier: Option<ScramVerifier>,
    ) -> Result<(), SqlError> {
        *lock(&self.verifier) = verifier;
        Ok(())
    }
}

/// A server with its fake; ends when dropped.
pub(crate) struct Server {
    pub(crate) fake: Arc<Fake>,
    pub(crate) port: u16,
    pub(crate) shutdown: CancellationToken,
    /// The folder of the Unix socket.
    pub(crate) socket: tempfile::TempDir,
    _guard: DropGuard,
}

pub(crate) fn config() -> EndpointConfig {
    EndpointConfig {
        auth: AuthMethod::Trust,
        tls: None,
        require_tls: false,
        limits: Limits::default(),
        extension_version: "2.2".to_owned(),
    }
}

pub(crate) async fn start() -> Server {
    start_with(config()).await
}

pub(crate) async fn start_with(config: EndpointConfig) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fake = Arc::new(Fake {
        snapshot: Mutex::new(Arc::new(snapshot())),
        ..Fake::default()
    });
    let shutdown = CancellationToken::new();
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join(format!(".s.PGSQL.{port}"));
    let listeners = Listeners {
        tcp: vec![listener],
        unix: vec![tokio::net::UnixListener::bind(path).unwrap()],
    };
    let backend: Arc<dyn Backend> = fake.clone();
    tokio::spawn(serve(listeners, config, backend, shutdown.clone()));
    Server {
        fake,
        port,
        shutdown: shutdown.clone(),
        socket,
        _guard: shutdown.drop_guard(),
    }
}

/// What a program printed.
pub(crate) struct Printed {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) ok: bool,
}

impl Server {
    pub(crate) fn uri(&self, more: &str) -> String {
        format!(
            "postgres://autoctl_node@127.0.0.1:{}/pg_auto_failover?{more}",
            self.port
        )
    }

    /// Runs psql on one command (unaligned, tuples only).
    pub(crate) async fn psql(&self, command: &str) -> Printed {
        self.psql_with(&self.uri(""), &["-At", "-c", command], &[])
            .await
    }

    pub(crate) async fn psql_with(
        &self,
        uri: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Printed {
        let child = tokio::process::Command::new("psql")
            .arg("-X")
            .arg("-d")
            .arg(uri)
            .args(args)
            .env("PGCONNECT_TIMEOUT", "10")
            .env("LC_ALL", "C")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(30), child)
            .await
            .unwrap()
            .unwrap();
        Printed {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            ok: output.status.success(),
        }
    }

    /// The single output of a command that must work.
    pub(crate) async fn one(&self, command: &str) -> String {
        let printed = self.psql(command).await;
        assert!(printed.ok, "{command}: {}", printed.err);
        printed.out.trim_end_matches('\n').to_owned()
    }

    /// The error of a command that must fail, with its SQLSTATE.
    pub(crate) async fn error(&self, command: &str) -> String {
        let args = ["-At", "-v", "VERBOSITY=verbose", "-c", command];
        let printed = self.psql_with(&self.uri(""), &args, &[]).await;
        assert!(!printed.ok, "{command} works: {}", printed.out);
        printed.err
    }

    pub(crate) async fn connect(
        &self,
    ) -> (
        tokio_postgres::Client,
        tokio::sync::mpsc::UnboundedReceiver<tokio_postgres::Notification>,
    ) {
        let (client, mut connection) =
            tokio_postgres::connect(&self.uri("sslmode=disable"), tokio_postgres::NoTls)
                .await
                .unwrap();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                    let _ = sender.send(notification);
                }
            }
        });
        (client, receiver)
    }

    pub(crate) async fn raw(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }
}

/// A start-up packet.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut packet = u32::try_from(body.len() + 4)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    packet.extend_from_slice(&body);
    packet
}

/// A message with its type.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    packet.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

/// Sends bytes and reads until the server closes or is silent for a moment.
pub(crate) async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(bytes).await;
    read_all(stream, Duration::from_millis(300)).await
}

pub(crate) async fn read_all(stream: &mut TcpStream, patience: Duration) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut chunk = [0u8; 4096];
    while let Ok(Ok(count)) = tokio::time::timeout(patience, stream.read(&mut chunk)).await {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..count]);
    }
    answer
}

/// An authenticated raw connection.
pub(crate) async fn raw_session(server: &Server, application: &str) -> TcpStream {
    let mut stream = server.raw().await;
    let hello = startup(&[
        ("user", "autoctl_node"),
        ("database", "pg_auto_failover"),
        ("application_name", application),
    ]);
    stream.write_all(&hello).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"Z\0\0\0\x05I") {
        let mut byte = [0u8; 512];
        let count = stream.read(&mut byte).await.unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&byte[..count]);
    }
    stream
}
