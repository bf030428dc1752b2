//! The contract over both backends, and what only a store on disk can do.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pgaf_store::{
    Batch, Continuation, EventFilter, MemoryStore, OpenError, Revision, SqliteStore, Store,
    StoreError, contract,
};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work)
}

fn put(key: &str, revision: Option<Revision>, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(key, revision, value.into());
    batch
}

fn marked(name: &str, value: u64) -> Batch {
    Batch {
        marks: BTreeMap::from([(name.to_owned(), value)]),
        ..Batch::default()
    }
}

fn open(path: &Path) -> pgaf_store::Opened {
    SqliteStore::open(path, Some("identity")).unwrap()
}

fn copy_folder(from: &Path, to: &Path, only: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if only(&name) {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

#[test]
fn the_memory_store_keeps_the_contract() {
    block_on(contract::check(MemoryStore::new)).unwrap();
}

#[test]
fn the_sqlite_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    block_on(contract::check(|| {
        number += 1;
        open(&folder.path().join(format!("{number}.db"))).store
    }))
    .unwrap();
}

#[test]
fn everything_survives_closing_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let opened = open(&path);
    assert_eq!(opened.continuation, Continuation::New);
    let revision = block_on(opened.store.commit(put("a", None, "1"))).unwrap();
    drop(opened);
    let opened = SqliteStore::open(&path, None).unwrap();
    let values = block_on(opened.store.load_all()).unwrap();
    assert_eq!(
        (values["a"].value.as_str(), values["a"].revision),
        ("1", revision)
    );
    let next = block_on(opened.store.commit(put("a", Some(revision), "2"))).unwrap();
    assert!(next > revision);
}

#[test]
fn a_second_monitor_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let first = open(&path);
    match SqliteStore::open(&path, None) {
        Err(OpenError::InUse { holder, .. }) => {
            assert_eq!(holder, std::process::id().to_string());
        }
        other => panic!("{other:?}"),
    }
    block_on(first.store.commit(put("a", None, "1"))).unwrap();
    drop(first);
    SqliteStore::open(&path, None).unwrap();
}

#[test]
fn a_missing_store_is_not_made_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    assert!(matches!(
        SqliteStore::open(&path, None),
        Err(OpenError::Missing(_))
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&folder.path().join("m.db"));
    block_on(opened.store.commit(marked("a", 1))).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
        files += 1;
    }
    assert_eq!(files, 4, "database, WAL, counter, lock");
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    drop(open(&path));
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(
        SqliteStore::open(&path, None),
        Err(OpenError::TooNew { found: 99, .. })
    ));
}

#[test]
fn a_continued_store_is_proven_and_an_older_copy_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let opened = open(&path);
    block_on(opened.store.commit(marked("term/default/0", 1))).unwrap();
    drop(opened);
    let older = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), older.path(), |name| name == "m.db");

    let opened = open(&path);
    assert_eq!(opened.continuation, Continuation::Proven);
    block_on(opened.store.commit(marked("term/default/0", 2))).unwrap();
    drop(opened);
    copy_folder(older.path(), folder.path(), |_| true);

    let opened = open(&path);
    let Continuation::Restored { why } = &opened.continuation else {
        panic!("{:?}", opened.continuation);
    };
    assert!(why.contains("term/default/0 2"), "{why}");
    assert_eq!(opened.marks["term/default/0"], 2);
    // A commit without the marks leaves it restored; one with them adopts it.
    block_on(opened.store.commit(put("a", None, "1"))).unwrap();
    drop(opened);
    let opened = open(&path);
    assert!(matches!(opened.continuation, Continuation::Restored { .. }));
    let adopt = Batch {
        marks: opened.marks.clone(),
        ..Batch::default()
    };
    block_on(opened.store.commit(adopt)).unwrap();
    drop(opened);
    assert_eq!(open(&path).continuation, Continuation::Proven);
}

#[test]
fn a_lost_counter_and_a_foreign_one_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let opened = open(&path);
    block_on(opened.store.commit(marked("incarnation", 1))).unwrap();
    drop(opened);
    let counter = folder.path().join("m.db.counter");
    let kept = std::fs::read(&counter).unwrap();
    std::fs::remove_file(&counter).unwrap();
    let opened = open(&path);
    assert!(matches!(opened.continuation, Continuation::Restored { .. }));
    block_on(opened.store.commit(marked("incarnation", 2))).unwrap();
    drop(opened);
    assert_eq!(open(&path).continuation, Continuation::Proven);

    let other = folder.path().join("o.db");
    drop(SqliteStore::open(&other, Some("another")).unwrap());
    std::fs::write(folder.path().join("o.db.counter"), &kept).unwrap();
    let opened = SqliteStore::open(&other, None).unwrap();
    assert!(matches!(opened.continuation, Continuation::Restored { .. }));
}

#[test]
fn many_waiting_batches_share_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&folder.path().join("m.db"));
    let began = std::time::Instant::now();
    let waiting: Vec<_> = (0..200)
        .map(|n| opened.store.commit(put(&format!("k{n}"), None, "v")))
        .collect();
    block_on(async {
        for pending in waiting {
            pending.await.unwrap();
        }
    });
    // One transaction costs some milliseconds; two hundred of them would be far above this.
    assert!(
        began.elapsed() < Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_full_disk_refuses_writes_answers_reads_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    let opened = open(&disk.path().join("m.db"));
    let revision = block_on(opened.store.commit(put("a", None, "1"))).unwrap();
    std::fs::write(disk.path().join("ballast"), vec![0; 4 << 20]).unwrap_err();
    let big = "x".repeat(200_000);
    let error = block_on(opened.store.commit(put("b", None, &big))).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.may_retry() && error.is_disk());
    let values = block_on(opened.store.load_all()).unwrap();
    assert_eq!((values.len(), values["a"].revision), (1, revision));
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    block_on(opened.store.commit(put("b", None, &big))).unwrap();
}

#[test]
fn the_counter_rises_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    let opened = open(&disk.path().join("m.db"));
    block_on(opened.store.commit(marked("term/default/0", 1))).unwrap();
    std::fs::write(disk.path().join("ballast"), vec![0; 4 << 20]).unwrap_err();
    // The WAL has no space left either: what counts is that failure and success stay apart.
    match block_on(opened.store.commit(marked("term/default/0", 2))) {
        Ok(_) => {}
        Err(error) => assert!(matches!(error, StoreError::Full { .. }), "{error:?}"),
    }
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    block_on(opened.store.commit(marked("term/default/0", 3))).unwrap();
    drop(opened);
    assert_eq!(
        open(&disk.path().join("m.db")).continuation,
        Continuation::Proven
    );
}

#[test]
fn old_events_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&folder.path().join("m.db"));
    let record = contract::sample_event("default", 0, "x");
    block_on(async {
        for _ in 0..52 {
            let events = vec![record.clone(); 1000];
            opened
                .store
                .commit(Batch {
                    events,
                    ..Batch::default()
                })
                .await
                .unwrap();
        }
    });
    let filter = EventFilter {
        limit: 60_000,
        ..EventFilter::default()
    };
    let found = block_on(opened.store.events(filter)).unwrap();
    assert!((50_000..=50_512).contains(&found.len()), "{}", found.len());
    assert_eq!(found.last().unwrap().id, 52_000);
}

/// A file system of 2 MB, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}
