//! Carrying out a keeper's steps on the fake, with the real ones' phases and times.

use std::collections::BTreeSet;

use pgaf_fsm::node::{Conf, Outcome, RewindEnd, Step, StopMode};
use pgaf_protocol::{CopyId, Lsn, Position, TimelineId};

use crate::event::{Event, KeeperEvent, PgEvent};
use crate::keeper::Doing;
use crate::net::Place;
use crate::pg::{ConfFile, Disk, Doing as ServerDoing, SyncNames};
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
            Step::EnsureSlots { admitted, .. } => self.ensure_slots(host, doing, admitted),
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
        if pg.disk.is_none() || pg.broken.is_some() {
            return failed("there is no whole copy");
        }
        if pg.bad_starts > 0 {
            pg.bad_starts -= 1;
            return failed("it ended at once");
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
        let outcome = match &self.hosts[host].pg.disk {
            Some(disk) if disk.backup_label => Outcome::NoPosition {
                why: "the copy has not been recovered since it was made".into(),
                at_least: Some(disk.position()),
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

    /// Writes the file and reloads; over when a new session has seen it.
    fn load(&mut self, host: usize, doing: &Doing, conf: &Conf, done: Outcome) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let file = self.conf_file(conf);
        if doing.phase == 0 {
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        if self.sees(host, &file) {
            return Next::Over(done);
        }
        self.again_or_not(doing, "no new session has seen the reload")
    }

    fn again_or_not(&self, doing: &Doing, why: &str) -> Next {
        if self.now.saturating_sub(doing.since) > STEP_DEADLINE {
            return not_yet(why);
        }
        Next::Again(5)
    }

    fn sees(&self, host: usize, file: &ConfFile) -> bool {
        self.hosts[host]
            .pg
            .server
            .as_ref()
            .is_some_and(|s| s.names == file.names)
    }

    fn stop_receiving(&mut self, host: usize, doing: &Doing, conf: &Conf) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let file = self.conf_file(conf);
        if doing.phase == 0 {
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        let pg = &self.hosts[host].pg;
        let (Some(disk), Some(server)) = (&pg.disk, &pg.server) else {
            return failed("Postgres is gone");
        };
        let gone = server.upstream.is_none() && server.receiver.is_none();
        if gone && self.sees(host, &file) {
            // As the daemon: what a session is told, the greater of received and replayed.
            let lsn = server.replayed.max(server.received.unwrap_or(0));
            return Next::Over(Outcome::Position {
                position: Position {
                    timeline: TimelineId(disk.path.timeline_at(lsn)),
                    lsn: Lsn(lsn),
                },
            });
        }
        if self.now.saturating_sub(doing.since) > STEP_DEADLINE {
            return failed("the WAL receiver lives");
        }
        Next::Again(5)
    }

    fn turn_on(&mut self, host: usize, doing: &Doing, conf: &Conf) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let mut file = self.conf_file(conf);
        if doing.phase == 0 {
            file.names = SyncNames::Nobody;
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        let waits = self.hosts[host]
            .pg
            .server
            .as_ref()
            .is_some_and(|s| s.waiting_on);
        if doing.note == 0 {
            if waits
                && self.hosts[host]
                    .pg
                    .server
                    .as_ref()
                    .is_some_and(|s| s.names == SyncNames::Nobody)
            {
                // The probe waits: the flag is on, for all.
                self.set_note(host, u64::from(doing.phase) + 1);
                return Next::Again(1);
            }
            if self.now.saturating_sub(doing.since) > TURN_DEADLINE / 2 {
                file.names = SyncNames::Off;
                self.reload(host, file);
                return not_yet("no commit waits for a standby");
            }
            return Next::Again(5);
        }
        let first = u32::try_from(doing.note).unwrap_or(u32::MAX);
        match self.confirm(host, doing, conf, first) {
            Next::Over(Outcome::NotYet { .. })
                if self.now.saturating_sub(doing.since) < TURN_DEADLINE =>
            {
                Next::Again(5)
            }
            Next::Over(Outcome::NotYet { why }) => Next::Over(Outcome::Loaded { why }),
            next @ (Next::Again(_) | Next::Over(_)) => next,
        }
    }

    /// Two records, each flushed by every walsender's standby, the second one by a quorum.
    fn confirm(&mut self, host: usize, doing: &Doing, conf: &Conf, first: u32) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let file = self.conf_file(conf);
        if doing.phase == first {
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        if !self.sees(host, &file) {
            return self.again_or_not(doing, "no new session has seen the reload");
        }
        let since = self.since(host);
        let key = (host, doing.number);
        let (mut one, mut two) = self.confirming.get(&key).copied().unwrap_or((0, 0));
        if one == 0 {
            one = self.write_wal(host, 60, None);
        } else if two == 0 && self.all_flushed(host, one) {
            two = self.write_wal(host, 60, None);
        } else if two > 0 && self.all_flushed(host, two) {
            let needed = match &file.names {
                SyncNames::Any { number, .. } => *number,
                SyncNames::Off | SyncNames::Nobody => 0,
            };
            if self.flushed_by(host, &file.names, two) >= needed {
                self.confirming.remove(&key);
                return Next::Over(Outcome::Confirmed {
                    postmaster_start: since,
                });
            }
        }
        self.confirming.insert(key, (one, two));
        self.again_or_not(doing, "not flushed after the reload")
    }

    fn all_flushed(&self, host: usize, lsn: u64) -> bool {
        self.hosts[host]
            .pg
            .server
            .as_ref()
            .is_some_and(|s| s.senders.iter().all(|s| s.flushed >= lsn))
    }

    fn ensure_slots(
        &mut self,
        host: usize,
        doing: &Doing,
        admitted: &BTreeSet<pgaf_protocol::NodeId>,
    ) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        if doing.phase == 0 {
            return Next::Again(self.rng.between(3, 25));
        }
        let pg = &mut self.hosts[host].pg;
        let busy: Vec<(u64, usize)> = pg
            .server
            .iter()
            .flat_map(|s| s.senders.iter())
            .filter(|s| !admitted.contains(&s.node))
            .map(|s| (s.conn, s.host))
            .collect();
        let disk = pg.disk.as_mut();
        if busy.is_empty() {
            if let Some(disk) = disk {
                disk.slots.clone_from(admitted);
            }
            return Next::Over(Outcome::Done);
        }
        if let Some(disk) = disk {
            disk.slots.extend(admitted.iter().copied());
        }
        for (conn, other) in busy {
            self.hung_up(host, conn);
            self.hang_up(host, other, conn);
        }
        not_yet("slots are still in use")
    }

    fn end_sender(&mut self, host: usize, doing: &Doing, node: pgaf_protocol::NodeId) -> Next {
        let next = self.simple(host, doing, 3, 20);
        if matches!(next, Next::Over(Outcome::Done)) {
            let conns: Vec<(u64, usize)> = self.hosts[host]
                .pg
                .server
                .iter()
                .flat_map(|s| s.senders.iter())
                .filter(|s| s.node == node)
                .map(|s| (s.conn, s.host))
                .collect();
            for (conn, other) in conns {
                self.hung_up(host, conn);
                self.hang_up(host, other, conn);
            }
        }
        next
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
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return failed("Postgres is gone");
        };
        if !server.recovery {
            if disk.path.timeline() == timeline.0 {
                return Next::Over(Outcome::Done);
            }
            return failed("it is on another timeline");
        }
        if server.promoting {
            return Next::Again(5);
        }
        if server.replayed < disk.path.end() || server.replayed < position.lsn.0 {
            return self.again_or_not(doing, "replays");
        }
        let own = disk.path.timeline();
        for number in own + 1..timeline.0 {
            disk.histories.entry(number).or_insert(None);
        }
        server.promoting = true;
        let takes = self.rng.between(20, 150);
        self.pg_event(host, takes, PgEvent::Promoted);
        Next::Again(5)
    }

    /// The running primary's copy, if it can be had from here.
    fn source(&self, host: usize, upstream: &str) -> Option<usize> {
        let other = self.host_of(upstream)?;
        (self.reaches(Place::Node(host), other) == Some(true)).then_some(other)
    }

    fn rewind(&mut self, host: usize, doing: &Doing, upstream: &str, copy: CopyId) -> Next {
        let refused = |why: &str| {
            Next::Over(Outcome::Rewound {
                end: RewindEnd::Refused { why: why.into() },
            })
        };
        let broken = |why: &str| {
            Next::Over(Outcome::Rewound {
                end: RewindEnd::Broken { why: why.into() },
            })
        };
        let pg = &self.hosts[host].pg;
        if pg.server.is_some() {
            return failed("Postgres runs");
        }
        let Some(mine) = pg.disk.clone() else {
            return refused("there is no copy");
        };
        let Some(other) = self.source(host, upstream) else {
            return if doing.phase < 2 {
                refused("the source does not answer")
            } else {
                broken("the source is gone")
            };
        };
        let Some(source) = self.hosts[other].pg.disk.clone() else {
            return refused("the source has no copy");
        };
        match doing.phase {
            0 => {
                if source.primary && source.control_timeline != source.path.timeline() {
                    return not_yet("the source has not checkpointed its timeline yet");
                }
                return Next::Again(self.rng.between(20, 80));
            }
            1 => {
                // As pg_rewind: timeline numbers only; equal ones look like one branch.
                if mine.path.timeline() == source.path.timeline() || follows(&mine, &source) {
                    return Next::Over(Outcome::Rewound {
                        end: RewindEnd::NotNeeded,
                    });
                }
                self.hosts[host].pg.broken = Some("a rewind is under way".into());
                return Next::Again(self.rng.between(50, 600));
            }
            2.. => {}
        }
        let slots = BTreeSet::new();
        let mut path = source.path.clone();
        path.truncate(source.flushed);
        let disk = Disk {
            copy: Some(copy),
            primary: false,
            clean: false,
            flushed: path.end(),
            redo: path.end(),
            control_timeline: path.timeline(),
            path,
            slots,
            conf: ConfFile::default(),
            backup_label: false,
            ..source
        };
        self.hosts[host].pg.disk = Some(disk);
        self.hosts[host].pg.broken = None;
        Next::Over(Outcome::Rewound {
            end: RewindEnd::Done,
        })
    }

    fn base_backup(&mut self, host: usize, doing: &Doing, upstream: &str, copy: CopyId) -> Next {
        let Some(other) = self.source(host, upstream) else {
            return failed("the source does not answer");
        };
        let boot = self.hosts[other].pg.server.as_ref().map_or(0, |s| s.boot);
        if doing.phase == 0 {
            self.set_note(host, boot);
            return Next::Again(self.rng.between(100, 1500));
        }
        if doing.note != boot {
            return failed("the source is gone");
        }
        let Some(source) = self.hosts[other].pg.disk.clone() else {
            return failed("the source has no copy");
        };
        let mut path = source.path.clone();
        path.truncate(source.flushed);
        self.hosts[host].pg.staged = Some(Disk {
            copy: Some(copy),
            primary: false,
            clean: false,
            flushed: path.end(),
            redo: path.end(),
            control_timeline: path.timeline(),
            path,
            slots: BTreeSet::new(),
            conf: ConfFile::default(),
            backup_label: true,
            ..source
        });
        Next::Over(Outcome::Done)
    }

    fn swap_in(&mut self, host: usize, doing: &Doing, copy: CopyId) -> Next {
        if doing.phase == 0 {
            return Next::Again(self.rng.between(2, 30));
        }
        let pg = &mut self.hosts[host].pg;
        if pg.server.is_some() {
            return failed("Postgres runs");
        }
        match pg.staged.take() {
            Some(staged) if staged.copy == Some(copy) => {
                pg.disk = Some(staged);
                pg.broken = None;
                Next::Over(Outcome::Done)
            }
            // The exchange may have been made already; the look says which copy is there.
            Some(_) | None => Next::Over(Outcome::Done),
        }
    }

    fn ask_peers(&mut self, host: usize, doing: &Doing) -> Next {
        let mine = self.hosts[host]
            .pg
            .disk
            .as_ref()
            .map_or(0, |d| d.control_timeline);
        let peers = self.hosts[host].journal.peers.clone();
        let mut newer = false;
        let mut silent = false;
        for peer in peers {
            let Some(other) = self.host_of(&peer.host) else {
                continue;
            };
            match self.reaches(Place::Node(host), other) {
                Some(true) => {
                    let theirs = self.hosts[other].pg.look(self.now);
                    newer |= theirs.is_some_and(|s| s.timeline.0 > mine);
                }
                Some(false) => {}
                None => silent = true,
            }
        }
        if doing.phase == 0 {
            return Next::Again(if silent { 1000 } else { 20 });
        }
        Next::Over(Outcome::Peers { newer })
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

/// Whether `pg_rewind` says "no rewind required": the target's end is on the source's way.
fn follows(mine: &Disk, source: &Disk) -> bool {
    source
        .history(source.path.timeline())
        .is_some_and(|h| h.fits(mine.position()))
}
