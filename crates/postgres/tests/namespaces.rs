//! What needs a mount point or PID 1: run again in namespaces of their own, as root only.
//!
//! Each outer test runs its inner one (`--ignored`) in fresh namespaces, so that mounts and process
//! ids are gone with it. Skipped, loudly, where that is not allowed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests may panic, and say what is skipped"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Cluster, LIMIT};
use pgaf_postgres::basebackup::{BaseBackup, BaseBackupError, STALL, base_backup};
use pgaf_postgres::command::Invocation;
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::initdb::{InitdbOptions, initdb};
use pgaf_postgres::postmaster::StopMode;
use pgaf_postgres::swap::{Resumed, Staging, resume};
use pgaf_postgres::{copy, reaper};
use pgaf_protocol::NodeId;

/// Where the inner test finds its mount.
const MOUNT: &str = "PGAF_TEST_MOUNT";

/// Runs one inner test in namespaces; `false` when that is not possible here.
fn in_namespaces(arguments: &[&str], script: &str, inner: &str) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: {inner} needs root");
        return;
    }
    let possible = Command::new("unshare").args(arguments).arg("true").status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {inner} needs namespaces, which are not allowed here");
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(arguments)
        .args(["sh", "-ec", script, "sh"])
        .arg(exe)
        .args([
            "--exact",
            inner,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .status()
        .unwrap();
    assert!(status.success(), "{inner}");
}

/// Mounts a tmpfs of the given size for the inner test.
fn on_a_mount(size: &str, inner: &str) {
    let script = format!(
        "d=$(mktemp -d); chmod 755 $d; mkdir $d/data
         user=postgres; id -u $user >/dev/null 2>&1 || user=nobody
         mount -t tmpfs -o size={size},mode=0755,uid=$(id -u $user),gid=$(id -g $user) tmpfs $d/data
         status=0; {MOUNT}=$d/data \"$@\" || status=$?
         umount -l $d/data; rmdir $d/data $d; exit $status"
    );
    in_namespaces(&["--mount"], &script, inner);
}

fn mount() -> PathBuf {
    PathBuf::from(std::env::var_os(MOUNT).expect("run by the outer test"))
}

#[test]
fn a_data_directory_that_is_a_mount_point_is_made_and_replaced_within_it() {
    on_a_mount("400M", "inner_mount_point");
}

#[tokio::test]
#[ignore = "run by the test of mount points"]
async fn inner_mount_point() {
    let Some(mut cluster) = Cluster::place().await else {
        return;
    };
    cluster.pgdata = mount();
    let options = InitdbOptions {
        username: Some("postgres".to_owned()),
        ..Default::default()
    };
    initdb(&cluster.postgres, &cluster.pgdata, copy::draw(), &options)
        .await
        .unwrap();
    assert_eq!(mode(&cluster.pgdata), 0o700);
    let own = |name: &str| name.starts_with("pgaf_") && name != copy::FILE;
    let left = |path: &Path| {
        let names = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| own(name)).collect::<Vec<_>>()
    };
    assert_eq!(left(&cluster.pgdata), Vec::<String>::new());
    let server = cluster.start().await;
    server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();

    let primary = Cluster::new().await.unwrap();
    let _server = primary.start().await;
    primary.sql("create table t as select 7 as i").await;
    let source = Conninfo::single("127.0.0.1", primary.port, "postgres", "postgres");
    let name = copy::draw();
    let request = request(&primary, &source, name);
    let wanted = cluster.folder.join("backup");
    for crash in [false, true] {
        let staging = Staging::prepare(&cluster.pgdata, &wanted).unwrap();
        assert!(staging.path().starts_with(&cluster.pgdata) && !wanted.exists());
        base_backup(&request, &staging, |_| {}).await.unwrap();
        if crash {
            let stopped = staging.swap_in_until(&mut |step| step == "new is in");
            assert!(stopped.is_err());
            assert_eq!(resume(&cluster.pgdata).unwrap(), Resumed::Finished);
        } else {
            staging.swap_in().unwrap().delete().unwrap();
        }
        assert_eq!(copy::read(&cluster.pgdata).unwrap(), Some(name));
        assert_eq!(left(&cluster.pgdata), Vec::<String>::new());
        cluster.follow(&primary);
        let server = cluster.start().await;
        assert_eq!(cluster.sql("select i from t").await, "7");
        server.stop_and_wait(StopMode::Fast, LIMIT).await.unwrap();
    }
}

#[test]
fn a_base_backup_without_enough_space_is_refused_and_leaves_the_old_copy() {
    on_a_mount("60M", "inner_no_space");
}

#[tokio::test]
#[ignore = "run by the test of space"]
async fn inner_no_space() {
    let Some(mut cluster) = Cluster::place().await else {
        return;
    };
    cluster.pgdata = mount();
    let options = InitdbOptions {
        username: Some("postgres".to_owned()),
        ..Default::default()
    };
    initdb(&cluster.postgres, &cluster.pgdata, copy::draw(), &options)
        .await
        .unwrap();
    let before = copy::read(&cluster.pgdata).unwrap();
    let primary = Cluster::new().await.unwrap();
    let _server = primary.start().await;
    let source = Conninfo::single("127.0.0.1", primary.port, "postgres", "postgres");
    let staging = Staging::prepare(&cluster.pgdata, &cluster.folder.join("backup")).unwrap();
    let request = request(&primary, &source, copy::draw());
    match base_backup(&request, &staging, |_| {}).await {
        Err(BaseBackupError::Space {
            needed, available, ..
        }) => {
            assert!(
                needed > available && available < 60 << 20,
                "{needed} {available}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(!staging.path().exists());
    assert_eq!(copy::read(&cluster.pgdata).unwrap(), before);
}

fn request<'a>(
    primary: &'a Cluster,
    source: &'a Conninfo,
    copy: pgaf_protocol::CopyId,
) -> BaseBackup<'a> {
    BaseBackup {
        postgres: &primary.postgres,
        source,
        node: NodeId(2),
        copy,
        max_rate: None,
        tablespaces: &[],
        stall: STALL,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn as_pid_1_orphans_are_reaped_and_owned_children_are_not() {
    in_namespaces(
        &["--pid", "--fork", "--mount-proc"],
        "exec \"$@\"",
        "inner_pid_1",
    );
}

#[tokio::test]
#[ignore = "run by the test of PID 1"]
async fn inner_pid_1() {
    assert_eq!(std::process::id(), 1);
    let reaper = tokio::spawn(reaper::reap_orphans());
    let shell = |script: &str| Invocation::new(Path::new("/bin/sh")).args(["-c", script]);
    // It leaves an orphan, which ends a moment later.
    let done = shell("sleep 0.3 >/dev/null 2>&1 & echo $!")
        .run()
        .await
        .unwrap();
    let orphan = PathBuf::from(format!("/proc/{}", done.stdout.trim()));
    assert!(orphan.exists());
    // One that nobody looks at for longer than the reaper waits.
    let mut command = tokio::process::Command::new("/bin/sh");
    let mut owned = reaper::spawn(command.args(["-c", "exit 7"])).unwrap();
    common::until("the orphan is reaped", async || !orphan.exists()).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(owned.wait().await.unwrap().code(), Some(7));
    for _ in 0..20 {
        assert_eq!(shell("exit 3").run().await.unwrap().status.code(), Some(3));
    }
    reaper.abort();
}
