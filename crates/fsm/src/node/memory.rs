//! What one run of the keeper knows, and how it learns it. None of it survives a keeper crash, and
//! nothing may be wrong when it is missing.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use pgaf_protocol::{
    Confirmed, CopyId, Incarnation, Lsn, NodeId, Order, Peer, Position, Stamp, Time, TimelineId,
};
use serde::{Deserialize, Serialize};

use super::step::{Conf, Names, Outcome, Replication, Step};
use super::{Journal, Observation};

/// After a failure a step waits this long, doubled each time (chosen: short against every deadline
/// on the path of a failover).
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// And never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A step that is not done yet is repeated after this; nothing on the path of a failover waits
/// longer (`design.md` §7).
const NOT_YET_PAUSE: Duration = Duration::from_millis(10);
/// A standby that received nothing since its start has replayed what it has when the replay
/// position has not moved for this long (the retry interval of WAL, 100 ms, and some).
const SETTLED_AFTER: Duration = Duration::from_millis(120);

/// The volatile half of what a keeper knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Memory {
    /// When this run of the keeper began.
    pub started: Time,
    /// The goal in the journal was received from the monitor in this run.
    pub heard: bool,
    /// What the peers said when the monitor was away: whether one is newer.
    pub peers_newer: Option<bool>,
    /// Postgres was seen running in this run.
    pub seen_running: bool,
    /// Postgres has run since its directory was read.
    pub ran: bool,
    /// The lease ends then.
    pub lease_until: Option<Time>,
    /// The run of the monitor that granted it.
    pub lease_from: Option<Incarnation>,
    /// The configuration that the running Postgres has loaded.
    pub conf: Option<Conf>,
    /// The HBA rules that are in place.
    pub hba: Option<Hba>,
    /// The slots that are in place, and in which run of the postmaster.
    pub slots: Option<Slots>,
    /// The configuration seen in force.
    pub confirmed: Option<Confirmed>,
    /// The goal whose checkpoint was done.
    pub checkpointed: Option<Stamp>,
    /// The position of a copy that can receive nothing more.
    pub end: Option<Position>,
    /// The end of valid WAL that was on disk before the start.
    pub disk: Option<Position>,
    /// Why the stopped copy has no position.
    pub no_position: Option<String>,
    /// What a copy without a position has received for certain.
    pub at_least: Option<Position>,
    /// What a running standby shows is all it has.
    pub settled: bool,
    /// Replay was seen there first then.
    pub replay: Option<(Lsn, Time)>,
    /// When the goal came, or this run began.
    pub goal_since: Time,
    /// Commits are known to wait in the Postgres that runs: the checkpointer has its flag
    /// (`safety.md` §2.1). Names that are merely loaded do not prove it.
    pub waits: bool,
    /// Starts of Postgres that failed since it last ran.
    pub failed_starts: u32,
    /// Failed starts that were counted, of all that were ever observed.
    pub starts_counted: u32,
    /// `pg_rewind` has run for this branch: if the copy still cannot follow, only a base backup helps.
    pub rewind_over: bool,
    /// A whole base backup waits in the second directory.
    pub staged: Option<CopyId>,
    /// Whose branch those two are of: upstream and timeline.
    pub branch: Option<(NodeId, TimelineId)>,
    /// A number nobody has, for the next copy. The shell draws a new one once it is used.
    pub fresh: CopyId,
    /// The step that failed last, or was not done yet.
    pub pause: Option<Pause>,
}

/// Rules in place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hba {
    /// For these.
    pub peers: Vec<Peer>,
    /// Only replication and keepers are let in.
    pub closed: bool,
}

/// Slots in place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slots {
    /// Nodes that may stream.
    pub admitted: BTreeSet<NodeId>,
    /// Nodes whose WAL is held.
    pub expected: BTreeSet<NodeId>,
    /// The postmaster that was asked.
    pub since: i64,
    /// When it was asked.
    pub at: Time,
}

/// A step that is not repeated before its time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pause {
    /// Its word.
    pub step: String,
    /// Not before then.
    pub until: Time,
    /// Failures in a row.
    pub failures: u32,
    /// What was said.
    pub why: String,
    /// It failed, rather than not being done yet.
    pub failed: bool,
}

/// The branch that the goal asks to take WAL of.
fn followed(journal: &Journal) -> Option<(NodeId, TimelineId)> {
    match &journal.goal.as_ref()?.order {
        Order::Follow(follow) => Some((follow.upstream.node, follow.history.as_ref()?.timeline)),
        Order::Fetch(fetch) => Some((fetch.source.node, fetch.position.timeline)),
        Order::Wait
        | Order::Lead(_)
        | Order::Promise { .. }
        | Order::Reach(_)
        | Order::Promote(_)
        | Order::Stop
        | Order::Drop => None,
    }
}

impl Memory {
    /// A keeper that has just started.
    #[must_use]
    pub fn new(started: Time, fresh: CopyId) -> Self {
        Self {
            started,
            heard: false,
            peers_newer: None,
            seen_running: false,
            ran: false,
            lease_until: None,
            lease_from: None,
            conf: None,
            hba: None,
            slots: None,
            confirmed: None,
            checkpointed: None,
            end: None,
            disk: None,
            no_position: None,
            at_least: None,
            settled: false,
            replay: None,
            goal_since: started,
            waits: false,
            failed_starts: 0,
            starts_counted: 0,
            rewind_over: false,
            staged: None,
            branch: None,
            fresh,
            pause: None,
        }
    }

    /// Learns that a goal was accepted from the monitor; `changed` when it is a new one.
    pub fn obeyed(&mut self, changed: bool, now: Time) {
        self.heard = true;
        if changed {
            self.goal_since = now;
            self.pause = None;
        }
    }

    /// Whether `pg_rewind` has run for the branch that is followed now.
    #[must_use]
    pub fn has_rewound(&self, journal: &Journal) -> bool {
        self.rewind_over && self.branch == followed(journal)
    }

    /// The base backup that waits in the second directory, if it is of the branch that is followed
    /// now. A new goal that means the same branch does not throw it away.
    #[must_use]
    pub fn staged(&self, journal: &Journal) -> Option<CopyId> {
        self.staged.filter(|_| self.branch == followed(journal))
    }

    /// Notes the branch that a rung of the ladder was taken for; what was done for another is void.
    fn on_branch(&mut self, journal: &Journal) {
        let branch = followed(journal);
        if self.branch != branch {
            self.branch = branch;
            self.rewind_over = false;
            self.staged = None;
        }
    }

    /// Learns from a look.
    pub fn saw(&mut self, observation: &Observation, now: Time) {
        if observation.postgres.is_running() {
            self.seen_running = true;
            self.failed_starts = 0;
            // What was wrong with the stopped copy is over.
            self.no_position = None;
        }
        if observation.starts_failed > self.starts_counted {
            let failed = observation.starts_failed - self.starts_counted;
            self.starts_counted = observation.starts_failed;
            self.failed_starts = self.failed_starts.saturating_add(failed);
            self.conf = None;
            let words = observation.start_words.as_deref();
            let why = words.unwrap_or("Postgres ended before it answered");
            self.paused("start", why, true, now);
        }
        if let Some(server) = &observation.server
            && server.in_recovery
            && !server.names.is_empty()
        {
            // Nothing is acknowledged on a standby: its names were there long before.
            self.waits = true;
        }
        if observation.is_down() && self.ran {
            // More may have been received than was there at its start; only an end after which
            // nothing could be received stands.
            self.ran = false;
            self.disk = self.end;
            self.no_position = None;
            self.at_least = None;
        }
        self.ran |= !observation.is_down();
        if observation.is_down() {
            self.waits = false;
            // What was loaded is gone with the process.
            self.conf = None;
            self.confirmed = None;
            self.slots = None;
            self.replay = None;
            self.settled = false;
        }
        if let Some(since) = observation.since() {
            self.confirmed = self.confirmed.filter(|c| c.postmaster_start == since);
            if self.slots.as_ref().is_some_and(|s| s.since != since) {
                self.slots = None;
            }
        }
        self.settle(observation, now);
        if observation.postgres.is_primary() {
            self.end = None;
            self.disk = None;
        }
    }

    fn settle(&mut self, observation: &Observation, now: Time) {
        let Some(server) = observation.server.as_ref().filter(|s| s.in_recovery) else {
            return;
        };
        if server.received.is_some_and(Lsn::is_valid) && server.receiver.is_some() {
            self.settled = true;
            return;
        }
        let replayed = server.replayed.unwrap_or_default();
        match self.replay {
            Some((seen, since)) if seen == replayed => {
                self.settled |= now.since(since) >= SETTLED_AFTER;
            }
            Some(_) | None => self.replay = Some((replayed, now)),
        }
    }

    /// Learns that a step begins: what it may leave half done is not known any more.
    pub fn began(&mut self, step: &Step) {
        match step {
            Step::Load { .. } => {
                self.conf = None;
                self.confirmed = None;
            }
            Step::LoadEmpty { .. } | Step::TurnWaitingOn { .. } => {
                self.conf = None;
                self.confirmed = None;
                self.waits = false;
            }
            Step::StopReceiving { .. } => self.conf = None,
            Step::Start { standby, conf, .. } => {
                self.conf = None;
                if !standby {
                    self.end = None;
                    self.disk = None;
                } else if conf.replication != Replication::Promise {
                    self.end = None;
                }
            }
            Step::Initdb { .. } | Step::Rewind { .. } | Step::SwapIn { .. } => self.forget_copy(),
            Step::EnsureSlots { .. } => self.slots = None,
            Step::WriteHba { .. } => self.hba = None,
            Step::Confirm { .. }
            | Step::Journal(_)
            | Step::EndCluster
            | Step::NameCopy { .. }
            | Step::Stop { .. }
            | Step::ReadPosition
            | Step::EndSender { .. }
            | Step::EnsureObjects
            | Step::Checkpoint { .. }
            | Step::BaseBackup { .. }
            | Step::Promote { .. }
            | Step::AskPeers
            | Step::StartFencer { .. }
            | Step::EndFencer => {}
        }
        if let Step::Load { conf } = step
            && conf.replication != Replication::Promise
        {
            self.end = None;
        }
    }

    fn forget_copy(&mut self) {
        self.end = None;
        self.disk = None;
        self.no_position = None;
        self.at_least = None;
        self.settled = false;
        self.replay = None;
        // Those were another copy's.
        self.failed_starts = 0;
    }

    /// Learns what came of a step. `since` is the postmaster that runs.
    pub fn finished(
        &mut self,
        step: &Step,
        outcome: &Outcome,
        journal: &Journal,
        since: Option<i64>,
        now: Time,
    ) {
        match outcome {
            Outcome::Loaded { why } => {
                // Waiting is on and the names are loaded; seeing them in force is the next step's.
                self.waits = true;
                self.paused(step.word(), why, false, now);
            }
            Outcome::NotYet { why } => return self.paused(step.word(), why, false, now),
            Outcome::Failed { why } => {
                if matches!(step, Step::Start { .. }) {
                    self.failed_starts = self.failed_starts.saturating_add(1);
                }
                return self.paused(step.word(), why, true, now);
            }
            Outcome::Done
            | Outcome::Position { .. }
            | Outcome::NoPosition { .. }
            | Outcome::Confirmed { .. }
            | Outcome::Peers { .. }
            | Outcome::Rewound { .. } => {}
        }
        // Failures of starting end when Postgres was seen running, not when its process exists.
        if !matches!(step, Step::Start { .. } | Step::Journal(_))
            && !matches!(outcome, Outcome::Loaded { .. })
        {
            self.pause = None;
        }
        self.done(step, outcome, journal, since, now);
    }

    /// What a step that was carried out leaves behind.
    fn done(
        &mut self,
        step: &Step,
        outcome: &Outcome,
        journal: &Journal,
        since: Option<i64>,
        now: Time,
    ) {
        match step {
            Step::Start { conf, closed, .. } => {
                self.conf = Some(conf.clone());
                self.waits = !matches!(&conf.names, Names::Sync(sync) if sync.is_asynchronous());
                self.hba = Some(Hba {
                    peers: journal.peers.clone(),
                    closed: *closed,
                });
            }
            Step::Load { conf } => self.conf = Some(conf.clone()),
            Step::StopReceiving { conf } => {
                self.conf = Some(conf.clone());
                self.learn_end(outcome);
            }
            Step::ReadPosition => self.learn_end(outcome),
            Step::LoadEmpty { conf, stamp }
            | Step::TurnWaitingOn { conf, stamp }
            | Step::Confirm { conf, stamp } => {
                self.conf = Some(conf.clone());
                if let Outcome::Confirmed { postmaster_start } = outcome {
                    self.waits = !matches!(step, Step::LoadEmpty { .. });
                    self.confirmed = Some(Confirmed {
                        stamp: *stamp,
                        postmaster_start: *postmaster_start,
                    });
                }
            }
            Step::EnsureSlots { admitted, expected } => {
                self.slots = since.map(|since| Slots {
                    admitted: admitted.clone(),
                    expected: expected.clone(),
                    since,
                    at: now,
                });
            }
            Step::WriteHba { closed } => {
                self.hba = Some(Hba {
                    peers: journal.peers.clone(),
                    closed: *closed,
                });
            }
            Step::Checkpoint { stamp } => self.checkpointed = Some(*stamp),
            Step::BaseBackup { copy, .. } => {
                self.on_branch(journal);
                self.staged = Some(*copy);
            }
            Step::SwapIn { .. } => self.staged = None,
            Step::AskPeers => {
                if let Outcome::Peers { newer } = outcome {
                    self.peers_newer = Some(*newer);
                }
            }
            Step::Rewind { .. } => {
                self.on_branch(journal);
                self.rewind_over = true;
            }
            Step::Journal(_)
            | Step::EndCluster
            | Step::Initdb { .. }
            | Step::NameCopy { .. }
            | Step::Stop { .. }
            | Step::EndSender { .. }
            | Step::EnsureObjects
            | Step::StartFencer { .. }
            | Step::EndFencer => {}
            // Nobody else can be primary of this term: until the first answer could have come, a
            // promotion counts like a lease. Otherwise the fence would meet every new primary.
            Step::Promote { .. } => {
                self.leased(now.plus(Duration::from_millis(journal.settings.lease_ms)));
            }
        }
    }

    fn learn_end(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Position { position } => {
                // Postgres forgets in a restart what it had received: the disk does not.
                self.end = Some(*position).max(self.disk);
                self.disk = self.end;
                self.no_position = None;
            }
            Outcome::NoPosition { why, at_least } => {
                self.end = None;
                self.no_position = Some(why.clone());
                self.at_least = *at_least;
            }
            Outcome::Done
            | Outcome::Confirmed { .. }
            | Outcome::Peers { .. }
            | Outcome::Rewound { .. }
            | Outcome::Loaded { .. }
            | Outcome::NotYet { .. }
            | Outcome::Failed { .. } => {}
        }
    }

    fn paused(&mut self, step: &str, why: &str, failed: bool, now: Time) {
        let before = self
            .pause
            .as_ref()
            .filter(|pause| pause.step == step)
            .map_or(0, |pause| pause.failures);
        let failures = before + u32::from(failed);
        let wait = if failed {
            LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(before.min(6)))
        } else {
            NOT_YET_PAUSE
        };
        self.pause = Some(Pause {
            step: step.into(),
            until: now.plus(wait),
            failures,
            why: why.into(),
            failed,
        });
    }

    /// The node's own configuration has changed: what was made of it counts as not done. Names in
    /// force stay in force.
    pub fn reconfigured(&mut self) {
        self.conf = None;
        self.hba = None;
        self.pause = None;
    }

    /// Learns of a lease from the monitor; `until` is counted from sending the request. One of an
    /// earlier run of the monitor is over with it: this run may not know how long that was.
    pub fn granted(&mut self, until: Time, from: Incarnation) {
        if self.lease_from != Some(from) {
            self.lease_from = Some(from);
            self.lease_until = None;
        }
        self.leased(until);
    }

    /// Counts on a lease until then.
    pub fn leased(&mut self, until: Time) {
        self.lease_until = self.lease_until.max(Some(until));
    }

    /// The clock has jumped: no lease survives that (`safety.md` §5.4).
    pub fn clock_jumped(&mut self) {
        self.lease_until = None;
    }

    /// Whether the configuration is loaded.
    #[must_use]
    pub fn has_loaded(&self, conf: &Conf) -> bool {
        self.conf.as_ref().is_some_and(|c| c.same(conf))
    }

    /// Whether nothing can be received any more, in the Postgres that runs.
    #[must_use]
    pub fn receives_nothing(&self) -> bool {
        self.conf.as_ref().is_some_and(|c| {
            c.replication == Replication::Promise
                && !matches!(&c.names, Names::Sync(s) if s.is_asynchronous())
        })
    }
}
