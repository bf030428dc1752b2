//! A keeper's turn: look, fold, decide, and the one step that follows, on the abstract Postgres.

use pgaf_fsm::node::{
    Accepted, Entry, Extras, Journal, Memory, NodeView, Observation, Outcome, Pause, Plan, Step,
    accept, decide, report,
};
use pgaf_protocol::{
    Answer, Goal, Incarnation, KeeperSettings, Lease, Lineage, Lsn, NodeId, PROTOCOL_VERSION, Peer,
    Position, Report, Stamp, Time,
};

use super::act::{Around, Done, act, goes_on};
use super::control::Control;
use super::names::{self, Names, Numbered};
use super::postgres::Pg;
use super::{LATER, NOW, OLD, Seen};

/// Decisions in a row without an act before it counts as endless.
const ROUNDS: usize = 30;

/// A keeper: its journal, and its process when it runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Keeper {
    pub(super) journal: Journal,
    pub(super) run: Option<Run>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub(super) memory: Memory,
    /// A step that is under way and is not begun anew.
    pub(super) busy: Option<Busy>,
    /// The run of the monitor that its session was opened with.
    pub(super) link: Option<Incarnation>,
}

/// Steps with a middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Busy {
    Promote,
    FastStop,
    Rewind,
}

/// A goal on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Down {
    pub(super) node: NodeId,
    pub(super) goal: Goal,
    pub(super) incarnation: Incarnation,
    pub(super) lease: bool,
}

impl Numbered for Keeper {
    fn visit(&mut self, names: &mut Names) {
        self.journal.visit(names);
        if let Some(run) = &mut self.run {
            names::memory(self.journal.node, &mut run.memory, names);
            if let Some(link) = &mut run.link {
                names.run(link);
            }
        }
    }
}

impl Numbered for Down {
    fn visit(&mut self, names: &mut Names) {
        names::message(self.node, &mut self.goal, names);
        names.run(&mut self.incarnation);
    }
}

/// A node, as the others are told of it.
pub(super) fn peer(node: NodeId) -> Peer {
    Peer {
        node,
        name: String::new(),
        host: String::new(),
        port: 0,
    }
}

impl Keeper {
    /// A keeper starts on what is on its disk.
    pub(super) fn start(&mut self, fresh: u64, control: Option<Control>) {
        if let Some(control) = control {
            control.start(&mut self.journal);
        }
        self.run = Some(Run {
            memory: tidy(
                Memory::new(NOW, pgaf_protocol::CopyId(fresh)),
                Stamp::default(),
            ),
            busy: None,
            link: None,
        });
    }

    /// Looks at Postgres.
    fn look(&mut self, pg: &Pg, away: u8) -> Observation {
        let observation = pg.observe(away);
        if let Some(run) = &mut self.run {
            if run.busy == Some(Busy::Promote) && observation.postgres.is_primary() {
                // `pg_promote` has returned.
                let step = Step::Promote {
                    timeline: pgaf_protocol::TimelineId(0),
                    position: Position::default(),
                };
                let since = observation.since();
                run.memory
                    .finished(&step, &Outcome::Done, &self.journal, since, NOW);
                run.busy = None;
            }
            run.memory.saw(&observation, NOW);
            if let Some((_, since)) = &mut run.memory.replay {
                // Replay is at its end at once, and that takes its moment to be seen.
                *since = OLD;
                run.memory.saw(&observation, NOW);
            }
            run.memory = tidy(run.memory.clone(), self.journal.seen);
        }
        observation
    }

    fn plan(&self, observation: &Observation) -> Option<Plan> {
        Some(decide(&NodeView {
            journal: &self.journal,
            memory: &self.run.as_ref()?.memory,
            observation,
            now: NOW,
        }))
    }

    /// One turn; `None`: it changes nothing.
    pub(super) fn turn(
        &self,
        pg: &Pg,
        around: &Around,
        seen: &mut Seen,
    ) -> Option<(Self, Pg, Option<String>)> {
        let (mut next, mut after) = (self.clone(), pg.clone());
        let mut violation = None;
        for round in 0..=ROUNDS {
            let observation = next.look(&after, around.away);
            if let Some(busy) = next.run.as_ref()?.busy {
                goes_on(&mut next, &mut after, busy, around);
                break;
            }
            let plan = next.plan(&observation)?;
            if round == ROUNDS {
                violation = Some(format!("total: the keeper goes round in circles: {plan:?}"));
                break;
            }
            let Some(step) = plan.step else { break };
            seen.note("step", step.word());
            if let Step::Journal(entry) = step {
                seen.note("journal", entry.word());
                let quiet = matches!(
                    entry,
                    Entry::Reached { .. } | Entry::Standby | Entry::Over | Entry::Prepared
                );
                violation = violation.or(next.write(entry, around));
                if quiet {
                    continue;
                }
                break;
            }
            let done = next.carry_out(&mut after, &step, &observation, around);
            if done != Done::Quiet {
                break;
            }
        }
        let changed = next != *self || after != *pg || violation.is_some();
        changed.then_some((next, after, violation))
    }

    /// Changes the journal; a broken invariant is named.
    fn write(&mut self, entry: Entry, around: &Around) -> Option<String> {
        let (seen, promise) = (self.journal.seen, self.journal.promise);
        let copy = self.journal.copy;
        self.journal.apply(entry);
        if let Some(run) = &mut self.run
            && copy != self.journal.copy
            && self.journal.copy == Some(run.memory.fresh)
        {
            run.memory.fresh = pgaf_protocol::CopyId(around.fresh());
        }
        (self.journal.seen < seen || self.journal.promise < promise)
            .then(|| "never-back: the journal went back".to_owned())
    }

    fn carry_out(
        &mut self,
        pg: &mut Pg,
        step: &Step,
        observation: &Observation,
        around: &Around,
    ) -> Done {
        if let Some(run) = &mut self.run {
            run.memory.began(step);
        }
        let (done, outcome, busy) = act(self, pg, step, around);
        let due = self.journal.checkpoint_due;
        if let Some(run) = &mut self.run {
            run.busy = busy;
            if let Some(outcome) = &outcome {
                let since = observation.since();
                run.memory
                    .finished(step, outcome, &self.journal, since, NOW);
            }
            if outcome == Some(Outcome::Done)
                && matches!(step, Step::NameCopy { .. } | Step::SwapIn { .. })
            {
                run.memory.fresh = pgaf_protocol::CopyId(around.fresh());
            }
            run.memory = tidy(run.memory.clone(), self.journal.seen);
        }
        if outcome == Some(Outcome::Done) {
            if *step == Step::EnsureObjects {
                self.journal.apply(Entry::Prepared);
            }
            if matches!(step, Step::Checkpoint { .. }) && due {
                self.journal.apply(Entry::Checkpointed);
            }
        }
        done
    }

    /// What it would say now.
    pub(super) fn report(&self, pg: &Pg, away: u8) -> Option<Report> {
        let mut looking = self.clone();
        let observation = looking.look(pg, away);
        let plan = looking.plan(&observation)?;
        let run = looking.run.as_ref()?;
        let view = NodeView {
            journal: &looking.journal,
            memory: &run.memory,
            observation: &observation,
            now: NOW,
        };
        let mut report = report(&view, &plan, &Extras::default());
        report.lineage = None;
        report.replayed = None;
        report.redo_bytes = None;
        report.trouble = None;
        for standby in &mut report.standbys {
            standby.flushed = Lsn(0);
        }
        Some(report)
    }

    /// A goal arrives; `None`: it changes nothing.
    pub(super) fn hears(
        &self,
        pg: &Pg,
        down: &Down,
        peers: &[Peer],
        away: u8,
        control: Option<Control>,
        seen: &mut Seen,
    ) -> Option<(Self, Option<String>)> {
        let session = self.run.as_ref()?.link?;
        let answer = answer(down, peers);
        let mut journal = self.journal.clone();
        if let Some(control) = control {
            control.journal(&mut journal);
        }
        let accepted = match accept(&journal, &answer, session) {
            Ok(accepted) => accepted,
            Err(_) => {
                seen.note("event", "keeper.refused");
                return None;
            }
        };
        let mut next = Self {
            journal,
            run: self.run.clone(),
        };
        let changed = match accepted {
            Accepted::Same => {
                next.journal.seen = self.journal.seen;
                false
            }
            Accepted::New(entry) => {
                seen.note("journal", entry.word());
                next.journal.apply(entry);
                true
            }
        };
        let known = next.journal.peers == answer.peers
            && next.journal.incarnation == Some(answer.incarnation);
        if !known {
            next.journal.apply(Entry::Surroundings {
                lineage: answer.lineage,
                incarnation: answer.incarnation,
                peers: answer.peers.clone(),
                settings: answer.settings,
            });
        }
        let obeyed = next.journal.seen;
        let run = next.run.as_mut()?;
        run.memory.obeyed(changed, NOW);
        if answer.lease.is_some() {
            run.memory.leased(LATER);
        }
        run.memory = tidy(run.memory.clone(), obeyed);
        if changed {
            next.reconsider(pg, away);
        }
        let back =
            next.journal.seen < self.journal.seen || next.journal.promise < self.journal.promise;
        let violation =
            (back && control.is_none()).then(|| "never-back: the journal went back".to_owned());
        (next != *self).then_some((next, violation))
    }

    /// A new goal drops a step that is under way, if that may be dropped and another one comes now.
    fn reconsider(&mut self, pg: &Pg, away: u8) {
        let busy = self.run.as_mut().and_then(|r| r.busy.take());
        let Some(busy) = busy else { return };
        let mut looking = self.clone();
        let observation = looking.look(pg, away);
        let wanted = looking.plan(&observation).and_then(|p| p.step);
        let stays = match busy {
            Busy::Rewind => true,
            Busy::Promote => matches!(wanted, Some(Step::Promote { .. })),
            Busy::FastStop => matches!(wanted, Some(Step::Stop { .. })),
        };
        if let Some(run) = &mut self.run {
            run.busy = stays.then_some(busy);
        }
    }

    /// Every limit of this keeper passes.
    pub(super) fn waits_long(&self) -> Option<Self> {
        let mut next = self.clone();
        let run = next.run.as_mut()?;
        run.memory.started = OLD;
        run.memory.goal_since = OLD;
        (next != *self).then_some(next)
    }
}

fn answer(down: &Down, peers: &[Peer]) -> Answer {
    Answer {
        protocol: PROTOCOL_VERSION,
        lineage: Lineage(1),
        incarnation: down.incarnation,
        goal: down.goal.clone(),
        lease: down.lease.then_some(Lease { duration_ms: 5000 }),
        peers: peers
            .iter()
            .filter(|p| p.node != down.node)
            .cloned()
            .collect(),
        settings: KeeperSettings::default(),
        look: None,
        citus: None,
    }
}

/// The canonical form of what a run remembers: two classes of time, no words.
fn tidy(mut memory: Memory, goal: Stamp) -> Memory {
    if memory.lease_until.is_some_and(|until| until > NOW) {
        memory.lease_until = Some(LATER);
    }
    // A pause is over as soon as anybody likes; of two steps it is asked whether they were the last.
    let asked = ["confirm-names", "stop-receiving"];
    memory.pause = memory
        .pause
        .filter(|pause| asked.contains(&pause.step.as_str()))
        .map(|pause| Pause {
            until: Time(0),
            failures: u32::from(pause.failed),
            why: String::new(),
            ..pause
        });
    memory.replay = memory.replay.filter(|_| !memory.settled);
    // A checkpoint for an older goal than the present one counts like none.
    memory.checkpointed = memory.checkpointed.filter(|stamp| *stamp >= goal);
    memory.no_position = memory.no_position.map(|_| String::new());
    memory.failed_starts = memory.failed_starts.min(3);
    memory
}

/// The words of all journal entries that a keeper of the model can make.
pub(super) const ENTRIES: &[&str] = &[
    "obey", "promise", "open", "standby", "begin", "over", "copied", "reached", "dropped",
];
