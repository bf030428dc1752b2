//! Sessions and probes against real servers: TLS modes, roles of servers, ends.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use pgaf_postgres::client::{ConnectError, Options, QueryError, connect};
use pgaf_postgres::conf::{Enforced, SslFiles, install};
use pgaf_postgres::conninfo::{Conninfo, SslMode, TargetSessionAttrs};
use pgaf_postgres::hba::{self, Access, Rule};
use pgaf_postgres::probe::{self, Probe};

use crate::cluster::{Cluster, LIMIT, free_port};

fn options() -> Options {
    Options {
        connect_timeout: Duration::from_secs(10),
        application_name: "test".into(),
    }
}

#[tokio::test]
async fn every_sslmode_does_what_libpq_does() {
    let Some(mut primary) = Cluster::primary().await else {
        return;
    };
    let files = pgaf_postgres::certs::ensure_self_signed(&primary.pgdata, "localhost").unwrap();
    let uses_tls = async |mode: SslMode, root: bool| {
        let mut c = Conninfo::single("localhost", primary.port, "postgres", "postgres");
        c.sslmode = Some(mode);
        c.sslrootcert = Some(if root {
            files.cert.clone()
        } else {
            "/nonexistent".into()
        });
        let client = connect(&c, &options()).await?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok::<bool, ConnectError>(client.query_one(sql, &[], LIMIT).await.unwrap().get(0))
    };
    // A server without TLS.
    for mode in [SslMode::Disable, SslMode::Allow, SslMode::Prefer] {
        assert!(!uses_tls(mode, false).await.unwrap(), "{mode}");
    }
    let refused = uses_tls(SslMode::Require, false).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Tls { .. }), "{refused}");
    // The same server with TLS.
    primary.stop("fast");
    let ssl = SslFiles {
        cert: Some(files.cert.clone()),
        key: Some(files.key.clone()),
        ..SslFiles::default()
    };
    let enforced = Enforced {
        ssl: Some(ssl),
        ..primary.enforced()
    };
    pgaf_postgres::conf::write_enforced(&primary.pgdata, &enforced).unwrap();
    primary.start().await;
    let uses_tls = async |mode: SslMode, root: bool| {
        let mut c = Conninfo::single("localhost", primary.port, "postgres", "postgres");
        c.sslmode = Some(mode);
        c.sslrootcert = Some(if root {
            files.cert.clone()
        } else {
            "/nonexistent".into()
        });
        let client = connect(&c, &options()).await?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok::<bool, ConnectError>(client.query_one(sql, &[], LIMIT).await.unwrap().get(0))
    };
    assert!(!uses_tls(SslMode::Disable, false).await.unwrap());
    assert!(!uses_tls(SslMode::Allow, false).await.unwrap());
    for mode in [SslMode::Prefer, SslMode::Require] {
        assert!(uses_tls(mode, false).await.unwrap(), "{mode}");
    }
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        assert!(uses_tls(mode, true).await.unwrap(), "{mode}");
    }
    // Only TLS connections are let in.
    let hba = primary.pgdata.join("pg_hba.conf");
    std::fs::write(&hba, "local all all trust\nhostssl all all all trust\n").unwrap();
    primary.server.reload(LIMIT).await.unwrap();
    assert!(uses_tls(SslMode::Allow, false).await.unwrap());
    let refused = uses_tls(SslMode::Disable, false).await.unwrap_err();
    assert!(
        matches!(refused, ConnectError::Auth { .. }) && !refused.may_retry(),
        "{refused}"
    );
}

#[tokio::test]
async fn passwords_come_from_the_string_or_the_password_file() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let sql = "CREATE ROLE app LOGIN PASSWORD 'it''s'";
    primary.client().await.batch(sql, LIMIT).await.unwrap();
    let hba = primary.pgdata.join("pg_hba.conf");
    std::fs::write(
        &hba,
        "local all all trust\nhost all all all scram-sha-256\n",
    )
    .unwrap();
    primary.server.reload(LIMIT).await.unwrap();
    let c = Conninfo::single("127.0.0.1", primary.port, "app", "postgres");
    let missing = Conninfo {
        passfile: Some("/nonexistent".into()),
        ..c.clone()
    };
    let error = connect(&missing, &options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Auth { .. }), "{error}");
    let file = primary.dir.path().join("pgpass");
    std::fs::write(&file, "127.0.0.1:*:*:app:it's\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    connect(
        &Conninfo {
            passfile: Some(file),
            ..c.clone()
        },
        &options(),
    )
    .await
    .unwrap();
    let wrong = Conninfo {
        password: Some(pgaf_postgres::conninfo::Secret::new("x")),
        ..c
    };
    let error = connect(&wrong, &options()).await.unwrap_err();
    assert!(
        error.to_string().contains("password authentication failed"),
        "{error}"
    );
}

#[tokio::test]
async fn of_several_hosts_the_one_with_the_wanted_role_is_taken() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let standby = Cluster::standby_of(&primary, 2).await;
    let hosts = format!(
        "127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}",
        free_port(),
        standby.port,
        primary.port
    );
    let mut c = Conninfo::parse(&format!("postgres://postgres@{hosts}/postgres")).unwrap();
    use TargetSessionAttrs as T;
    for (wanted, port) in [
        (T::Any, standby.port),
        (T::ReadWrite, primary.port),
        (T::Primary, primary.port),
        (T::ReadOnly, standby.port),
        (T::Standby, standby.port),
        (T::PreferStandby, standby.port),
    ] {
        c.target_session_attrs = Some(wanted);
        let client = connect(&c, &options()).await.unwrap();
        assert!(
            client.server().ends_with(&port.to_string()),
            "{wanted}: {}",
            client.server()
        );
    }
    c.endpoints.remove(2);
    c.target_session_attrs = Some(T::Primary);
    let error = connect(&c, &options()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::WrongRole { .. }) && error.may_retry(),
        "{error}"
    );
}

#[tokio::test]
async fn a_missed_deadline_ends_the_session_and_a_notification_arrives() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let mut client = primary.client().await;
    let mut notifications = client.notifications().unwrap();
    client.batch("LISTEN pgaf_goal", LIMIT).await.unwrap();
    primary
        .client()
        .await
        .batch("NOTIFY pgaf_goal, 'x'", LIMIT)
        .await
        .unwrap();
    let heard = tokio::time::timeout(LIMIT, notifications.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((heard.channel(), heard.payload()), ("pgaf_goal", "x"));
    let slow = client
        .simple("SELECT pg_sleep(10)", Duration::from_millis(50))
        .await;
    assert!(matches!(slow, Err(QueryError::TimedOut(_))));
    tokio::time::timeout(LIMIT, client.closed()).await.unwrap();
    assert!(client.is_closed());
    let error = primary
        .client()
        .await
        .batch("SELECT 1/0", LIMIT)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("22012"));
}

#[tokio::test]
async fn a_probe_tells_refused_silent_and_answering_servers_apart() {
    let Some(mut primary) = Cluster::primary().await else {
        return;
    };
    let target = probe::target("127.0.0.1", primary.port);
    let second = Duration::from_secs(5);
    let ok = probe::probe(&target, second).await;
    println!("probe: {ok:?}");
    assert!(
        matches!(
            ok,
            Probe::Ok {
                in_recovery: false,
                ..
            }
        ),
        "{ok:?}"
    );
    let (session, _) = probe::Session::open(&target, second).await.unwrap();
    let gone = probe::target("127.0.0.1", free_port());
    assert_eq!(probe::probe(&gone, second).await, Probe::Refused);
    primary.signal_all(nix::sys::signal::Signal::SIGSTOP);
    let start = Instant::now();
    assert_eq!(
        probe::probe(&target, Duration::from_millis(200)).await,
        Probe::TimedOut
    );
    assert!(start.elapsed() < second);
    assert_eq!(
        session.ping(Duration::from_millis(100)).await,
        Probe::TimedOut
    );
    primary.signal_all(nix::sys::signal::Signal::SIGCONT);
    let wrong = Conninfo {
        dbname: Some("nowhere".into()),
        ..target.clone()
    };
    let failed = probe::probe(&wrong, second).await;
    assert!(
        matches!(&failed, Probe::Failed(why) if why.contains("does not exist")),
        "{failed:?}"
    );
    let (session, _) = probe::Session::open(&target, second).await.unwrap();
    primary.stop("fast");
    let reason = tokio::time::timeout(second, session.closed())
        .await
        .unwrap();
    println!("the session was closed: {reason}");
    assert_eq!(probe::probe(&target, second).await, Probe::Refused);
}

#[tokio::test]
async fn a_restart_of_the_server_is_survived_by_the_handle() {
    let Some(mut primary) = Cluster::primary().await else {
        return;
    };
    let before = primary.server.observe(LIMIT).await.unwrap();
    install(&primary.pgdata, &defaults(), &primary.enforced()).unwrap();
    primary.stop("immediate");
    assert!(
        primary
            .server
            .observe(Duration::from_millis(300))
            .await
            .is_err()
    );
    primary.start().await;
    let after = primary.server.observe(LIMIT).await.unwrap();
    assert_ne!(before.postmaster_start, after.postmaster_start);
}

fn defaults() -> pgaf_postgres::conf::Defaults {
    pgaf_postgres::conf::Defaults {
        memory_bytes: 256 << 20,
        cpus: 1,
        disk_bytes: 1 << 30,
        stat_statements: false,
        ssl: false,
        major: 15,
    }
}

#[tokio::test]
async fn a_closed_server_admits_replication_the_monitor_and_the_keeper_alone() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    primary
        .client()
        .await
        .batch("CREATE ROLE app LOGIN", LIMIT)
        .await
        .unwrap();
    let rules: Vec<Rule> = [Rule::monitor(false, "127.0.0.1")]
        .into_iter()
        .chain(Rule::peer(false, "127.0.0.1", "postgres", "trust"))
        .collect();
    let login = async |user: &str| {
        let c = Conninfo::single("127.0.0.1", primary.port, user, "postgres");
        connect(&c, &options()).await
    };
    let set = async |access| {
        hba::apply(&primary.pgdata, &rules, access, "postgres").unwrap();
        primary.server.reload(LIMIT).await.unwrap();
    };
    set(Access::Open).await;
    login("app").await.unwrap();
    set(Access::Closed).await;
    let refused = login("app").await.unwrap_err();
    assert!(matches!(refused, ConnectError::Auth { .. }), "{refused}");
    for user in [hba::MONITOR_ROLE, hba::REPLICATION_ROLE] {
        login(user).await.unwrap();
    }
    primary
        .client()
        .await
        .simple("SELECT 1", LIMIT)
        .await
        .unwrap();
    let standby = Cluster::standby_of(&primary, 2).await;
    drop(standby);
    set(Access::Open).await;
    login("app").await.unwrap();
}
