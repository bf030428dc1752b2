//! Random histories: the store on disk agrees with the one in memory after every operation.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use pgaf_store::{Batch, MemoryStore, Revision, SqliteStore, Store};
use proptest::prelude::*;

/// One write: a key, how stale the read behind it is, and whether it deletes.
type Operation = (u8, u8, bool);

fn batch(store: &impl Store, runtime: &tokio::runtime::Runtime, operation: Operation) -> Batch {
    let (key, stale, delete) = operation;
    let key = format!("k{}", key % 4);
    let present = runtime.block_on(store.load_all()).unwrap();
    let revision = present.get(&key).map(|v| v.revision);
    let read = match (stale % 4, revision) {
        (0, Some(revision)) => Some(Revision(revision.0.wrapping_sub(1))),
        (1, _) => None,
        (_, revision) => revision,
    };
    let mut batch = Batch::default();
    match (delete, read) {
        (true, Some(revision)) => batch.delete(key, revision),
        (_, read) => batch.put(key, read, format!("{stale}")),
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_backends_agree_after_every_operation(
        operations in prop::collection::vec(any::<Operation>(), 1..24)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let path = folder.path().join("m.db");
        let memory = MemoryStore::new();
        let mut disk = SqliteStore::open(&path, Some("i")).unwrap().store;
        for (number, operation) in operations.into_iter().enumerate() {
            let change = batch(&memory, &runtime, operation);
            let expected = runtime.block_on(memory.commit(change.clone()));
            prop_assert_eq!(runtime.block_on(disk.commit(change)), expected);
            if number % 7 == 6 {
                drop(disk);
                disk = SqliteStore::open(&path, None).unwrap().store;
            }
            prop_assert_eq!(
                runtime.block_on(disk.load_all()).unwrap(),
                runtime.block_on(memory.load_all()).unwrap()
            );
        }
    }
}
