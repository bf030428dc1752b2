//! The simulated formation: hosts, monitor, network, and the queue of what happens when.
//!
//! Owns virtual time. Everything random comes from one seeded generator and everything happens in the
//! order of (millisecond, sequence): a seed is the whole story.

mod hosts;
mod sight;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgaf_fsm::node::Journal;
use pgaf_protocol::{CopyId, FormationId, Lineage, NodeState, Position, Term};

use crate::coverage::Coverage;
use crate::event::{Event, Heal, PgEvent};
use crate::faults::Fault;
use crate::fencer::Fencer;
use crate::keeper::Keeper;
use crate::ledger::Ledger;
use crate::monitor::Monitor;
use crate::net::{Net, Place};
use crate::pg::{Doing, Pg};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::wal::Branch;

/// The most that a trace holds, in bytes; it ends there.
const TRACE_LIMIT: usize = 32 << 20;

/// While nothing is going on, clients commit so many times more seldom (chosen: a commit costs as much
/// to simulate as a heartbeat).
const QUIET_PACE: u64 = 10;

/// The host of one Postgres node.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// Its kernel runs.
    pub(crate) up: bool,
    /// Every process of it is stopped.
    pub(crate) frozen: bool,
    /// Only its keeper is stopped.
    pub(crate) keeper_frozen: bool,
    deferred: Vec<Event>,
    /// What waits for a Postgres that hangs alone.
    hung: Vec<Event>,
    pub(crate) journal: Journal,
    /// For the negative control of a promise that is not on the disk.
    pub(crate) journal_before_promise: Option<Journal>,
    pub(crate) keeper: Option<Keeper>,
    /// The keeper dies before (false) or after (true) so many more journal entries.
    pub(crate) crash_in: Option<(u32, bool)>,
    pub(crate) pg: Pg,
    pub(crate) fencer: Option<Fencer>,
    /// Everything of it was thawed last then.
    pub(crate) thawed: u64,
}

/// Everything.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: u64,
    queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) hosts: Vec<Host>,
    pub(crate) monitor: Monitor,
    monitor_deferred: Vec<Event>,
    pub(crate) net: Net,
    pub(crate) branches: Vec<Branch>,
    pub(crate) ledger: Ledger,
    pub(crate) coverage: Coverage,
    /// Promises that the monitor has heard, by copy.
    pub(crate) promises: BTreeMap<CopyId, (Term, Position)>,
    /// Confirmations under way: the two records that have to be flushed.
    pub(crate) confirming: BTreeMap<(usize, u64), (u64, u64)>,
    pub(crate) faults: Vec<Fault>,
    /// Faults that wait for a moment: until when, which, and how long after it.
    pub(crate) armed: Vec<(u64, crate::faults::Moment, u64, Fault)>,
    pub(crate) paused_until: u64,
    /// How many faults have struck.
    pub(crate) struck: usize,
    pub(crate) writing: bool,
    /// Milliseconds between two commits of one client, on average.
    pub(crate) pace: u64,
    /// The first invariant that was broken.
    pub(crate) failed: Option<String>,
    /// Whether what happens is written down: only for a seed that is looked at.
    pub(crate) tracing: bool,
    trace: String,
    /// Clients commit often until then: something is going on.
    pub(crate) busy_until: u64,
    pub(crate) boots: u64,
    pub(crate) conns: u64,
    pub(crate) runs: u64,
    pub(crate) sessions: u64,
    pub(crate) steps: u64,
    pub(crate) tokens: u64,
    pub(crate) sabotage: Option<Sabotage>,
    /// The monitor's events, in a story.
    pub(crate) said: Option<Vec<String>>,
    /// No node is in the replication quorum, by choice.
    pub(crate) asynchronous: bool,
}

impl World {
    /// Hosts without anything on them, and a monitor that does not run yet.
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let mut rng = Rng::new(seed);
        let lineage = Lineage(rng.next());
        let hosts = (1..=nodes)
            .map(|n| Host {
                name: format!("node{n}"),
                up: true,
                frozen: false,
                keeper_frozen: false,
                deferred: Vec::new(),
                hung: Vec::new(),
                journal: Journal::new(format!("token{n}"), FormationId::default()),
                journal_before_promise: None,
                keeper: None,
                crash_in: None,
                pg: Pg::default(),
                fencer: None,
                thawed: 0,
            })
            .collect();
        Self {
            now: 1000,
            queue: Queue::default(),
            rng,
            hosts,
            monitor: Monitor::new(lineage),
            monitor_deferred: Vec::new(),
            net: Net::default(),
            branches: Vec::new(),
            ledger: Ledger::default(),
            coverage: Coverage::default(),
            promises: BTreeMap::new(),
            confirming: BTreeMap::new(),
            faults: Vec::new(),
            armed: Vec::new(),
            paused_until: 0,
            struck: 0,
            writing: false,
            pace: 40,
            failed: None,
            tracing: true,
            trace: String::new(),
            busy_until: u64::MAX,
            boots: 0,
            conns: 0,
            runs: 0,
            sessions: 0,
            steps: 0,
            tokens: 0,
            sabotage: None,
            said: None,
            asynchronous: false,
        }
    }

    /// Something is going on: for some time clients commit as often as they can.
    pub(crate) fn stir(&mut self, ms: u64) {
        self.busy_until = self.busy_until.max(self.now.saturating_add(ms));
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.queue.push(self.now + ms, event);
    }

    /// A line of the trace.
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.tracing && self.trace.len() < TRACE_LIMIT {
            let (s, ms) = (self.now / 1000, self.now % 1000);
            // Writing to a String cannot fail.
            let _ = writeln!(self.trace, "{s:>4}.{ms:03} {}", text());
        }
    }

    pub(crate) fn trace(&self) -> &str {
        &self.trace
    }

    /// An invariant is broken: the first one counts.
    pub(crate) fn fail(&mut self, what: String) {
        self.note(|| format!("BROKEN {what}"));
        self.failed.get_or_insert(what);
    }

    pub(crate) fn fresh_copy(&mut self) -> CopyId {
        CopyId(self.rng.next())
    }

    pub(crate) fn host_of(&self, name: &str) -> Option<usize> {
        self.hosts.iter().position(|h| h.name == name)
    }

    /// Lets everything happen that is due up to `until`, or until something is broken.
    pub(crate) fn run_until(&mut self, until: u64) {
        while self.failed.is_none() {
            let Some((at, event)) = self.queue.pop(until) else {
                break;
            };
            self.now = at;
            self.dispatch(event);
        }
        self.now = self.now.max(until);
    }

    fn dispatch(&mut self, event: Event) {
        match &event {
            Event::Pg { host, .. } | Event::Fencer { host, .. } if self.hosts[*host].frozen => {
                return self.hosts[*host].deferred.push(event);
            }
            Event::Keeper { host, .. } | Event::ToKeeper { host, .. }
                if self.hosts[*host].frozen || self.hosts[*host].keeper_frozen =>
            {
                return self.hosts[*host].deferred.push(event);
            }
            Event::Pg { host, .. }
                if self.hosts[*host].pg.server.as_ref().is_some_and(|s| s.hung) =>
            {
                return self.hosts[*host].hung.push(event);
            }
            Event::Monitor { .. } | Event::ToMonitor { .. } if self.monitor.frozen => {
                return self.monitor_deferred.push(event);
            }
            Event::Pg { .. }
            | Event::Keeper { .. }
            | Event::Monitor { .. }
            | Event::ToMonitor { .. }
            | Event::ToKeeper { .. }
            | Event::Fencer { .. }
            | Event::Retry { .. }
            | Event::Fault(_)
            | Event::Heal(_) => {}
        }
        match event {
            Event::Pg { host, boot, what } => self.at_server(host, boot, what),
            Event::Keeper { host, run, what } => self.keeper_event(host, run, what),
            Event::Monitor { run, what } => self.monitor_event(run, what),
            Event::ToMonitor {
                session,
                host,
                number,
                up,
            } => self.monitor_hears(session, host, number, up),
            Event::ToKeeper {
                host,
                session,
                number,
                down,
            } => self.keeper_hears(host, session, number, down),
            Event::Fencer { host, number } => self.fencer_looks(host, number),
            Event::Retry {
                from,
                to,
                tries,
                event,
            } => self.transmit(from, to, tries, *event),
            Event::Fault(index) => self.strike_fault(index),
            Event::Heal(heal) => self.heal(&heal),
        }
    }

    fn at_server(&mut self, host: usize, boot: u64, what: PgEvent) {
        if !self.hosts[host].up {
            return;
        }
        let runs = self.hosts[host].pg.server.as_ref().map(|s| s.boot);
        if boot != 0 && runs != Some(boot) {
            return;
        }
        match what {
            PgEvent::Ready => self.server_ready(host),
            PgEvent::Tick => self.pg_tick(host),
            PgEvent::Client => self.client(host),
            PgEvent::Gone => {
                let starting = self.hosts[host]
                    .pg
                    .server
                    .as_ref()
                    .is_some_and(|s| s.doing == Doing::Starting);
                self.end_server(host, false);
                if starting {
                    self.start_failed(host);
                }
                self.rouse_keeper(host);
            }
            PgEvent::Flushed { upto, commit } => self.flushed(host, upto, commit),
            PgEvent::Postmaster => {
                if let (Some(disk), Some(server)) = {
                    let pg = &mut self.hosts[host].pg;
                    (pg.disk.as_ref(), pg.server.as_mut())
                } {
                    server.names = disk.conf.names.clone();
                }
            }
            PgEvent::Checkpointer => self.checkpointer_looks(host),
            PgEvent::Startup => self.startup_looks(host),
            PgEvent::SenderSignal(conn) => self.sender_signal(host, conn),
            PgEvent::SenderNames(conn) => self.sender_looks(host, conn),
            PgEvent::Promoted => self.promote_now(host),
            PgEvent::Checkpointed => {
                if let Some(disk) = self.hosts[host].pg.disk.as_mut() {
                    disk.control_timeline = disk.path.timeline();
                }
            }
            PgEvent::StandbyFlush { upto } => self.standby_flushed(host, upto),
            PgEvent::Replay => self.replay(host),
            PgEvent::Connect { .. }
            | PgEvent::Accepted { .. }
            | PgEvent::Refused { .. }
            | PgEvent::Wal { .. }
            | PgEvent::Reply { .. }
            | PgEvent::KeepAlive { .. }
            | PgEvent::Closed { .. } => self.on_connection(host, what),
        }
    }

    /// What belongs to streaming replication.
    fn on_connection(&mut self, host: usize, what: PgEvent) {
        match what {
            PgEvent::Connect {
                conn,
                from,
                node,
                path,
            } => self.stream_wanted(host, conn, from, node, &path),
            PgEvent::Accepted {
                conn,
                host: upstream,
                timeline,
                histories,
            } => self.stream_accepted(host, (conn, upstream), timeline, histories),
            PgEvent::Refused { conn } => self.stream_refused(host, conn),
            PgEvent::Wal { conn, path } => self.wal_arrives(host, conn, &path),
            PgEvent::Reply {
                conn,
                flushed,
                timeline,
                ping,
            } => {
                self.sender_reply(host, conn, flushed, timeline);
                let other = self.sender(host, conn).map(|s| s.host);
                if let (true, Some(other)) = (ping, other) {
                    self.tell_pg(host, other, PgEvent::KeepAlive { conn });
                }
            }
            PgEvent::KeepAlive { conn } => self.keep_alive(host, conn),
            PgEvent::Closed { conn } => self.hung_up(host, conn),
            PgEvent::Ready
            | PgEvent::Tick
            | PgEvent::Client
            | PgEvent::Gone
            | PgEvent::Flushed { .. }
            | PgEvent::Postmaster
            | PgEvent::Checkpointer
            | PgEvent::Startup
            | PgEvent::SenderSignal(_)
            | PgEvent::SenderNames(_)
            | PgEvent::Promoted
            | PgEvent::Checkpointed
            | PgEvent::StandbyFlush { .. }
            | PgEvent::Replay => {}
        }
    }

    /// One client per server commits as long as that takes writes.
    fn client(&mut self, host: usize) {
        let quiet = self.now > self.busy_until;
        let pace = self.pace * if quiet { QUIET_PACE } else { 1 };
        let next = self.rng.between(1, pace * 2);
        let it = &mut self.hosts[host];
        if !it.pg.writes() {
            return;
        }
        self.pg_event(host, next, PgEvent::Client);
        if !self.writing || self.now < self.paused_until {
            return;
        }
        let it = &mut self.hosts[host];
        let closed = it.pg.closed;
        let Some(server) = it.pg.server.as_mut() else {
            return;
        };
        server.client |= !closed && !server.headless;
        if server.client && server.waiters.len() < 8 {
            self.commit(host);
        }
    }
}
