//! Starting, watching, stopping and adopting a real Postgres.
//!
//! Drops privileges: Postgres refuses to run as root. Skipped, loudly, where there is no Postgres.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, LIMIT, drop_privileges, until};
use pgaf_postgres::control::{self, ClusterState, Control};
use pgaf_postgres::initdb::{InitdbError, InitdbOptions, initdb};
use pgaf_postgres::postmaster::{
    self, Exit, Postmaster, StartError, StopMode, cluster_processes, effective_setting, end_cluster,
};
use pgaf_postgres::{copy, version};

fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

#[tokio::test]
async fn a_cluster_is_made_started_and_stopped_cleanly() {
    let Some(place) = Cluster::place().await else {
        return;
    };
    let name = copy::draw();
    let begin = Instant::now();
    initdb(
        &place.postgres,
        &place.pgdata,
        name,
        &InitdbOptions::default(),
    )
    .await
    .unwrap();
    let made = begin.elapsed();
    assert_eq!(copy::read(&place.pgdata).unwrap(), Some(name));
    assert_eq!(
        version::of_data_directory(&place.pgdata).unwrap(),
        place.postgres.version.major
    );
    assert_eq!(
        std::fs::read_dir(&place.folder).unwrap().count(),
        1,
        "nothing is left beside"
    );
    let control = control::read(&place.postgres, &place.pgdata)
        .await
        .unwrap()
        .present()
        .unwrap();
    assert!(control.checksums);
    assert_eq!(control.state, ClusterState::ShutDown);

    let begin = Instant::now();
    let server = place.start().await;
    let started = begin.elapsed();
    assert_eq!(server.try_exit(), None);
    let begin = Instant::now();
    assert_eq!(
        server.stop_and_wait(StopMode::Fast, LIMIT).await,
        Some(Exit::Code(0))
    );
    let stopped = begin.elapsed();
    assert_eq!(server.try_exit(), Some(Exit::Code(0)));
    eprintln!("MEASURED initdb {made:?}, start {started:?}, fast stop {stopped:?}");

    let refused = initdb(
        &place.postgres,
        &place.pgdata,
        name,
        &InitdbOptions::default(),
    )
    .await;
    assert!(matches!(refused, Err(InitdbError::NotEmpty { .. })));
}

#[tokio::test]
async fn initdb_that_fails_or_is_killed_leaves_nothing_that_looks_complete() {
    let Some(place) = Cluster::place().await else {
        return;
    };
    std::fs::create_dir(&place.pgdata).unwrap();
    let options = InitdbOptions {
        extra: vec!["--locale=no_SUCH".to_owned()],
        ..Default::default()
    };
    let error = initdb(&place.postgres, &place.pgdata, copy::draw(), &options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("locale"), "{error}");
    assert_eq!(std::fs::read_dir(&place.pgdata).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 1);

    let plain = InitdbOptions::default();
    let run = initdb(&place.postgres, &place.pgdata, copy::draw(), &plain);
    assert!(
        tokio::time::timeout(Duration::from_millis(150), run)
            .await
            .is_err()
    );
    assert_eq!(std::fs::read_dir(&place.pgdata).unwrap().count(), 0);
    initdb(&place.postgres, &place.pgdata, copy::draw(), &plain)
        .await
        .unwrap();
    assert_eq!(std::fs::read_dir(&place.folder).unwrap().count(), 1);
}

#[tokio::test]
async fn a_running_server_is_adopted_and_its_end_is_seen() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    assert!(Postmaster::adopt(&cluster.pgdata).await.unwrap().is_none());
    let server = cluster.start().await;
    let adopted = Postmaster::adopt(&cluster.pgdata)
        .await
        .unwrap()
        .expect("it runs");
    assert_eq!(adopted.pid(), server.pid());
    let again = Postmaster::start(&cluster.postgres, &cluster.pgdata, &cluster.options()).await;
    assert!(matches!(again, Err(StartError::StillRunning { .. })));
    kill(server.pid(), nix::sys::signal::Signal::SIGKILL);
    assert_eq!(server.exited().await, Exit::Signal(9));
    let seen = Instant::now();
    tokio::time::timeout(LIMIT, adopted.exited()).await.unwrap();
    eprintln!(
        "MEASURED an adopted server's end is seen within {:?}",
        seen.elapsed()
    );
    end_cluster(&cluster.pgdata, Duration::ZERO).await.unwrap();
    assert!(Postmaster::adopt(&cluster.pgdata).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stale_file_with_the_number_of_another_process_adopts_nothing_and_blocks_nothing() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    let me = std::process::id();
    let text = format!(
        "{me}\n{}\n1\n{}\n\n\n",
        cluster.pgdata.display(),
        cluster.port
    );
    std::fs::write(cluster.pgdata.join("postmaster.pid"), text).unwrap();
    assert!(Postmaster::adopt(&cluster.pgdata).await.unwrap().is_none());
    let server = cluster.start().await;
    server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();
}

#[tokio::test]
async fn after_kill_9_everybody_is_ended_and_the_next_start_works() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    cluster.append("logging_collector = on\n");
    let server = cluster.start().await;
    cluster
        .sql("create table t as select generate_series(1, 1000) as i")
        .await;
    let before = cluster_processes(&cluster.pgdata).unwrap();
    assert!(before.len() >= 6, "{before:?}");
    // A child that is stopped cannot leave by itself.
    let child = *before.iter().find(|pid| **pid != server.pid()).unwrap();
    kill(child, nix::sys::signal::Signal::SIGSTOP);
    kill(server.pid(), nix::sys::signal::Signal::SIGKILL);
    assert_eq!(server.exited().await, Exit::Signal(9));

    let begin = Instant::now();
    end_cluster(&cluster.pgdata, Duration::from_millis(200))
        .await
        .unwrap();
    eprintln!(
        "MEASURED end_cluster with one process frozen {:?}",
        begin.elapsed()
    );
    assert_eq!(
        cluster_processes(&cluster.pgdata).unwrap(),
        Vec::<i32>::new()
    );
    assert!(!cluster.pgdata.join("postmaster.pid").exists());

    let begin = Instant::now();
    let server = cluster.start().await;
    eprintln!("MEASURED start after kill -9 {:?}", begin.elapsed());
    assert_eq!(cluster.sql("select count(*) from t").await, "1000");

    let begin = Instant::now();
    let ended = end_cluster(&cluster.pgdata, Duration::from_millis(500))
        .await
        .unwrap();
    eprintln!(
        "MEASURED end_cluster of a running one {:?}",
        begin.elapsed()
    );
    assert!(ended >= 6, "{ended}");
    tokio::time::timeout(LIMIT, server.exited()).await.unwrap();
    assert_eq!(
        end_cluster(&cluster.pgdata, Duration::ZERO).await.unwrap(),
        0
    );
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    let taken = std::net::TcpListener::bind(("127.0.0.1", cluster.port)).unwrap();
    let server = Postmaster::start(&cluster.postgres, &cluster.pgdata, &cluster.options())
        .await
        .unwrap();
    let error = server.wait_ready(LIMIT, |_| {}).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("could not create any TCP/IP sockets"),
        "{error}"
    );
    drop(taken);
    let server = cluster.start().await;
    std::fs::remove_file(cluster.pgdata.join("global/pg_control")).unwrap();
    end_cluster(&cluster.pgdata, LIMIT).await.unwrap();
    drop(server);
    let control = control::read(&cluster.postgres, &cluster.pgdata)
        .await
        .unwrap();
    assert_eq!(control, Control::Missing);
    std::fs::write(cluster.pgdata.join("global/pg_control"), "nonsense").unwrap();
    let control = control::read(&cluster.postgres, &cluster.pgdata)
        .await
        .unwrap();
    assert!(matches!(control, Control::Corrupt { .. }), "{control:?}");
    std::fs::write(cluster.pgdata.join("global/pg_control"), vec![7; 8192]).unwrap();
    let control = control::read(&cluster.postgres, &cluster.pgdata)
        .await
        .unwrap();
    assert!(matches!(control, Control::Corrupt { .. }), "{control:?}");
}

#[tokio::test]
async fn a_standby_that_waits_for_wal_is_stalled_and_not_ended() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    // It waits for a timeline that is never opened: not ready, and nothing moves.
    std::fs::write(
        cluster.pgdata.join("pg_wal/00000002.history"),
        "1\t0/9000000\tx\n",
    )
    .unwrap();
    std::fs::write(cluster.pgdata.join("standby.signal"), "").unwrap();
    cluster.append("hot_standby = off\nrestore_command = 'false'\n");
    let server = Postmaster::start(&cluster.postgres, &cluster.pgdata, &cluster.options())
        .await
        .unwrap();
    let result = server.wait_ready(Duration::from_secs(1), |_| {}).await;
    match result {
        Ok(phase) => assert_eq!(phase, postmaster::Phase::Standby),
        Err(postmaster::ReadyError::Stalled { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    assert_eq!(server.try_exit(), None);
    server
        .stop_and_wait(StopMode::Immediate, LIMIT)
        .await
        .unwrap();
    end_cluster(&cluster.pgdata, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn settings_of_a_stopped_server_are_those_it_would_start_with() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    cluster.append("synchronous_standby_names = 'ANY 1 (a, b)'\n");
    let begin = Instant::now();
    let value = effective_setting(
        &cluster.postgres,
        &cluster.pgdata,
        "synchronous_standby_names",
    )
    .await;
    eprintln!("MEASURED postgres -C {:?}", begin.elapsed());
    assert_eq!(value.unwrap(), "ANY 1 (a, b)");
    let error = effective_setting(&cluster.postgres, &cluster.pgdata, "no_such")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no_such"), "{error}");
    cluster.append("max_connections = lots\n");
    let error = effective_setting(&cluster.postgres, &cluster.pgdata, "port")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[tokio::test]
async fn single_user_mode_is_named_and_not_adopted() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    let mut single = std::process::Command::new(cluster.postgres.program("postgres"))
        .args(["--single", "-D"])
        .arg(&cluster.pgdata)
        .arg("postgres")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = cluster.pgdata.join("postmaster.pid");
    until("single-user mode has written its file", async || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text.lines().count() >= 4)
    })
    .await;
    let result = Postmaster::adopt(&cluster.pgdata).await;
    assert!(
        matches!(result, Err(postmaster::AdoptError::SingleUser { .. })),
        "{result:?}"
    );
    single.kill().unwrap();
    single.wait().unwrap();
    drop_privileges();
}
