//! What a storm will do, made from its seed alone: faults, whom they hit, how long, how soon after another.

use std::fmt;
use std::time::Duration;

/// One fault in so many strikes within [`SOON_MS`] of the last one, or during a switchover.
const CLOSE: usize = 3;

/// One fault in so many hits the monitor.
const MONITOR: usize = 10;

/// Two faults that are close are at most this far apart, in milliseconds.
const SOON_MS: u64 = 2800;

/// A fault strikes within this time of the beginning of a switchover; the command takes about half a second.
const MOVE_MS: u64 = 900;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    KillPostgres,
    KillHost,
    KillKeeper,
    FreezeHost,
    FreezeKeeper,
    FreezePostgres,
    CutFromAll,
    CutFromMonitor,
    CutFromNode,
    /// What the node sends to another place is lost; answers come through.
    LoseSent,
    /// What another place sends to the node is lost.
    LoseReceived,
    KillMonitor,
    FreezeMonitor,
    CutMonitor,
}

/// Faults of nodes, each as often as it stands here.
const OF_NODES: &[Kind] = &[
    Kind::KillPostgres,
    Kind::KillPostgres,
    Kind::KillHost,
    Kind::KillHost,
    Kind::KillHost,
    Kind::KillKeeper,
    Kind::KillKeeper,
    Kind::FreezeHost,
    Kind::FreezeHost,
    Kind::FreezeKeeper,
    Kind::FreezeKeeper,
    Kind::FreezePostgres,
    Kind::CutFromAll,
    Kind::CutFromAll,
    Kind::CutFromMonitor,
    Kind::CutFromNode,
    Kind::LoseSent,
    Kind::LoseReceived,
];

const OF_MONITOR: &[Kind] = &[Kind::KillMonitor, Kind::FreezeMonitor, Kind::CutMonitor];

/// Whom a fault hits, looked up when it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The node that acknowledged last.
    Primary,
    /// Of the others, counted round.
    Other(usize),
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// So long after the group has healed.
    Calm(Duration),
    /// So long after the fault before it, which may not be undone yet.
    Soon(Duration),
    /// So long after the beginning of a switchover in a healed group.
    Moving(Duration),
}

/// One fault of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) kind: Kind,
    pub(super) whom: Whom,
    /// The other end of a link, counted round.
    pub(super) other: usize,
    pub(super) when: When,
    /// How long until its cause is undone: the host starts again, the process goes on, the link is back.
    pub(super) lasts: Duration,
}

/// The faults of a seed, in bursts: between two bursts the group heals.
pub(super) fn bursts(seed: u64, faults: usize) -> Vec<Vec<Fault>> {
    let mut dice = Dice(seed);
    let mut bursts: Vec<Vec<Fault>> = Vec::new();
    let mut of_monitor = 0;
    for index in 0..faults {
        if index % MONITOR == 0 {
            of_monitor = index + dice.below(MONITOR.min(faults - index));
        }
        let close = index % CLOSE == CLOSE - 1 || dice.below(10) == 0;
        let when = match (close, dice.below(2)) {
            (true, 0) if index > 0 => When::Soon(dice.ms(20, SOON_MS)),
            (true, _) => When::Moving(dice.ms(0, MOVE_MS)),
            (false, _) => When::Calm(dice.ms(100, 800)),
        };
        let kinds = if index == of_monitor {
            OF_MONITOR
        } else {
            OF_NODES
        };
        let fault = Fault {
            number: index + 1,
            kind: kinds[dice.below(kinds.len())],
            whom: if dice.below(2) == 0 {
                Whom::Primary
            } else {
                Whom::Other(dice.below(64))
            },
            other: dice.below(64),
            when,
            lasts: match dice.below(4) {
                0 => dice.ms(50, 800),
                1 | 2 => dice.ms(800, 4000),
                _ => dice.ms(4000, 9000),
            },
        };
        match (when, bursts.last_mut()) {
            (When::Soon(_), Some(burst)) => burst.push(fault),
            _ => bursts.push(vec![fault]),
        }
    }
    bursts
}

impl Fault {
    /// This fault, then those that may strike where it has nothing to strike, as a keeper that is down already.
    pub(super) fn and_others(self) -> impl Iterator<Item = Self> {
        let kinds = if self.kind.is_of_monitor() {
            OF_MONITOR
        } else {
            OF_NODES
        };
        let at = kinds
            .iter()
            .position(|kind| *kind == self.kind)
            .unwrap_or(0);
        let round = kinds.iter().cycle().skip(at).take(kinds.len());
        round.map(move |kind| Self {
            kind: *kind,
            ..self
        })
    }
}

impl Kind {
    pub(super) fn is_of_monitor(self) -> bool {
        OF_MONITOR.contains(&self)
    }

    /// Whether anything has to be undone by the runner.
    pub(super) fn lasts(self) -> bool {
        self != Self::KillPostgres
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillPostgres => "kill-postgres",
            Self::KillHost => "kill-host",
            Self::KillKeeper => "kill-keeper",
            Self::FreezeHost => "freeze-host",
            Self::FreezeKeeper => "freeze-keeper",
            Self::FreezePostgres => "freeze-postgres",
            Self::CutFromAll => "cut-from-all",
            Self::CutFromMonitor => "cut-from-monitor",
            Self::CutFromNode => "cut-from-node",
            Self::LoseSent => "lose-sent",
            Self::LoseReceived => "lose-received",
            Self::KillMonitor => "kill-monitor",
            Self::FreezeMonitor => "freeze-monitor",
            Self::CutMonitor => "cut-monitor",
        })
    }
}

/// Steele, Lea and Flood's SplitMix64: a seed is the whole plan, on every machine.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is small and not zero.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.next() % (most - least + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_is_close_a_tenth_hits_the_monitor_and_links_are_cut_one_way() {
        for seed in 1..200 {
            let plan: Vec<_> = bursts(seed, 100).into_iter().flatten().collect();
            assert_eq!(plan.len(), 100);
            let close = plan.iter().filter(|f| !matches!(f.when, When::Calm(_)));
            assert!(close.count() >= 33, "seed {seed}");
            let monitor = plan.iter().filter(|f| f.kind.is_of_monitor()).count();
            assert_eq!(monitor, 10, "seed {seed}");
            let alone = [Kind::KillKeeper, Kind::FreezeKeeper];
            assert!(plan.iter().any(|f| alone.contains(&f.kind)));
            let one_way = [Kind::LoseSent, Kind::LoseReceived];
            assert!(plan.iter().any(|f| one_way.contains(&f.kind)));
        }
    }

    #[test]
    fn a_seed_is_the_whole_plan() {
        assert_eq!(bursts(7, 50), bursts(7, 50));
        assert_ne!(bursts(7, 50), bursts(8, 50));
        assert_eq!(bursts(7, 50).iter().flatten().last().unwrap().number, 50);
    }

    #[test]
    fn close_faults_share_a_burst() {
        for burst in bursts(3, 200) {
            assert!(!matches!(burst[0].when, When::Soon(_)));
            assert!(burst[1..].iter().all(|f| matches!(f.when, When::Soon(_))));
        }
    }
}
