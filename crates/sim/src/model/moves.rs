//! Everything that can happen next in a state.
//!
//! What time, network and processes do by themselves is free; what is a fault is counted. A move that
//! changes nothing is none.

use std::rc::Rc;

use pgaf_fsm::group::{ProbeOutcome, Session};
use pgaf_protocol::{Incarnation, Postgres};

use super::control::Control;
use super::monitor::Input;
use super::names::index;
use super::postgres::Doing;
use super::world::{Channel, Decided, Misc, NONE, State, World, pair};
use super::{Grain, NODES, OLD};

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Move {
    // The session between keeper and monitor.
    Deliver(u8),
    Hear(u8, u8),
    Speak(u8),
    // Processes on a host.
    Keeper(u8),
    Ready(u8),
    Promoted(u8),
    FastStopEnds(u8),
    ChildrenEnd(u8),
    FlagTaken(u8),
    NamesTaken(u8, u8),
    // Replication: standby first.
    Connect(u8),
    Ship(u8),
    Reply(u8, u8),
    SenderEnds(u8, u8),
    ReceiverEnds(u8),
    // Clients and operators.
    Write(u8),
    Switch,
    // Limits that pass.
    Closed(u8),
    Silent(u8),
    PhaseOld,
    DownOld(u8),
    UnseenOld(u8),
    KeeperWaits(u8),
    LeaseEnds(u8),
    // Healing.
    StartHost(u8),
    StartKeeper(u8),
    Thaw(u8),
    Mend(u8),
    Join(u8),
    // Faults.
    LoseReport(u8),
    LoseGoal(u8, u8),
    RepeatGoal(u8, u8),
    KillPostgres(u8),
    KillKeeper(u8),
    KillHost(u8),
    PowerOff(u8),
    Freeze(u8),
    Cut(u8),
    Part(u8),
    RestartMonitor,
}

/// A successor, and the invariant that the move breaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub(super) what: Move,
    pub(super) state: State,
    pub(super) broken: Option<u32>,
}

/// Which moves are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Everything.
    All,
    /// What happens by itself when nothing is wrong any more.
    Fair,
}

pub(super) fn node8(node: usize) -> u8 {
    u8::try_from(node).unwrap_or(0)
}

impl World {
    /// All successors, canonical.
    pub(super) fn successors(&mut self, state: &State, which: Which, out: &mut Vec<Next>) {
        out.clear();
        let misc = self.misc(state).clone();
        for node in 0..self.nodes {
            let stopped = misc.frozen & (1 << node) != 0 || misc.up & (1 << node) == 0;
            if !stopped {
                self.session_moves(state, &misc, node, out);
                self.keeper_moves(state, &misc, node, out);
                self.server_moves(state, &misc, node, out);
            }
            self.monitor_moves(state, &misc, node, out);
            self.healing_moves(state, &misc, node, out);
        }
        self.push_decided(state, Move::PhaseOld, Input::PhaseOld, None, out);
        if which == Which::All {
            if misc.switches > 0 {
                self.switch(state, &misc, out);
            }
            self.fault_moves(state, &misc, out);
        }
        for next in out.iter_mut() {
            self.forget_stale_goals(state, &mut next.state);
            next.state = self.canonical(next.state);
        }
        out.retain(|next| next.state != *state || next.broken.is_some());
        if self.grain != Grain::Fine && which == Which::All {
            self.own_moves_first(state, out);
        }
    }

    /// What comes at once, one after the other, so that only faults come between. Processes that outlive
    /// their postmaster keep their moment.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other move waits for its turn"
    )]
    fn own_moves_first(&self, state: &State, out: &mut Vec<Next>) {
        let own = |what: Move| match what {
            Move::Deliver(_) | Move::Hear(..) => self.grain == Grain::Prompt,
            Move::Keeper(n) => self
                .pg(state, usize::from(n))
                .server
                .as_ref()
                .is_none_or(|s| s.doing != Doing::Headless),
            Move::Speak(_) | Move::Ready(_) | Move::ReceiverEnds(_) => true,
            _ => false,
        };
        if let Some(first) = out.iter().map(|n| n.what).find(|what| own(*what)) {
            out.retain(|n| n.what == first || n.what >= Move::LoseReport(0) || n.broken.is_some());
        }
    }

    fn switch(&mut self, state: &State, misc: &Misc, out: &mut Vec<Next>) {
        let mut spent = *state;
        spent.misc = self.miscs.put(Misc {
            switches: misc.switches - 1,
            ..misc.clone()
        });
        self.push_decided(&spent, Move::Switch, Input::Switch, None, out);
    }

    /// What a turn of the monitor leads to; `reporter` gets its answer.
    fn push_decided(
        &mut self,
        state: &State,
        what: Move,
        input: Input,
        reporter: Option<usize>,
        out: &mut Vec<Next>,
    ) {
        if let Some(decided) = self.decide(state, input) {
            let next = self.told(state, decided, reporter);
            out.push(Next {
                what,
                state: next,
                broken: decided.broken,
            });
        }
    }

    /// Goals that are new go out to open sessions, the reporter hears its own.
    fn told(&mut self, state: &State, decided: Decided, reporter: Option<usize>) -> State {
        let mut next = *state;
        next.brain = decided.brain;
        next.lives = decided.lives;
        let misc = self.misc(state).clone();
        for node in 0..self.nodes {
            let answers = reporter == Some(node);
            let open = matches!(self.live(&next, node).session, Session::Open { .. });
            if answers || (open && decided.changed & (1 << node) != 0) {
                let down = self.goal_for(next.brain, &misc, node, answers);
                self.send_down(&mut next, node, down);
            }
        }
        next
    }

    /// A goal on its way; one that would change nothing any more is none, and the oldest of three is lost.
    fn send_down(&mut self, state: &mut State, node: usize, down: u32) {
        if self.keeper(state, node).run.is_none() || !self.matters(state, node, down) {
            return;
        }
        let mut channel = self.channel(state.channels[node]);
        if channel.down.contains(&down) {
            return;
        }
        let stamp = |world: &Self, n: u32| world.downs.get(n).goal.stamp;
        match channel.down.iter().position(|n| *n == NONE) {
            Some(free) => channel.down[free] = down,
            None => {
                let older = stamp(self, channel.down[0]) <= stamp(self, channel.down[1]);
                channel.down[usize::from(!older)] = down;
            }
        }
        channel.down.sort_unstable();
        state.channels[node] = self.put_channel(channel);
    }

    /// Whether a goal can change anything at its keeper.
    fn matters(&mut self, state: &State, node: usize, down: u32) -> bool {
        if self.control() == Some(Control::OlderGoalObeyed) {
            return true;
        }
        self.hears(state, node, down).is_some()
    }

    /// A goal that its keeper would refuse, or has obeyed, is as good as lost.
    fn forget_stale_goals(&mut self, before: &State, state: &mut State) {
        for node in 0..self.nodes {
            let mut channel = self.channel(state.channels[node]);
            if channel.down == [NONE; 2] || state.keepers[node] == before.keepers[node] {
                continue;
            }
            for slot in 0..2 {
                if channel.down[slot] != NONE && !self.matters(state, node, channel.down[slot]) {
                    channel.down[slot] = NONE;
                }
            }
            channel.down.sort_unstable();
            state.channels[node] = self.put_channel(channel);
        }
    }

    fn session_moves(&mut self, state: &State, misc: &Misc, node: usize, out: &mut Vec<Next>) {
        let channel = self.channel(state.channels[node]);
        for slot in 0..2 {
            if channel.down[slot] == NONE || misc.cut & (1 << node) != 0 {
                continue;
            }
            let mut next = self.without_goal(state, node, slot);
            let heard = self.hears(state, node, channel.down[slot]);
            if let Some((keeper, _)) = heard {
                next.keepers[node] = keeper;
            }
            out.push(Next {
                what: Move::Hear(node8(node), node8(slot)),
                state: next,
                broken: heard.and_then(|(_, broken)| broken),
            });
        }
        if misc.cut & (1 << node) == 0 {
            self.speak(state, misc, node, out);
        }
    }

    pub(super) fn without_goal(&mut self, state: &State, node: usize, slot: usize) -> State {
        let mut channel = self.channel(state.channels[node]);
        channel.down[slot] = NONE;
        channel.down.sort_unstable();
        let mut next = *state;
        next.channels[node] = self.put_channel(channel);
        next
    }

    /// A keeper reports, when that would change anything now: a state where it would not is the same
    /// as one where it has.
    fn speak(&mut self, state: &State, misc: &Misc, node: usize, out: &mut Vec<Next>) {
        let mut channel = self.channel(state.channels[node]);
        let full = channel.up[self.up_limit - 1] != NONE;
        if full {
            return;
        }
        let Some(report) = self.says(state, node) else {
            return;
        };
        let last = channel.up.iter().rev().find(|n| **n != NONE);
        let incarnation = Incarnation(u64::from(misc.incarnation));
        let keeper = Rc::clone(self.keepers.get(state.keepers[node]));
        let Some(run) = &keeper.run else { return };
        let anew = run.link != Some(incarnation);
        if last == Some(&report) || (!anew && !self.is_news(state, node, report)) {
            return;
        }
        let mut next = *state;
        if anew {
            let mut keeper = keeper.as_ref().clone();
            if let Some(run) = &mut keeper.run {
                run.link = Some(incarnation);
            }
            next.keepers[node] = self.keepers.put(keeper);
            channel.down = [NONE; 2];
        }
        let free = channel.up.iter().position(|n| *n == NONE).unwrap_or(0);
        channel.up[free] = report;
        next.channels[node] = self.put_channel(channel);
        out.push(Next {
            what: Move::Speak(node8(node)),
            state: next,
            broken: None,
        });
    }

    /// Whether a report would change anything, at the monitor or by its answer.
    fn is_news(&mut self, state: &State, node: usize, report: u32) -> bool {
        let Some(decided) = self.decide(state, Input::Report(report)) else {
            return false;
        };
        if decided.brain != state.brain || decided.lives != state.lives {
            return true;
        }
        let misc = self.misc(state).clone();
        let down = self.goal_for(decided.brain, &misc, node, true);
        let waits = self.channel(state.channels[node]).down.contains(&down);
        !waits && self.hears(state, node, down).is_some()
    }

    fn keeper_moves(&mut self, state: &State, misc: &Misc, node: usize, out: &mut Vec<Next>) {
        if let Some(acted) = self.act(state, node) {
            let mut next = *state;
            next.keepers[node] = acted.keeper;
            next.pgs[node] = acted.pg;
            let broken = acted.broken.or_else(|| self.check_pg(state, &next, node));
            self.settle_streams(&mut next);
            out.push(Next {
                what: Move::Keeper(node8(node)),
                state: next,
                broken,
            });
        }
        let keeper = Rc::clone(self.keepers.get(state.keepers[node]));
        let Some(run) = &keeper.run else { return };
        if let Some(waited) = keeper.waits_long() {
            self.push_if_it_matters(state, node, waited, Move::KeeperWaits(node8(node)), out);
        }
        let away = misc.cut & (1 << node) != 0
            || run.link != Some(Incarnation(u64::from(misc.incarnation)));
        if run.memory.lease_until.is_some() && away {
            let mut ended = keeper.as_ref().clone();
            if let Some(run) = &mut ended.run {
                run.memory.lease_until = None;
            }
            self.push_if_it_matters(state, node, ended, Move::LeaseEnds(node8(node)), out);
        }
    }

    /// A limit that passes is a move only when something follows from it at once: until then it may
    /// as well pass later.
    fn push_if_it_matters(
        &mut self,
        state: &State,
        node: usize,
        keeper: super::keeper::Keeper,
        what: Move,
        out: &mut Vec<Next>,
    ) {
        let mut next = *state;
        next.keepers[node] = self.keepers.put(keeper);
        let before = self
            .act(state, node)
            .map(|a| (a.pg, a.keeper == state.keepers[node]));
        let after = self
            .act(&next, node)
            .map(|a| (a.pg, a.keeper == next.keepers[node]));
        if before != after || self.says(state, node) != self.says(&next, node) {
            out.push(Next {
                what,
                state: next,
                broken: None,
            });
        }
    }

    fn monitor_moves(&mut self, state: &State, misc: &Misc, node: usize, out: &mut Vec<Next>) {
        let n = node8(node);
        let channel = self.channel(state.channels[node]);
        if channel.up[0] != NONE && misc.cut & (1 << node) == 0 {
            let mut next = *state;
            let left = Channel {
                up: [channel.up[1], NONE],
                ..channel
            };
            next.channels[node] = self.put_channel(left);
            let input = Input::Report(channel.up[0]);
            self.push_decided(&next, Move::Deliver(n), input, Some(node), out);
        }
        let live = Rc::clone(self.lives.get(state.lives[node]));
        let keeper = Rc::clone(self.keepers.get(state.keepers[node]));
        let mute = misc.cut & (1 << node) != 0
            || misc.frozen & (1 << node) != 0
            || misc.up & (1 << node) == 0
            || keeper.run.is_none();
        let open = matches!(live.session, Session::Open { .. });
        let incarnation = Incarnation(u64::from(misc.incarnation));
        let linked = keeper
            .run
            .as_ref()
            .is_some_and(|r| r.link == Some(incarnation));
        let ended = !linked && misc.up & (1 << node) != 0 && misc.cut & (1 << node) == 0;
        let probe = self.probe(state, misc, node);
        if open && ended && misc.frozen & (1 << node) == 0 {
            self.push_decided(
                state,
                Move::Closed(n),
                Input::Closed { node: n, probe },
                None,
                out,
            );
        }
        if mute && channel.up[0] == NONE {
            let looks = self.looks(state, misc, node);
            let input = Input::Silent {
                node: n,
                probe,
                looks,
            };
            self.push_decided(state, Move::Silent(n), input, None, out);
        }
        if live.down_since.is_some_and(|t| t != OLD) {
            self.push_decided(state, Move::DownOld(n), Input::DownOld(n), None, out);
        }
        if live.unseen_since.is_some_and(|t| t != OLD) {
            self.push_decided(state, Move::UnseenOld(n), Input::UnseenOld(n), None, out);
        }
    }

    /// How a fresh connection of the monitor to a node's Postgres ends.
    fn probe(&self, state: &State, misc: &Misc, node: usize) -> ProbeOutcome {
        let silent = misc.cut & (1 << node) != 0
            || misc.frozen & (1 << node) != 0
            || misc.up & (1 << node) == 0;
        match &self.pg(state, node).server {
            _ if silent => ProbeOutcome::TimedOut,
            None => ProbeOutcome::Refused,
            Some(server) if server.doing == Doing::Running => ProbeOutcome::Ok,
            Some(_) => ProbeOutcome::Failed,
        }
    }

    /// What the other members find when they look at a node.
    fn looks(&self, state: &State, misc: &Misc, node: usize) -> [u8; NODES] {
        core::array::from_fn(|other| {
            let there = other < self.nodes
                && other != node
                && misc.up & !misc.frozen & !misc.cut & (1 << other) != 0
                && self.keeper(state, other).run.is_some();
            if !there {
                return 0;
            }
            let away = self.away(misc, other) & (1 << node) != 0;
            let answers = !away && self.pg(state, node).running().is_some();
            let hears = !away
                && self
                    .pg(state, other)
                    .server
                    .as_ref()
                    .is_some_and(|s| s.receiver.map(usize::from) == Some(node));
            1 + 2 * u8::from(answers) + 4 * u8::from(hears)
        })
    }

    fn healing_moves(&mut self, state: &State, misc: &Misc, node: usize, out: &mut Vec<Next>) {
        let n = node8(node);
        let bit = 1 << node;
        let mut healed = |world: &mut Self, what: Move, change: &dyn Fn(&mut Misc)| {
            let mut next = *state;
            let mut misc = misc.clone();
            change(&mut misc);
            next.misc = world.miscs.put(misc);
            out.push(Next {
                what,
                state: next,
                broken: None,
            });
        };
        if misc.up & bit == 0 {
            healed(self, Move::StartHost(n), &|m| m.up |= bit);
        }
        if misc.frozen & bit != 0 {
            healed(self, Move::Thaw(n), &|m| m.frozen &= !bit);
        }
        if misc.cut & bit != 0 {
            healed(self, Move::Mend(n), &|m| m.cut &= !bit);
        }
        for other in node + 1..self.nodes {
            let bit = 1 << pair(node, other);
            if misc.apart & bit != 0 {
                let what = Move::Join(node8(pair(node, other)));
                healed(self, what, &|m| m.apart &= !bit);
            }
        }
        if misc.up & bit != 0 && self.keeper(state, node).run.is_none() {
            let mut keeper = self.keeper(state, node).clone();
            keeper.start(self.fresh(state), self.control());
            let mut next = *state;
            next.keepers[node] = self.keepers.put(keeper);
            out.push(Next {
                what: Move::StartKeeper(n),
                state: next,
                broken: None,
            });
        }
    }

    /// Whether the group is as it should be: one primary under names, everybody else secondary.
    pub(super) fn is_whole(&self, state: &State) -> bool {
        let brain = self.brain(state);
        let Some(leader) = brain.group.primary else {
            return false;
        };
        brain.group.nodes.iter().all(|(id, node)| {
            let pg = self.pg(state, index(*id)).postgres();
            let wanted = if leader.node == *id {
                pgaf_protocol::NodeState::Primary
            } else {
                pgaf_protocol::NodeState::Secondary
            };
            let runs = matches!(pg, Postgres::Running { in_recovery, .. } if in_recovery == (leader.node != *id));
            runs && node.reported == wanted
                && node.goal.state == wanted
                && self.keeper(state, index(*id)).journal.reached == node.goal.stamp
                && (leader.node != *id
                    || node.confirmed.map(|c| c.stamp)
                        == brain.group.possible.last().map(|p| p.stamp))
        })
    }
}
