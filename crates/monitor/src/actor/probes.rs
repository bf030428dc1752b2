//! Looking at the nodes' Postgres: one kept session each in quiet times, a fresh connection on
//! suspicion.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgaf_fsm::group::{Probe, ProbeOutcome};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::probe;
use pgaf_protocol::{NodeId, Time};
use tokio::task::JoinHandle;

use super::input::{Handle, Input};
use crate::clock;

/// Milliseconds between fresh looks at a suspect: at least two end within the default
/// `unhealthy_timeout`. Chosen.
pub(crate) const AGAIN_MS: u64 = 500;
/// Before a kept session that failed is opened again. Chosen: what a wrong password costs.
const REOPEN: Duration = Duration::from_secs(2);
/// Before a kept session that ended is opened again: a restart in place takes longer. Chosen.
const REOPEN_SOON: Duration = Duration::from_millis(300);

/// Where a node's Postgres listens.
pub(crate) type Address = (String, u16);

/// One node.
#[derive(Debug)]
struct Watched {
    address: Address,
    kept: JoinHandle<()>,
    fresh: Option<JoinHandle<()>>,
    fresh_began: Option<Time>,
}

/// All probes under way. Everything ends with the value.
#[derive(Debug)]
pub(crate) struct Probes {
    handle: Handle,
    /// Off in tests that bring their own evidence.
    enabled: bool,
    watched: BTreeMap<NodeId, Watched>,
}

impl Probes {
    pub(crate) fn new(handle: Handle, enabled: bool) -> Self {
        Self {
            handle,
            enabled,
            watched: BTreeMap::new(),
        }
    }

    /// Keeps a session to each of these nodes and to nobody else.
    pub(crate) fn watch(&mut self, nodes: &BTreeMap<NodeId, Address>, deadline: Duration) {
        if !self.enabled {
            return;
        }
        self.watched.retain(|id, watched| {
            let stays = nodes.get(id) == Some(&watched.address);
            if !stays {
                watched.stop();
            }
            stays
        });
        for (id, address) in nodes {
            if !self.watched.contains_key(id) {
                let kept = tokio::spawn(keep(*id, address.clone(), deadline, self.handle.clone()));
                self.watched.insert(
                    *id,
                    Watched {
                        address: address.clone(),
                        kept,
                        fresh: None,
                        fresh_began: None,
                    },
                );
            }
        }
    }

    /// Tries a fresh connection now, unless one is under way.
    pub(crate) fn look(&mut self, node: NodeId, deadline: Duration) {
        let Some(watched) = self.watched.get_mut(&node) else {
            return;
        };
        if watched
            .fresh
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let (handle, address) = (self.handle.clone(), watched.address.clone());
        watched.fresh_began = Some(clock::now());
        watched.fresh = Some(tokio::spawn(async move {
            let target = probe::target(&address.0, address.1);
            let probe = try_once(&target, deadline).await;
            tracing::debug!(%node, outcome = ?probe.outcome, "probed");
            handle.tell(Input::Probed { node, probe }).await;
        }));
    }

    /// Tries again what is suspected for a while; answers when the next try is due.
    pub(crate) fn look_again(
        &mut self,
        suspects: &BTreeSet<NodeId>,
        now: Time,
        deadline: Duration,
    ) -> Option<Time> {
        let mut next = None;
        for node in suspects {
            let began = self.watched.get(node).and_then(|w| w.fresh_began);
            let due = began.map_or(now, |b| b.plus(clock::ms(AGAIN_MS)));
            if due <= now {
                self.look(*node, deadline);
            }
            let due = if due <= now {
                now.plus(clock::ms(AGAIN_MS))
            } else {
                due
            };
            next = Some(next.map_or(due, |n: Time| n.min(due)));
        }
        next
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
async fn keep(node: NodeId, address: Address, deadline: Duration, handle: Handle) {
    let target = probe::target(&address.0, address.1);
    loop {
        let began = clock::now();
        let opened = probe::Session::open(&target, deadline).await;
        let ended = clock::now();
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
                let words = session.closed().await;
                tracing::debug!(%node, words, "the probe's session has ended");
                handle.tell(Input::ProbeClosed { node }).await;
                tokio::time::sleep(REOPEN_SOON).await;
            }
            Err(_) => tokio::time::sleep(REOPEN).await,
        }
    }
}
