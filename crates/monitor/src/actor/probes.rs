//! Looking at the nodes' Postgres: one kept session each in quiet times, a fresh connection on
//! suspicion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgaf_fsm::group::{Probe, ProbeOutcome};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::probe;
use pgaf_protocol::{NodeId, Time};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::input::{Handle, Input};
use crate::clock;

/// Milliseconds between fresh looks at a suspect: at least two end within the default
/// `unhealthy_timeout`. Chosen.
const AGAIN_MS: u64 = 500;
/// Milliseconds between looks at a node that has been suspected for long: a dead host costs next to
/// nothing. Chosen.
const SELDOM_MS: u64 = 5000;
/// Milliseconds after which a suspicion is old. Chosen: four times the default `unhealthy_timeout`.
const OLD_MS: u64 = 10_000;
/// Before a kept session that failed is opened again. Chosen: what a wrong password costs.
const REOPEN: Duration = Duration::from_secs(2);
/// At least this long before a kept session is opened again. Chosen.
const REOPEN_SOON: Duration = Duration::from_millis(200);

/// Kept sessions that are opened at once: a monitor that starts must not need a descriptor for every
/// node at the same moment. Chosen.
const OPENING: usize = 128;

/// Where a node's Postgres listens.
pub(crate) type Address = (String, u16);

/// When a suspect is looked at: often at first, then seldom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    since: Time,
    last: Time,
}

impl Pace {
    /// Suspicion begins; the first look is now.
    pub(crate) fn begin(now: Time) -> Self {
        Self {
            since: now,
            last: now,
        }
    }

    /// When the next look is due.
    pub(crate) fn due(self) -> Time {
        let is_old = self.last.since(self.since) >= clock::ms(OLD_MS);
        self.last
            .plus(clock::ms(if is_old { SELDOM_MS } else { AGAIN_MS }))
    }

    /// Whether a look is due; then it is noted as taken.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let due = self.due() <= now;
        if due {
            self.last = now;
        }
        due
    }
}

/// One node.
#[derive(Debug)]
struct Watched {
    address: Address,
    kept: JoinHandle<()>,
    /// Ends the pause before the next attempt.
    runs: Arc<Notify>,
    fresh: Option<JoinHandle<()>>,
}

/// How many sessions there may be.
#[derive(Debug, Clone)]
struct Room {
    kept: Arc<Semaphore>,
    opening: Arc<Semaphore>,
}

impl Room {
    fn new(kept: usize) -> Self {
        Self {
            kept: Arc::new(Semaphore::new(kept.min(Semaphore::MAX_PERMITS))),
            opening: Arc::new(Semaphore::new(OPENING)),
        }
    }
}

/// All probes under way. Everything ends with the value.
#[derive(Debug)]
pub(crate) struct Probes {
    handle: Handle,
    /// `None` in tests that bring their own evidence.
    room: Option<Room>,
    watched: BTreeMap<NodeId, Watched>,
}

impl Probes {
    /// With room for so many kept sessions; a node beyond them is looked at once, and then on
    /// suspicion only. Without a number, nobody is looked at.
    pub(crate) fn new(handle: Handle, kept: Option<usize>) -> Self {
        Self {
            handle,
            room: kept.map(Room::new),
            watched: BTreeMap::new(),
        }
    }

    /// Keeps a session to each of these nodes and to nobody else.
    pub(crate) fn watch(&mut self, nodes: &BTreeMap<NodeId, Address>, deadline: Duration) {
        let Some(room) = &self.room else {
            return;
        };
        self.watched.retain(|id, watched| {
            let stays = nodes.get(id) == Some(&watched.address);
            if !stays {
                watched.stop();
            }
            stays
        });
        for (id, address) in nodes {
            if !self.watched.contains_key(id) {
                let runs = Arc::new(Notify::new());
                let kept = keep(
                    *id,
                    address.clone(),
                    deadline,
                    self.handle.clone(),
                    Arc::clone(&runs),
                    room.clone(),
                );
                self.watched.insert(
                    *id,
                    Watched {
                        address: address.clone(),
                        kept: tokio::spawn(kept),
                        runs,
                        fresh: None,
                    },
                );
            }
        }
    }

    /// A node says that its Postgres runs: a kept session is worth another attempt.
    pub(crate) fn runs(&self, node: NodeId) {
        if let Some(watched) = self.watched.get(&node) {
            watched.runs.notify_one();
        }
    }

    /// Tries a fresh connection now, unless one is under way.
    pub(crate) fn look(&mut self, node: NodeId, deadline: Duration) {
        let is_looking = |w: &Watched| w.fresh.as_ref().is_some_and(|task| !task.is_finished());
        if !self.watched.get(&node).is_some_and(is_looking) {
            self.look_anew(node, deadline);
        }
    }

    /// Tries a fresh connection now. One that is under way began before what was just learned, and
    /// says nothing about it.
    pub(crate) fn look_anew(&mut self, node: NodeId, deadline: Duration) {
        let Some(watched) = self.watched.get_mut(&node) else {
            return;
        };
        if let Some(stale) = &watched.fresh {
            stale.abort();
        }
        let (handle, address) = (self.handle.clone(), watched.address.clone());
        watched.fresh = Some(tokio::spawn(async move {
            let target = probe::target(&address.0, address.1);
            let probe = try_once(&target, deadline).await;
            tracing::debug!(%node, outcome = ?probe.outcome, "probed");
            handle.tell(Input::Probed { node, probe }).await;
        }));
    }
}

impl Watched {
    fn stop(&self) {
        self.kept.abort();
        if let Some(fresh) = &self.fresh {
            fresh.abort();
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for watched in self.watched.values() {
            watched.stop();
        }
    }
}

fn outcome(probe: &probe::Probe) -> ProbeOutcome {
    match probe {
        probe::Probe::Ok { .. } => ProbeOutcome::Ok,
        probe::Probe::Refused => ProbeOutcome::Refused,
        probe::Probe::TimedOut => ProbeOutcome::TimedOut,
        probe::Probe::Failed(_) => ProbeOutcome::Failed,
    }
}

async fn try_once(target: &Conninfo, deadline: Duration) -> Probe {
    let began = clock::now();
    let result = probe::probe(target, deadline).await;
    Probe {
        began,
        ended: clock::now(),
        outcome: outcome(&result),
    }
}

/// Keeps one session to a node's Postgres; tells when it opens, cannot be opened, or ends.
async fn keep(
    node: NodeId,
    address: Address,
    deadline: Duration,
    handle: Handle,
    runs: Arc<Notify>,
    room: Room,
) {
    let target = probe::target(&address.0, address.1);
    loop {
        // Never closed, so there is always a permit in the end.
        let opening = room.opening.acquire().await;
        let began = clock::now();
        let opened = probe::Session::open(&target, deadline).await;
        let ended = clock::now();
        drop(opening);
        let outcome = match &opened {
            Ok(_) => ProbeOutcome::Ok,
            Err(probe) => outcome(probe),
        };
        let probe = Probe {
            began,
            ended,
            outcome,
        };
        handle.tell(Input::Probed { node, probe }).await;
        match opened {
            Ok((session, _)) => {
                let Ok(_kept) = Arc::clone(&room.kept).try_acquire_owned() else {
                    drop(session);
                    runs.notified().await;
                    continue;
                };
                let words = session.closed().await;
                tracing::debug!(%node, words, "the probe's session has ended");
                handle.tell(Input::ProbeClosed { node }).await;
            }
            Err(_) => {
                let _ = tokio::time::timeout(REOPEN, runs.notified()).await;
            }
        }
        tokio::time::sleep(REOPEN_SOON).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_suspicion_is_looked_at_seldom() {
        let mut pace = Pace::begin(Time(0));
        assert!(!pace.take(Time(499)));
        let looks = (1..=100_000).filter(|ms| pace.take(Time(*ms))).count();
        assert_eq!(looks, 20 + 18);
    }
}
