//! Whether the upstream still keeps the WAL that a standby needs next.
//!
//! A standby whose slot was given up asks for WAL that is not there, for ever. Its own Postgres says
//! so in the log only; the upstream's slot says it to anybody who asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgaf_fsm::node::Server as Seen;
use pgaf_postgres::client::{self, Options};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_protocol::{CopyId, Lsn, Time};

use super::Local;
use crate::clock;

/// Asked this often, and only while the standby does not stream.
const EVERY: Duration = Duration::from_secs(5);
/// For the answer.
const LIMIT: Duration = Duration::from_secs(2);

/// A slot that is lost, or that begins after what the standby has.
const SLOT: &str = "SELECT coalesce(wal_status = 'lost', false) \
     OR coalesce(restart_lsn > $2::text::pg_lsn, false) \
     FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND NOT active";

/// What was learnt last.
#[derive(Debug, Default)]
pub(super) struct Kept {
    asked: Mutex<Option<Time>>,
    /// The copy whose WAL is gone, and how often that was said in a row: a slot that was made just
    /// now may begin after what its standby has, and the WAL be there all the same.
    gone: Arc<Mutex<Option<(CopyId, u32)>>>,
}

impl Local {
    /// Whether the WAL that this copy needs next is gone, as far as is known. Asks in the
    /// background: a look never waits for another host.
    pub(super) fn wal_gone(&self, server: Option<&Seen>) -> bool {
        let journal = self.journal();
        let gone = *self
            .kept
            .gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = gone.is_some_and(|(copy, times)| journal.copy == Some(copy) && times > 1);
        let Some(server) = server.filter(|server| server.in_recovery) else {
            // Not running: what was known of the copy stands.
            return known;
        };
        if server.receiver.is_some_and(|receiver| receiver.streaming) {
            *self
                .kept
                .gone
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = None;
            return false;
        }
        let now = clock::now();
        let mut asked = self
            .kept
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = asked.is_none_or(|at| now.since(at) >= EVERY);
        if let (true, Some(upstream), Some(copy)) = (due, &journal.upstream, journal.copy) {
            // The first time only begins the wait: a receiver needs a moment.
            if asked.replace(now).is_some() {
                let result = Arc::clone(&self.kept.gone);
                let slot = journal.node.standby_name();
                let source = self.source(upstream);
                let position = server.lsn;
                tokio::spawn(async move {
                    let gone = ask(source, slot, position).await == Some(true);
                    let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
                    let before = result.filter(|(known, _)| *known == copy);
                    *result = gone.then(|| (copy, before.map_or(0, |(_, times)| times) + 1));
                    if gone {
                        tracing::warn!(
                            %position,
                            "the upstream does not keep the WAL any more that is needed next"
                        );
                    }
                });
            }
        }
        known
    }
}

async fn ask(source: Conninfo, slot: String, position: Lsn) -> Option<bool> {
    let options = Options {
        connect_timeout: LIMIT,
        application_name: "pgaf keeper".into(),
    };
    let client = client::connect(&source, &options).await.ok()?;
    let text = position.to_string();
    let rows = client.query(SLOT, &[&slot, &text], LIMIT).await.ok()?;
    rows.first()?.try_get(0).ok()
}
