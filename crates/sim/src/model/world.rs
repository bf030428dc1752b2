//! A state, its parts, and the turns of monitor and keepers, each computed once.

use std::cell::Cell;
use std::rc::Rc;

use pgaf_fsm::group::{Live, granted};
use pgaf_protocol::{Incarnation, NodeId, Peer, Report};

use super::act::Around;
use super::control::Control;
use super::keeper::{Down, Keeper, peer};
use super::monitor::{Brain, Fixed, Input, turn};
use super::names::{Marks, Names, Numbered};
use super::postgres::{NodePg, Pg, Record};
use super::table::{FastMap, Table};
use super::{Grain, NODES, Seen};

/// Nothing in this place of a channel.
pub(super) const NONE: u32 = u32::MAX;

/// What is on its way between the monitor and one keeper: reports in order, goals in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Channel {
    pub(super) up: [u32; 2],
    pub(super) down: [u32; 2],
}

/// Everything small.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Misc {
    /// Hosts whose kernel runs, that are stopped, that the monitor cannot talk to; one bit per node.
    pub(super) up: u8,
    pub(super) frozen: u8,
    pub(super) cut: u8,
    /// Pairs of nodes that cannot talk to each other; one bit per pair.
    pub(super) apart: u8,
    pub(super) incarnation: u8,
    /// Faults, lost or repeated messages, switchovers and writes that may still come.
    pub(super) faults: u8,
    pub(super) losses: u8,
    pub(super) switches: u8,
    pub(super) writes: u8,
    /// The newest acknowledged record: all older ones are on the way to it.
    pub(super) ledger: Option<Record>,
}

impl Numbered for Misc {
    fn visit(&mut self, names: &mut Names) {
        if let Some(record) = &mut self.ledger {
            names.copy(&mut record.copy);
        }
        let mut run = Incarnation(u64::from(self.incarnation));
        names.run(&mut run);
        self.incarnation = u8::try_from(run.0).unwrap_or(u8::MAX);
    }
}

/// One state: the numbers of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) brain: u32,
    pub(super) misc: u32,
    pub(super) lives: [u32; NODES],
    pub(super) keepers: [u32; NODES],
    pub(super) pgs: [u32; NODES],
    pub(super) channels: [u32; NODES],
}

impl State {
    /// Its numbers.
    pub(super) fn words(&self) -> impl Iterator<Item = u32> + '_ {
        let nodes = self.lives.iter().chain(&self.keepers).chain(&self.pgs);
        [self.brain, self.misc]
            .into_iter()
            .chain(nodes.chain(&self.channels).copied())
    }

    /// The state of a logged record.
    pub(super) fn of(record: &[u32]) -> Self {
        let part = |n: usize| core::array::from_fn(|i| record[2 + n * NODES + i]);
        Self {
            brain: record[0],
            misc: record[1],
            lives: part(0),
            keepers: part(1),
            pgs: part(2),
            channels: part(3),
        }
    }
}

/// What came of a turn of the monitor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decided {
    pub(super) brain: u32,
    pub(super) lives: [u32; NODES],
    pub(super) changed: u8,
    /// The number of a broken invariant's text.
    pub(super) broken: Option<u32>,
}

/// What came of a turn of a keeper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acted {
    pub(super) keeper: u32,
    pub(super) pg: u32,
    pub(super) broken: Option<u32>,
}

/// A value that holds whatever the surroundings are, or only for some of them.
#[derive(Debug, Clone, Copy)]
enum Known<T> {
    Always(T),
    Depends,
}

/// A keeper after it has heard a goal, and the invariant that this broke.
type Heard = (u32, Option<u32>);

/// What a turn of a keeper depends on.
type Surroundings = (u32, u32, u8, u64, i64, [u32; NODES]);

/// All parts that were met, and what was computed of them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) nodes: usize,
    /// Reports of one keeper on their way at once.
    pub(super) up_limit: usize,
    /// What comes at once.
    pub(super) grain: Grain,
    /// Faults that can come, one bit each.
    pub(super) kinds: u16,
    pub(super) fixed: Fixed,
    pub(super) peers: Vec<Peer>,
    pub(super) seen: Seen,
    pub(super) broken: Vec<String>,
    pub(super) brains: Table<Brain>,
    pub(super) lives: Table<Live>,
    pub(super) keepers: Table<Keeper>,
    pub(super) pgs: Table<NodePg>,
    pub(super) reports: Table<Report>,
    pub(super) downs: Table<Down>,
    pub(super) miscs: Table<Misc>,
    channels: Vec<(Channel, Marks)>,
    channel_index: FastMap<Channel, u32>,
    decided: FastMap<(u32, [u32; NODES], Input), Option<Decided>>,
    acted: FastMap<(u32, u32, u8), Known<Option<Acted>>>,
    acted_there: FastMap<Surroundings, Option<Acted>>,
    said: FastMap<(u32, u32, u8), Option<u32>>,
    heard: FastMap<(u32, u32, u8, u32), Option<Heard>>,
    renumbered: FastMap<(u8, u32, Marks), u32>,
    /// What is small without budgets, and its budgets, by number.
    bared: FastMap<u32, (u32, [u8; 4])>,
}

impl World {
    pub(super) fn new(nodes: usize, fixed: Fixed) -> Self {
        let ids = 1..=i64::try_from(nodes).unwrap_or(1);
        Self {
            nodes,
            up_limit: 1,
            grain: Grain::Fine,
            kinds: u16::MAX,
            fixed,
            peers: ids.map(|n| peer(NodeId(n))).collect(),
            seen: Seen::default(),
            broken: Vec::new(),
            brains: Table::new(),
            lives: Table::new(),
            keepers: Table::new(),
            pgs: Table::new(),
            reports: Table::new(),
            downs: Table::new(),
            miscs: Table::new(),
            channels: Vec::new(),
            channel_index: FastMap::default(),
            decided: FastMap::default(),
            acted: FastMap::default(),
            acted_there: FastMap::default(),
            said: FastMap::default(),
            heard: FastMap::default(),
            renumbered: FastMap::default(),
            bared: FastMap::default(),
        }
    }

    pub(super) fn control(&self) -> Option<Control> {
        self.fixed.control
    }

    pub(super) fn pg(&self, state: &State, node: usize) -> &Pg {
        &self.pgs.get(state.pgs[node]).pg
    }

    pub(super) fn keeper(&self, state: &State, node: usize) -> &Keeper {
        self.keepers.get(state.keepers[node])
    }

    pub(super) fn misc(&self, state: &State) -> &Misc {
        self.miscs.get(state.misc)
    }

    pub(super) fn brain(&self, state: &State) -> &Brain {
        self.brains.get(state.brain)
    }

    pub(super) fn live(&self, state: &State, node: usize) -> &Live {
        self.lives.get(state.lives[node])
    }

    pub(super) fn channel(&self, number: u32) -> Channel {
        self.channels[number as usize].0
    }

    pub(super) fn put_pg(&mut self, state: &mut State, node: usize, pg: Pg) {
        let node_pg = NodePg {
            node: u8::try_from(node).unwrap_or(0),
            pg,
        };
        state.pgs[node] = self.pgs.put(node_pg);
    }

    pub(super) fn put_channel(&mut self, channel: Channel) -> u32 {
        if let Some(number) = self.channel_index.get(&channel) {
            return *number;
        }
        let mut marks = Marks::default();
        for up in channel.up.into_iter().filter(|n| *n != NONE) {
            marks.add(self.reports.marks(up));
        }
        for down in channel.down.into_iter().filter(|n| *n != NONE) {
            marks.add(self.downs.marks(down));
        }
        let number = u32::try_from(self.channels.len()).expect("fewer than 2^32 channels");
        self.channels.push((channel, marks));
        self.channel_index.insert(channel, number);
        number
    }

    pub(super) fn break_with(&mut self, text: String) -> u32 {
        self.broken.push(text);
        u32::try_from(self.broken.len() - 1).unwrap_or(NONE)
    }

    /// Whether nothing passes between two nodes.
    pub(super) fn are_apart(misc: &Misc, a: usize, b: usize) -> bool {
        misc.apart & (1 << pair(a, b)) != 0
    }

    /// Nodes from which nothing comes to this one any more.
    pub(super) fn away(&self, misc: &Misc, node: usize) -> u8 {
        (0..self.nodes)
            .filter(|other| *other != node)
            .filter(|other| {
                misc.up & (1 << other) == 0
                    || misc.frozen & (1 << other) != 0
                    || Self::are_apart(misc, node, *other)
            })
            .fold(0, |mask, other| mask | (1 << other))
    }

    /// A state without what may still come, and that.
    pub(super) fn bare(&mut self, state: &State) -> (State, [u8; 4]) {
        let (misc, budget) = match self.bared.get(&state.misc) {
            Some(known) => *known,
            None => {
                let misc = self.misc(state).clone();
                let budget = [misc.faults, misc.losses, misc.switches, misc.writes];
                let bare = self.miscs.put(Misc {
                    faults: 0,
                    losses: 0,
                    switches: 0,
                    writes: 0,
                    ..misc
                });
                self.bared.insert(state.misc, (bare, budget));
                (bare, budget)
            }
        };
        (State { misc, ..*state }, budget)
    }

    /// All numbers that a state uses.
    pub(super) fn marks(&self, state: &State) -> Marks {
        let mut marks = *self.brains.marks(state.brain);
        marks.add(self.miscs.marks(state.misc));
        for node in 0..self.nodes {
            marks.add(self.lives.marks(state.lives[node]));
            marks.add(self.keepers.marks(state.keepers[node]));
            marks.add(self.pgs.marks(state.pgs[node]));
            marks.add(&self.channels[state.channels[node] as usize].1);
        }
        marks
    }

    /// The canonical form of a state: its numbers without gaps.
    pub(super) fn canonical(&mut self, state: State) -> State {
        let marks = self.marks(&state);
        let sequence = self.brain(&state).group.sequence.0;
        if marks.is_dense() && sequence == marks.highest() {
            return state;
        }
        let mut next = state;
        next.brain = renumber(
            &mut self.renumbered,
            &mut self.brains,
            0,
            state.brain,
            &marks,
            true,
        );
        next.misc = renumber(
            &mut self.renumbered,
            &mut self.miscs,
            1,
            state.misc,
            &marks,
            false,
        );
        for node in 0..self.nodes {
            let memo = &mut self.renumbered;
            next.lives[node] = renumber(memo, &mut self.lives, 2, state.lives[node], &marks, false);
            next.keepers[node] = renumber(
                memo,
                &mut self.keepers,
                3,
                state.keepers[node],
                &marks,
                false,
            );
            next.pgs[node] = renumber(memo, &mut self.pgs, 4, state.pgs[node], &marks, false);
            next.channels[node] = self.renumber_channel(state.channels[node], &marks);
        }
        next
    }

    fn renumber_channel(&mut self, number: u32, marks: &Marks) -> u32 {
        let mut channel = self.channel(number);
        let memo = &mut self.renumbered;
        for up in channel.up.iter_mut().filter(|n| **n != NONE) {
            *up = renumber(memo, &mut self.reports, 5, *up, marks, false);
        }
        for down in channel.down.iter_mut().filter(|n| **n != NONE) {
            *down = renumber(memo, &mut self.downs, 6, *down, marks, false);
        }
        channel.down.sort_unstable();
        self.put_channel(channel)
    }

    /// A turn of the monitor.
    pub(super) fn decide(&mut self, state: &State, input: Input) -> Option<Decided> {
        let key = (state.brain, state.lives, input);
        if let Some(known) = self.decided.get(&key) {
            return *known;
        }
        let brain = Rc::clone(self.brains.get(state.brain));
        let lives = state.lives.map(|n| Rc::clone(self.lives.get(n)));
        let report = if let Input::Report(number) = input {
            Some(Rc::clone(self.reports.get(number)))
        } else {
            None
        };
        let lives = [&*lives[0], &*lives[1], &*lives[2]];
        let came = turn(
            &self.fixed,
            &brain,
            lives,
            input,
            report.as_deref(),
            &mut self.seen,
        );
        let decided = came.map(|turn| Decided {
            brain: self.brains.put(turn.brain),
            lives: turn.lives.map(|live| self.lives.put(live)),
            changed: turn.changed,
            broken: turn.violation.map(|text| self.break_with(text)),
        });
        self.decided.insert(key, decided);
        decided
    }

    /// A turn of a keeper.
    pub(super) fn act(&mut self, state: &State, node: usize) -> Option<Acted> {
        let misc = self.misc(state).clone();
        let away = self.away(&misc, node);
        let base = (state.keepers[node], state.pgs[node], away);
        let depends = match self.acted.get(&base) {
            Some(Known::Always(known)) => return *known,
            Some(Known::Depends) => true,
            None => false,
        };
        let marks = self.marks(state);
        let next = |mask: u64| u64::from(64 - mask.leading_zeros());
        let fresh = next(marks.copies).max(1);
        let boot = i64::try_from(next(marks.boots[node]).max(1)).unwrap_or(1);
        let others: [u32; NODES] = core::array::from_fn(|other| {
            let there = other < self.nodes && other != node && away & (1 << other) == 0;
            if there { state.pgs[other] } else { NONE }
        });
        let there = (base.0, base.1, away, fresh, boot, others);
        if depends && let Some(known) = self.acted_there.get(&there) {
            return *known;
        }
        let around = Around {
            away,
            control: self.control(),
            others: others.map(|n| (n != NONE).then(|| Rc::clone(self.pgs.get(n)))),
            fresh,
            boot,
            asked: Cell::new(false),
        };
        let keeper = Rc::clone(self.keepers.get(base.0));
        let pg = Rc::clone(self.pgs.get(base.1));
        let came = keeper.turn(&pg.pg, &around, &mut self.seen);
        let acted = came.map(|(keeper, after, violation)| {
            let after = NodePg {
                node: pg.node,
                pg: after,
            };
            Acted {
                keeper: self.keepers.put(keeper),
                pg: self.pgs.put(after),
                broken: violation.map(|text| self.break_with(text)),
            }
        });
        if around.asked.get() {
            self.acted.insert(base, Known::Depends);
            self.acted_there.insert(there, acted);
        } else {
            self.acted.insert(base, Known::Always(acted));
        }
        acted
    }

    /// What a keeper would say.
    pub(super) fn says(&mut self, state: &State, node: usize) -> Option<u32> {
        let away = self.away(&self.misc(state).clone(), node);
        let key = (state.keepers[node], state.pgs[node], away);
        if let Some(known) = self.said.get(&key) {
            return *known;
        }
        let report = self.keeper(state, node).report(self.pg(state, node), away);
        let number = report.map(|mut report| {
            if self.control() == Some(Control::DownTakenForPromise) && report.position.is_none() {
                let disk = self.pg(state, node).disk.as_ref();
                report.position = disk.map(|d| d.path.position());
            }
            self.reports.put(report)
        });
        self.said.insert(key, number);
        number
    }

    /// A goal reaches a keeper.
    pub(super) fn hears(
        &mut self,
        state: &State,
        node: usize,
        down: u32,
    ) -> Option<(u32, Option<u32>)> {
        let away = self.away(&self.misc(state).clone(), node);
        let key = (state.keepers[node], state.pgs[node], away, down);
        if let Some(known) = self.heard.get(&key) {
            return *known;
        }
        let keeper = Rc::clone(self.keepers.get(state.keepers[node]));
        let pg = Rc::clone(self.pgs.get(state.pgs[node]));
        let down = Rc::clone(self.downs.get(down));
        let control = self.control();
        let came = keeper.hears(&pg.pg, &down, &self.peers, away, control, &mut self.seen);
        let heard = came.map(|(keeper, violation)| {
            let keeper = self.keepers.put(keeper);
            (keeper, violation.map(|text| self.break_with(text)))
        });
        self.heard.insert(key, heard);
        heard
    }

    /// How many different parts were met, in words.
    pub(super) fn parts(&self) -> String {
        format!(
            "{} brains, {} views of nodes, {} keepers, {} Postgres, {} reports, {} goals, {} turns of the monitor, {} of keepers",
            self.brains.len(),
            self.lives.len(),
            self.keepers.len(),
            self.pgs.len(),
            self.reports.len(),
            self.downs.len(),
            self.decided.len(),
            self.acted.len() + self.acted_there.len(),
        )
    }

    /// The message that tells a node its goal now.
    pub(super) fn goal_for(&mut self, brain: u32, misc: &Misc, node: usize, answers: bool) -> u32 {
        let id = NodeId(i64::try_from(node).unwrap_or(0) + 1);
        let brain = Rc::clone(self.brains.get(brain));
        let goal = brain
            .group
            .nodes
            .get(&id)
            .map(|n| n.goal.clone())
            .expect("every node of the model is in the group");
        self.downs.put(Down {
            node: id,
            goal,
            incarnation: Incarnation(u64::from(misc.incarnation)),
            lease: answers && granted(&brain.group, id, self.fixed.settings.lease_ms).is_some(),
        })
    }

    /// A number that no copy has.
    pub(super) fn fresh(&self, state: &State) -> u64 {
        let copies = self.marks(state).copies;
        u64::from(64 - copies.leading_zeros()).max(1)
    }
}

/// The bit of a pair of nodes.
pub(super) fn pair(a: usize, b: usize) -> usize {
    a.min(b) + a.max(b) - 1
}

fn renumber<T: Eq + std::hash::Hash + Clone + Numbered>(
    memo: &mut FastMap<(u8, u32, Marks), u32>,
    table: &mut Table<T>,
    kind: u8,
    number: u32,
    marks: &Marks,
    whole: bool,
) -> u32 {
    let part = if whole {
        *marks
    } else {
        marks.of_interest(table.marks(number))
    };
    if part == Marks::default() && !whole {
        return number;
    }
    if let Some(known) = memo.get(&(kind, number, part)) {
        return *known;
    }
    let mut value = T::clone(table.get(number));
    value.visit(&mut Names::Renumber(part));
    let renumbered = table.put(value);
    memo.insert((kind, number, part), renumbered);
    renumbered
}
