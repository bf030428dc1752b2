//! What can go wrong: each fault and each lost or repeated message is counted.

use super::monitor::Input;
use super::moves::{Move, Next, node8};
use super::postgres::{Doing, Pg};
use super::world::{Channel, Misc, NONE, State, World, pair};

/// What can go wrong with a process, a host or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The postmaster is killed; its children live on for a moment.
    KillPostgres,
    /// A keeper is killed.
    KillKeeper,
    /// Every process of a host is killed.
    KillHost,
    /// A host loses its power.
    PowerOff,
    /// A host is stopped.
    Freeze,
    /// The monitor and a host cannot talk.
    Cut,
    /// Two hosts cannot talk.
    Part,
    /// The monitor is killed and started.
    RestartMonitor,
}

impl Fault {
    /// Every kind, with its name on the command line.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::KillPostgres, "kill-postgres"),
        (Self::KillKeeper, "kill-keeper"),
        (Self::KillHost, "kill-host"),
        (Self::PowerOff, "power-off"),
        (Self::Freeze, "freeze"),
        (Self::Cut, "cut"),
        (Self::Part, "part"),
        (Self::RestartMonitor, "restart-monitor"),
    ];

    /// One bit for each kind; none means all.
    pub(super) fn bits(only: &[Self]) -> u16 {
        let bits = only.iter().fold(0, |bits, fault| bits | fault.bit());
        if bits == 0 { u16::MAX } else { bits }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every move that is no fault is meant"
    )]
    fn of(what: Move) -> Option<Self> {
        match what {
            Move::KillPostgres(_) => Some(Self::KillPostgres),
            Move::KillKeeper(_) => Some(Self::KillKeeper),
            Move::KillHost(_) => Some(Self::KillHost),
            Move::PowerOff(_) => Some(Self::PowerOff),
            Move::Freeze(_) => Some(Self::Freeze),
            Move::Cut(_) => Some(Self::Cut),
            Move::Part(_) => Some(Self::Part),
            Move::RestartMonitor => Some(Self::RestartMonitor),
            _ => None,
        }
    }
}

impl World {
    pub(super) fn fault_moves(&mut self, state: &State, misc: &Misc, out: &mut Vec<Next>) {
        if misc.losses > 0 {
            let mut spent = *state;
            spent.misc = self.miscs.put(Misc {
                losses: misc.losses - 1,
                ..misc.clone()
            });
            for node in 0..self.nodes {
                self.losses(&spent, node, out);
            }
        }
        if misc.faults == 0 {
            return;
        }
        let mut left = misc.clone();
        left.faults -= 1;
        let mut spent = *state;
        spent.misc = self.miscs.put(left.clone());
        for node in 0..self.nodes {
            let bit = 1 << node;
            if left.up & !left.frozen & bit != 0 {
                self.process_faults(&spent, &left, node, out);
            }
            if left.up & bit != 0 && left.cut & bit == 0 {
                let mut misc = left.clone();
                misc.cut |= bit;
                self.with_misc(&spent, misc, Move::Cut(node8(node)), out);
            }
            for other in node + 1..self.nodes {
                let bit = 1 << pair(node, other);
                if left.apart & bit == 0 {
                    let mut misc = left.clone();
                    misc.apart |= bit;
                    self.with_misc(&spent, misc, Move::Part(node8(pair(node, other))), out);
                }
            }
        }
        self.restart_monitor(&spent, &left, out);
        let kinds = self.kinds;
        out.retain(|n| Fault::of(n.what).is_none_or(|fault| kinds & fault.bit() != 0));
    }

    fn with_misc(&mut self, state: &State, misc: Misc, what: Move, out: &mut Vec<Next>) {
        let mut next = *state;
        next.misc = self.miscs.put(misc);
        out.push(Next {
            what,
            state: next,
            broken: None,
        });
    }

    fn restart_monitor(&mut self, state: &State, misc: &Misc, out: &mut Vec<Next>) {
        let mut next = *state;
        next.misc = self.miscs.put(Misc {
            incarnation: misc.incarnation + 1,
            ..misc.clone()
        });
        if let Some(decided) = self.decide(&next, Input::Start) {
            next.brain = decided.brain;
            next.lives = decided.lives;
            out.push(Next {
                what: Move::RestartMonitor,
                state: next,
                broken: decided.broken,
            });
        }
    }

    fn process_faults(&mut self, state: &State, misc: &Misc, node: usize, out: &mut Vec<Next>) {
        let n = node8(node);
        let pg = self.pg(state, node).clone();
        let keeper = self.keeper(state, node).clone();
        let mut push = |world: &mut Self, what: Move, pg: &Pg, keeper_dies: bool, misc: &Misc| {
            let mut next = *state;
            next.misc = world.miscs.put(misc.clone());
            let mut pg = pg.clone();
            if keeper_dies {
                let mut dead = keeper.clone();
                dead.run = None;
                next.keepers[node] = world.keepers.put(dead);
                pg.staged = None;
                let channel = world.channel(next.channels[node]);
                next.channels[node] = world.put_channel(Channel {
                    down: [NONE; 2],
                    ..channel
                });
            }
            world.put_pg(&mut next, node, pg);
            world.settle_streams(&mut next);
            out.push(Next {
                what,
                state: next,
                broken: None,
            });
        };
        let mut ended = pg.clone();
        ended.end();
        if let Some(server) = &pg.server
            && server.doing != Doing::Headless
        {
            let mut headless = pg.clone();
            if server.doing == Doing::Starting {
                headless.end();
            } else if let Some(server) = &mut headless.server {
                server.doing = Doing::Headless;
            }
            push(self, Move::KillPostgres(n), &headless, false, misc);
        }
        if keeper.run.is_some() {
            push(self, Move::KillKeeper(n), &pg, true, misc);
        }
        push(self, Move::KillHost(n), &ended, true, misc);
        let mut off = misc.clone();
        off.up &= !(1 << node);
        push(self, Move::PowerOff(n), &ended, true, &off);
        let mut frozen = misc.clone();
        frozen.frozen |= 1 << node;
        push(self, Move::Freeze(n), &pg, false, &frozen);
    }

    fn losses(&mut self, state: &State, node: usize, out: &mut Vec<Next>) {
        let n = node8(node);
        let channel = self.channel(state.channels[node]);
        if channel.up[0] != NONE {
            let mut next = *state;
            next.channels[node] = self.put_channel(Channel {
                up: [channel.up[1], NONE],
                ..channel
            });
            out.push(Next {
                what: Move::LoseReport(n),
                state: next,
                broken: None,
            });
        }
        let misc = self.misc(state).clone();
        let runs = misc.up & !misc.frozen & !misc.cut & (1 << node) != 0;
        for slot in 0..2 {
            if channel.down[slot] == NONE {
                continue;
            }
            let next = self.without_goal(state, node, slot);
            out.push(Next {
                what: Move::LoseGoal(n, node8(slot)),
                state: next,
                broken: None,
            });
            if let Some((keeper, broken)) = self.hears(state, node, channel.down[slot])
                && runs
            {
                let mut next = *state;
                next.keepers[node] = keeper;
                out.push(Next {
                    what: Move::RepeatGoal(n, node8(slot)),
                    state: next,
                    broken,
                });
            }
        }
    }
}
