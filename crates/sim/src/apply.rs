//! Carrying out a keeper's steps on the fake, with the real ones' phases and times.

pub(crate) mod rejoin;
mod sync;

use std::collections::BTreeSet;

use pgaf_fsm::node::{Conf, Outcome, RewindEnd, Step, StopMode};
use pgaf_protocol::{CopyId, Lsn, Position, Time, TimelineId};

use crate::event::{Event, KeeperEvent, PgEvent};
use crate::keeper::Doing;
use crate::net::Place;
use crate::pg::{ConfFile, Disk, Doing as ServerDoing, SyncNames};
use crate::sabotage::Sabotage;
use crate::world::World;

/// What a step does next.
enum Next {
    /// Look again after so many milliseconds.
    Again(u64),
    /// It is over.
    Over(Outcome),
}

/// For steps that ask the local Postgres and wait.
const STEP_DEADLINE: u64 = 1000;

/// For turning waiting on.
const TURN_DEADLINE: u64 = 5000;
/// A receiver that lives for longer is ended by a signal: the daemon's value.
const RECEIVER_LEAVES: u64 = 30;
/// Readers that hold replay up for longer are ended: the daemon's value.
const CONFLICT_LASTS: u64 = 50;
/// A fast stop that takes longer becomes an immediate one.
const FAST_LIMIT: u64 = 10_000;

fn failed(why: &str) -> Next {
    Next::Over(Outcome::Failed { why: why.into() })
}

fn not_yet(why: &str) -> Next {
    Next::Over(Outcome::NotYet { why: why.into() })
}

impl World {
    /// A step under way goes on, or is over.
    pub(crate) fn step_goes_on(&mut self, host: usize, number: u64) {
        let Some(keeper) = self.hosts[host].keeper.as_ref() else {
            return;
        };
        let Some(doing) = keeper.step.clone().filter(|d| d.number == number) else {
            return;
        };
        let run = keeper.run;
        match self.carry_out(host, &doing) {
            Next::Again(after) => {
                if let Some(keeper) = self.hosts[host].keeper.as_mut()
                    && let Some(doing) = keeper.step.as_mut()
                {
                    doing.phase += 1;
                }
                let what = KeeperEvent::Step(number);
                self.after(after.max(1), Event::Keeper { host, run, what });
            }
            Next::Over(outcome) => {
                self.step_ends(host, outcome);
            }
        }
    }

    fn set_note(&mut self, host: usize, note: u64) {
        if let Some(keeper) = self.hosts[host].keeper.as_mut()
            && let Some(doing) = keeper.step.as_mut()
        {
            doing.note = note;
        }
    }

    fn carry_out(&mut self, host: usize, doing: &Doing) -> Next {
        match &doing.step {
            Step::Journal(_) => Next::Over(Outcome::Done),
            Step::EndCluster => self.end_cluster(host, doing),
            Step::Initdb { copy } => self.initdb(host, doing, *copy),
            Step::NameCopy { copy } => self.name_copy(host, *copy),
            Step::Start {
                standby,
                conf,
                closed,
            } => self.start(host, doing, *standby, conf, *closed),
            Step::Stop { mode } => self.stop(host, doing, *mode),
            Step::ReadPosition => self.read_position(host, doing),
            Step::Load { conf } => self.load(host, doing, conf, Outcome::Done),
            Step::StopReceiving { conf } => self.stop_receiving(host, doing, conf),
            Step::LoadEmpty { conf, .. } => {
                let since = self.since(host);
                self.load(
                    host,
                    doing,
                    conf,
                    Outcome::Confirmed {
                        postmaster_start: since,
                    },
                )
            }
            Step::TurnWaitingOn { conf, .. } => self.turn_on(host, doing, conf),
            Step::Confirm { conf, .. } => self.confirm(host, doing, conf, 0),
            Step::EnsureSlots { admitted, expected } => {
                if self.is_sabotaged(Sabotage::SlotsForAll) {
                    let all = admitted.union(expected).copied().collect();
                    return self.ensure_slots(host, doing, &all);
                }
                self.ensure_slots(host, doing, admitted)
            }
            Step::EndSender { node } => self.end_sender(host, doing, *node),
            Step::EnsureObjects => self.simple(host, doing, 20, 100),
            Step::WriteHba { closed } => {
                let next = self.simple(host, doing, 3, 20);
                if matches!(next, Next::Over(Outcome::Done)) {
                    self.hosts[host].pg.closed = *closed;
                }
                next
            }
            Step::Checkpoint { .. } => self.simple(host, doing, 20, 600),
            Step::Promote { timeline, position } => self.promote(host, doing, *timeline, *position),
            Step::Rewind { upstream, copy } => self.rewind(host, doing, &upstream.host, *copy),
            Step::BaseBackup { upstream, copy } => {
                self.base_backup(host, doing, &upstream.host, *copy)
            }
            Step::SwapIn { copy } => self.swap_in(host, doing, *copy),
            Step::AskPeers => self.ask_peers(host, doing),
            Step::StartFencer { until } => self.start_fencer(host, doing, *until),
            Step::EndFencer => self.end_fencer(host, doing),
        }
    }

    fn since(&self, host: usize) -> i64 {
        self.hosts[host].pg.server.as_ref().map_or(0, |s| s.since)
    }

    fn answers(&self, host: usize) -> bool {
        self.hosts[host].pg.running().is_some()
    }

    /// A step that asks Postgres something and waits some time.
    fn simple(&mut self, host: usize, doing: &Doing, low: u64, high: u64) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        if doing.phase == 0 {
            return Next::Again(self.rng.between(low, high));
        }
        Next::Over(Outcome::Done)
    }

    fn end_cluster(&mut self, host: usize, doing: &Doing) -> Next {
        if doing.phase == 0 {
            return Next::Again(self.rng.between(5, 60));
        }
        self.end_server(host, false);
        Next::Over(Outcome::Done)
    }

    fn initdb(&mut self, host: usize, doing: &Doing, copy: CopyId) -> Next {
        if doing.phase == 0 {
            return Next::Again(self.rng.between(200, 900));
        }
        let system = self.rng.next();
        let pg = &mut self.hosts[host].pg;
        if pg.disk.is_some() || pg.broken.is_some() {
            return failed("the directory is not empty");
        }
        pg.disk = Some(Disk::new(copy, system));
        Next::Over(Outcome::Done)
    }

    fn name_copy(&mut self, host: usize, copy: CopyId) -> Next {
        if let Some(disk) = self.hosts[host].pg.disk.as_mut() {
            disk.copy = Some(copy);
        }
        Next::Over(Outcome::Done)
    }

    fn start(
        &mut self,
        host: usize,
        doing: &Doing,
        standby: bool,
        conf: &Conf,
        closed: bool,
    ) -> Next {
        if doing.phase == 0 {
            return Next::Again(self.rng.between(5, 20));
        }
        let pg = &mut self.hosts[host].pg;
        if pg.server.as_ref().is_some_and(|s| !s.headless) {
            return Next::Over(Outcome::Done);
        }
        if pg.server.is_some() {
            self.child_acknowledges(host);
        }
        let pg = &mut self.hosts[host].pg;
        if pg.disk.is_none() || pg.broken.is_some() {
            return failed("there is no whole copy");
        }
        if pg.bad_starts > 0 {
            pg.bad_starts -= 1;
            return failed("it ended at once");
        }
        if let (true, Some(disk)) = (standby, pg.disk.as_mut()) {
            // What a promotion that did not happen has left.
            let own = disk.path.timeline();
            disk.histories.retain(|n, h| h.is_some() || *n <= own);
        }
        self.start_server(host, standby, conf, closed);
        Next::Over(Outcome::Done)
    }

    fn stop(&mut self, host: usize, doing: &Doing, mode: StopMode) -> Next {
        if self.hosts[host].pg.server.is_none() {
            return Next::Over(Outcome::Done);
        }
        match mode {
            StopMode::Immediate => {
                if doing.phase == 0 {
                    return Next::Again(self.rng.between(5, 50));
                }
                self.end_server(host, false);
                Next::Over(Outcome::Done)
            }
            StopMode::Fast => {
                if doing.phase == 0 {
                    return Next::Again(self.rng.between(5, 40));
                }
                let hung = self.hosts[host].pg.server.as_ref().is_some_and(|s| s.hung);
                let headless = self.hosts[host]
                    .pg
                    .server
                    .as_ref()
                    .is_some_and(|s| s.headless);
                if hung || headless {
                    return Next::Again(50);
                }
                self.begin_fast_stop(host);
                if self.end_fast_stop(host) {
                    return Next::Over(Outcome::Done);
                }
                if self.now.saturating_sub(doing.since) > FAST_LIMIT {
                    self.end_server(host, false);
                    return Next::Over(Outcome::Done);
                }
                Next::Again(5)
            }
        }
    }

    fn read_position(&mut self, host: usize, doing: &Doing) -> Next {
        if self.hosts[host].pg.server.is_some() {
            return failed("Postgres runs");
        }
        if doing.phase == 0 {
            return Next::Again(self.rng.between(10, 150));
        }
        let on_the_way = self.is_sabotaged(Sabotage::PositionOnTheWay);
        let outcome = match &self.hosts[host].pg.disk {
            Some(disk) if disk.backup_label => Outcome::NoPosition {
                why: "the copy has not been recovered since it was made".into(),
                at_least: Some(disk.position()),
            },
            Some(disk) if on_the_way => Outcome::Position {
                position: Position {
                    lsn: Lsn(disk.redo),
                    ..disk.position()
                },
            },
            Some(disk) => Outcome::Position {
                position: disk.position(),
            },
            None => Outcome::NoPosition {
                why: "there is no whole copy".into(),
                at_least: None,
            },
        };
        Next::Over(outcome)
    }

    fn promote(
        &mut self,
        host: usize,
        doing: &Doing,
        timeline: TimelineId,
        position: Position,
    ) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let twice = self.is_sabotaged(Sabotage::TimelineTwice);
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return failed("Postgres is gone");
        };
        if !server.recovery {
            if disk.path.timeline() == timeline.0 || twice {
                return Next::Over(Outcome::Done);
            }
            return failed("it is on another timeline");
        }
        if server.promoting {
            return Next::Again(5);
        }
        if server.replayed < disk.path.end() || server.replayed < position.lsn.0 {
            if self.now.saturating_sub(doing.since) > CONFLICT_LASTS {
                self.release_replay(host);
            }
            return self.again_or_not(doing, "replays");
        }
        let own = disk.path.timeline();
        let own = if twice { timeline.0 } else { own };
        for number in own + 1..timeline.0 {
            disk.histories.entry(number).or_insert(None);
        }
        server.promoting = true;
        let takes = self.rng.between(20, 150);
        self.pg_event(host, takes, PgEvent::Promoted);
        Next::Again(5)
    }

    fn start_fencer(&mut self, host: usize, doing: &Doing, until: Time) -> Next {
        if doing.phase == 0 {
            return Next::Again(self.rng.between(2, 20));
        }
        self.fencer_starts(host, until);
        Next::Over(Outcome::Done)
    }

    fn end_fencer(&mut self, host: usize, doing: &Doing) -> Next {
        if doing.phase == 0 {
            return Next::Again(self.rng.between(1, 10));
        }
        self.hosts[host].fencer = None;
        Next::Over(Outcome::Done)
    }

    /// A keeper died, or dropped a step: what it leaves behind.
    pub(crate) fn break_off(&mut self, host: usize, doing: Option<&Doing>) {
        let Some(doing) = doing else { return };
        if let Step::Stop { mode } = &doing.step
            && self.hosts[host]
                .pg
                .server
                .as_ref()
                .is_some_and(|s| s.doing != ServerDoing::Stopping)
        {
            // The signal may have been sent already.
            let sent = doing.phase > 0 && self.rng.one_in(2);
            if sent && *mode == StopMode::Immediate {
                self.pg_event(host, 10, PgEvent::Gone);
            }
        }
    }
}
