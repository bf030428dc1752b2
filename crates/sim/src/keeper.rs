//! The keeper's shell: observe, fold, decide, journal, act, report, with the shipped brain.
//!
//! Owns one run of a keeper and its session to the monitor. What it decides comes from
//! [`pgaf_fsm::node`] alone.

mod session;

use std::collections::BTreeMap;

use pgaf_fsm::node::{
    Accepted, Entry, Extras, Memory, NodeView, Observation, Outcome, Plan, Step, accept, decide,
    report,
};
use pgaf_protocol::{
    Answer, Incarnation, Look, Lsn, PROTOCOL_VERSION, Peer, Registration, Report, Time,
};

use crate::event::{Down, Event, KeeperEvent, Up};
use crate::faults::Moment;
use crate::net::Place;
use crate::sabotage::Sabotage;
use crate::world::World;

/// A report or registration without an answer for this long ends the session.
const ANSWER_DEADLINE: u64 = 2000;
/// Between two attempts to open a session.
const RECONNECT: u64 = 200;
/// A peer's Postgres that does not answer a look within this is not reached.
const LOOK_DEADLINE: u64 = 1000;
/// A standby within this of its primary counts as near: the daemon's value.
const NEAR: u64 = 16 * 1024 * 1024;
/// Decisions in a row without an outcome before the loop counts as endless.
const ROUNDS: usize = 60;

/// A session as the keeper sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) incarnation: Option<Incarnation>,
    sent: u64,
    received: u64,
    early: BTreeMap<u64, Down>,
    asked: Option<u64>,
}

/// A step under way.
#[derive(Debug, Clone)]
pub(crate) struct Doing {
    pub(crate) step: Step,
    pub(crate) number: u64,
    pub(crate) since: u64,
    /// How far it is: each step counts for itself.
    pub(crate) phase: u32,
    /// What it has noted for its next phase.
    pub(crate) note: u64,
}

/// One run of a keeper.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    pub(crate) run: u64,
    pub(crate) memory: Memory,
    pub(crate) link: Option<Link>,
    reconnect_at: u64,
    pub(crate) step: Option<Doing>,
    observation: Observation,
    /// The look under way.
    looking: Option<u64>,
    stale: bool,
    starts_failed: u32,
    /// What was said last, its report and whether it is still to be sent.
    said: Option<Report>,
    report: Report,
    unsent: bool,
    sent_at: u64,
    look: Option<Look>,
    answered: bool,
    pub(crate) plan: Plan,
    wake_at: u64,
}

impl Keeper {
    fn new(run: u64, memory: Memory) -> Self {
        Self {
            run,
            memory,
            link: None,
            reconnect_at: 0,
            step: None,
            observation: Observation::default(),
            looking: None,
            stale: true,
            starts_failed: 0,
            said: None,
            report: Report::default(),
            unsent: false,
            sent_at: 0,
            look: None,
            answered: false,
            plan: Plan::default(),
            wake_at: u64::MAX,
        }
    }

    /// What is being looked at just now is out of date already.
    fn look_anew(&mut self) {
        self.looking = None;
        self.stale = true;
    }
}

impl World {
    /// A keeper starts: only its journal is left of the last one.
    pub(crate) fn start_keeper(&mut self, host: usize) {
        if self.hosts[host].keeper.is_some() || !self.hosts[host].up {
            return;
        }
        if self.is_sabotaged(Sabotage::PromiseLostAtRestart) {
            self.lose_promise(host);
        }
        self.runs += 1;
        let fresh = self.fresh_copy();
        let memory = Memory::new(Time(self.now), fresh);
        self.hosts[host].keeper = Some(Keeper::new(self.runs, memory));
        self.hosts[host].crash_in = None;
        self.note(|| format!("n{} keeper starts", host + 1));
        self.wake_keeper(host, 5);
    }

    /// The keeper's process ends, Postgres and its own children's effects stay.
    pub(crate) fn end_keeper(&mut self, host: usize, closes: bool) {
        let Some(keeper) = self.hosts[host].keeper.take() else {
            return;
        };
        self.note(|| format!("n{} keeper is gone", host + 1));
        self.break_off(host, keeper.step.as_ref());
        if closes && let Some(link) = keeper.link {
            self.session_send(host, link.id, link.sent, Up::Close);
        }
    }

    /// Something happened to Postgres: what was seen is out of date.
    pub(crate) fn rouse_keeper(&mut self, host: usize) {
        if let Some(keeper) = self.hosts[host].keeper.as_mut() {
            keeper.look_anew();
            self.wake_keeper(host, 0);
        }
    }

    fn wake_keeper(&mut self, host: usize, after: u64) {
        let at = self.now + after;
        let Some(keeper) = self.hosts[host].keeper.as_mut() else {
            return;
        };
        if keeper.wake_at <= at && keeper.wake_at >= self.now {
            return;
        }
        keeper.wake_at = at;
        let run = keeper.run;
        let what = KeeperEvent::Wake;
        self.after(after, Event::Keeper { host, run, what });
    }

    pub(crate) fn keeper_event(&mut self, host: usize, run: u64, what: KeeperEvent) {
        let now = self.now;
        let Some(keeper) = self.hosts[host].keeper.as_mut().filter(|k| k.run == run) else {
            return;
        };
        match what {
            KeeperEvent::Wake => {
                if keeper.wake_at > now {
                    return;
                }
                keeper.wake_at = u64::MAX;
                keeper.stale = true;
            }
            KeeperEvent::Step(number) => self.step_goes_on(host, number),
            KeeperEvent::Saw(number, observation) => {
                if keeper.looking == Some(number) {
                    keeper.looking = None;
                    keeper.stale = false;
                    keeper.memory.saw(&observation, Time(now));
                    keeper.observation = *observation;
                    self.advance(host, false);
                }
            }
            KeeperEvent::Looked(look) => {
                keeper.look = Some(look);
                self.publish(host);
            }
        }
        self.keeper_turn(host);
    }

    /// What follows every event: a look when one is needed, words, and when to go on.
    pub(crate) fn keeper_turn(&mut self, host: usize) {
        if self.hosts[host]
            .keeper
            .as_ref()
            .is_some_and(|k| k.stale && k.looking.is_none())
        {
            self.look(host);
        }
        self.keeper_speaks(host);
        let Some(keeper) = self.hosts[host].keeper.as_ref() else {
            return;
        };
        if keeper.plan.end
            && !keeper.unsent
            && keeper.link.as_ref().is_some_and(|l| l.asked.is_none())
        {
            return self.end_keeper(host, true);
        }
        let heartbeat = self.hosts[host].journal.settings.heartbeat_interval_ms;
        let mut after = heartbeat;
        if let Some(again) = keeper.plan.look_again
            && keeper.looking.is_none()
        {
            after = after.min(again.0.saturating_sub(self.now));
        }
        if keeper.link.is_none() {
            after = after.min(keeper.reconnect_at.saturating_sub(self.now));
        }
        self.wake_keeper(host, after.max(1));
    }

    /// Looks at Postgres; the answer takes a moment, and shows what was.
    fn look(&mut self, host: usize) {
        let takes = self.rng.between(1, 6);
        let mut observation = self.observe(host);
        let hung = observation.postgres == pgaf_protocol::Postgres::Unresponsive;
        self.steps += 1;
        let number = self.steps;
        let Some(keeper) = self.hosts[host].keeper.as_mut() else {
            return;
        };
        observation.starts_failed = keeper.starts_failed;
        keeper.looking = Some(number);
        let run = keeper.run;
        let what = KeeperEvent::Saw(number, Box::new(observation));
        let takes = if hung { LOOK_DEADLINE } else { takes };
        self.after(takes, Event::Keeper { host, run, what });
    }

    pub(crate) fn observe(&self, host: usize) -> Observation {
        let pg = &self.hosts[host].pg;
        let redo = pg
            .disk
            .as_ref()
            .map(|d| d.path.end().saturating_sub(d.redo));
        Observation {
            postgres: pg.postgres(),
            leftovers: pg.server.as_ref().is_some_and(|s| s.headless)
                && !self.is_sabotaged(Sabotage::ChildrenNotAwaited),
            directory: pg.directory(),
            server: pg.look(self.now),
            redo_bytes: redo,
            fencer: self.hosts[host].fencer.is_some(),
            ..Observation::default()
        }
    }

    /// Decides on what was seen last.
    fn decides(&mut self, host: usize) -> Option<Plan> {
        let now = Time(self.now);
        let it = &mut self.hosts[host];
        let keeper = it.keeper.as_mut()?;
        let view = NodeView {
            journal: &it.journal,
            memory: &keeper.memory,
            observation: &keeper.observation,
            now,
        };
        let plan = decide(&view);
        keeper.plan.clone_from(&plan);
        if let Some(step) = &plan.step {
            self.coverage.step(step.word());
        }
        Some(plan)
    }

    /// Decides, reports, and begins the next step, as the daemon's loop does.
    fn advance(&mut self, host: usize, goal_changed: bool) {
        for _ in 0..ROUNDS {
            let Some(plan) = self.decides(host) else {
                return;
            };
            self.publish(host);
            let Some(keeper) = self.hosts[host].keeper.as_mut() else {
                return;
            };
            if let Some(doing) = keeper.step.clone() {
                let dropped = goal_changed
                    && doing.step.may_be_dropped()
                    && plan.step.as_ref() != Some(&doing.step);
                if dropped {
                    keeper.step = None;
                    keeper.look_anew();
                    self.note(|| format!("n{} drops {}", host + 1, doing.step.word()));
                    self.break_off(host, Some(&doing));
                }
                return;
            }
            if keeper.stale {
                return;
            }
            match plan.step {
                None => return,
                Some(Step::Journal(entry)) => {
                    if !self.journal(host, entry) {
                        return;
                    }
                }
                Some(step) => return self.begin(host, step),
            }
        }
        let plan = self.hosts[host].keeper.as_ref().map(|k| k.plan.clone());
        self.fail(format!(
            "total: the keeper of n{} goes round in circles: {plan:?}",
            host + 1
        ));
    }

    fn begin(&mut self, host: usize, step: Step) {
        self.steps += 1;
        let (now, number) = (self.now, self.steps);
        let Some(keeper) = self.hosts[host].keeper.as_mut() else {
            return;
        };
        keeper.memory.began(&step);
        let word = step.word();
        let shown = self.tracing.then(|| format!("n{} {step:?}", host + 1));
        keeper.step = Some(Doing {
            step,
            number,
            since: now,
            phase: 0,
            note: 0,
        });
        if let Some(shown) = shown {
            self.note(|| shown);
        }
        self.moment(Moment::Step(word), host);
        self.step_goes_on(host, number);
    }

    /// Changes the journal durably; false when the keeper died of it.
    pub(crate) fn journal(&mut self, host: usize, entry: Entry) -> bool {
        let crash = match self.hosts[host].crash_in.as_mut() {
            Some((0, after)) => Some(*after),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if crash == Some(false) {
            self.note(|| format!("n{} keeper dies before it journals {entry:?}", host + 1));
            self.hosts[host].crash_in = None;
            self.end_keeper(host, true);
            return false;
        }
        let before = self.hosts[host].journal.clone();
        self.note(|| format!("n{} journal {entry:?}", host + 1));
        self.hosts[host].journal.apply(entry);
        if self.hosts[host].journal.promise > before.promise {
            self.hosts[host].journal_before_promise = Some(before.clone());
            self.moment(Moment::Promised, host);
        }
        self.check_journal(host, &before);
        if crash == Some(true) {
            self.note(|| format!("n{} keeper dies after it journaled", host + 1));
            self.hosts[host].crash_in = None;
            self.end_keeper(host, true);
            return false;
        }
        let renewed = before.copy != self.hosts[host].journal.copy;
        self.renew(host, renewed);
        true
    }

    /// A new number for the next copy, once the last one is used.
    fn renew(&mut self, host: usize, renewed: bool) {
        let fresh = self.fresh_copy();
        let copy = self.hosts[host].journal.copy;
        let Some(keeper) = self.hosts[host].keeper.as_mut() else {
            return;
        };
        let named = keeper
            .observation
            .directory
            .contents()
            .is_some_and(|c| c.copy == copy);
        if renewed && Some(keeper.memory.fresh) == copy && named {
            keeper.memory.fresh = fresh;
        }
    }

    fn check_journal(&mut self, host: usize, before: &pgaf_fsm::node::Journal) {
        let after = &self.hosts[host].journal;
        let same_store = before.lineage == after.lineage;
        if (after.seen < before.seen && same_store) || after.promise < before.promise {
            let text = format!("never-back: the journal of n{} went back", host + 1);
            self.fail(text);
        }
    }

    /// Folds the outcome of a step.
    pub(crate) fn step_ends(&mut self, host: usize, outcome: Outcome) {
        let now = Time(self.now);
        let fresh = self.fresh_copy();
        let it = &mut self.hosts[host];
        let Some(keeper) = it.keeper.as_mut() else {
            return;
        };
        let Some(doing) = keeper.step.take() else {
            return;
        };
        let since = keeper.observation.since();
        let checkpoint_due = it.journal.checkpoint_due;
        keeper
            .memory
            .finished(&doing.step, &outcome, &it.journal, since, now);
        if outcome == Outcome::Done
            && matches!(doing.step, Step::NameCopy { .. } | Step::SwapIn { .. })
        {
            keeper.memory.fresh = fresh;
        }
        keeper.look_anew();
        self.note(|| format!("n{} {} ends: {outcome:?}", host + 1, doing.step.word()));
        if outcome == Outcome::Done {
            if doing.step == Step::EnsureObjects {
                self.journal(host, Entry::Prepared);
            }
            if matches!(doing.step, Step::Checkpoint { .. }) && checkpoint_due {
                self.journal(host, Entry::Checkpointed);
            }
        }
    }

    /// The postmaster ended before it ever answered.
    pub(crate) fn start_failed(&mut self, host: usize) {
        if let Some(keeper) = self.hosts[host].keeper.as_mut() {
            keeper.starts_failed += 1;
        }
    }

    /// Makes the report; it is sent at once when it says something new.
    fn publish(&mut self, host: usize) {
        let now = Time(self.now);
        let it = &mut self.hosts[host];
        let Some(keeper) = it.keeper.as_mut() else {
            return;
        };
        let view = NodeView {
            journal: &it.journal,
            memory: &keeper.memory,
            observation: &keeper.observation,
            now,
        };
        let extras = Extras {
            look: keeper.look,
            leaving: false,
            answered: keeper.answered,
            ..Extras::default()
        };
        keeper.report = report(&view, &keeper.plan, &extras);
        let gist = gist(&keeper.report);
        if keeper.said.as_ref() != Some(&gist) {
            keeper.said = Some(gist);
            keeper.unsent = true;
        }
    }
}

/// The report without what changes all the time, as the daemon's own.
fn gist(report: &Report) -> Report {
    let mut gist = report.clone();
    if let Some(position) = &mut gist.position
        && report.postgres.is_running()
    {
        position.lsn = Lsn::ZERO;
    }
    gist.replayed = None;
    gist.redo_bytes = gist.redo_bytes.filter(|_| !report.postgres.is_running());
    for standby in &mut gist.standbys {
        standby.flushed = Lsn::ZERO;
        standby.lag_bytes = u64::from(standby.lag_bytes > NEAR);
    }
    gist
}
