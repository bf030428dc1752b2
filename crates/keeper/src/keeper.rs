//! The loop: observe → fold → decide → journal → act → report.
//!
//! Owns the journal and the order of things. It must never act on what is not journaled, and never
//! judge high availability itself: `pgaf_fsm::node` does.

mod citus;
mod leave;
mod say;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pgaf_fsm::node::{
    Accepted, Entry, Extras, Journal, Memory, NodeView, Observation, Outcome, Plan, Step, accept,
    decide,
};
use pgaf_protocol::{Answer, Incarnation, Look, Peer, Time};
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::{self, JumpWatch};
use crate::fencer::Fencer;
use crate::instance::Instance;
use crate::journal::JournalFile;
use crate::session::{Incoming, Outgoing};

/// A wish for a fresh look at a peer, and where the answer goes.
pub(crate) type LookWish = (u64, Peer);

/// Why the loop's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something happened: go on.
    Go,
    /// The node is dropped, Postgres is down, and the monitor was told.
    Dropped,
}

type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;
type Looking<'a> = Pin<Box<dyn Future<Output = Observation> + 'a>>;

/// What the loop is connected to.
pub(crate) struct Ends {
    /// Answers of the monitor.
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    /// Reports to the monitor.
    pub(crate) outgoing: watch::Sender<Outgoing>,
    /// The journal, for the instance.
    pub(crate) published: watch::Sender<Arc<Journal>>,
    /// Postgres has ended.
    pub(crate) wake: Arc<Notify>,
    /// Looks that were made.
    pub(crate) looks: mpsc::Receiver<Look>,
    /// Looks that are wanted.
    pub(crate) wishes: mpsc::Sender<LookWish>,
    /// Who ends Postgres with the lease.
    pub(crate) fencer: Rc<Fencer>,
    /// What the Citus task is to do.
    pub(crate) citus_orders: watch::Sender<crate::citus::Orders>,
    /// What it has found.
    pub(crate) citus_found: watch::Receiver<crate::citus::Found>,
}

/// One keeper.
pub(crate) struct Keeper<'a, I: Instance> {
    instance: &'a I,
    file: JournalFile,
    /// Its name and address, as configured; the id is the journal's.
    address: Peer,
    journal: Journal,
    memory: Memory,
    observation: Observation,
    plan: Plan,
    extras: Extras,
    ends: Ends,
    running: Option<(Step, Running<'a>)>,
    looking: Option<Looking<'a>>,
    /// A look is needed before the next decision.
    stale: bool,
    /// Postgres and PGDATA were looked at: before that nothing is said and nothing is decided.
    has_looked: bool,
    /// The session's task lives.
    connected: bool,
    /// The journal could not be written; not again before then.
    journal_pause: Option<Time>,
    jumps: JumpWatch,
    said: Option<pgaf_protocol::Report>,
    number: u64,
    answered_number: u64,
    last_wish: u64,
    /// When Postgres was looked at last.
    looked: Time,
    logged: Logged,
    /// What the monitor said last about Citus.
    citus: pgaf_protocol::CitusOrders,
}

/// What was logged last, so that it is logged once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Logged {
    trouble: Option<String>,
    waiting: Option<String>,
    refused: Option<String>,
}

impl<'a, I: Instance> Keeper<'a, I> {
    /// Makes a keeper of what is on disk.
    pub(crate) fn new(
        instance: &'a I,
        file: JournalFile,
        address: Peer,
        journal: Journal,
        ends: Ends,
    ) -> Self {
        let memory = Memory::new(clock::now(), pgaf_postgres::copy::draw());
        Self {
            instance,
            file,
            address,
            journal,
            memory,
            observation: Observation::default(),
            plan: Plan::default(),
            extras: Extras::default(),
            ends,
            running: None,
            looking: None,
            stale: true,
            has_looked: false,
            connected: true,
            journal_pause: None,
            jumps: JumpWatch::new(),
            said: None,
            number: 0,
            answered_number: 0,
            last_wish: 0,
            looked: clock::now(),
            logged: Logged::default(),
            citus: pgaf_protocol::CitusOrders::default(),
        }
    }

    /// What is on disk.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What was seen last.
    pub(crate) fn observation(&self) -> &Observation {
        &self.observation
    }

    /// The configuration has changed: everything that is made of it is made anew.
    pub(crate) fn configured(&mut self, address: Peer) {
        self.address = address;
        self.memory.reconfigured();
        self.look_anew();
    }

    /// Whether the monitor has answered the newest report.
    pub(crate) fn is_heard(&self) -> bool {
        self.answered_number >= self.number
    }

    fn view(&self) -> NodeView<'_> {
        NodeView {
            journal: &self.journal,
            memory: &self.memory,
            observation: &self.observation,
            now: clock::now(),
        }
    }

    /// Waits for one thing to happen, and does what follows from it.
    pub(crate) async fn turn(&mut self) -> Turn {
        if self.stale && self.looking.is_none() {
            self.looking = Some(Box::pin(self.instance.observe()));
        }
        let sleep = self.sleep();
        tokio::select! {
            biased;
            incoming = self.ends.incoming.recv(), if self.connected => match incoming {
                Some(Incoming::Answer { answer, session, sent, number }) => {
                    if let Some(number) = number {
                        self.answered_number = self.answered_number.max(number);
                    }
                    self.heard(*answer, session, sent);
                }
                Some(Incoming::Announced(as_peer)) => {
                    tracing::info!(name = %as_peer.name, host = %as_peer.host, port = as_peer.port, "the monitor knows the new name and address");
                    self.commit(Entry::Announced { as_peer });
                    self.publish();
                }
                None => self.connected = false,
            },
            () = self.ends.wake.notified() => self.look_anew(),
            outcome = poll(&mut self.running) => self.finished(outcome),
            observation = poll_look(&mut self.looking) => self.saw(observation),
            Some(look) = self.ends.looks.recv(), if self.has_looked => {
                self.extras.look = Some(look);
                self.publish();
            }
            Ok(()) = self.ends.citus_found.changed(), if self.has_looked => {
                let found = self.ends.citus_found.borrow_and_update().clone();
                self.extras.metadata = found.metadata;
                self.extras.shut_out = found.shut_out;
                self.publish();
            }
            // A look that is under way is not begun again: its own deadline ends it.
            () = tokio::time::sleep(sleep) => self.stale = true,
        }
        if self.plan.end && self.is_heard() {
            return Turn::Dropped;
        }
        Turn::Go
    }

    /// What is being looked at just now is out of date already.
    fn look_anew(&mut self) {
        self.looking = None;
        self.stale = true;
    }

    /// How long nothing needs to be looked at.
    fn sleep(&self) -> Duration {
        let heartbeat = Duration::from_millis(self.journal.settings.heartbeat_interval_ms);
        if self.looking.is_some() {
            return heartbeat;
        }
        // Counted from the last look: answers and wishes that come in between do not put it off.
        let regular = clock::until(self.looked.plus(heartbeat));
        let planned = self.plan.look_again.map_or(regular, clock::until);
        regular.min(planned)
    }

    fn saw(&mut self, observation: Observation) {
        self.looking = None;
        self.stale = false;
        self.has_looked = true;
        self.looked = clock::now();
        if self.jumps.jumped() {
            tracing::warn!("the clock has jumped: the lease is over");
            self.memory.clock_jumped();
            self.tell_fencer();
        }
        let before = self.observation.postgres;
        self.observation = observation;
        if before != self.observation.postgres {
            tracing::debug!(postgres = ?self.observation.postgres, "looked at Postgres");
        }
        self.memory.saw(&self.observation, clock::now());
        self.advance(false);
    }

    fn finished(&mut self, outcome: Outcome) {
        let Some((step, _)) = self.running.take() else {
            return;
        };
        tracing::debug!(step = step.word(), ?outcome, "step ended");
        let since = self.observation.since();
        self.memory
            .finished(&step, &outcome, &self.journal, since, clock::now());
        if let Outcome::Failed { why } = &outcome {
            let step = step.word();
            // Two nodes that wait for each other meet half-way: once is nothing odd.
            match self.memory.pause.as_ref().map_or(0, |pause| pause.failures) {
                0 | 1 => tracing::info!(step, why, "a step has failed, it is repeated"),
                _many => tracing::warn!(step, why, "a step has failed again, it is repeated"),
            }
        }
        if outcome == Outcome::Done {
            if step == Step::EnsureObjects {
                self.commit(Entry::Prepared);
            }
            if matches!(step, Step::Checkpoint { .. }) && self.journal.checkpoint_due {
                self.commit(Entry::Checkpointed);
            }
            if matches!(step, Step::NameCopy { .. } | Step::SwapIn { .. }) {
                self.memory.fresh = pgaf_postgres::copy::draw();
            }
        }
        self.look_anew();
    }

    /// Takes in what the monitor said.
    fn heard(&mut self, answer: Answer, session: Incarnation, sent: Option<Time>) {
        let accepted = match accept(&self.journal, &answer, session) {
            Ok(accepted) => accepted,
            Err(refused) => {
                let text = refused.to_string();
                if self.logged.refused.as_ref() != Some(&text) {
                    tracing::warn!("refuses a goal: {text}");
                    self.logged.refused = Some(text);
                }
                return;
            }
        };
        self.logged.refused = None;
        self.extras.answered = true;
        let surroundings = Entry::Surroundings {
            lineage: answer.lineage,
            incarnation: answer.incarnation,
            peers: answer.peers.clone(),
            settings: answer.settings,
        };
        let moved = self.journal.peers != answer.peers
            || self.journal.settings != answer.settings
            || self.journal.lineage != Some(answer.lineage)
            || self.journal.incarnation != Some(answer.incarnation);
        // A push is short: it carries neither peers nor settings when they did not change.
        let complete = sent.is_some() || !answer.peers.is_empty();
        let changed = match accepted {
            Accepted::Same => {
                self.memory.obeyed(false, clock::now());
                false
            }
            Accepted::New(entry) => {
                tracing::info!(
                    stamp = %answer.goal.stamp,
                    state = %answer.goal.state,
                    rule = %answer.goal.rule,
                    "new goal"
                );
                if !self.commit(entry) {
                    return;
                }
                self.memory.obeyed(true, clock::now());
                true
            }
        };
        if complete && moved {
            self.commit(surroundings);
        }
        if let (Some(lease), Some(sent)) = (answer.lease, sent) {
            let until = sent.plus(Duration::from_millis(u64::from(lease.duration_ms)));
            self.memory.granted(until, answer.incarnation);
            self.tell_fencer();
        }
        if let Some(orders) = answer.citus {
            self.citus = orders;
        }
        if let Some((number, peer)) = answer.look
            && number != self.last_wish
        {
            self.last_wish = number;
            let _full = self.ends.wishes.try_send((number, peer));
        }
        self.advance(changed);
    }

    /// The fencer guards the end of the lease that is held now.
    fn tell_fencer(&self) {
        if self.journal.lease().is_some() {
            self.ends.fencer.renew(self.memory.lease_until);
        }
    }

    /// Decides, reports, and begins the next step. With `goal_changed`, a step under way may be
    /// dropped for another one.
    fn advance(&mut self, goal_changed: bool) {
        if !self.has_looked {
            return;
        }
        loop {
            self.plan = decide(&self.view());
            self.log_plan();
            self.publish();
            self.order_citus();
            if let Some((step, _)) = &self.running {
                let dropped =
                    goal_changed && step.may_be_dropped() && self.plan.step.as_ref() != Some(step);
                if !dropped {
                    return;
                }
                tracing::info!(step = step.word(), "drops a step for a more urgent one");
                self.running = None;
                self.look_anew();
                return;
            }
            if self.stale {
                return;
            }
            match self.plan.step.take() {
                None => return,
                Some(Step::Journal(entry)) => {
                    if self.journal_pause.is_some_and(|until| clock::now() < until) {
                        return;
                    }
                    if !self.commit(entry) {
                        return;
                    }
                }
                Some(step) => {
                    tracing::debug!(?step, "step begins");
                    self.memory.began(&step);
                    self.running = Some((step.clone(), Box::pin(self.instance.apply(step))));
                    return;
                }
            }
        }
    }

    /// Makes a change of the journal durable; answers whether it is.
    fn commit(&mut self, entry: Entry) -> bool {
        let word = entry.word();
        crate::failpoint::hit(&format!("before-journal-{word}"));
        let before = (self.journal.state, self.journal.copy);
        let mut next = self.journal.clone();
        next.apply(entry);
        if let Err(error) = self.file.store(&next) {
            tracing::error!(
                error = %crate::words(&error),
                "cannot write the journal: nothing is done before that works"
            );
            self.journal_pause = Some(clock::now().plus(Duration::from_millis(500)));
            return false;
        }
        self.journal_pause = None;
        crate::failpoint::hit(&format!("after-journal-{word}"));
        if next.state != before.0 {
            tracing::info!(from = %before.0, to = %next.state, "state reached");
        }
        let renewed = next.copy != before.1;
        self.journal = next;
        self.ends
            .published
            .send_replace(Arc::new(self.journal.clone()));
        if renewed && Some(self.memory.fresh) == self.journal.copy {
            let named = self
                .observation
                .directory
                .contents()
                .is_some_and(|contents| contents.copy == self.journal.copy);
            if named {
                self.memory.fresh = pgaf_postgres::copy::draw();
            }
        }
        true
    }
}

/// The running step, or never.
async fn poll(running: &mut Option<(Step, Running<'_>)>) -> Outcome {
    match running {
        Some((_, future)) => future.await,
        None => std::future::pending().await,
    }
}

/// The look under way, or never.
async fn poll_look(looking: &mut Option<Looking<'_>>) -> Observation {
    match looking {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
