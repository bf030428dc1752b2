//! What every backend must do: one suite, run over all of them.
//!
//! Public so that a backend elsewhere can run it too. Each check gets an empty store of its own and
//! says in a sentence what is broken.

use pgaf_protocol::{FormationId, GroupId, NodeId, NodeState};

use crate::event::KEPT_EVENTS;
use crate::{Batch, EventFilter, EventRecord, Expect, Revision, Store, StoreError};

/// What a check found: nothing, or the sentence that describes the fault.
pub type Verdict = Result<(), String>;

/// Runs every check; `fresh` makes an empty store.
///
/// # Errors
/// The first broken rule.
pub async fn check<S: Store>(mut fresh: impl FnMut() -> S) -> Verdict {
    an_empty_store_has_no_values(&fresh()).await?;
    a_value_carries_the_revision_that_wrote_it(&fresh()).await?;
    a_batch_that_read_something_else_is_refused_whole(&fresh()).await?;
    an_empty_batch_changes_nothing(&fresh()).await?;
    of_two_batches_that_overlap_one_wins(&fresh()).await?;
    events_keep_their_order_and_are_filtered(&fresh()).await?;
    old_events_make_room(&fresh()).await
}

fn ensure(holds: bool, rule: &str) -> Verdict {
    if holds { Ok(()) } else { Err(rule.into()) }
}

fn text(error: StoreError) -> String {
    error.to_string()
}

fn write(key: &str, revision: Option<Revision>, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(key, revision, value.into());
    batch
}

async fn an_empty_store_has_no_values(store: &impl Store) -> Verdict {
    ensure(
        store.load_all().await.map_err(text)?.is_empty(),
        "an empty store has values",
    )?;
    let events = store.events(EventFilter {
        limit: 10,
        ..EventFilter::default()
    });
    ensure(
        events.await.map_err(text)?.is_empty(),
        "an empty store has events",
    )
}

async fn a_value_carries_the_revision_that_wrote_it(store: &impl Store) -> Verdict {
    let first = store.commit(write("a", None, "1")).await.map_err(text)?;
    let second = store.commit(write("b", None, "2")).await.map_err(text)?;
    ensure(second > first, "revisions do not rise")?;
    let third = store
        .commit(write("a", Some(first), "3"))
        .await
        .map_err(text)?;
    let values = store.load_all().await.map_err(text)?;
    ensure(
        values["a"].revision == third && values["a"].value == "3" && values["b"].revision == second,
        "a value does not carry the revision that wrote it",
    )?;
    let mut batch = Batch::default();
    batch.delete("b", second);
    store.commit(batch).await.map_err(text)?;
    ensure(
        !store.load_all().await.map_err(text)?.contains_key("b"),
        "a deleted value is still there",
    )
}

async fn a_batch_that_read_something_else_is_refused_whole(store: &impl Store) -> Verdict {
    let first = store.commit(write("a", None, "1")).await.map_err(text)?;
    let second = store
        .commit(write("a", Some(first), "2"))
        .await
        .map_err(text)?;
    for stale in [None, Some(first), Some(Revision(second.0 + 1))] {
        let mut batch = write("a", stale, "x");
        batch.put("other", None, "x".into());
        batch.events.push(sample_event("default", 0, "x"));
        let outcome = store.commit(batch).await;
        ensure(
            outcome == Err(StoreError::Conflict { key: "a".into() }),
            "a batch that read something else is not refused as a conflict",
        )?;
    }
    let values = store.load_all().await.map_err(text)?;
    ensure(
        values.len() == 1 && values["a"].value == "2",
        "a refused batch left values behind",
    )?;
    let events = store.events(EventFilter {
        limit: 10,
        ..EventFilter::default()
    });
    ensure(
        events.await.map_err(text)?.is_empty(),
        "a refused batch left events behind",
    )
}

async fn an_empty_batch_changes_nothing(store: &impl Store) -> Verdict {
    let first = store.commit(write("a", None, "1")).await.map_err(text)?;
    let mut batch = Batch::default();
    batch.expects.insert("a".into(), Expect::At(first));
    let empty = store.commit(batch).await.map_err(text)?;
    ensure(empty == first, "an empty batch has a revision of its own")?;
    let mut batch = Batch::default();
    batch.expects.insert("a".into(), Expect::Absent);
    ensure(
        store.commit(batch).await.is_err(),
        "an empty batch is not checked for what it expects",
    )
}

async fn of_two_batches_that_overlap_one_wins(store: &impl Store) -> Verdict {
    let first = store.commit(write("a", None, "0")).await.map_err(text)?;
    // Both are under way before either is awaited.
    let left = store.commit(write("a", Some(first), "left"));
    let right = store.commit(write("a", Some(first), "right"));
    let other = store.commit(write("b", None, "1"));
    let (left, right, other) = (left.await, right.await, other.await);
    ensure(
        left.is_ok() != right.is_ok(),
        "of two batches on one value not exactly one wins",
    )?;
    ensure(other.is_ok(), "a batch fails because another one lost")?;
    let values = store.load_all().await.map_err(text)?;
    let winner = if left.is_ok() { "left" } else { "right" };
    ensure(
        values["a"].value == winner,
        "the loser's value is in the store",
    )
}

async fn events_keep_their_order_and_are_filtered(store: &impl Store) -> Verdict {
    let batch = Batch {
        events: vec![
            sample_event("default", 0, "one"),
            sample_event("default", 1, "two"),
            sample_event("other", 0, "three"),
            sample_event("default", 0, "four"),
        ],
        ..Batch::default()
    };
    store.commit(batch).await.map_err(text)?;
    let find = |formation: Option<&str>, group: Option<i32>, limit| {
        store.events(EventFilter {
            formation: formation.map(FormationId::from),
            group: group.map(GroupId),
            limit,
        })
    };
    let words = |found: Vec<crate::StoredEvent>| {
        found
            .into_iter()
            .map(|e| e.record.description)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let all = find(None, None, 10).await.map_err(text)?;
    ensure(
        all.windows(2).all(|pair| pair[0].id < pair[1].id),
        "event numbers do not rise",
    )?;
    ensure(
        words(all) == "one two three four",
        "events are not in order",
    )?;
    ensure(
        words(find(None, None, 2).await.map_err(text)?) == "three four",
        "a limit does not keep the newest events",
    )?;
    ensure(
        words(find(Some("default"), Some(0), 10).await.map_err(text)?) == "one four",
        "events are not filtered by formation and group",
    )
}

/// An event for tests.
#[must_use]
pub fn sample_event(formation: &str, group: i32, description: &str) -> EventRecord {
    EventRecord {
        time: 1,
        formation: FormationId::from(formation),
        group: GroupId(group),
        node: NodeId(1),
        name: "node_1".into(),
        host: "localhost".into(),
        port: 5432,
        reported: NodeState::Single,
        goal: NodeState::Primary,
        replication_state: "unknown".into(),
        position: None,
        candidate_priority: 50,
        replication_quorum: true,
        rule: "test".into(),
        description: description.into(),
    }
}

/// Fault 6 of the old program: its table of events grows without bound.
async fn old_events_make_room(store: &impl Store) -> Verdict {
    /// More than a backend may keep for a while before it removes them at once.
    const SURPLUS: u64 = 2_000;
    let newest = KEPT_EVENTS + SURPLUS;
    for first in (1..=newest).step_by(4_000) {
        let last = (first + 3_999).min(newest);
        let events = (first..=last)
            .map(|number| sample_event("default", 0, &number.to_string()))
            .collect();
        let batch = Batch {
            events,
            ..Batch::default()
        };
        store.commit(batch).await.map_err(text)?;
    }
    let all = EventFilter {
        limit: u32::MAX,
        ..EventFilter::default()
    };
    let kept = store.events(all).await.map_err(text)?;
    let count = u64::try_from(kept.len()).unwrap_or(u64::MAX);
    ensure(count >= KEPT_EVENTS, "fewer events are kept than promised")?;
    ensure(count < KEPT_EVENTS + SURPLUS, "events are kept for ever")?;
    ensure(
        kept.last()
            .is_some_and(|event| event.record.description == newest.to_string()),
        "the newest event is not kept",
    )
}
