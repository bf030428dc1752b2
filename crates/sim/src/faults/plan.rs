//! A random plan of faults and operations, from a seed.

use super::{Fault, Link, Moment, Process, Trouble, Whom};
use crate::event::Event;
use crate::monitor::Operation;
use crate::rng::Rng;
use crate::world::World;

/// How many bursts of faults a seed has, at least and at most.
const BURSTS: (u64, u64) = (4, 9);
/// How many faults a burst has, at least and at most.
const FAULTS: (u64, u64) = (2, 7);
/// How long faults go on striking, in virtual milliseconds.
pub(crate) const STORM: u64 = 600_000;

impl World {
    /// Makes a plan for this seed and puts it into the queue, from now on.
    pub(crate) fn plan_faults(&mut self) {
        let mut rng = Rng::new(self.rng.next());
        let bursts = rng.between(BURSTS.0, BURSTS.1);
        for burst in 0..bursts {
            let room = STORM / bursts;
            let mut at = burst * room + rng.between(1000, room / 2);
            if rng.one_in(2) {
                for (later, fault) in targeted(&mut rng, self.hosts.len()) {
                    self.fault_after((at + later).min(STORM - 20_000), fault);
                }
                continue;
            }
            for _ in 0..rng.between(FAULTS.0, FAULTS.1) {
                let fault = random_fault(&mut rng, self.hosts.len());
                self.fault_after(at.min(STORM - 20_000), fault);
                // Faults that overlap are what breaks things: at once, soon, or while it heals.
                at += match rng.between(0, 5) {
                    0 | 1 => rng.between(0, 150),
                    2 | 3 => rng.between(100, 3000),
                    _ => rng.between(1000, 12_000),
                };
            }
        }
    }

    /// A fault to come.
    pub(crate) fn fault_after(&mut self, ms: u64, fault: Fault) {
        let number = self.faults.len();
        self.faults.push(fault);
        self.after(ms, Event::Fault(number));
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
    let process = |kind| Fault::Process(kind, whom, time);
    let link = |kind| Fault::Link(kind, time);
    let trouble = |kind| Fault::Trouble(kind, whom);
    match rng.between(0, 38) {
        0..=2 => trouble(Trouble::KillPostgres),
        3 | 4 => process(Process::KillKeeper),
        5..=7 => process(Process::KillHost),
        8 | 9 => process(Process::PowerOff),
        10 => Fault::PowerOffAll(time),
        11 | 12 => process(Process::Freeze),
        13 => process(Process::HangPostgres),
        14 | 15 => link(Link::All(whom)),
        16 => link(Link::Monitor(whom)),
        17 => link(Link::Peers(whom)),
        18 | 19 => link(Link::OneWay(rng.below(nodes + 1), rng.below(nodes + 1))),
        20 => link(Link::Slow(rng.between(5, 400))),
        21 => link(Link::Lossy(rng.between(3, 20))),
        22 => Fault::KillMonitor(time),
        23 => Fault::FreezeMonitor(time),
        24 => Fault::CrashCommit(small(rng, 6), rng.one_in(2), time),
        25 | 26 => process(Process::CrashJournal(small(rng, 12), rng.one_in(2))),
        27 => process(Process::HoldReplay),
        28 => trouble(Trouble::BadStarts(small(rng, 5))),
        29 | 30 => Fault::Operate(random_operation(rng, nodes)),
        31 => Fault::RestoreLater(rng.between(1000, 60_000)),
        32 | 33 => trouble(Trouble::Destroy),
        34 => trouble(Trouble::DropAndJoin(time)),
        35 => process(Process::FreezeKeeper),
        _ => Fault::Operate(Operation::Failover {
            allow_data_loss: false,
        }),
    }
}

/// Faults in an order that a broken rule would not survive: at the moments that matter.
#[expect(
    clippy::too_many_lines,
    reason = "one list of stories, read top to bottom"
)]
fn targeted(rng: &mut Rng, nodes: usize) -> Vec<(u64, Fault)> {
    let long = rng.between(8000, 40_000);
    let short = rng.between(20, 1500);
    let soon = rng.between(0, 300);
    let mask = rng.next() & 0xff;
    let other = Whom::Host(rng.below(nodes));
    let process = |kind, whom, time| Fault::Process(kind, whom, time);
    let when = |moment, after, fault| Fault::When(moment, after, Box::new(fault));
    let lag = Fault::Link(Link::Lag(other, rng.between(100, 1500)), long);
    let end_primary = match rng.between(0, 3) {
        0 => process(Process::Freeze, Whom::Primary, rng.between(3000, 9000)),
        1 => process(Process::PowerOff, Whom::Primary, rng.between(2000, 15_000)),
        2 => Fault::Trouble(Trouble::BadStarts(small(rng, 3)), Whom::Primary),
        _ => Fault::Link(Link::Split(mask), rng.between(4000, 12_000)),
    };
    let switch = Fault::Operate(Operation::Failover {
        allow_data_loss: false,
    });
    let begin = if rng.one_in(3) { switch } else { end_primary };
    let gone = |whom| process(Process::PowerOff, whom, long);
    match rng.between(0, 9) {
        // The power fails where a promise has just been given.
        0 => vec![
            (
                0,
                when(
                    Moment::Promised,
                    soon,
                    process(Process::PowerOff, Whom::That, short),
                ),
            ),
            (10, begin),
        ],
        // The network parts in the middle of an election.
        1 => vec![
            (
                0,
                when(Moment::Promised, soon, Fault::Link(Link::Split(mask), long)),
            ),
            (
                5,
                when(
                    Moment::Promised,
                    soon / 2,
                    process(Process::KillHost, Whom::That, short),
                ),
            ),
            (10, begin),
        ],
        2 => vec![
            (
                0,
                when(
                    Moment::Step("promote"),
                    soon,
                    Fault::Link(Link::Split(mask), long),
                ),
            ),
            (10, begin),
        ],
        // The new primary is lost at once.
        3 => vec![
            (0, lag),
            (0, when(Moment::Opened, soon * 4, gone(Whom::That))),
            (rng.between(10, 3000), begin),
        ],
        4 => vec![
            (0, lag),
            (0, when(Moment::Step("promote"), soon / 4, gone(Whom::That))),
            (rng.between(10, 3000), begin),
        ],
        // The primary is lost while its names change.
        5 => vec![
            (0, lag),
            (
                0,
                when(Moment::Step("confirm-names"), soon, gone(Whom::Primary)),
            ),
            (50, Fault::Operate(random_operation(rng, nodes))),
            (
                100,
                process(Process::KillHost, other, rng.between(3000, 6000)),
            ),
        ],
        6 => vec![
            (0, Fault::Link(Link::Slow(rng.between(20, 300)), long)),
            (
                0,
                process(Process::KillHost, Whom::Standby, rng.between(3000, 6000)),
            ),
            (
                3000,
                when(
                    Moment::Step("turn-waiting-on"),
                    soon / 2,
                    gone(Whom::Primary),
                ),
            ),
        ],
        // The store is put back to before the primary was left alone.
        7 => vec![
            (0, Fault::RestoreLater(rng.between(4000, 6000))),
            (
                100,
                process(Process::KillHost, Whom::Standby, rng.between(6000, 9000)),
            ),
            (rng.between(6000, 9000), gone(Whom::Primary)),
        ],
        // Some do not hear the monitor, and Postgres fails to start.
        8 => vec![
            (0, Fault::Link(Link::Deaf(mask | 2), long)),
            (
                rng.between(100, 2000),
                Fault::Trouble(Trouble::BadStarts(1 + small(rng, 2)), Whom::Primary),
            ),
        ],
        // Nothing is written, and two are promoted in turn.
        _ => vec![
            (0, Fault::Pause(6000)),
            (0, when(Moment::Opened, soon, gone(Whom::That))),
            (
                500,
                process(Process::PowerOff, Whom::Primary, rng.between(3000, 6000)),
            ),
        ],
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
        // Two acknowledgements want three standbys.
        1 if nodes > 2 => Operation::NumberSync(i64::from(small(rng, 1 + u64::from(nodes > 3)))),
        2 => Operation::Quorum {
            host,
            quorum: rng.one_in(2),
        },
        _ => Operation::Promotion(format!("node{}", host + 1)),
    }
}
