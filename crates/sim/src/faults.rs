//! Faults and operations: what they are, and what they do when they strike.

mod plan;

use pgaf_fsm::group::Cluster;
use pgaf_fsm::node::Journal;
use pgaf_protocol::FormationId;

use crate::event::{Event, Heal};
use crate::monitor::{Operation, group_of};
use crate::net::Place;
use crate::pg::Pg;
use crate::world::World;

pub(crate) use plan::STORM;

/// Whom a fault hits; looked up when it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    Primary,
    Standby,
    Host(usize),
    /// Where the moment was that the fault waited for.
    That,
}

/// What happens to processes for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    KillKeeper,
    KillHost,
    PowerOff,
    Freeze,
    FreezeKeeper,
    HangPostgres,
    /// The keeper dies before (false) or after (true) so many more journal entries.
    CrashJournal(u32, bool),
    HoldReplay,
}

/// What happens to the network for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    All(Whom),
    Monitor(Whom),
    Peers(Whom),
    /// One way only, between any two places, by their index.
    OneWay(usize, usize),
    /// Two halves, by the bits of a number: bit 0 is the monitor.
    Split(u64),
    /// Nodes, by their bits, do not hear the monitor; it hears them.
    Deaf(u64),
    /// Everything between this node and other nodes takes longer.
    Lag(Whom, u64),
    Slow(u64),
    Lossy(u64),
}

/// What happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    KillPostgres,
    BadStarts(u32),
    /// `pg_control` is gone: the copy is none any more.
    Destroy,
    /// The node is dropped, and registers anew with an empty host later.
    DropAndJoin(u64),
    Join,
}

/// One thing that goes wrong, or that somebody asks for. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Process(Process, Whom, u64),
    Link(Link, u64),
    Trouble(Trouble, Whom),
    PowerOffAll(u64),
    KillMonitor(u64),
    FreezeMonitor(u64),
    CrashCommit(u32, bool, u64),
    /// Keeps a copy of the monitor's store, and puts it back later.
    RestoreLater(u64),
    Restore(Box<Cluster>),
    Operate(Operation),
    /// Strikes so long after the next moment of this kind, at the host where that was.
    When(Moment, u64, Box<Fault>),
    /// For a while nobody writes.
    Pause(u64),
}

/// A moment that a fault can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A keeper has journaled a promise.
    Promised,
    /// A keeper begins this step.
    Step(&'static str),
    /// A copy opens for writing.
    Opened,
}

/// How long a fault waits for its moment.
const PATIENCE: u64 = 30_000;

impl World {
    /// The host a fault hits now.
    pub(crate) fn whom(&self, whom: Whom) -> usize {
        let leader = self
            .monitor
            .group()
            .and_then(|g| g.nodes.get(&g.primary?.node))
            .and_then(|n| self.host_of(&n.host))
            .unwrap_or(0);
        match whom {
            Whom::Host(host) => host.min(self.hosts.len() - 1),
            Whom::Primary | Whom::That => leader,
            Whom::Standby => (0..self.hosts.len())
                .find(|h| *h != leader)
                .unwrap_or(leader),
        }
    }

    /// A fault of the plan strikes.
    pub(crate) fn strike_fault(&mut self, index: usize) {
        let Some(fault) = self.faults.get(index).cloned() else {
            return;
        };
        let again = matches!(fault, Fault::Restore(_) | Fault::Trouble(Trouble::Join, _));
        if !again {
            self.struck += 1;
            self.stir(10_000);
            self.note(|| format!("FAULT {fault:?}"));
        }
        match fault {
            Fault::Process(kind, whom, time) => {
                let host = self.whom(whom);
                self.strike_process(kind, host, time);
            }
            Fault::Link(kind, time) => self.strike_link(kind, time),
            Fault::Trouble(kind, whom) => {
                let host = self.whom(whom);
                self.strike_once(kind, host);
            }
            Fault::PowerOffAll(back) => self.power_off_all(back),
            Fault::KillMonitor(back) => {
                self.kill_monitor();
                self.after(back, Event::Heal(Heal::StartMonitor));
            }
            Fault::FreezeMonitor(time) => {
                if self.monitor.up {
                    self.freeze_monitor();
                    self.after(time, Event::Heal(Heal::ThawMonitor));
                }
            }
            Fault::CrashCommit(left, after, back) => {
                self.monitor.crash_in = Some((left, after));
                self.after(back, Event::Heal(Heal::StartMonitor));
            }
            Fault::RestoreLater(back) => {
                let store = Box::new(self.monitor.durable.clone());
                self.fault_after(back, Fault::Restore(store));
            }
            Fault::Restore(store) => self.restore_if_same(*store),
            Fault::When(moment, after, fault) => {
                let until = self.now + PATIENCE;
                self.armed.push((until, moment, after, *fault));
            }
            Fault::Pause(ms) => self.paused_until = self.now + ms,
            Fault::Operate(operation) => {
                let done = self.operate(&operation);
                self.coverage.event(if done.is_ok() {
                    "operation.done"
                } else {
                    "operation.refused"
                });
            }
        }
    }

    /// Something happened that a fault may wait for.
    pub(crate) fn moment(&mut self, moment: Moment, host: usize) {
        if self.armed.is_empty() {
            return;
        }
        let now = self.now;
        self.armed.retain(|(until, _, _, _)| *until >= now);
        while let Some(i) = self.armed.iter().position(|(_, m, _, _)| *m == moment) {
            let (_, _, after, mut fault) = self.armed.remove(i);
            if let Fault::Process(_, whom, _) | Fault::Link(Link::All(whom), _) = &mut fault
                && matches!(whom, Whom::That)
            {
                *whom = Whom::Host(host);
            }
            self.fault_after(after, fault);
        }
    }

    fn strike_process(&mut self, kind: Process, host: usize, time: u64) {
        let heal = match kind {
            Process::KillKeeper => {
                self.end_keeper(host, true);
                Heal::StartKeeper(host)
            }
            Process::KillHost => {
                self.kill_host(host, false);
                Heal::StartHost(host)
            }
            Process::PowerOff => {
                self.kill_host(host, true);
                Heal::StartHost(host)
            }
            Process::Freeze => {
                if !self.hosts[host].up {
                    return;
                }
                self.freeze(host);
                Heal::Thaw(host)
            }
            Process::FreezeKeeper => {
                self.hosts[host].keeper_frozen = true;
                Heal::Thaw(host)
            }
            Process::HangPostgres => {
                self.hang_postgres(host);
                Heal::ThawPostgres(host)
            }
            Process::CrashJournal(left, after) => {
                self.hosts[host].crash_in = Some((left, after));
                Heal::StartKeeper(host)
            }
            Process::HoldReplay => {
                return self.hold_replay(host, time);
            }
        };
        self.after(time, Event::Heal(heal));
    }

    fn strike_link(&mut self, kind: Link, time: u64) {
        let places = self.places();
        let both = |me: Place, others: &mut dyn Iterator<Item = Place>| -> Vec<(Place, Place)> {
            others
                .filter(|p| *p != me)
                .flat_map(|p| [(me, p), (p, me)])
                .collect()
        };
        let pairs = match kind {
            Link::All(whom) => both(Place::Node(self.whom(whom)), &mut places.iter().copied()),
            Link::Monitor(whom) => both(
                Place::Node(self.whom(whom)),
                &mut std::iter::once(Place::Monitor),
            ),
            Link::Peers(whom) => both(
                Place::Node(self.whom(whom)),
                &mut places.iter().copied().filter(|p| *p != Place::Monitor),
            ),
            Link::OneWay(from, to) => {
                let pair = (places[from % places.len()], places[to % places.len()]);
                if pair.0 == pair.1 {
                    Vec::new()
                } else {
                    vec![pair]
                }
            }
            Link::Split(mask) => {
                let side = |i: usize| mask >> i & 1;
                let all = 0..places.len();
                all.clone()
                    .flat_map(|a| all.clone().map(move |b| (a, b)))
                    .filter(|(a, b)| side(*a) != side(*b))
                    .map(|(a, b)| (places[a], places[b]))
                    .collect()
            }
            Link::Deaf(mask) => (1..places.len())
                .filter(|i| mask >> i & 1 == 1)
                .map(|i| (Place::Monitor, places[i]))
                .collect(),
            Link::Lag(whom, ms) => {
                let host = self.whom(whom);
                self.net.lag.insert(host, ms);
                return self.after(time, Event::Heal(Heal::Hasten));
            }
            Link::Slow(ms) => {
                self.net.slow = ms;
                return self.after(time, Event::Heal(Heal::Hasten));
            }
            Link::Lossy(loss) => {
                self.net.loss = loss;
                return self.after(time, Event::Heal(Heal::Hasten));
            }
        };
        for (from, to) in &pairs {
            self.net.cut(*from, *to);
        }
        self.after(time, Event::Heal(Heal::Mend(pairs)));
    }

    fn strike_once(&mut self, kind: Trouble, host: usize) {
        match kind {
            Trouble::KillPostgres => {
                if !self.hosts[host].frozen {
                    self.behead(host);
                }
            }
            Trouble::BadStarts(count) => {
                self.hosts[host].pg.bad_starts = count;
                if !self.hosts[host].frozen {
                    self.behead(host);
                }
            }
            Trouble::Destroy => self.destroy(host),
            Trouble::DropAndJoin(back) => {
                let drop = Operation::Drop { host, force: false };
                // Nobody removes a node while another one has lost its copy.
                let whole = self.hosts.iter().all(|h| h.pg.broken.is_none())
                    && self
                        .monitor
                        .group()
                        .is_some_and(|g| g.nodes.values().all(|n| !n.leaving));
                if whole && self.operate(&drop).is_ok() {
                    self.fault_after(back, Fault::Trouble(Trouble::Join, Whom::Host(host)));
                }
            }
            Trouble::Join => self.join_anew(host),
        }
    }

    /// Only when nothing else is wrong: two lost copies may lose what was acknowledged.
    fn destroy(&mut self, host: usize) {
        let named = self
            .monitor
            .group()
            .is_some_and(|g| g.possible.iter().all(|p| !p.config.is_asynchronous()));
        // A node that is being removed stands for nobody: its copy is no second one.
        let leaving = self
            .monitor
            .group()
            .is_some_and(|g| g.nodes.values().any(|n| n.leaving));
        if !self.is_settled() || self.hosts[host].frozen || !named || leaving {
            return;
        }
        self.end_server(host, false);
        self.hosts[host].pg.broken = Some("its control file is missing".into());
        self.rouse_keeper(host);
    }

    /// An operator empties the host of a node that was dropped, and creates it anew.
    fn join_anew(&mut self, host: usize) {
        let journal = &self.hosts[host].journal;
        if journal.node.0 == 0 && journal.token.starts_with("again") {
            // It has been emptied already, and registers as soon as it can.
            return self.start_keeper(host);
        }
        let name = self.hosts[host].name.clone();
        // An operator looks whether it is really gone: a monitor may forget what it has not stored.
        let lists =
            |c: &Cluster| group_of(c).is_some_and(|g| g.nodes.values().any(|n| n.name == name));
        let listed = lists(&self.monitor.cluster) || lists(&self.monitor.durable);
        if listed || !self.monitor.up || !self.hosts[host].up || self.hosts[host].frozen {
            return self.fault_after(5000, Fault::Trouble(Trouble::Join, Whom::Host(host)));
        }
        if self.monitor.group().is_some_and(|g| g.nodes.is_empty()) {
            // The last node was dropped: another, empty group begins.
            self.ledger.give_up(None);
        }
        self.end_keeper(host, true);
        self.end_server(host, false);
        self.tokens += 1;
        let token = format!("again{}", self.tokens);
        let it = &mut self.hosts[host];
        it.pg = Pg::default();
        it.journal = Journal::new(token, FormationId::default());
        self.start_keeper(host);
    }

    /// A node that was dropped and is still on its host registers anew.
    pub(crate) fn join_later(&mut self, host: usize) {
        self.fault_after(100, Fault::Trouble(Trouble::Join, Whom::Host(host)));
    }

    /// Another membership, or a lost copy while nobody knows what was in force, needs an operator.
    fn restore_if_same(&mut self, store: Cluster) {
        let ids = |c: &Cluster| group_of(c).map(|g| g.nodes.keys().copied().collect::<Vec<_>>());
        let leaves = |c: &Cluster| group_of(c).is_some_and(|g| g.nodes.values().any(|n| n.leaving));
        let same = ids(&store) == ids(&self.monitor.durable)
            && !leaves(&store)
            && !leaves(&self.monitor.durable);
        let whole = self
            .hosts
            .iter()
            .all(|h| h.pg.broken.is_none() && h.pg.disk.is_some());
        if same && whole {
            self.note(|| "FAULT Restore".to_owned());
            self.restore_monitor(store);
        }
    }

    fn power_off_all(&mut self, back: u64) {
        self.monitor.frozen = false;
        self.end_monitor(false);
        let late = self.rng.between(0, 15_000);
        self.after(back + late, Event::Heal(Heal::StartMonitor));
        for host in 0..self.hosts.len() {
            self.kill_host(host, true);
            let late = self.rng.between(0, 15_000);
            self.after(back + late, Event::Heal(Heal::StartHost(host)));
        }
    }
}
