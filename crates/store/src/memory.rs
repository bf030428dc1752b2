//! A store that forgets everything with its process: for tests and simulations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{Batch, Revision, Versioned};
use crate::error::StoreError;
use crate::event::{EventFilter, KEPT_EVENTS, StoredEvent};
use crate::{Pending, Store};

/// The state behind the lock.
#[derive(Debug, Default)]
struct State {
    revision: Revision,
    values: BTreeMap<String, Versioned>,
    events: Vec<StoredEvent>,
    last_event: i64,
    failure: Option<StoreError>,
}

/// Values in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every commit fail like this until told otherwise; reads go on.
    pub fn fail_with(&self, failure: Option<StoreError>) {
        self.with(|state| state.failure = failure);
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn apply(&mut self, batch: Batch) -> Result<Revision, StoreError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if let Some(key) = batch.conflict(|key| self.values.get(key).map(|v| v.revision)) {
            return Err(StoreError::Conflict { key });
        }
        if batch.is_empty() {
            return Ok(self.revision);
        }
        self.revision = Revision(self.revision.0 + 1);
        let revision = self.revision;
        for key in batch.deletes {
            self.values.remove(&key);
        }
        for (key, value) in batch.puts {
            self.values.insert(key, Versioned { value, revision });
        }
        for record in batch.events {
            self.last_event += 1;
            self.events.push(StoredEvent {
                id: self.last_event,
                record,
            });
        }
        let kept = usize::try_from(KEPT_EVENTS).unwrap_or(usize::MAX);
        let surplus = self.events.len().saturating_sub(kept);
        self.events.drain(..surplus);
        Ok(revision)
    }
}

impl Store for MemoryStore {
    fn load_all(&self) -> Pending<BTreeMap<String, Versioned>> {
        let values = self.with(|state| state.values.clone());
        Box::pin(std::future::ready(Ok(values)))
    }

    fn commit(&self, batch: Batch) -> Pending<Revision> {
        let outcome = self.with(|state| state.apply(batch));
        Box::pin(std::future::ready(outcome))
    }

    fn events(&self, filter: EventFilter) -> Pending<Vec<StoredEvent>> {
        let found = self.with(|state| {
            let mut found: Vec<_> = state
                .events
                .iter()
                .rev()
                .filter(|e| filter.matches(&e.record))
                .take(filter.limit as usize)
                .cloned()
                .collect();
            found.reverse();
            found
        });
        Box::pin(std::future::ready(Ok(found)))
    }
}
