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

/// What random seeds may never show, and why that is no hole. A test holds these to be real rules;
/// one that happens all the same is said to be stale.
const JUSTIFIED: &[(&str, &str)] = &[
    (
        "rule standby.stops-fetching",
        "a fetch that fails is answered by election.promise first: this row holds that goal, and a goal that stays leaves no mark; \
         the brain's test a_fetch_that_does_not_get_on_is_given_up_as_the_old_primary_is_back needs it",
    ),
    (
        "rule promotion.stops-fetching",
        "as standby.stops-fetching, while another node is promoted; the story preferred-candidate-is-waited-for-in-vain goes through it",
    ),
    (
        "rule standby.maintenance",
        "operators maintain nodes in stories, not among the random operations: the stories of maintenance go through it",
    ),
    ("rule standby.waits-maintenance", "as standby.maintenance"),
    (
        "rule election.maintenance",
        "as standby.maintenance, of a primary: the story maintenance-of-the-primary goes through it",
    ),
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

    /// Rules, phases and steps that never fired, and the reason of those that need not.
    #[must_use]
    pub fn missing(&self) -> Vec<(String, Option<&'static str>)> {
        let seen = self.counts();
        let silent = Self::expected().into_iter();
        silent
            .filter(|what| !seen.contains_key(what))
            .map(|what| {
                let reason = JUSTIFIED.iter().find(|(known, _)| *known == what);
                (what, reason.map(|(_, why)| *why))
            })
            .collect()
    }

    /// Justified as never firing, and fired.
    #[must_use]
    pub fn stale(&self) -> Vec<&'static str> {
        let seen = self.counts();
        let names = JUSTIFIED.iter().map(|(what, _)| *what);
        names.filter(|what| seen.contains_key(*what)).collect()
    }

    /// Everything that ought to happen somewhere.
    fn expected() -> BTreeSet<String> {
        // A row that keeps the goal as it is leaves no mark on any node.
        let rules = Section::ALL
            .iter()
            .flat_map(|s| s.rules())
            .filter(|r| r.kind != Kind::Keep)
            .map(|r| format!("rule {}", r.id));
        let steps = STEPS.iter().map(|s| format!("step {s}"));
        let phases = ["steady", "preparing", "collecting", "promoting"];
        let phases = phases.iter().map(|p| format!("phase {p}"));
        rules.chain(steps).chain(phases).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_belongs_to_a_real_rule_and_goes_when_the_rule_fires() {
        let expected = Coverage::expected();
        for (what, why) in JUSTIFIED {
            assert!(expected.contains(*what), "{what}");
            assert!(why.len() > 20, "{what}");
        }
        let mut seen = Coverage::default();
        let excused = |seen: &Coverage| {
            seen.missing()
                .iter()
                .filter(|(_, why)| why.is_some())
                .count()
        };
        assert_eq!(excused(&seen), JUSTIFIED.len());
        assert!(seen.stale().is_empty());
        seen.rule("standby.stops-fetching");
        assert_eq!(seen.stale(), ["rule standby.stops-fetching"]);
        assert_eq!(excused(&seen), JUSTIFIED.len() - 1);
    }
}
