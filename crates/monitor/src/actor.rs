//! The one task that owns the monitor's state: it folds what comes in, lets `pgaf_fsm` decide,
//! makes the outcome durable, and only then tells anybody.
//!
//! ```text
//!   inputs ─► take ─► settle ─► batch ─► store.commit ─┬─ yes ─► answers, goals, notifications
//!   (many)    (State, Turn: no IO)                     └─ no ──► undo; heartbeats still answered
//! ```

mod announce;
mod answer;
mod ask;
mod deadlines;
mod input;
mod keeper;
mod memory;
mod operations;
mod probes;
mod rows;
mod state;
mod turn;

mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pgaf_fsm::group::{Kind, operate};
use pgaf_protocol::{CitusOrders, FormationId, NodeId, NodeState, Peer, Stamp, Time};
use pgaf_store::{Batch, Store, StoreError};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::sql::{Channel, Hub, ScramVerifier, SqlError, codes};

pub(crate) use input::{Handle, Input, channel};
pub(crate) use keeper::wrong_version;
use memory::Key;
pub use memory::LoadError;
pub(crate) use memory::{Memory, Password};
use probes::{Pace, Probes};
pub(crate) use rows::event as event_row;
pub(crate) use state::State;
use turn::{Owed, Turn};

/// Inputs that are taken in one turn at most, before what follows from them is stored. Chosen.
const TURN: usize = 512;
/// The longest sleep in milliseconds: a late end of it shows that the monitor itself was away.
const TICK_MS: u64 = 1000;
/// A sleep that ends this late, in milliseconds, means that the monitor was paused. Chosen.
const AWAY_MS: u64 = 1000;
/// Seconds between two log lines about a disk that takes no writes. Chosen.
const DISK_LINE_EVERY: Duration = Duration::from_secs(60);

/// The actor.
pub(crate) struct Actor {
    pub(crate) state: State,
    store: Arc<dyn Store>,
    hub: Hub,
    probes: Probes,
    look_number: u64,
    /// When suspects are looked at.
    paces: BTreeMap<NodeId, Pace>,
    disk_line: Option<Time>,
    /// Nodes whose Postgres has run: only those are probed.
    watching: BTreeSet<NodeId>,
    /// What each node of a Citus formation was told last, beside its goal.
    told_citus: BTreeMap<NodeId, Option<CitusOrders>>,
}

impl Actor {
    pub(crate) fn new(
        state: State,
        store: Arc<dyn Store>,
        hub: Hub,
        handle: Handle,
        kept_probes: Option<usize>,
    ) -> Self {
        let watching = state.was_running();
        Self {
            state,
            store,
            hub,
            probes: Probes::new(handle, kept_probes),
            look_number: 0,
            paces: BTreeMap::new(),
            disk_line: None,
            watching,
            told_citus: BTreeMap::new(),
        }
    }

    /// Works until `stop`; then every waiting caller learns that the monitor shuts down.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
        let all: BTreeSet<Key> = self.state.memory.keys().into_iter().collect();
        let deadline = self.probe_deadline();
        self.probes.watch(&self.watched(), deadline);
        let mut first = Turn::new(clock::now(), clock::wall());
        first.dirty = all;
        let mut wake = self.turn(first).await;
        loop {
            let asleep = wake.since(clock::now());
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                input = inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => break,
                },
                () = tokio::time::sleep(asleep) => None,
            };
            let now = clock::now();
            if now > wake.plus(clock::ms(AWAY_MS)) {
                tracing::warn!(
                    late_ms = u64::try_from(now.since(wake).as_millis()).unwrap_or(u64::MAX),
                    "the monitor was away: it listens before it judges silence"
                );
                self.state.was_away(now);
            }
            let mut turn = Turn::new(now, clock::wall());
            // Nothing is received that is not taken: its sender waits for the answer.
            let more = std::iter::from_fn(|| inputs.try_recv().ok());
            for input in input.into_iter().chain(more).take(TURN) {
                self.take(&mut turn, input);
            }
            turn.dirty.extend(self.state.deadlines.due(now));
            wake = self.turn(turn).await;
        }
    }

    /// Takes one input; what follows from it is left to the end of the turn.
    fn take(&mut self, turn: &mut Turn, input: Input) {
        match input {
            Input::Report {
                report,
                session,
                at,
                reply,
            } => self.state.take_report(turn, report, session, at, reply),
            Input::Register {
                registration,
                reply,
            } => self.state.take_registration(turn, &registration, reply),
            Input::Operate { call, reply } => self.state.operate(turn, call, reply),
            Input::Ask { question, reply } => {
                turn.owed.push(Owed::Explained { question, reply });
            }
            Input::Snapshot { reply } => turn.owed.push(Owed::Snapshot { reply }),
            Input::Verifier { reply } => turn.owed.push(Owed::Verifier { reply }),
            Input::SetPassword { verifier, reply } => {
                turn.keep_all(&self.state.memory);
                self.state.memory.password = verifier.map(|v| Password(v.to_text()));
                turn.owed.push(Owed::PasswordSet { reply });
            }
            Input::SessionClosed { session, how, at } => {
                if let Some(node) = self.state.session_closed(turn, session, how, at) {
                    self.probes.look_anew(node, self.probe_deadline());
                }
            }
            Input::Probed { node, probe } => self.state.probed(turn, node, probe),
            Input::ProbeClosed { node } => self.probes.look_anew(node, self.probe_deadline()),
            Input::Reload { file, reply } => {
                self.state.file_settings = file;
                let problems = self.state.apply_settings();
                turn.dirty.extend(self.state.memory.keys());
                drop(reply.send(problems));
            }
        }
    }

    fn probe_deadline(&self) -> Duration {
        clock::ms(self.state.settings.probe_deadline_ms)
    }

    /// Ends a turn: decides, stores, tells. Answers when to wake up next.
    async fn turn(&mut self, mut turn: Turn) -> Time {
        for key in std::mem::take(&mut turn.dirty) {
            self.state.settle(&mut turn, &key);
        }
        self.state.raise_longest_lease(&mut turn);
        let batch = turn.batch(&self.state.memory);
        let moved = turn.moved(&self.state.memory);
        if self.store_batch(&mut turn, batch).await {
            self.tell(&turn);
        }
        let unseen = std::mem::take(&mut turn.unseen);
        self.answer(turn);
        let mut more = moved;
        for node in &unseen {
            more |= self.watching.insert(*node);
        }
        if more {
            let deadline = self.probe_deadline();
            self.probes.watch(&self.watched(), deadline);
        }
        for node in unseen {
            self.probes.runs(node);
        }
        self.look()
    }

    /// Makes the turn durable; otherwise takes it back and refuses what rests on it.
    async fn store_batch(&mut self, turn: &mut Turn, batch: Batch) -> bool {
        if batch.is_empty() {
            return true;
        }
        let (puts, deletes) = (batch.puts.clone(), batch.deletes.clone());
        match self.store.commit(batch).await {
            Ok(revision) => {
                self.state.memory.written(&puts, &deletes, revision);
                if self.state.disk.take().is_some() {
                    tracing::info!("the monitor's store takes writes again");
                }
                self.disk_line = None;
                true
            }
            Err(error) => {
                turn.undo(&mut self.state.memory, &mut self.state.live);
                self.state.apply_settings();
                self.complain(turn.now, &error);
                turn.refuse(&refused_by_store(&error));
                if matches!(
                    error,
                    StoreError::Conflict { .. } | StoreError::Uncertain { .. }
                ) {
                    self.reload().await;
                }
                false
            }
        }
    }

    fn complain(&mut self, now: Time, error: &StoreError) {
        let due = self
            .disk_line
            .is_none_or(|last| now.since(last) >= DISK_LINE_EVERY);
        if due || self.state.disk.is_none() {
            self.disk_line = Some(now);
            tracing::error!(
                %error,
                "nothing can be stored: this monitor changes nothing, and goes on answering"
            );
        }
        self.state.disk = Some(error.clone());
    }

    /// Reads everything again: the store is not what this actor thought.
    async fn reload(&mut self) {
        let lineage = self.state.memory.cluster.lineage;
        let incarnation = self.state.memory.cluster.incarnation;
        let loaded = self.store.load_all().await;
        match loaded.map(|values| Memory::load(values, lineage)) {
            Ok(Ok(memory)) if memory.cluster.incarnation == incarnation => {
                self.state.memory = memory;
                self.state.apply_settings();
            }
            Ok(Ok(_)) => tracing::error!("another monitor wrote to this one's store"),
            Ok(Err(error)) => tracing::error!(%error, "the monitor's store cannot be read again"),
            Err(error) => tracing::error!(%error, "the monitor's store cannot be read again"),
        }
    }

    /// Tells what happened, and pushes goals to those whose goal changed.
    fn tell(&mut self, turn: &Turn) {
        for line in &turn.lines {
            tracing::info!("{line}");
            self.hub.publish(Channel::Log, line);
        }
        for happening in &turn.happened {
            happening.publish(&self.hub);
        }
        let answered: BTreeSet<NodeId> = turn.owed.iter().filter_map(Owed::reporter).collect();
        let keys: Vec<Key> = match &turn.memory_before {
            Some(_) => self.state.memory.keys(),
            None => turn.before.keys().cloned().collect(),
        };
        for key in keys {
            let Some((group, changed)) = turn.new_goals(&self.state.memory, &key) else {
                continue;
            };
            for (id, answer) in turn.removed(&key, group, &self.state.answering()) {
                self.push(id, &answer);
            }
            for id in changed.into_iter().filter(|id| !answered.contains(id)) {
                if let Some(node) = group.nodes.get(&id) {
                    self.push(id, &self.state.answering().pushed(group, node));
                }
            }
        }
        self.tell_citus(turn, &answered);
    }

    /// Tells nodes of the Citus formations that this turn touched what is wanted of them now, when
    /// it is something else than they were told last.
    fn tell_citus(&mut self, turn: &Turn, answered: &BTreeSet<NodeId>) {
        let touched: BTreeSet<&FormationId> = turn.before.keys().map(|key| &key.0).collect();
        let formations = &self.state.memory.cluster.formations;
        let ids: Vec<&FormationId> = match &turn.memory_before {
            Some(_) => formations.keys().collect(),
            None => touched.into_iter().collect(),
        };
        let mut pushes = Vec::new();
        let mut told = std::mem::take(&mut self.told_citus);
        let answering = self.state.answering();
        let found = ids.into_iter().filter_map(|id| formations.get(id));
        for formation in found.filter(|f| f.kind == Kind::Citus) {
            for group in formation.groups.values() {
                for node in group.nodes.values() {
                    let orders = answering.citus(group, node);
                    if told.get(&node.id) == Some(&orders) {
                        continue;
                    }
                    told.insert(node.id, orders);
                    if !answered.contains(&node.id) {
                        pushes.push((node.id, answering.pushed(group, node)));
                    }
                }
            }
        }
        self.told_citus = told;
        for (node, answer) in pushes {
            self.push(node, &answer);
        }
    }

    /// Pushes to the session of a node, if it has one. A keeper that does not read loses its
    /// session, and comes back for its goal.
    fn push(&self, node: NodeId, answer: &impl Serialize) {
        if let Some(handle) = self.state.sessions.of(node)
            && let Ok(json) = keeper::to_json(answer)
        {
            handle.push(Channel::Goal, json.into());
        }
    }

    /// Answers what is owed, from the state as it is now durable.
    fn answer(&mut self, turn: Turn) {
        let mut snapshot = None;
        for owed in turn.owed {
            match owed {
                Owed::Goal {
                    key,
                    node,
                    seen,
                    reply,
                } => drop(reply.send(self.goal(&key, node, seen))),
                Owed::Registered {
                    key,
                    mut done,
                    reply,
                } => {
                    if let Some(group) = self.state.memory.group(&key)
                        && let Some(node) = group.nodes.get(&done.node)
                    {
                        done.state = node.goal.state;
                        done.term = group.term;
                    }
                    drop(reply.send(keeper::to_json(&done)));
                }
                Owed::Done { outcome, reply } => drop(reply.send(Ok(outcome))),
                Owed::PasswordSet { reply } => drop(reply.send(Ok(()))),
                Owed::Snapshot { reply } => {
                    let state = &self.state;
                    let snapshot = snapshot.get_or_insert_with(|| {
                        Arc::new(rows::snapshot(
                            &state.memory,
                            &state.live,
                            &state.seen,
                            &state.settings,
                        ))
                    });
                    drop(reply.send(Ok(Arc::clone(snapshot))));
                }
                Owed::Explained { question, reply } => {
                    drop(reply.send(self.state.ask(&question, turn.now)));
                }
                Owed::Verifier { reply } => {
                    let password = self.state.memory.password.as_ref();
                    drop(reply.send(Ok(password.and_then(|p| ScramVerifier::parse(&p.0)))));
                }
            }
        }
    }

    fn goal(&mut self, key: &Key, node: NodeId, seen: Stamp) -> Result<String, SqlError> {
        let answering = self.state.answering();
        let group = self.state.memory.group(key);
        let found = group.and_then(|g| Some((g, g.nodes.get(&node)?)));
        let answer = match found {
            Some((group, node)) => answering.in_reply(group, node),
            // It was removed with this very report.
            None => return keeper::to_json(&answering.dropped(seen)),
        };
        let lease = answer.lease();
        let json = keeper::to_json(&answer);
        if let Some(lease) = lease {
            // Counted from here on; the keeper counts from when it asked.
            let live = self.state.live_mut(key);
            live.note_lease(lease.duration_ms.into(), clock::now());
        }
        json
    }

    /// Has suspects looked at by probes and witnesses; answers when to wake up next.
    fn look(&mut self) -> Time {
        let now = clock::now();
        let deadline = self.probe_deadline();
        let mut wake = now.plus(clock::ms(TICK_MS));
        let all: BTreeSet<NodeId> = self.state.suspects.values().flatten().copied().collect();
        self.paces.retain(|node, _| all.contains(node));
        for node in all {
            let is_new = !self.paces.contains_key(&node);
            let pace = self.paces.entry(node).or_insert_with(|| Pace::begin(now));
            let is_due = pace.take(now) || is_new;
            wake = wake.min(pace.due());
            if is_due {
                self.probes.look(node, deadline);
                self.ask_witnesses(node);
            }
        }
        let deadline = self.state.deadlines.next();
        deadline
            .map_or(wake, |at| wake.min(at))
            .max(now.plus(clock::ms(1)))
    }

    /// Nodes whose Postgres is worth a session.
    fn watched(&self) -> BTreeMap<NodeId, probes::Address> {
        let formations = self.state.memory.cluster.formations.values();
        formations
            .flat_map(|f| f.groups.values())
            .flat_map(|g| g.nodes.values())
            .filter(|n| self.watching.contains(&n.id) && n.goal.state != NodeState::Dropped)
            .map(|n| (n.id, (n.host.clone(), n.port)))
            .collect()
    }

    /// Asks the other members of a suspect's group for a fresh look at it.
    fn ask_witnesses(&mut self, suspect: NodeId) {
        let found = operate::find(&self.state.memory.cluster, suspect);
        let Some(group) = found.and_then(|key| self.state.memory.group(&key)) else {
            return;
        };
        let Some(it) = group.nodes.get(&suspect) else {
            return;
        };
        let peer: Peer = pgaf_fsm::group::peer(it);
        self.look_number += 1;
        for witness in group.nodes.values().filter(|n| n.id != suspect) {
            let look = (self.look_number, peer.clone());
            self.push(
                witness.id,
                &self.state.answering().look(group, witness, look),
            );
        }
    }
}

/// What a caller is told when the store refuses.
fn refused_by_store(error: &StoreError) -> SqlError {
    let code = match error {
        StoreError::Full { .. } | StoreError::ReadOnly { .. } => "53100",
        StoreError::Conflict { .. } | StoreError::Uncertain { .. } => "40001",
        StoreError::Busy { .. } => "53000",
        StoreError::Closed => codes::ADMIN_SHUTDOWN,
        StoreError::Failed { .. } => "58030",
    };
    let hint = match error {
        StoreError::Full { .. } => {
            "Make space on the monitor's disk; reads and heartbeats are still answered."
        }
        StoreError::ReadOnly { .. } => {
            "Make the monitor's directory writable; reads and heartbeats are still answered."
        }
        StoreError::Conflict { .. } | StoreError::Uncertain { .. } | StoreError::Busy { .. } => {
            "Try again."
        }
        StoreError::Closed | StoreError::Failed { .. } => "See the monitor's log.",
    };
    SqlError::new(code, error.to_string()).with_hint(hint)
}
