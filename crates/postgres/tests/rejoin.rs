//! Base backup and rewind between real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Cluster, LIMIT, exists, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgaf_postgres::basebackup::{BaseBackup, BaseBackupError, STALL, base_backup};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::control::{self, ClusterState};
use pgaf_postgres::copy;
use pgaf_postgres::postmaster::{Postmaster, StopMode, end_cluster};
use pgaf_postgres::rewind::{self, Rewind, RewindError, Rewound, rewind};
use pgaf_postgres::swap::{Staging, resume};
use pgaf_protocol::NodeId;

fn source(of: &Cluster) -> Conninfo {
    Conninfo::single("127.0.0.1", of.port, "postgres", "postgres")
}

fn request<'a>(
    primary: &'a Cluster,
    source: &'a Conninfo,
    spaces: &'a [PathBuf],
) -> BaseBackup<'a> {
    BaseBackup {
        postgres: &primary.postgres,
        source,
        node: NodeId(2),
        copy: copy::draw(),
        max_rate: None,
        tablespaces: spaces,
        stall: STALL,
    }
}

/// A copy of `primary` that follows it when started.
async fn standby_of(primary: &Cluster, name: &str) -> Cluster {
    let standby = primary.sibling(name);
    let staging = Staging::prepare(&standby.pgdata, &standby.folder.join("backup")).unwrap();
    base_backup(&request(primary, &source(primary), &[]), &staging, |_| {})
        .await
        .unwrap();
    staging.swap_in().unwrap().delete().unwrap();
    standby.follow(primary);
    standby
}

async fn kill_9(server: &Postmaster) {
    kill(Pid::from_raw(server.pid()), Signal::SIGKILL).unwrap();
    server.exited().await;
    end_cluster(server.pgdata(), Duration::ZERO).await.unwrap();
}

async fn caught_up(primary: &Cluster, standby: &Cluster) {
    until("the standby streams", async || {
        standby
            .sql("select count(*) from pg_stat_wal_receiver where status = 'streaming'")
            .await
            == "1"
    })
    .await;
    let end = primary.sql("select pg_current_wal_flush_lsn()").await;
    until("the standby has replayed everything", async || {
        let question = format!("select coalesce(pg_last_wal_replay_lsn(), '0/0') >= '{end}'");
        standby.sql(&question).await == "t"
    })
    .await;
}

/// A primary that crashed with WAL nobody has, and its standby, promoted.
async fn diverged() -> Option<(Cluster, Cluster, Postmaster)> {
    let old = Cluster::new().await?;
    let old_server = old.start().await;
    let new = standby_of(&old, "new").await;
    let new_server = new.start().await;
    old.sql("create table t as select 1 as i").await;
    caught_up(&old, &new).await;
    new.sql("select pg_promote()").await;
    old.sql("create table only_old as select generate_series(1, 1000) as i")
        .await;
    new.sql("create table only_new as select generate_series(1, 1000) as i")
        .await;
    new.sql("checkpoint").await;
    kill_9(&old_server).await;
    Some((old, new, new_server))
}

fn rewinding<'a>(
    old: &'a Cluster,
    source: &'a Conninfo,
    marker: &'a std::path::Path,
) -> Rewind<'a> {
    Rewind {
        postgres: &old.postgres,
        pgdata: &old.pgdata,
        source,
        node: NodeId(1),
        copy: copy::draw(),
        marker,
        keep: &["server.key", "startup.log", "mine.conf"],
    }
}

#[tokio::test]
async fn a_base_backup_replaces_a_broken_copy_and_streams() {
    let Some(primary) = Cluster::new().await else {
        return;
    };
    let _server = primary.start().await;
    let standby = standby_of(&primary, "standby").await;
    let first = standby.start().await;
    let old_name = copy::read(&standby.pgdata).unwrap();
    kill_9(&first).await;
    fs::remove_file(standby.pgdata.join("global/pg_control")).unwrap();
    fs::write(standby.pgdata.join("server.key"), "mine").unwrap();
    fs::write(primary.pgdata.join("server.crt"), "theirs").unwrap();

    let (source, mut heard) = (source(&primary), Vec::new());
    let request = request(&primary, &source, &[]);
    let begin = Instant::now();
    let staging = Staging::prepare(&standby.pgdata, &standby.folder.join("backup")).unwrap();
    base_backup(&request, &staging, |progress| heard.push(progress))
        .await
        .unwrap();
    let taken = begin.elapsed();
    staging.carry_over(&["server.key", "server.crt"]).unwrap();
    let begin = Instant::now();
    let old = staging.swap_in().unwrap();
    let swapped = begin.elapsed();
    old.delete().unwrap();
    eprintln!(
        "MEASURED base backup {taken:?}, swap {swapped:?}, with deletion {:?}",
        begin.elapsed()
    );

    assert!(
        heard
            .last()
            .is_some_and(|p| p.done >= 20 << 20 && p.total >= 20 << 20),
        "{heard:?}"
    );
    assert_eq!(copy::read(&standby.pgdata).unwrap(), Some(request.copy));
    assert_ne!(copy::read(&standby.pgdata).unwrap(), old_name);
    assert!(
        standby.pgdata.join("server.key").exists() && !standby.pgdata.join("server.crt").exists()
    );
    assert_eq!(
        fs::read_dir(&standby.folder).unwrap().count(),
        2,
        "data, and an empty backup"
    );
    standby.follow(&primary);
    let _server = standby.start().await;
    primary.sql("create table t as select 1 as i").await;
    caught_up(&primary, &standby).await;
}

#[tokio::test]
async fn a_cancelled_base_backup_leaves_the_old_copy_and_no_process() {
    let Some(primary) = Cluster::new().await else {
        return;
    };
    let _server = primary.start().await;
    let standby = standby_of(&primary, "standby").await;
    let (source, backup) = (source(&primary), standby.folder.join("backup"));
    let mut request = request(&primary, &source, &[]);
    request.max_rate = Some("1M");
    let staging = Staging::prepare(&standby.pgdata, &backup).unwrap();
    let run = base_backup(&request, &staging, |_| {});
    assert!(
        tokio::time::timeout(Duration::from_millis(700), run)
            .await
            .is_err()
    );
    until("the primary has no walsender any more", async || {
        primary
            .sql("select count(*) from pg_stat_replication")
            .await
            == "0"
    })
    .await;
    assert!(exists(staging.path()), "what there is of it");
    let staging = Staging::prepare(&standby.pgdata, &backup).unwrap();
    assert!(!exists(staging.path()));
    staging.discard().unwrap();
    assert!(standby.pgdata.join("global/pg_control").exists());
    let names = primary
        .sql("select count(*) from pg_replication_slots")
        .await;
    assert_eq!(names, "0");
}

#[tokio::test]
async fn a_base_backup_that_fails_says_why_and_leaves_nothing() {
    let Some(place) = Cluster::place().await else {
        return;
    };
    let nobody = Conninfo::single("127.0.0.1", place.port, "postgres", "postgres");
    let staging = Staging::prepare(&place.pgdata, &place.folder.join("backup")).unwrap();
    let error = base_backup(&request(&place, &nobody, &[]), &staging, |_| {})
        .await
        .unwrap_err();
    assert!(matches!(&error, BaseBackupError::Failed { reason } if reason.contains("refused")));
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0);
}

#[tokio::test]
async fn wal_behind_a_link_and_tablespaces_get_folders_of_their_own() {
    let Some(primary) = Cluster::new().await else {
        return;
    };
    let space = primary.folder.join("space");
    fs::create_dir(&space).unwrap();
    let _server = primary.start().await;
    primary
        .sql(&format!(
            "create tablespace s location '{}'",
            space.display()
        ))
        .await;
    primary
        .sql("create table in_space tablespace s as select generate_series(1, 1000) as i")
        .await;

    let standby = primary.sibling("standby");
    fs::create_dir_all(standby.folder.join("wal")).unwrap();
    fs::create_dir(&standby.pgdata).unwrap();
    symlink(standby.folder.join("wal"), standby.pgdata.join("pg_wal")).unwrap();
    let (source, backup) = (source(&primary), standby.folder.join("backup"));

    // Without a mapping the path is taken: on this host it is the source's own.
    let staging = Staging::prepare(&standby.pgdata, &backup).unwrap();
    let error = base_backup(&request(&primary, &source, &[]), &staging, |_| {})
        .await
        .unwrap_err();
    assert!(matches!(&error, BaseBackupError::Tablespace { location } if *location == space));

    let spaces = [space.clone()];
    let mut last_space = None;
    for _ in 0..2 {
        let staging = Staging::prepare(&standby.pgdata, &backup).unwrap();
        let mapped = staging.tablespace_directory(&space);
        base_backup(&request(&primary, &source, &spaces), &staging, |_| {})
            .await
            .unwrap();
        staging.swap_in().unwrap().delete().unwrap();
        assert!(mapped.exists() && exists(&standby.pgdata.join("pg_wal")));
        assert!(
            standby
                .pgdata
                .join("pg_wal")
                .symlink_metadata()
                .unwrap()
                .is_symlink()
        );
        standby.follow(&primary);
        let server = standby.start().await;
        assert_eq!(standby.sql("select count(*) from in_space").await, "1000");
        server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();
        if let Some(gone) = last_space.replace(mapped) {
            assert!(
                !exists(&gone),
                "the old copy's part of the tablespace is deleted"
            );
        }
    }
    assert_eq!(primary.sql("select count(*) from in_space").await, "1000");
}

#[tokio::test]
async fn a_diverged_primary_is_rewound_and_follows() {
    let Some((old, new, _server)) = diverged().await else {
        return;
    };
    fs::write(old.pgdata.join("mine.conf"), "mine").unwrap();
    fs::write(new.pgdata.join("server.key"), "theirs").unwrap();
    fs::write(new.pgdata.join("junk"), "x").unwrap();
    // A signal file from a start that did not happen.
    fs::write(old.pgdata.join("standby.signal"), "").unwrap();
    let (source, marker) = (source(&new), old.folder.join("state/rewind"));
    let request = rewinding(&old, &source, &marker);
    let name = request.copy;
    let begin = Instant::now();
    assert_eq!(rewind(request, |_| {}).await.unwrap(), Rewound::Done);
    eprintln!("MEASURED rewind after a crash {:?}", begin.elapsed());
    assert_eq!(copy::read(&old.pgdata).unwrap(), Some(name));
    assert!(!rewind::interrupted(&marker) && !marker.exists());
    assert_eq!(
        fs::read_to_string(old.pgdata.join("mine.conf")).unwrap(),
        "mine"
    );
    assert!(!old.pgdata.join("server.key").exists() && !old.pgdata.join("postmaster.pid").exists());
    old.follow(&new);
    let _server = old.start().await;
    caught_up(&new, &old).await;
    assert_eq!(old.sql("select count(*) from only_new").await, "1000");
    assert_eq!(old.sql("select to_regclass('only_old') is null").await, "t");
}

#[tokio::test]
async fn a_cleanly_stopped_primary_needs_no_rewind() {
    let Some(old) = Cluster::new().await else {
        return;
    };
    let old_server = old.start().await;
    let new = standby_of(&old, "new").await;
    let _new_server = new.start().await;
    caught_up(&old, &new).await;
    old_server
        .stop_and_wait(StopMode::Fast, LIMIT)
        .await
        .unwrap();
    new.sql("select pg_promote()").await;
    new.sql("checkpoint").await;
    let name = copy::read(&old.pgdata).unwrap();
    let (source, marker) = (source(&new), old.folder.join("state/rewind"));
    let outcome = rewind(rewinding(&old, &source, &marker), |_| {})
        .await
        .unwrap();
    assert_eq!(outcome, Rewound::NotNeeded);
    assert_eq!(
        copy::read(&old.pgdata).unwrap(),
        name,
        "the copy is the same one"
    );
}

#[tokio::test]
async fn a_crashed_standby_of_the_lost_branch_is_rewound_without_writing_wal_of_its_own() {
    let Some(old) = Cluster::new().await else {
        return;
    };
    let old_server = old.start().await;
    let new = standby_of(&old, "new").await;
    let third = standby_of(&old, "third").await;
    let (_new_server, third_server) = (new.start().await, third.start().await);
    old.sql("create table t as select 1 as i").await;
    caught_up(&old, &new).await;
    new.sql("select pg_promote()").await;
    old.sql("create table only_old as select generate_series(1, 1000) as i")
        .await;
    caught_up(&old, &third).await;
    new.sql("checkpoint").await;
    kill_9(&old_server).await;
    // Much of what it has received is not replayed yet, wherever it is stopped.
    third_server
        .stop_and_wait(StopMode::Fast, LIMIT)
        .await
        .unwrap();
    let third_server = third.start().await;
    kill_9(&third_server).await;
    let (source, marker) = (source(&new), third.folder.join("state/rewind"));
    let nobody = Conninfo::single("127.0.0.1", 1, "postgres", "postgres");
    let outcome = rewind(rewinding(&third, &nobody, &marker), |_| {})
        .await
        .unwrap();
    assert!(matches!(&outcome, Rewound::Refused { reason } if reason.contains("refused")));
    let data = control::read(&third.postgres, &third.pgdata)
        .await
        .unwrap()
        .present()
        .unwrap();
    assert_eq!(data.state, ClusterState::ShutDownInRecovery);
    let outcome = rewind(rewinding(&third, &source, &marker), |_| {})
        .await
        .unwrap();
    assert_eq!(outcome, Rewound::Done);
    third.follow(&new);
    let _server = third.start().await;
    caught_up(&new, &third).await;
}

#[tokio::test]
async fn a_rewind_that_breaks_off_is_marked_and_healed_by_a_base_backup() {
    let Some((old, new, _server)) = diverged().await else {
        return;
    };
    new.sql("create table big as select i, repeat('x', 500) from generate_series(1, 100000) i")
        .await;
    new.sql("checkpoint").await;
    fs::write(old.pgdata.join("mine.conf"), "mine").unwrap();
    let (source, marker) = (source(&new), old.folder.join("state/rewind"));
    let outcome = rewind(rewinding(&old, &source, &marker), |_| kill_rewind())
        .await
        .unwrap();
    assert!(matches!(outcome, Rewound::Broken { .. }), "{outcome:?}");
    assert!(rewind::interrupted(&marker));
    let again = rewind(rewinding(&old, &source, &marker), |_| {}).await;
    assert!(
        matches!(again, Err(RewindError::Interrupted { .. })),
        "{again:?}"
    );

    let staging = Staging::prepare(&old.pgdata, &old.folder.join("backup")).unwrap();
    base_backup(&request(&new, &source, &[]), &staging, |_| {})
        .await
        .unwrap();
    rewind::restore_kept(&marker, staging.path()).unwrap();
    staging.swap_in().unwrap().delete().unwrap();
    rewind::forget(&marker).unwrap();
    resume(&old.pgdata).unwrap();
    assert_eq!(
        fs::read_to_string(old.pgdata.join("mine.conf")).unwrap(),
        "mine"
    );
    old.follow(&new);
    let _server = old.start().await;
    caught_up(&new, &old).await;
}

/// Kills our children that run pg_rewind: only they, found by parent and program.
fn kill_rewind() {
    let me = std::process::id().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|s| s.split_whitespace().nth(1));
        if program.ends_with("pg_rewind") && parent == Some(&me) {
            let pid = entry.file_name().into_string().unwrap().parse().unwrap();
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
