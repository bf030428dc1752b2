//! What was seen to happen: every rule, phase, wait and step that never fires is dead, or untested.

use std::collections::{BTreeMap, BTreeSet};

use pgaf_fsm::group::rules::{Kind, Section};

/// Every step a keeper can be told to take; the words of [`pgaf_fsm::node::Step::word`].
const STEPS: &[&str] = &[
    "journal",
    "end-cluster",
    "initdb",
    "name-copy",
    "start",
    "stop",
    "read-position",
    "load",
    "stop-receiving",
    "load-empty-names",
    "turn-waiting-on",
    "confirm-names",
    "ensure-slots",
    "end-walsender",
    "ensure-objects",
    "write-hba",
    "checkpoint",
    "promote",
    "rewind",
    "base-backup",
    "swap-in",
    "ask-peers",
];

/// Counts of what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<String, u64>,
}

impl Coverage {
    fn count(&mut self, what: String) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn rule(&mut self, id: &str) {
        self.count(format!("rule {id}"));
    }

    pub(crate) fn step(&mut self, word: &str) {
        self.count(format!("step {word}"));
    }

    pub(crate) fn waiting(&mut self, id: &str) {
        self.count(format!("wait {id}"));
    }

    pub(crate) fn phase(&mut self, word: &str) {
        self.count(format!("phase {word}"));
    }

    pub(crate) fn event(&mut self, word: &str) {
        self.count(format!("event {word}"));
    }

    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what.clone()).or_default() += count;
        }
    }

    /// Everything that happened, with how often.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// Rules, phases and steps that never fired.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        // A row that keeps the goal as it is leaves no mark on any node.
        let rules = Section::ALL
            .iter()
            .flat_map(|s| s.rules())
            .filter(|r| r.kind != Kind::Keep)
            .map(|r| format!("rule {}", r.id));
        let steps = STEPS.iter().map(|s| format!("step {s}"));
        let phases = ["steady", "preparing", "collecting", "promoting"];
        let phases = phases.iter().map(|p| format!("phase {p}"));
        let all: BTreeSet<String> = rules.chain(steps).chain(phases).collect();
        all.into_iter()
            .filter(|w| !self.counts.contains_key(w))
            .collect()
    }
}
