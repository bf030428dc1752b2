//! The memory of pgaf's monitor: values by key, each with the revision that wrote it.
//!
//! It owns durability, compare-and-swap, the event table and the proof that a store is a
//! continuation of itself. It must never know what the values mean: nothing about nodes or goals
//! is decided here, and it never retries by itself.
//!
//! ```text
//!   monitor ── Batch { expects, puts, deletes, events, marks } ──► Store ──► Revision
//!                                                          │
//!              all batches that wait, in one transaction ──┤  (SqliteStore: own thread)
//!              marks that rose, fsynced outside of it ─────┘  (CounterFile)
//! ```
//!
//! Read first: [`Store`], [`Batch`], [`StoreError`].
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

mod batch;
pub mod contract;
mod counter;
mod error;
mod event;
mod lock;
mod memory;
mod sqlite;

pub use batch::{Batch, Expect, Revision, Versioned};
pub use counter::Continuation;
pub use error::{OpenError, StoreError};
pub use event::{EventFilter, EventRecord, StoredEvent};
pub use memory::MemoryStore;
pub use sqlite::{Opened, SqliteStore};

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

/// What an asynchronous call of a store answers.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Durable values by key, written by compare-and-swap.
///
/// A store is shared: calls may overlap. What was answered is durable; a batch that was answered
/// with an error left no trace, unless the error is [`StoreError::Uncertain`].
pub trait Store: Send + Sync + 'static {
    /// Every value, with the revision that wrote it.
    fn load_all(&self) -> Pending<BTreeMap<String, Versioned>>;

    /// Applies a batch, all or nothing, and answers its revision. An empty batch answers the
    /// present revision and touches no disk.
    fn commit(&self, batch: Batch) -> Pending<Revision>;

    /// The newest events that match, oldest first.
    fn events(&self, filter: EventFilter) -> Pending<Vec<StoredEvent>>;
}
