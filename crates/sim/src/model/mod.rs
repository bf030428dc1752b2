//! The model check: every state that the shipped brains can get into, within stated bounds.
//!
//! Owns a breadth-first search over an abstract formation: the shipped `group::{fold, decide}` and operations,
//! the shipped `node::{accept, decide, report}` with journal and memory, and an abstract small Postgres instead
//! of the simulator's timed fake. Each move is one event: a message delivered, a step taken, a process
//! killed, a limit passed. Time is a free choice: a limit may pass as soon as its cause is there.
//!
//! ```text
//!   state = (monitor, misc, per node: (view of it, keeper, postgres, messages))   numbers of parts
//!     │  moves: free, or counted faults          canonical: no gaps in sequences, copies, starts
//!     ▼
//!   successors ─► invariants ─► visited? (128-bit fingerprint) ─► log (state, parent) = frontier
//! ```
//!
//! Two different states count as one when their fingerprints collide: with n states the odds are below
//! n² / 2¹²⁹, for 10⁹ states about 10⁻²¹. What the model leaves out stands in `docs/verification.md`.
//!
//! Read first: [`Bounds`], `moves::Move`, `world::World::successors`.

mod act;
mod begin;
mod control;
mod explore;
mod fair;
mod faults;
mod keeper;
mod ledger;
mod monitor;
mod moves;
mod names;
mod postgres;
mod story;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod visited;
mod world;

use std::collections::BTreeSet;

use pgaf_fsm::group::rules::{Kind, Section};
use pgaf_protocol::Time;

pub use control::Control;
pub use explore::{Explored, Log, MemoryLog, Progress, RECORD, explore};
pub use faults::Fault;

/// The most nodes of a group.
const NODES: usize = 3;
/// The time is always the same; what lies before it is just now, or long ago.
const NOW: Time = Time(1_000_000);
/// Long enough ago for every limit to have passed.
const OLD: Time = Time(0);
/// Later than every limit.
const LATER: Time = Time(2_000_000);

/// How finely moves interleave. Faults come between any two moves in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grain {
    /// Every order of all moves.
    #[default]
    Fine,
    /// What a node does by itself (its keeper's turn, its Postgres' start, its next report) comes at once;
    /// messages, replication, limits and clients come in every order.
    Coarse,
    /// Messages arrive at once, too, unless they are lost or their link is cut.
    Prompt,
}

/// How far the search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Nodes of the group, 2 or 3.
    pub nodes: usize,
    /// The highest term; states beyond it are not entered.
    pub terms: u64,
    /// Faults in one history.
    pub faults: u8,
    /// Lost or repeated messages in one history.
    pub losses: u8,
    /// Switchovers that an operator asks for in one history.
    pub switches: u8,
    /// Commits of clients in one history.
    pub writes: u8,
    /// Reports of one keeper on their way at once, 1 or 2; goals are always up to 2.
    pub reports_in_flight: usize,
    /// How finely moves interleave.
    pub grain: Grain,
    /// The only faults that come; empty: all.
    pub only: &'static [Fault],
    /// Begin before anything was done, instead of with a whole group.
    pub from_nothing: bool,
    /// A rule that is broken on purpose.
    pub control: Option<Control>,
    /// States after which the search ends.
    pub most_states: u64,
    /// Whether a way out is looked for from every so many-th state; 0: from none.
    pub way_out_each: u64,
}

impl Bounds {
    /// Nothing may go wrong.
    #[must_use]
    pub fn quiet(nodes: usize) -> Self {
        Self {
            nodes,
            terms: 3,
            faults: 0,
            losses: 0,
            switches: 0,
            writes: 0,
            reports_in_flight: 1,
            grain: Grain::Fine,
            only: &[],
            from_nothing: false,
            control: None,
            most_states: u64::MAX,
            way_out_each: 1,
        }
    }
}

/// The model could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

/// What was seen to happen, by kind and word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeSet<(&'static str, String)>);

impl Seen {
    fn note(&mut self, kind: &'static str, word: &str) {
        if !self.has(kind, word) {
            self.0.insert((kind, word.to_owned()));
        }
    }

    /// Whether something was seen.
    #[must_use]
    pub fn has(&self, kind: &str, word: &str) -> bool {
        self.0.iter().any(|(k, w)| *k == kind && w == word)
    }

    /// Rules of the group's tables, steps and journal entries of keepers, and phases that never came.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let rules = Section::ALL
            .iter()
            .flat_map(|s| s.rules())
            // A row that keeps the goal as it is leaves no mark.
            .filter(|r| r.kind != Kind::Keep)
            .map(|r| ("rule", r.id));
        let steps = crate::coverage::STEPS.iter().map(|s| ("step", *s));
        let phases = ["steady", "preparing", "collecting", "promoting"].map(|p| ("phase", p));
        let entries = keeper::ENTRIES.iter().map(|e| ("journal", *e));
        rules
            .chain(steps)
            .chain(phases)
            .chain(entries)
            .filter(|(kind, word)| !self.has(kind, word))
            .map(|(kind, word)| format!("{kind}:{word}"))
            .collect()
    }

    /// All words of a kind.
    #[must_use]
    pub fn words(&self, kind: &str) -> Vec<&str> {
        let words = self.0.iter().filter(|(k, _)| *k == kind);
        words.map(|(_, w)| w.as_str()).collect()
    }
}

/// 128 bits of a state, never 0.
fn fingerprint(state: &world::State) -> u128 {
    let (mut a, mut b) = (0x243f_6a88_85a3_08d3_u64, 0x1319_8a2e_0370_7344_u64);
    for word in state.words() {
        a = (a ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        a ^= a >> 32;
        b = (b.rotate_left(23) ^ u64::from(word)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        b ^= b >> 29;
    }
    a = (a ^ (a >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    b = (b ^ (b >> 33)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (u128::from(a ^ (a >> 30)) << 64 | u128::from(b ^ (b >> 31))).max(1)
}
