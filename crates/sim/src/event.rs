//! Everything that can happen, as values in the queue.

use std::collections::BTreeMap;

use pgaf_fsm::group::ProbeOutcome;
use pgaf_fsm::node::Observation;
use pgaf_protocol::{Answer, History, Look, NodeId, Registered, Registration, Report, Time};

use crate::net::Place;
use crate::wal::Path;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// At a server; `boot` 0: whichever runs there then.
    Pg {
        host: usize,
        boot: u64,
        what: PgEvent,
    },
    /// In one run of a keeper.
    Keeper {
        host: usize,
        run: u64,
        what: KeeperEvent,
    },
    /// In one run of the monitor.
    Monitor { run: u64, what: MonitorEvent },
    /// A message on a keeper's session, to the monitor.
    ToMonitor {
        session: u64,
        host: usize,
        number: u64,
        up: Up,
    },
    /// A message on a keeper's session, to the keeper.
    ToKeeper {
        host: usize,
        session: u64,
        number: u64,
        down: Down,
    },
    /// A fencer looks at the end of the lease.
    Fencer { host: usize, number: u64 },
    /// A message that did not get through is sent again.
    Retry {
        from: Place,
        to: Place,
        tries: u32,
        event: Box<Event>,
    },
    /// A fault of the plan, by its index.
    Fault(usize),
    /// A fault ends.
    Heal(Heal),
}

/// What happens at a server.
#[derive(Debug, Clone)]
pub(crate) enum PgEvent {
    Ready,
    Tick,
    /// A client may commit.
    Client,
    Gone,
    Flushed {
        upto: u64,
        commit: Option<u64>,
    },
    /// A process reads the configuration file, as it is then.
    Postmaster,
    Checkpointer,
    Startup,
    SenderSignal(u64),
    SenderNames(u64),
    Promoted,
    /// The checkpoint after a promotion is done.
    Checkpointed,
    StandbyFlush {
        upto: u64,
    },
    Replay,
    Connect {
        conn: u64,
        from: usize,
        node: NodeId,
        path: Path,
    },
    Accepted {
        conn: u64,
        host: usize,
        timeline: u32,
        histories: BTreeMap<u32, Option<History>>,
    },
    Refused {
        conn: u64,
    },
    Wal {
        conn: u64,
        path: Path,
    },
    Reply {
        conn: u64,
        flushed: u64,
        timeline: u32,
        ping: bool,
    },
    KeepAlive {
        conn: u64,
    },
    Closed {
        conn: u64,
    },
}

/// What happens in a keeper.
#[derive(Debug, Clone)]
pub(crate) enum KeeperEvent {
    Wake,
    Step(u64),
    Saw(u64, Box<Observation>),
    Looked(Look),
}

/// What happens in the monitor.
#[derive(Debug, Clone)]
pub(crate) enum MonitorEvent {
    Timer,
    Commit,
    Probed {
        node: NodeId,
        began: Time,
        outcome: ProbeOutcome,
    },
}

/// What a keeper says.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Report(Box<Report>),
    Register(Box<Registration>),
    Close,
}

/// What a keeper hears.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Answer(Box<Answer>),
    Push(Box<Answer>),
    Registered(Box<Registered>),
    Refused(String),
    Closed,
}

/// What ends a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heal {
    StartHost(usize),
    StartKeeper(usize),
    StartMonitor,
    Thaw(usize),
    ThawPostgres(usize),
    ThawMonitor,
    Mend(Vec<(Place, Place)>),
    Hasten,
}
