//! What a keeper's steps do to the abstract Postgres.
//!
//! A step that waits for something is taken again in each turn, as after `NotYet`; only those with a
//! middle that a crash may leave behind are remembered as [`Busy`]. Confirming is abstracted to what its
//! two records prove: the checkpointer and every walsender work with the names, and a quorum of them has
//! flushed everything.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use pgaf_fsm::node::{Conf, Outcome, RewindEnd, Step, StopMode};
use pgaf_protocol::{CopyId, NodeId};

use super::control::Control;
use super::keeper::{Busy, Keeper};
use super::names::index;
use super::postgres::{
    Disk, Doing, NodePg, Path, Pg, Server, Stretch, SyncNames, bits, place, upstream_of,
};

/// What a step meets outside of its own host.
#[derive(Debug)]
pub(super) struct Around {
    /// Nodes from which nothing comes any more, one bit each.
    pub(super) away: u8,
    pub(super) control: Option<Control>,
    /// Each node's Postgres, when a new connection to it gets an answer.
    pub(super) others: [Option<Rc<NodePg>>; super::NODES],
    /// A number that no copy has.
    pub(super) fresh: u64,
    /// A number that no start of this node's Postgres has.
    pub(super) boot: i64,
    /// One of the last three was asked for: what came of it holds for these only.
    pub(super) asked: Cell<bool>,
}

impl Around {
    pub(super) fn fresh(&self) -> u64 {
        self.asked.set(true);
        self.fresh
    }

    fn boot(&self) -> i64 {
        self.asked.set(true);
        self.boot
    }

    fn other(&self, node: NodeId) -> Option<&Pg> {
        self.asked.set(true);
        Some(&self.others[index(node)].as_ref()?.pg)
    }
}

/// Whether a turn goes on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Nobody else can tell: it goes on.
    Quiet,
    /// The turn is over.
    Seen,
}

type Acted = (Done, Option<Outcome>, Option<Busy>);

fn seen(outcome: Outcome) -> Acted {
    (Done::Seen, Some(outcome), None)
}

fn quiet(outcome: Outcome) -> Acted {
    (Done::Quiet, Some(outcome), None)
}

fn failed() -> Acted {
    seen(Outcome::Failed { why: String::new() })
}

fn not_yet() -> Acted {
    seen(Outcome::NotYet { why: String::new() })
}

/// Carries out one step.
pub(super) fn act(keeper: &mut Keeper, pg: &mut Pg, step: &Step, around: &Around) -> Acted {
    match step {
        Step::Journal(_) => quiet(Outcome::Done),
        Step::EndCluster => {
            pg.end();
            seen(Outcome::Done)
        }
        Step::Initdb { copy } => initdb(pg, *copy),
        Step::NameCopy { copy } => {
            if let Some(disk) = &mut pg.disk {
                disk.copy = Some(*copy);
            }
            quiet(Outcome::Done)
        }
        Step::Start {
            standby,
            conf,
            closed,
        } => start(pg, *standby, conf, *closed, around),
        Step::Stop { mode } => stop(pg, *mode),
        Step::ReadPosition => read_position(pg),
        Step::Load { conf } => load(pg, conf, around, Outcome::Done),
        Step::StopReceiving { conf } => stop_receiving(pg, conf, around),
        Step::LoadEmpty { conf, .. } => {
            let confirmed = Outcome::Confirmed {
                postmaster_start: pg.server.as_ref().map_or(0, |s| s.boot),
            };
            load(pg, conf, around, confirmed)
        }
        Step::TurnWaitingOn { conf, .. } => turn_waiting_on(pg, conf),
        Step::Confirm { conf, .. } => confirm(pg, conf, around),
        Step::EnsureSlots { admitted, .. } => ensure_slots(pg, admitted),
        Step::EndSender { node } => {
            if let Some(server) = &mut pg.server {
                server.senders.retain(|s| s.node != place(*node));
            }
            seen(Outcome::Done)
        }
        Step::EnsureObjects => asked(pg),
        Step::WriteHba { closed } => {
            let opens = pg.closed != *closed;
            pg.closed = *closed;
            if opens {
                seen(Outcome::Done)
            } else {
                asked(pg)
            }
        }
        Step::Checkpoint { .. } => {
            if let Some(disk) = &mut pg.disk {
                disk.control = disk.path.timeline();
            }
            asked(pg)
        }
        Step::Promote { timeline, .. } => {
            let term = keeper.journal.goal.as_ref().map_or(0, |g| g.stamp.term.0);
            promote(pg, term, timeline.0, around)
        }
        Step::Rewind { upstream, copy } => rewind(pg, upstream.node, *copy, around),
        Step::BaseBackup { upstream, copy } => base_backup(pg, upstream.node, *copy, around),
        Step::SwapIn { copy } => {
            if pg.staged.as_ref().is_some_and(|d| d.copy == Some(*copy)) {
                pg.disk = pg.staged.take();
                pg.broken = false;
            }
            seen(Outcome::Done)
        }
        Step::AskPeers => ask_peers(pg, around),
        // No group of the model is asynchronous by choice: no lease is counted on.
        Step::StartFencer { .. } | Step::EndFencer => quiet(Outcome::Done),
    }
}

fn asked(pg: &Pg) -> Acted {
    if pg.running().is_some() {
        quiet(Outcome::Done)
    } else {
        failed()
    }
}

fn initdb(pg: &mut Pg, copy: CopyId) -> Acted {
    if pg.disk.is_some() || pg.broken {
        return failed();
    }
    pg.disk = Some(Disk {
        copy: Some(copy),
        primary: true,
        clean: true,
        path: Path(vec![Stretch {
            copy,
            timeline: 1,
            term: 1,
            end: super::postgres::START,
        }]),
        control: 1,
        slots: 0,
        label: false,
    });
    seen(Outcome::Done)
}

fn start(pg: &mut Pg, standby: bool, conf: &Conf, closed: bool, around: &Around) -> Acted {
    if pg.server.is_some() {
        return seen(Outcome::Done);
    }
    let Some(disk) = pg.disk.as_mut().filter(|_| !pg.broken) else {
        return failed();
    };
    disk.clean = false;
    disk.label = false;
    if standby {
        disk.primary = false;
    }
    let names = names_of(conf, around);
    pg.closed = closed;
    pg.server = Some(Server {
        boot: around.boot(),
        doing: Doing::Starting,
        recovery: standby,
        names,
        waits: names != SyncNames::Off,
        upstream: upstream_of(conf),
        receiver: None,
        promoting: None,
        senders: Vec::new(),
        waiter: None,
    });
    seen(Outcome::Done)
}

fn names_of(conf: &Conf, around: &Around) -> SyncNames {
    let names = SyncNames::of(&conf.names);
    match around.control {
        Some(control) => control.names(conf, names),
        None => names,
    }
}

fn stop(pg: &mut Pg, mode: StopMode) -> Acted {
    match mode {
        StopMode::Immediate => {
            pg.end();
            seen(Outcome::Done)
        }
        StopMode::Fast => {
            begin_fast_stop(pg);
            (
                Done::Seen,
                None,
                pg.server.is_some().then_some(Busy::FastStop),
            )
        }
    }
}

/// Sessions end, waits are cancelled, the shutdown record is written.
fn begin_fast_stop(pg: &mut Pg) {
    let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
        return pg.end();
    };
    match server.doing {
        Doing::Stopping => {}
        Doing::Starting | Doing::Headless => pg.end(),
        Doing::Running => {
            server.doing = Doing::Stopping;
            server.waiter = None;
            server.receiver = None;
            if !server.recovery {
                disk.path.write();
            }
        }
    }
}

fn read_position(pg: &Pg) -> Acted {
    if pg.server.is_some() {
        return failed();
    }
    let outcome = match &pg.disk {
        Some(disk) if disk.label => Outcome::NoPosition {
            why: String::new(),
            at_least: Some(disk.path.position()),
        },
        Some(disk) => Outcome::Position {
            position: disk.path.position(),
        },
        None => Outcome::NoPosition {
            why: String::new(),
            at_least: None,
        },
    };
    quiet(outcome)
}

/// Writes the file and reloads. On a standby nothing waits, so the flag has no moment of its own.
fn reload(pg: &mut Pg, names: SyncNames, upstream: Option<u8>) {
    let Some(server) = &mut pg.server else { return };
    server.names = names;
    if server.recovery {
        server.waits = names != SyncNames::Off;
    }
    if server.upstream != upstream {
        server.upstream = upstream;
        server.receiver = None;
    }
}

fn load(pg: &mut Pg, conf: &Conf, around: &Around, done: Outcome) -> Acted {
    if pg.running().is_none() {
        return failed();
    }
    reload(pg, names_of(conf, around), upstream_of(conf));
    seen(done)
}

fn stop_receiving(pg: &mut Pg, conf: &Conf, around: &Around) -> Acted {
    if pg.running().is_none() {
        return failed();
    }
    reload(pg, names_of(conf, around), None);
    if let Some(server) = &mut pg.server {
        server.receiver = None;
    }
    match &pg.disk {
        Some(disk) => seen(Outcome::Position {
            position: disk.path.position(),
        }),
        None => failed(),
    }
}

/// A name nobody has; once the flag is seen, the names.
fn turn_waiting_on(pg: &mut Pg, conf: &Conf) -> Acted {
    let wanted = SyncNames::of(&conf.names);
    let Some((_, server)) = pg.running() else {
        return failed();
    };
    if server.names == SyncNames::Nobody && server.waits {
        reload(pg, wanted, None);
        return seen(Outcome::Loaded { why: String::new() });
    }
    reload(pg, SyncNames::Nobody, None);
    not_yet()
}

fn confirm(pg: &mut Pg, conf: &Conf, around: &Around) -> Acted {
    let wanted = SyncNames::of(&conf.names);
    let Some((disk, server)) = pg.running() else {
        return failed();
    };
    let confirmed = Outcome::Confirmed {
        postmaster_start: server.boot,
    };
    if server.names != wanted {
        reload(pg, wanted, None);
        return if around.control == Some(Control::ConfirmedByShow) {
            seen(confirmed)
        } else {
            not_yet()
        };
    }
    let end = (disk.path.end(), disk.path.timeline());
    let all = server.waits && server.senders.iter().all(|s| s.names == wanted);
    let quorum = server
        .senders
        .iter()
        .filter(|s| wanted.has(s.node) && s.flushed == end)
        .count();
    let enough = match wanted {
        SyncNames::Any { number, .. } => quorum >= usize::from(number),
        SyncNames::Off | SyncNames::Nobody => true,
    };
    if all && enough || around.control == Some(Control::ConfirmedByShow) {
        seen(confirmed)
    } else {
        not_yet()
    }
}

/// A walsender whose slot goes is ended, and its standby tries again after 100 ms only: the slot is gone
/// by then.
fn ensure_slots(pg: &mut Pg, admitted: &BTreeSet<NodeId>) -> Acted {
    if pg.running().is_none() {
        return failed();
    }
    let slots = bits(admitted.iter());
    if let Some(server) = &mut pg.server {
        server.senders.retain(|s| slots & (1 << s.node) != 0);
    }
    if let Some(disk) = &mut pg.disk {
        disk.slots = slots;
    }
    seen(Outcome::Done)
}

fn promote(pg: &mut Pg, term: u64, timeline: u32, around: &Around) -> Acted {
    let Some((disk, server)) = pg.running() else {
        return failed();
    };
    if !server.recovery {
        return failed();
    }
    let twice = around.control == Some(Control::TimelineTwice);
    let timeline = if twice {
        disk.path.timeline() + 1
    } else {
        u8::try_from(timeline).unwrap_or(u8::MAX)
    };
    let term = u8::try_from(term).unwrap_or(u8::MAX);
    if let Some(server) = &mut pg.server {
        server.promoting = Some((term, timeline));
    }
    (Done::Seen, None, Some(Busy::Promote))
}

/// The copy of a running primary that can be reached.
fn source(around: &Around, upstream: NodeId) -> Option<(&Disk, &Server)> {
    around.other(upstream)?.running()
}

fn rewound(end: RewindEnd) -> Acted {
    seen(Outcome::Rewound { end })
}

fn rewind(pg: &mut Pg, upstream: NodeId, copy: CopyId, around: &Around) -> Acted {
    let refused = || RewindEnd::Refused { why: String::new() };
    let Some(mine) = pg.disk.as_ref().filter(|_| pg.server.is_none()) else {
        return failed();
    };
    let Some((source, _)) = source(around, upstream) else {
        return rewound(refused());
    };
    if source.primary && source.control != source.path.timeline() {
        return not_yet();
    }
    // As pg_rewind: timeline numbers only; equal ones look like one branch.
    let history = source.path.history(source.path.timeline());
    let same = mine.path.timeline() == source.path.timeline();
    if same || history.fits(mine.path.position()) {
        return rewound(RewindEnd::NotNeeded);
    }
    pg.broken = true;
    pg.staged = Some(source.copied(copy, false));
    (Done::Seen, None, Some(Busy::Rewind))
}

/// A step with a middle goes on.
pub(super) fn goes_on(keeper: &mut Keeper, pg: &mut Pg, busy: Busy, around: &Around) {
    let over = match busy {
        Busy::Promote => pg.running().is_none_or(|(_, s)| !s.recovery),
        Busy::FastStop => {
            // Whoever does not take the rest of the WAL is not waited for.
            let stuck = pg
                .server
                .as_ref()
                .is_some_and(|s| s.senders.iter().any(|s| around.away & (1 << s.node) != 0));
            if stuck {
                pg.end();
            }
            pg.server.is_none()
        }
        Busy::Rewind => {
            let copy = match keeper.journal.work {
                Some(work) => work.copy(),
                None => None,
            };
            if let Some(disk) = pg
                .staged
                .take()
                .filter(|d| copy.is_some() && d.copy == copy)
            {
                pg.disk = Some(disk);
                pg.broken = false;
            }
            true
        }
    };
    if !over {
        return;
    }
    if let Some(run) = &mut keeper.run {
        run.busy = None;
        if busy == Busy::Rewind {
            let step = Step::Rewind {
                upstream: super::keeper::peer(NodeId(1)),
                copy: CopyId(0),
            };
            let end = Outcome::Rewound {
                end: RewindEnd::Done,
            };
            run.memory
                .finished(&step, &end, &keeper.journal, None, super::NOW);
        }
    }
}

fn base_backup(pg: &mut Pg, upstream: NodeId, copy: CopyId, around: &Around) -> Acted {
    let Some((source, _)) = source(around, upstream) else {
        return failed();
    };
    pg.staged = Some(source.copied(copy, true));
    seen(Outcome::Done)
}

fn ask_peers(pg: &Pg, around: &Around) -> Acted {
    let mine = pg.disk.as_ref().map_or(0, |d| d.control);
    let newer = (1..=3)
        .filter_map(|node| source(around, NodeId(node)))
        .any(|(disk, _)| disk.path.timeline() > mine);
    seen(Outcome::Peers { newer })
}
