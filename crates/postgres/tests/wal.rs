//! The end of valid WAL, against a real Postgres and its own `pg_waldump`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Cluster, LIMIT, until};
use pgaf_postgres::basebackup::{BaseBackup, STALL, base_backup};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::control::{self, ControlData};
use pgaf_postgres::initdb::{InitdbOptions, initdb};
use pgaf_postgres::postmaster::{Postmaster, StopMode, end_cluster};
use pgaf_postgres::swap::Staging;
use pgaf_postgres::wal::{self, WalError};
use pgaf_postgres::{copy, history};
use pgaf_protocol::{Lsn, NodeId, Position, TimelineId};

async fn control_of(cluster: &Cluster) -> ControlData {
    control::read(&cluster.postgres, &cluster.pgdata)
        .await
        .unwrap()
        .present()
        .unwrap()
}

async fn end_of(cluster: &Cluster) -> Position {
    wal::end_of_valid_wal(&cluster.pgdata, &control_of(cluster).await)
        .await
        .unwrap()
}

async fn lsn(cluster: &Cluster, expression: &str) -> Lsn {
    cluster
        .sql(&format!("select {expression}"))
        .await
        .parse()
        .unwrap()
}

/// A standby of `primary`, running and streaming.
async fn standby_of(primary: &Cluster, name: &str) -> Cluster {
    let standby = primary.sibling(name);
    let source = Conninfo::single("127.0.0.1", primary.port, "postgres", "postgres");
    let request = BaseBackup {
        postgres: &primary.postgres,
        source: &source,
        node: NodeId(2),
        copy: copy::draw(),
        max_rate: None,
        tablespaces: &[],
        stall: STALL,
    };
    let staging = Staging::prepare(&standby.pgdata, &standby.folder.join("backup")).unwrap();
    base_backup(&request, &staging, |_| {}).await.unwrap();
    staging.swap_in().unwrap().delete().unwrap();
    standby.follow(primary);
    standby
}

async fn caught_up(primary: &Cluster, standby: &Cluster) {
    let end = lsn(primary, "pg_current_wal_flush_lsn()").await;
    until("the standby has received everything", async || {
        lsn(standby, "coalesce(pg_last_wal_receive_lsn(), '0/0')").await >= end
    })
    .await;
}

/// What `pg_waldump` says is the last record: its start.
fn last_by_waldump(cluster: &Cluster, from: Lsn, timeline: TimelineId) -> Lsn {
    let done = std::process::Command::new(cluster.postgres.program("pg_waldump"))
        .arg("-p")
        .arg(cluster.pgdata.join("pg_wal"))
        .args(["-t", &timeline.to_string(), "-s", &from.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains("lsn: "))
        .expect("a record");
    line.split_once("lsn: ")
        .unwrap()
        .1
        .split_once(',')
        .unwrap()
        .0
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_clean_stop_ends_with_its_shutdown_record_and_the_standby_has_just_that() {
    let Some(primary) = Cluster::new().await else {
        return;
    };
    let server = primary.start().await;
    let standby = standby_of(&primary, "standby").await;
    let standby_server = standby.start().await;
    primary
        .sql("create table t as select generate_series(1, 10000) as i")
        .await;
    caught_up(&primary, &standby).await;
    server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();

    let control = control_of(&primary).await;
    let begin = Instant::now();
    let end = wal::shutdown_checkpoint_end(&primary.pgdata, &control)
        .await
        .unwrap();
    eprintln!("MEASURED shutdown_checkpoint_end {:?}", begin.elapsed());
    assert_eq!(
        wal::end_of_valid_wal(&primary.pgdata, &control)
            .await
            .unwrap(),
        end
    );
    until("the standby has the shutdown record", async || {
        lsn(&standby, "pg_last_wal_receive_lsn()").await >= end.lsn
    })
    .await;
    assert_eq!(lsn(&standby, "pg_last_wal_receive_lsn()").await, end.lsn);

    standby_server
        .stop_and_wait(StopMode::Fast, LIMIT)
        .await
        .unwrap();
    assert_eq!(end_of(&standby).await, end);
}

#[tokio::test]
async fn after_kill_9_the_end_is_where_recovery_ends_and_not_before_what_was_flushed() {
    let Some(primary) = Cluster::new().await else {
        return;
    };
    primary.append("fsync = on\nautovacuum = off\n");
    for round in 0..4 {
        let server = primary.start().await;
        primary
            .sql(&format!(
                "create table t{round} as select generate_series(1, 70000) as i"
            ))
            .await;
        let flushed = lsn(&primary, "pg_current_wal_flush_lsn()").await;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(server.pid()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        server.exited().await;
        end_cluster(&primary.pgdata, Duration::ZERO).await.unwrap();
        let control = control_of(&primary).await;
        let begin = Instant::now();
        let end = wal::end_of_valid_wal(&primary.pgdata, &control)
            .await
            .unwrap();
        let bytes = end.lsn.bytes_after(control.checkpoint);
        eprintln!(
            "MEASURED end_of_valid_wal over {bytes} bytes: {:?}",
            begin.elapsed()
        );
        assert!(end.lsn >= flushed, "{end} < {flushed}");
        assert!(wal::redo_bytes(&primary.pgdata, &control) >= end.lsn.bytes_after(control.redo));
        let last = last_by_waldump(&primary, control.checkpoint, control.timeline);
        assert!(
            last < end.lsn && end.lsn.bytes_after(last) < 16384,
            "{last} {end}"
        );
        // Recovery writes its own end into the log.
        let server = primary.start().await;
        let log = std::fs::read_to_string(primary.pgdata.join("startup.log")).unwrap();
        let next = log
            .lines()
            .rev()
            .find(|l| l.contains("redo done at"))
            .unwrap();
        assert!(
            next.contains(&last.to_string()),
            "{next}, last record {last}"
        );
        server
            .stop_and_wait(StopMode::Immediate, LIMIT)
            .await
            .unwrap();
        end_cluster(&primary.pgdata, Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn a_switch_of_segment_and_a_missing_next_one_are_a_plain_end() {
    let Some(cluster) = Cluster::new().await else {
        return;
    };
    let server = cluster.start().await;
    cluster.sql("create table t (i int)").await;
    cluster.sql("select pg_switch_wal()").await;
    server
        .stop_and_wait(StopMode::Immediate, LIMIT)
        .await
        .unwrap();
    end_cluster(&cluster.pgdata, Duration::ZERO).await.unwrap();
    let control = control_of(&cluster).await;
    let size = u64::from(control.segment_bytes);
    // Remove what is beyond, as on a standby that has received nothing of it.
    let next = control.checkpoint.0 / size + 1;
    for number in next..next + 4 {
        let _ = std::fs::remove_file(
            cluster
                .pgdata
                .join(format!("pg_wal/{:08X}{:08X}{number:08X}", 1, 0)),
        );
    }
    let begin = Instant::now();
    assert_eq!(end_of(&cluster).await.lsn, Lsn(next * size));
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_promoted_standby_and_its_follower_end_on_the_new_timeline() {
    let Some(primary) = Cluster::new().await else {
        return;
    };
    let server = primary.start().await;
    let standby = standby_of(&primary, "standby").await;
    let standby_server = standby.start().await;
    primary.sql("create table t as select 1 as i").await;
    caught_up(&primary, &standby).await;
    server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();
    let old_end = end_of(&primary).await;
    until("all is received", async || {
        lsn(&standby, "pg_last_wal_receive_lsn()").await >= old_end.lsn
    })
    .await;

    // Numbers 2 and 3 are used: the next one is 4.
    let used = history::write_empty_history_files(&standby.pgdata, TimelineId(1), TimelineId(4));
    assert_eq!(used.unwrap(), [TimelineId(2), TimelineId(3)]);
    standby.sql("select pg_promote()").await;
    standby
        .sql("create table u as select generate_series(1, 1000) as i")
        .await;
    let branch = history::read(&standby.pgdata, TimelineId(4))
        .unwrap()
        .unwrap();
    assert_eq!(history::relation(&branch, old_end), history::Relation::Fits);

    // The old primary follows as it is.
    primary.follow(&standby);
    let server = primary.start().await;
    caught_up(&standby, &primary).await;
    let received = lsn(&primary, "pg_last_wal_receive_lsn()").await;
    server
        .stop_and_wait(StopMode::Immediate, LIMIT)
        .await
        .unwrap();
    end_cluster(&primary.pgdata, Duration::ZERO).await.unwrap();
    let end = end_of(&primary).await;
    assert_eq!(
        end,
        Position {
            timeline: TimelineId(4),
            lsn: received
        }
    );
    let flushed = lsn(&standby, "pg_current_wal_flush_lsn()").await;
    standby_server
        .stop_and_wait(StopMode::Immediate, LIMIT)
        .await
        .unwrap();
    end_cluster(&standby.pgdata, Duration::ZERO).await.unwrap();
    let end = end_of(&standby).await;
    assert!(end.timeline == TimelineId(4) && end.lsn >= flushed);
}

#[tokio::test]
async fn a_base_backup_that_never_started_and_a_broken_start_have_no_position() {
    let Some(primary) = Cluster::new().await else {
        return;
    };
    let server = primary.start().await;
    let standby = standby_of(&primary, "standby").await;
    server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();
    let control = control_of(&standby).await;
    let result = wal::end_of_valid_wal(&standby.pgdata, &control).await;
    assert!(
        matches!(result, Err(WalError::BackupLabel(_))),
        "{result:?}"
    );

    let mut control = control_of(&primary).await;
    let incomplete = Position {
        timeline: TimelineId(1),
        lsn: Lsn(u64::MAX),
    };
    control.min_recovery_end = Some(incomplete);
    let result = wal::end_of_valid_wal(&primary.pgdata, &control).await;
    assert!(
        matches!(result, Err(WalError::Incomplete { .. })),
        "{result:?}"
    );
    control.min_recovery_end = None;
    control.checkpoint = Lsn(control.checkpoint.0 + 8);
    let result = wal::end_of_valid_wal(&primary.pgdata, &control).await;
    assert!(matches!(result, Err(WalError::NoRecord(_))), "{result:?}");
    let result = wal::shutdown_checkpoint_end(Path::new("/nonexistent"), &control).await;
    assert!(result.is_err());
}

/// A cluster with segments of 1 MB, so that records span them.
async fn small_segments() -> Option<Cluster> {
    let cluster = Cluster::place().await?;
    let options = InitdbOptions {
        username: Some("postgres".to_owned()),
        extra: vec!["--wal-segsize=1".to_owned()],
    };
    initdb(&cluster.postgres, &cluster.pgdata, copy::draw(), &options)
        .await
        .unwrap();
    cluster.append("fsync = off\nautovacuum = off\nwal_level = logical\nwal_keep_size = 1000\n");
    Some(cluster)
}

async fn crash(server: &Postmaster) {
    let pid = nix::unistd::Pid::from_raw(server.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    server.exited().await;
    end_cluster(server.pgdata(), Duration::ZERO).await.unwrap();
}

/// A record of about so many bytes.
async fn emit(cluster: &Cluster, bytes: u32) {
    let message = format!("select pg_logical_emit_message(false, 'x', repeat('y', {bytes}))");
    cluster.sql(&message).await;
}

fn segment(cluster: &Cluster, control: &ControlData, lsn: Lsn) -> (PathBuf, u64) {
    let size = u64::from(control.segment_bytes);
    let number = lsn.0 / size;
    let name = format!("{:08X}{:08X}{:08X}", 1, number / 4096, number % 4096);
    (cluster.pgdata.join("pg_wal").join(name), lsn.0 % size)
}

#[tokio::test]
async fn records_that_span_pages_and_segments_are_read_and_a_flipped_byte_ends_wal_there() {
    let Some(cluster) = small_segments().await else {
        return;
    };
    let server = cluster.start().await;
    cluster.sql("checkpoint").await;
    for bytes in [
        10, 8000, 8150, 8192, 100_000, 1_048_576, 3_000_000, 1, 7, 77,
    ] {
        emit(&cluster, bytes).await;
    }
    let flushed = lsn(&cluster, "pg_current_wal_insert_lsn()").await;
    cluster.sql("create table flushes as select 1 as i").await;
    crash(&server).await;
    let control = control_of(&cluster).await;
    let end = wal::end_of_valid_wal(&cluster.pgdata, &control)
        .await
        .unwrap();
    assert!(end.lsn > flushed);
    let last = last_by_waldump(&cluster, control.checkpoint, control.timeline);
    assert!(last < end.lsn && end.lsn.bytes_after(last) < 8192);

    let span = end.lsn.bytes_after(control.checkpoint);
    let mut ended_before = 0;
    for i in 0..200_u64 {
        // Spread over the whole, and dense at the end.
        let back = if i % 2 == 0 { span * i / 200 } else { i * 3 };
        let at = Lsn(end.lsn.0 - 1 - back.min(span - 100));
        let (path, offset) = segment(&cluster, &control, at);
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
        match wal::end_of_valid_wal(&cluster.pgdata, &control).await {
            // Padding is not part of any record.
            Ok(found) if found == end => {}
            Ok(found) => {
                assert!(found.lsn <= at, "flipped at {at}, read to {found}");
                ended_before += 1;
            }
            Err(WalError::NoRecord(_)) => ended_before += 1,
            Err(error) => panic!("{error}"),
        }
        file.write_all_at(&byte, offset).unwrap();
    }
    assert!(ended_before > 150, "{ended_before}");
    assert_eq!(
        wal::end_of_valid_wal(&cluster.pgdata, &control)
            .await
            .unwrap(),
        end
    );
}

#[tokio::test]
async fn what_was_received_of_a_record_in_part_is_no_position() {
    let Some(cluster) = small_segments().await else {
        return;
    };
    let server = cluster.start().await;
    cluster.sql("checkpoint").await;
    emit(&cluster, 77).await;
    let before = lsn(&cluster, "pg_current_wal_insert_lsn()").await;
    emit(&cluster, 100_000).await;
    let after = lsn(&cluster, "pg_current_wal_insert_lsn()").await;
    cluster.sql("create table flushes as select 1 as i").await;
    // The cluster runs, as a standby would; only its WAL is looked at.
    let control = control_of(&cluster).await;
    let whole = async |replayed: Lsn, received: Lsn| {
        wal::last_whole_record(&cluster.pgdata, &control, replayed, received)
            .await
            .unwrap()
    };
    // A receiver is cut off at the end of a page, in the middle of the long record.
    let page = Lsn((before.0 / 8192 + 3) * 8192);
    assert!(before < page && page < after);
    for replayed in [control.checkpoint, before] {
        let found = whole(replayed, page).await;
        assert_eq!(found.timeline, control.timeline);
        assert!(
            found.lsn <= page && before.bytes_after(found.lsn) < 64,
            "{found} instead of {before}"
        );
        assert_eq!(whole(replayed, after).await.lsn, after);
    }
    crash(&server).await;
}

#[tokio::test]
async fn a_record_that_was_given_up_after_a_crash_does_not_end_wal() {
    let Some(cluster) = small_segments().await else {
        return;
    };
    let server = cluster.start().await;
    cluster.sql("checkpoint").await;
    let before = lsn(&cluster, "pg_current_wal_insert_lsn()").await;
    emit(&cluster, 3_000_000).await;
    cluster.sql("create table flushes as select 1 as i").await;
    crash(&server).await;
    let control = control_of(&cluster).await;
    // As if only the first part of the long record had reached the disk.
    for megabyte in 2..8 {
        let (path, _) = segment(&cluster, &control, Lsn(before.0 + (megabyte << 20)));
        let _ = std::fs::remove_file(path);
    }
    let cut = wal::end_of_valid_wal(&cluster.pgdata, &control)
        .await
        .unwrap();
    assert!(cut.lsn <= before, "{cut} {before}");

    let server = cluster.start().await;
    cluster.sql("create table after_it as select 1 as i").await;
    crash(&server).await;
    let now = control_of(&cluster).await;
    assert!(now.checkpoint > control.checkpoint);
    let end = wal::end_of_valid_wal(&cluster.pgdata, &now).await.unwrap();
    let through = wal::end_of_valid_wal(&cluster.pgdata, &control)
        .await
        .unwrap();
    assert_eq!(
        through, end,
        "read from the old checkpoint, across the record given up"
    );
}

/// A new timeline's first segment of which only so many bytes were received.
fn begin_timeline_2(
    cluster: &Cluster,
    control: &ControlData,
    fork: Lsn,
    received: usize,
) -> PathBuf {
    let (parent, offset) = segment(cluster, control, fork);
    let mut bytes = std::fs::read(&parent).unwrap();
    assert!(received <= usize::try_from(offset).unwrap());
    bytes[received..].fill(0);
    let wal = cluster.pgdata.join("pg_wal");
    let name = parent.file_name().unwrap().to_str().unwrap();
    let file = wal.join(name.replacen("00000001", "00000002", 1));
    std::fs::write(&file, bytes).unwrap();
    let history = format!("1\t{fork}\tno recovery target specified\n");
    std::fs::write(wal.join("00000002.history"), history).unwrap();
    file
}

/// Found by a storm: the upstream was lost before a standby had received its new timeline up to the fork.
#[tokio::test]
async fn a_segment_that_was_received_in_part_does_not_hide_the_parents() {
    let Some(cluster) = small_segments().await else {
        return;
    };
    let server = cluster.start().await;
    emit(&cluster, 100_000).await;
    server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();
    let control = control_of(&cluster).await;
    let fork = end_of(&cluster).await;
    let offset = usize::try_from(segment(&cluster, &control, fork.lsn).1).unwrap();

    let whole = begin_timeline_2(&cluster, &control, fork.lsn, offset);
    let removed = wal::remove_partial_forks(&cluster.pgdata, &control)
        .await
        .unwrap();
    assert!(removed.is_empty() && whole.exists(), "it reaches the fork");

    let partial = begin_timeline_2(&cluster, &control, fork.lsn, offset / 2 / 8192 * 8192);
    let removed = wal::remove_partial_forks(&cluster.pgdata, &control)
        .await
        .unwrap();
    assert_eq!(removed, [partial]);
    assert_eq!(end_of(&cluster).await, fork);

    std::fs::write(cluster.pgdata.join("standby.signal"), "").unwrap();
    let server = cluster.start().await;
    assert_eq!(cluster.sql("select pg_promote()").await, "t");
    server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();
}
