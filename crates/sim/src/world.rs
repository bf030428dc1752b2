//! The simulated formation: hosts, monitor, network, and the queue of what happens when.
//!
//! Owns virtual time. Everything random comes from one seeded generator and everything happens in the
//! order of (millisecond, sequence): a seed is the whole story.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgaf_fsm::node::Journal;
use pgaf_protocol::{CopyId, FormationId, Lineage, NodeState, Position, Term};

use crate::coverage::Coverage;
use crate::event::{Event, Heal, PgEvent};
use crate::faults::Fault;
use crate::keeper::Keeper;
use crate::ledger::Ledger;
use crate::monitor::Monitor;
use crate::net::{Net, Place};
use crate::pg::{Doing, Pg};
use crate::rng::Rng;
use crate::wal::Branch;

/// The most that a trace holds, in bytes; it ends there.
const TRACE_LIMIT: usize = 32 << 20;

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
    pub(crate) keeper: Option<Keeper>,
    /// The keeper dies before (false) or after (true) so many more journal entries.
    pub(crate) crash_in: Option<(u32, bool)>,
    pub(crate) pg: Pg,
}

/// Everything.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
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
    pub(crate) writing: bool,
    /// Milliseconds between two commits of one client, on average.
    pub(crate) pace: u64,
    /// The first invariant that was broken.
    pub(crate) failed: Option<String>,
    trace: String,
    pub(crate) boots: u64,
    pub(crate) conns: u64,
    pub(crate) runs: u64,
    pub(crate) sessions: u64,
    pub(crate) steps: u64,
    pub(crate) tokens: u64,
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
                keeper: None,
                crash_in: None,
                pg: Pg::default(),
            })
            .collect();
        let mut world = Self {
            now: 1000,
            sequence: 0,
            queue: BTreeMap::new(),
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
            writing: false,
            pace: 40,
            failed: None,
            trace: String::new(),
            boots: 0,
            conns: 0,
            runs: 0,
            sessions: 0,
            steps: 0,
            tokens: 0,
        };
        for host in 0..nodes {
            world.after(10, Event::Client { host });
        }
        world
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + ms, self.sequence), event);
    }

    /// A line of the trace.
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() < TRACE_LIMIT {
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
            let Some(first) = self.queue.first_entry() else {
                break;
            };
            if first.key().0 > until {
                break;
            }
            let ((at, _), event) = first.remove_entry();
            self.now = at;
            self.dispatch(event);
        }
        self.now = self.now.max(until);
    }

    fn dispatch(&mut self, event: Event) {
        match &event {
            Event::Pg { host, .. } if self.hosts[*host].frozen => {
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
            | Event::Client { .. }
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
            Event::Client { host } => self.client(host),
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

    /// One client per node commits as long as the node takes writes.
    fn client(&mut self, host: usize) {
        let pace = self.pace;
        let next = self.rng.between(1, pace * 2);
        self.after(next, Event::Client { host });
        let it = &mut self.hosts[host];
        if !self.writing || !it.up || it.frozen || !it.pg.writes() {
            return;
        }
        let closed = it.pg.closed;
        let Some(server) = it.pg.server.as_mut() else {
            return;
        };
        server.client |= !closed && !server.headless;
        if server.client && server.waiters.len() < 8 {
            self.commit(host);
        }
    }

    /// Every process of a host is killed; `power`: its kernel too.
    pub(crate) fn kill_host(&mut self, host: usize, power: bool) {
        self.note(|| format!("FAULT kill-host n{} power={power}", host + 1));
        self.thaw(host);
        self.end_server(host, power);
        self.end_keeper(host, !power);
        self.hosts[host].up = !power;
        self.hosts[host].deferred.clear();
        self.hosts[host].hung.clear();
    }

    pub(crate) fn kill_host_processes(&mut self, host: usize) {
        self.kill_host(host, false);
    }

    pub(crate) fn start_host(&mut self, host: usize) {
        self.hosts[host].up = true;
        self.start_keeper(host);
    }

    pub(crate) fn freeze(&mut self, host: usize) {
        self.note(|| format!("FAULT freeze n{}", host + 1));
        self.hosts[host].frozen = true;
    }

    /// Everything that waited happens now, each session's messages in their order.
    pub(crate) fn thaw(&mut self, host: usize) {
        if !self.hosts[host].frozen && !self.hosts[host].keeper_frozen {
            return;
        }
        self.note(|| format!("thaw n{}", host + 1));
        self.hosts[host].frozen = false;
        self.hosts[host].keeper_frozen = false;
        let waiting = core::mem::take(&mut self.hosts[host].deferred);
        self.replay_deferred(waiting);
    }

    /// Processes wake up one after the other, in any order.
    fn replay_deferred(&mut self, waiting: Vec<Event>) {
        for event in waiting {
            let late = if self.rng.one_in(3) {
                self.rng.between(0, 20)
            } else {
                0
            };
            self.after(late, event);
        }
    }

    pub(crate) fn hang_postgres(&mut self, host: usize) {
        self.note(|| format!("FAULT hang postgres n{}", host + 1));
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.hung = true;
        }
    }

    pub(crate) fn thaw_postgres(&mut self, host: usize) {
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.hung = false;
        }
        let waiting = core::mem::take(&mut self.hosts[host].hung);
        self.replay_deferred(waiting);
    }

    pub(crate) fn freeze_monitor(&mut self) {
        self.note(|| "FAULT freeze monitor".to_owned());
        self.monitor.frozen = true;
    }

    pub(crate) fn thaw_monitor(&mut self) {
        if !self.monitor.frozen {
            return;
        }
        self.note(|| "thaw monitor".to_owned());
        self.monitor.frozen = false;
        self.monitor_was_away();
        let waiting = core::mem::take(&mut self.monitor_deferred);
        self.replay_deferred(waiting);
    }

    pub(crate) fn kill_monitor(&mut self) {
        self.note(|| "FAULT kill monitor".to_owned());
        self.monitor.frozen = false;
        self.monitor_deferred.clear();
        self.end_monitor(true);
    }

    pub(crate) fn heal(&mut self, heal: &Heal) {
        self.note(|| format!("heal {heal:?}"));
        match heal {
            Heal::StartHost(host) => self.start_host(*host),
            Heal::StartKeeper(host) => {
                if self.hosts[*host].up {
                    self.start_keeper(*host);
                }
            }
            Heal::StartMonitor => self.start_monitor(),
            Heal::Thaw(host) => self.thaw(*host),
            Heal::ThawPostgres(host) => self.thaw_postgres(*host),
            Heal::ThawMonitor => self.thaw_monitor(),
            Heal::Mend(pairs) => {
                for (from, to) in pairs {
                    self.net.mend(*from, *to);
                }
            }
            Heal::Hasten => {
                self.net.slow = 0;
                self.net.loss = 0;
            }
        }
    }

    /// Ends every fault at once.
    pub(crate) fn heal_all(&mut self) {
        self.note(|| "heal everything".to_owned());
        self.net.heal();
        self.thaw_monitor();
        self.monitor.crash_in = None;
        self.start_monitor();
        for host in 0..self.hosts.len() {
            self.thaw(host);
            self.thaw_postgres(host);
            self.hosts[host].crash_in = None;
            self.hosts[host].pg.bad_starts = 0;
            if self.hosts[host].journal.dropped {
                self.join_later(host);
            } else {
                self.start_host(host);
            }
        }
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let nodes = (0..self.hosts.len()).map(Place::Node);
        std::iter::once(Place::Monitor).chain(nodes).collect()
    }

    /// One primary, every other node secondary, nothing else wanted, everything replayed.
    pub(crate) fn is_settled(&self) -> bool {
        if !self.monitor.up || self.monitor.frozen {
            return false;
        }
        let Some(group) = self.monitor.group() else {
            return false;
        };
        let Some(leader) = group.primary else {
            return false;
        };
        let states = group.nodes.values().all(|n| {
            let single = group.nodes.len() == 1;
            let wanted = if n.id != leader.node {
                NodeState::Secondary
            } else if single {
                NodeState::Single
            } else {
                NodeState::Primary
            };
            n.reported == wanted && n.goal.state == wanted
        });
        let steady = group.phase == pgaf_fsm::group::Phase::Steady && group.doubted.is_none();
        states && steady && self.is_replicated()
    }

    fn is_replicated(&self) -> bool {
        let Some(group) = self.monitor.group() else {
            return false;
        };
        group.nodes.values().all(|n| {
            let Some(host) = self.host_of(&n.host) else {
                return false;
            };
            let Some((disk, server)) = self.hosts[host].pg.running() else {
                return false;
            };
            let is_leader = group.primary.is_some_and(|l| l.node == n.id);
            server.recovery != is_leader
                && (is_leader || server.receiver.is_some())
                && self.ledger.missing_but_recent(&disk.path).is_none()
        })
    }

    /// The state of things, for the end of a trace.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        if let Some(group) = self.monitor.group() {
            let _ = writeln!(
                text,
                "term {} phase {:?} primary {:?} doubted {:?}",
                group.term, group.phase, group.primary, group.doubted
            );
            for possible in &group.possible {
                let _ = writeln!(
                    text,
                    "  possible {} {} {}",
                    possible.stamp, possible.primary, possible.config
                );
            }
            for node in group.nodes.values() {
                let _ = writeln!(
                    text,
                    "  node {} {}/{} copy {:?} role {:?} promise {:?} admitted {:?} goal {:?}",
                    node.id,
                    node.reported,
                    node.goal.state,
                    node.copy,
                    node.role,
                    node.promise,
                    node.admitted,
                    node.goal
                );
            }
            for waiting in &self.monitor.waiting {
                let _ = writeln!(
                    text,
                    "  waits {}: {} {:?}",
                    waiting.id, waiting.why, waiting.nodes
                );
            }
        }
        self.host_summary(&mut text);
        text
    }

    fn host_summary(&self, text: &mut String) {
        for (index, host) in self.hosts.iter().enumerate() {
            let path = host
                .pg
                .disk
                .as_ref()
                .map(|d| d.path.text())
                .unwrap_or_default();
            let plan = host
                .keeper
                .as_ref()
                .map(|k| (&k.plan, k.step.as_ref().map(|s| s.step.word())));
            let _ = writeln!(
                text,
                "  n{} up={} frozen={} {:?} broken={:?} path [{path}] upstream {:?} receiver {} plan {plan:?}",
                index + 1,
                host.up,
                host.frozen,
                host.pg.postgres(),
                host.pg.broken,
                host.pg.server.as_ref().and_then(|s| s.upstream),
                host.pg
                    .server
                    .as_ref()
                    .is_some_and(|s| s.receiver.is_some()),
            );
            let _ = writeln!(
                text,
                "     memory end {:?} disk {:?} no_position {:?} pause {:?}",
                host.keeper.as_ref().map(|k| k.memory.end),
                host.keeper.as_ref().map(|k| k.memory.disk),
                host.keeper.as_ref().map(|k| k.memory.no_position.clone()),
                host.keeper.as_ref().map(|k| k.memory.pause.clone())
            );
        }
    }
}
