//! The search itself: breadth first, so that the first broken invariant has a shortest history.

use super::fair::WaysOut;
use super::moves::{Next, Which};
use super::story;
use super::visited::Visited;
use super::world::{State, World};
use super::{Bounds, Seen, Trouble};

/// Numbers that a logged state takes: its parts, and its parent's place in the log.
pub const RECORD: usize = super::NODES * 4 + 3;

/// Every state that was entered, in order: the frontier is its end, and parents lead back to the begin.
pub trait Log {
    /// Appends a state.
    fn append(&mut self, record: [u32; RECORD]);
    /// Reads one.
    fn read(&mut self, place: u64) -> [u32; RECORD];
}

/// A log in memory.
#[derive(Debug, Default)]
pub struct MemoryLog(Vec<[u32; RECORD]>);

impl Log for MemoryLog {
    fn append(&mut self, record: [u32; RECORD]) {
        self.0.push(record);
    }

    fn read(&mut self, place: u64) -> [u32; RECORD] {
        self.0[usize::try_from(place).expect("a log in memory fits in memory")]
    }
}

/// Where a search is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// States that were entered.
    pub states: u64,
    /// Of those, how many have had their successors computed.
    pub expanded: u64,
    /// The depth that is being expanded.
    pub depth: usize,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Explored {
    /// Different states.
    pub states: u64,
    /// Moves between them, those to known states included.
    pub moves: u64,
    /// Moves beyond the highest term, which were not taken.
    pub beyond: u64,
    /// New states at each depth; the last one is the frontier.
    pub by_depth: Vec<u64>,
    /// Everything within the bounds was seen.
    pub exhausted: bool,
    /// States from which a way out was looked for, and the longest one, in moves.
    pub ways_out: (u64, usize),
    /// What was broken, with a shortest history.
    pub broken: Option<(String, String)>,
    /// What was seen to happen.
    pub seen: Seen,
    /// How many different parts make up the states.
    pub parts: String,
}

/// Searches within the bounds; `go_on` is asked from time to time.
///
/// # Errors
/// When the model cannot be set up.
pub fn explore(
    bounds: &Bounds,
    log: &mut dyn Log,
    go_on: &mut dyn FnMut(&Progress) -> bool,
) -> Result<Explored, Trouble> {
    let (mut world, mut state) = World::registered(bounds)?;
    if !bounds.from_nothing {
        state = world.fair_run(state, None).map_err(|last| {
            Trouble(format!(
                "the group does not become whole:\n{}",
                story::whole(&world, &last)
            ))
        })?;
    }
    state = world.with_budgets(state, bounds);
    let mut search = Search {
        visited: Visited::new(bounds)?,
        ways: WaysOut::default(),
        found: Explored {
            states: 0,
            moves: 0,
            beyond: 0,
            by_depth: vec![1],
            exhausted: false,
            ways_out: (0, 0),
            broken: None,
            seen: Seen::default(),
            parts: String::new(),
        },
    };
    search.enter(&mut world, state, 0, log);
    search.run(&mut world, bounds, log, go_on);
    search.found.ways_out.1 = search.ways.longest;
    search.found.parts = world.parts();
    search.found.seen = world.seen;
    Ok(search.found)
}

struct Search {
    visited: Visited,
    ways: WaysOut,
    found: Explored,
}

impl Search {
    fn enter(&mut self, world: &mut World, state: State, parent: u64, log: &mut dyn Log) {
        if !self.visited.enter(world, &state) {
            return;
        }
        self.found.states += 1;
        let mut record = [0; RECORD];
        for (to, word) in record.iter_mut().zip(state.words()) {
            *to = word;
        }
        record[RECORD - 1] = u32::try_from(parent).expect("a log holds fewer than 2^32 states");
        log.append(record);
    }

    fn run(
        &mut self,
        world: &mut World,
        bounds: &Bounds,
        log: &mut dyn Log,
        go_on: &mut dyn FnMut(&Progress) -> bool,
    ) {
        let mut next: Vec<Next> = Vec::new();
        let mut place = 0;
        let mut level_ends = 1;
        while place < self.found.states {
            if place == level_ends {
                level_ends = self.found.states;
                self.found.by_depth.push(level_ends - place);
            }
            let depth = self.found.by_depth.len() - 1;
            let progress = Progress {
                states: self.found.states,
                expanded: place,
                depth,
            };
            if place.is_multiple_of(4096) && !go_on(&progress)
                || self.found.states >= bounds.most_states
            {
                let begun = self.found.states - level_ends;
                self.found.by_depth.push(begun);
                return;
            }
            let state = State::of(&log.read(place));
            if bounds.way_out_each > 0 && place.is_multiple_of(bounds.way_out_each) {
                self.found.ways_out.0 += 1;
                if let Err(last) = world.has_way_out(&state, &mut self.ways) {
                    let text =
                        "always-a-way-out: with everything healed, the group does not become whole";
                    let mut history = story::history(world, log, place);
                    history.push_str("\nwhere it ends:\n");
                    history.push_str(&story::whole(world, &last));
                    self.found.broken = Some((text.to_owned(), history));
                    return;
                }
            }
            world.successors(&state, Which::All, &mut next);
            for it in &next {
                self.found.moves += 1;
                if let Some(broken) = it.broken {
                    let text = world.broken[broken as usize].clone();
                    let mut history = story::history(world, log, place);
                    history.push_str(&story::step(world, &state, it));
                    self.found.broken = Some((text, history));
                    return;
                }
                if world.brain(&it.state).group.term.0 > bounds.terms {
                    self.found.beyond += 1;
                    continue;
                }
                self.enter(world, it.state, place, log);
            }
            place += 1;
        }
        self.found.exhausted = true;
    }
}
