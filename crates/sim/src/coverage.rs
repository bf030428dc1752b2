//! What was seen to happen: every rule, phase, wait and step that never fires is dead, or untested.

use std::collections::{BTreeMap, BTreeSet};

use pgaf_fsm::group::rules::{Kind, Section};

/// Every step a keeper can be told to take; the words of [`pgaf_fsm::node::Step::word`].
pub(crate) const STEPS: &[&str] = &[
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

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Rule,
    Step,
    Wait,
    Phase,
    Event,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Step => "step",
            Self::Wait => "wait",
            Self::Phase => "phase",
            Self::Event => "event",
        }
    }
}

/// Counts of what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<What, BTreeMap<String, u64>>,
}

impl Coverage {
    fn count(&mut self, what: What, id: &str) {
        let counts = self.counts.entry(what).or_default();
        match counts.get_mut(id) {
            Some(count) => *count += 1,
            None => {
                counts.insert(id.to_owned(), 1);
            }
        }
    }

    pub(crate) fn rule(&mut self, id: &str) {
        self.count(What::Rule, id);
    }

    pub(crate) fn step(&mut self, word: &str) {
        self.count(What::Step, word);
    }

    pub(crate) fn waiting(&mut self, id: &str) {
        self.count(What::Wait, id);
    }

    pub(crate) fn phase(&mut self, word: &str) {
        self.count(What::Phase, word);
    }

    pub(crate) fn event(&mut self, word: &str) {
        self.count(What::Event, word);
    }

    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        for (what, theirs) in &other.counts {
            let ours = self.counts.entry(*what).or_default();
            for (id, count) in theirs {
                *ours.entry(id.clone()).or_default() += count;
            }
        }
    }

    /// Everything that happened, with how often.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let all = self.counts.iter();
        all.flat_map(|(what, counts)| {
            counts
                .iter()
                .map(|(id, count)| (format!("{} {id}", what.word()), *count))
        })
        .collect()
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
        let seen = self.counts();
        all.into_iter().filter(|w| !seen.contains_key(w)).collect()
    }
}
