//! Faults and operations: what they are, and a random plan of them.

use pgaf_fsm::group::Cluster;
use pgaf_fsm::node::Journal;
use pgaf_protocol::FormationId;

use crate::event::{Event, Heal};
use crate::monitor::{Operation, group_of};
use crate::net::Place;
use crate::pg::Pg;
use crate::rng::Rng;
use crate::world::World;

/// Whom a fault hits; looked up when it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    Primary,
    Standby,
    Host(usize),
}

/// One thing that goes wrong, or that somebody asks for. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    KillPostgres(Whom),
    KillKeeper(Whom, u64),
    KillHost(Whom, u64),
    PowerOff(Whom, u64),
    PowerOffAll(u64),
    Freeze(Whom, u64),
    Hang(Whom, u64),
    CutAll(Whom, u64),
    CutMonitor(Whom, u64),
    CutPeers(Whom, u64),
    /// One way only, between any two places, by their index.
    CutOneWay(usize, usize, u64),
    Slow(u64, u64),
    Lossy(u64, u64),
    KillMonitor(u64),
    FreezeMonitor(u64),
    CrashCommit(u32, bool, u64),
    CrashJournal(Whom, u32, bool, u64),
    HoldReplay(Whom, u64),
    BadStarts(Whom, u32),
    /// `pg_control` is gone: the copy is none any more.
    Destroy(Whom),
    /// The node is dropped, and registers anew with an empty host later.
    DropAndJoin(Whom, u64),
    Join(usize),
    /// Keeps a copy of the monitor's store, and puts it back later.
    RestoreLater(u64),
    Restore(Box<Cluster>),
    Operate(Operation),
}

/// How many faults a seed has, at least and at most.
const FAULTS: (u64, u64) = (6, 14);
/// How long faults go on striking, in virtual milliseconds.
pub(crate) const STORM: u64 = 600_000;

impl World {
    /// Makes a plan for this seed and puts it into the queue, from now on.
    pub(crate) fn plan_faults(&mut self) {
        let mut rng = Rng::new(self.rng.next());
        let count = rng.between(FAULTS.0, FAULTS.1);
        let mut at = rng.between(1000, 20_000);
        for index in 0..count {
            let fault = random_fault(&mut rng, self.hosts.len());
            let number = self.faults.len();
            self.faults.push(fault);
            self.after(at, Event::Fault(number));
            // The second one overlaps the first; later ones mostly come in bursts too.
            at += if index == 0 || rng.one_in(2) {
                rng.between(0, 3000)
            } else {
                rng.between(3000, 2 * STORM / count)
            };
            at = at.min(STORM - 20_000);
        }
    }

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
            Whom::Primary => leader,
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
        self.note(|| format!("FAULT {}", fault_text(&fault)));
        match fault {
            Fault::KillPostgres(whom) => {
                let host = self.whom(whom);
                if !self.hosts[host].frozen {
                    self.behead(host);
                }
            }
            Fault::KillKeeper(whom, back) => {
                let host = self.whom(whom);
                self.end_keeper(host, true);
                self.after(back, Event::Heal(Heal::StartKeeper(host)));
            }
            Fault::KillHost(whom, back) => {
                let host = self.whom(whom);
                self.kill_host(host, false);
                self.after(back, Event::Heal(Heal::StartHost(host)));
            }
            Fault::PowerOff(whom, back) => {
                let host = self.whom(whom);
                self.kill_host(host, true);
                self.after(back, Event::Heal(Heal::StartHost(host)));
            }
            Fault::PowerOffAll(back) => self.power_off_all(back),
            Fault::Freeze(whom, time) => {
                let host = self.whom(whom);
                if self.hosts[host].up {
                    self.freeze(host);
                    self.after(time, Event::Heal(Heal::Thaw(host)));
                }
            }
            Fault::Hang(whom, time) => {
                let host = self.whom(whom);
                self.hang_postgres(host);
                self.after(time, Event::Heal(Heal::ThawPostgres(host)));
            }
            Fault::CutAll(whom, time) => {
                let me = Place::Node(self.whom(whom));
                let others = self.places().into_iter().filter(|p| *p != me);
                let pairs = others.flat_map(|p| [(me, p), (p, me)]).collect();
                self.cut(pairs, time);
            }
            Fault::CutMonitor(whom, time) => {
                let me = Place::Node(self.whom(whom));
                self.cut(vec![(me, Place::Monitor), (Place::Monitor, me)], time);
            }
            Fault::CutPeers(whom, time) => {
                let me = Place::Node(self.whom(whom));
                let others = self
                    .places()
                    .into_iter()
                    .filter(|p| *p != me && *p != Place::Monitor);
                let pairs = others.flat_map(|p| [(me, p), (p, me)]).collect();
                self.cut(pairs, time);
            }
            Fault::CutOneWay(from, to, time) => {
                let places = self.places();
                let pair = (places[from % places.len()], places[to % places.len()]);
                if pair.0 != pair.1 {
                    self.cut(vec![pair], time);
                }
            }
            Fault::Slow(ms, time) => {
                self.net.slow = ms;
                self.after(time, Event::Heal(Heal::Hasten));
            }
            Fault::Lossy(loss, time) => {
                self.net.loss = loss;
                self.after(time, Event::Heal(Heal::Hasten));
            }
            other => self.strike_rarer(other),
        }
    }

    fn strike_rarer(&mut self, fault: Fault) {
        match fault {
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
            Fault::CrashJournal(whom, left, after, back) => {
                let host = self.whom(whom);
                self.hosts[host].crash_in = Some((left, after));
                self.after(back, Event::Heal(Heal::StartKeeper(host)));
            }
            Fault::HoldReplay(whom, time) => {
                let host = self.whom(whom);
                let until = self.now + time;
                if let Some(server) = self.hosts[host].pg.server.as_mut() {
                    server.replay_held = until;
                }
            }
            Fault::BadStarts(whom, count) => {
                let host = self.whom(whom);
                self.hosts[host].pg.bad_starts = count;
                if !self.hosts[host].frozen {
                    self.behead(host);
                }
            }
            Fault::Destroy(whom) => self.destroy(whom),
            Fault::DropAndJoin(whom, back) => {
                let host = self.whom(whom);
                if self
                    .operate(&Operation::Drop { host, force: false })
                    .is_ok()
                {
                    let number = self.faults.len();
                    self.faults.push(Fault::Join(host));
                    self.after(back, Event::Fault(number));
                }
            }
            Fault::Join(host) => self.join_anew(host),
            Fault::RestoreLater(back) => {
                let store = Box::new(self.monitor.durable.clone());
                let number = self.faults.len();
                self.faults.push(Fault::Restore(store));
                self.after(back, Event::Fault(number));
            }
            Fault::Restore(store) => {
                // Another membership needs an operator, who drops and registers nodes by hand.
                let ids =
                    |c: &Cluster| group_of(c).map(|g| g.nodes.keys().copied().collect::<Vec<_>>());
                if ids(&store) == ids(&self.monitor.durable) {
                    self.restore_monitor(*store);
                }
            }
            Fault::Operate(operation) => {
                let done = self.operate(&operation);
                self.coverage.event(if done.is_ok() {
                    "operation.done"
                } else {
                    "operation.refused"
                });
            }
            Fault::KillPostgres(_)
            | Fault::KillKeeper(..)
            | Fault::KillHost(..)
            | Fault::PowerOff(..)
            | Fault::PowerOffAll(_)
            | Fault::Freeze(..)
            | Fault::Hang(..)
            | Fault::CutAll(..)
            | Fault::CutMonitor(..)
            | Fault::CutPeers(..)
            | Fault::CutOneWay(..)
            | Fault::Slow(..)
            | Fault::Lossy(..) => {}
        }
    }

    /// Only when nothing else is wrong: two lost copies may lose what was acknowledged.
    fn destroy(&mut self, whom: Whom) {
        let host = self.whom(whom);
        if !self.is_settled() || self.hosts[host].frozen {
            return;
        }
        self.end_server(host, false);
        self.hosts[host].pg.broken = Some("its control file is missing".into());
        self.rouse_keeper(host);
    }

    /// An operator empties the host of a node that was dropped, and creates it anew.
    fn join_anew(&mut self, host: usize) {
        let name = self.hosts[host].name.clone();
        let listed = self
            .monitor
            .group()
            .is_some_and(|g| g.nodes.values().any(|n| n.name == name));
        if listed || !self.hosts[host].up || self.hosts[host].frozen {
            let number = self.faults.len();
            self.faults.push(Fault::Join(host));
            self.after(5000, Event::Fault(number));
            return;
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

    fn cut(&mut self, pairs: Vec<(Place, Place)>, time: u64) {
        for (from, to) in &pairs {
            self.net.cut(*from, *to);
        }
        self.after(time, Event::Heal(Heal::Mend(pairs)));
    }
}

/// A restored store is too long to print.
fn fault_text(fault: &Fault) -> String {
    match fault {
        Fault::Restore(store) => format!("Restore(incarnation {})", store.incarnation),
        other => format!("{other:?}"),
    }
}

fn random_fault(rng: &mut Rng, nodes: usize) -> Fault {
    let whom = match rng.between(0, 4) {
        0 | 1 => Whom::Primary,
        2 => Whom::Standby,
        _ => Whom::Host(rng.below(nodes)),
    };
    // Mostly some seconds; at times less than any timeout, at times long.
    let time = match rng.between(0, 5) {
        0 => rng.between(20, 1000),
        5 => rng.between(15_000, 60_000),
        _ => rng.between(1000, 12_000),
    };
    match rng.between(0, 37) {
        0..=2 => Fault::KillPostgres(whom),
        3 | 4 => Fault::KillKeeper(whom, time),
        5..=7 => Fault::KillHost(whom, time),
        8 | 9 => Fault::PowerOff(whom, time),
        10 => Fault::PowerOffAll(time),
        11 | 12 => Fault::Freeze(whom, time),
        13 => Fault::Hang(whom, time),
        14 | 15 => Fault::CutAll(whom, time),
        16 => Fault::CutMonitor(whom, time),
        17 => Fault::CutPeers(whom, time),
        18 | 19 => Fault::CutOneWay(rng.below(nodes + 1), rng.below(nodes + 1), time),
        20 => Fault::Slow(rng.between(5, 400), time),
        21 => Fault::Lossy(rng.between(3, 20), time),
        22 => Fault::KillMonitor(time),
        23 => Fault::FreezeMonitor(time),
        24 => Fault::CrashCommit(small(rng, 6), rng.one_in(2), time),
        25 | 26 => Fault::CrashJournal(whom, small(rng, 12), rng.one_in(2), time),
        27 => Fault::HoldReplay(whom, time),
        28 => Fault::BadStarts(whom, small(rng, 5)),
        29 | 30 => Fault::Operate(random_operation(rng, nodes)),
        31 => Fault::RestoreLater(rng.between(1000, 60_000)),
        32 | 33 => Fault::Destroy(whom),
        34 => Fault::DropAndJoin(whom, time),
        _ => Fault::Operate(Operation::Failover {
            allow_data_loss: false,
        }),
    }
}

fn small(rng: &mut Rng, high: u64) -> u32 {
    u32::try_from(rng.between(0, high)).unwrap_or(0)
}

fn random_operation(rng: &mut Rng, nodes: usize) -> Operation {
    let host = rng.below(nodes);
    match rng.between(0, 4) {
        0 => Operation::Priority {
            host,
            priority: [0, 50, 80][rng.below(3)],
        },
        2 => Operation::Quorum {
            host,
            quorum: rng.one_in(2),
        },
        1 if nodes > 2 => Operation::NumberSync(i64::from(small(rng, 1))),
        _ => Operation::Promotion(format!("node{}", host + 1)),
    }
}
