//! What each node should do: (phase, role, conditions) → goal state, as a table of data.
//!
//! The first row of a section whose conditions hold decides. Each row has a stable id, recorded
//! on the events it causes, and a reason written for the operator.

use pgaf_protocol::NodeState;

/// A named yes or no about one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Condition {
    /// No other node stays in the group.
    Alone,
    /// The configuration that is listed last names somebody.
    Names,
    /// No standby is in the replication quorum, and one of them follows well.
    AsyncWithStandby,
    /// An operator removes it, and nothing depends on it any more.
    MayGo,
    /// It streams, is near the primary and could take its place.
    CaughtUp,
    /// The primary has lost it.
    Lost,
    /// Its goal is `secondary` already.
    IsSecondary,
    /// Its keeper has a session and reports, whatever its Postgres does.
    KeeperAnswers,
    /// It has a data directory.
    HasCopy,
    /// That data directory was primary last.
    WasPrimary,
    /// The primary takes writes and knows of it.
    PrimaryReady,
    /// It is a switchover: only the old primary is asked first.
    Planned,
    /// It is the planned candidate, and the old primary's end is known.
    Reaching,
    /// It is the candidate that lacks WAL which another member has.
    Fetching,
    /// It is the member that has that WAL.
    Serving,
    /// An operator maintains it, or asked for that.
    Maintained,
    /// It is in maintenance already.
    Rests,
    /// An operator asked for maintenance, and nothing counts on its copy any more.
    MayRest,
    /// It was told to fetch WAL in this term, and has not promised again since.
    MayReceive,
}

/// What kind of order a row gives; the contents are filled in from the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it was: the goal does not change.
    Keep,
    /// [`pgaf_protocol::Order::Wait`].
    Wait,
    /// [`pgaf_protocol::Order::Lead`].
    Lead,
    /// [`pgaf_protocol::Order::Follow`].
    Follow,
    /// [`pgaf_protocol::Order::Promise`].
    Promise,
    /// [`pgaf_protocol::Order::Reach`].
    Reach,
    /// [`pgaf_protocol::Order::Fetch`].
    Fetch,
    /// [`pgaf_protocol::Order::Promote`].
    Promote,
    /// [`pgaf_protocol::Order::Stop`].
    Stop,
    /// [`pgaf_protocol::Order::Drop`].
    Drop,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Stable id: section, dot, words with dashes.
    pub id: &'static str,
    /// What must hold, or must not.
    pub when: &'static [(Condition, bool)],
    /// The goal state.
    pub state: NodeState,
    /// The order.
    pub kind: Kind,
    /// Why, for the operator.
    pub why: &'static str,
}

/// Which table a node is looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The primary while no change is under way, or one is being prepared.
    Primary,
    /// A standby then.
    Standby,
    /// The old primary while promises are collected.
    OldPrimary,
    /// Any other node then.
    Voter,
    /// The candidate while it is promoted.
    Candidate,
    /// Any other node then.
    Bystander,
}

use Condition::{
    Alone, AsyncWithStandby, CaughtUp, Fetching, HasCopy, IsSecondary, KeeperAnswers, Lost,
    Maintained, MayGo, MayReceive, MayRest, Names, Planned, PrimaryReady, Reaching, Rests, Serving,
    WasPrimary,
};

const fn rule(
    id: &'static str,
    when: &'static [(Condition, bool)],
    state: NodeState,
    kind: Kind,
    why: &'static str,
) -> Rule {
    Rule {
        id,
        when,
        state,
        kind,
        why,
    }
}

const PRIMARY: &[Rule] = &[
    rule(
        "primary.drop",
        &[(MayGo, true)],
        NodeState::Dropped,
        Kind::Drop,
        "an operator removes this node, and no other node needs it",
    ),
    rule(
        "primary.alone",
        &[(Alone, true)],
        NodeState::Single,
        Kind::Lead,
        "it is the only node of its group",
    ),
    rule(
        "primary.names",
        &[(Names, true)],
        NodeState::Primary,
        Kind::Lead,
        "its standbys' acknowledgements count",
    ),
    rule(
        "primary.async",
        &[(AsyncWithStandby, true)],
        NodeState::Primary,
        Kind::Lead,
        "its standbys are asynchronous by choice",
    ),
    rule(
        "primary.waits",
        &[],
        NodeState::WaitPrimary,
        Kind::Lead,
        "no standby can acknowledge its commits at the moment",
    ),
];

const STANDBY: &[Rule] = &[
    rule(
        "standby.drop",
        &[(MayGo, true)],
        NodeState::Dropped,
        Kind::Drop,
        "an operator removes this node, and its acknowledgements do not count any more",
    ),
    rule(
        "standby.stops-fetching",
        &[(MayReceive, true)],
        NodeState::ReportLsn,
        Kind::Promise,
        "it fetched WAL for an election that is over: it stops, and says how far it got",
    ),
    rule(
        "standby.rests",
        &[(Rests, true)],
        NodeState::Maintenance,
        Kind::Keep,
        "an operator maintains it",
    ),
    rule(
        "standby.maintenance",
        &[(MayRest, true)],
        NodeState::Maintenance,
        Kind::Stop,
        "an operator maintains it, and its acknowledgements do not count any more",
    ),
    rule(
        "standby.waits-maintenance",
        &[(Maintained, true)],
        NodeState::WaitMaintenance,
        Kind::Follow,
        "an operator wants to maintain it: it goes on until its acknowledgements do not count any more",
    ),
    rule(
        "standby.lost",
        &[(IsSecondary, true), (Lost, true)],
        NodeState::Catchingup,
        Kind::Follow,
        "the primary has lost it",
    ),
    rule(
        "standby.stays",
        &[(IsSecondary, true)],
        NodeState::Secondary,
        Kind::Follow,
        "it follows the primary",
    ),
    rule(
        "standby.caught-up",
        &[(CaughtUp, true)],
        NodeState::Secondary,
        Kind::Follow,
        "it streams, is near the primary and could take its place",
    ),
    rule(
        "standby.old-primary-away",
        &[(KeeperAnswers, false), (WasPrimary, true)],
        NodeState::Demoted,
        Kind::Follow,
        "it was primary, and its keeper is away",
    ),
    rule(
        "standby.joins",
        &[(HasCopy, false), (PrimaryReady, false)],
        NodeState::WaitStandby,
        Kind::Wait,
        "the primary is not ready for it yet",
    ),
    rule(
        "standby.follows",
        &[],
        NodeState::Catchingup,
        Kind::Follow,
        "it follows the primary until it has caught up",
    ),
];

const OLD_PRIMARY: &[Rule] = &[
    rule(
        "election.old-primary-fetches",
        &[(Fetching, true)],
        NodeState::FastForward,
        Kind::Fetch,
        "it is to be primary again, and fetches the WAL that it lacks from a member that has it",
    ),
    rule(
        "election.maintenance",
        &[(Maintained, true)],
        NodeState::PrepareMaintenance,
        Kind::Promise,
        "an operator wants to maintain the primary: it stops and says how far it got",
    ),
    rule(
        "election.stop-primary",
        &[],
        NodeState::Draining,
        Kind::Promise,
        "a new primary is wanted: the old one stops and says how far it got",
    ),
];

const VOTER: &[Rule] = &[
    rule(
        "election.rests",
        &[(Rests, true)],
        NodeState::Maintenance,
        Kind::Keep,
        "an operator maintains it, and its copy holds nothing that the others lack",
    ),
    rule(
        "election.fetch",
        &[(Fetching, true)],
        NodeState::FastForward,
        Kind::Fetch,
        "it is to be the next primary, and fetches the WAL that it lacks from a member that has it",
    ),
    rule(
        "election.serve",
        &[(Serving, true)],
        NodeState::ReportLsn,
        Kind::Promise,
        "it has WAL that the next primary lacks, and hands it out",
    ),
    rule(
        "election.reach-end",
        &[(Reaching, true)],
        NodeState::PreparePromotion,
        Kind::Reach,
        "it is to be the next primary, once it has the old one's end",
    ),
    rule(
        "election.goes-on",
        &[(Planned, true)],
        NodeState::Secondary,
        Kind::Keep,
        "the old primary is asked first",
    ),
    rule(
        "election.joins-later",
        &[(HasCopy, false)],
        NodeState::WaitStandby,
        Kind::Wait,
        "it has nothing to promise, and waits for the new primary",
    ),
    rule(
        "election.promise",
        &[],
        NodeState::ReportLsn,
        Kind::Promise,
        "a new primary is wanted: it stops receiving and says how far it got",
    ),
];

const CANDIDATE: &[Rule] = &[rule(
    "promotion.promote",
    &[],
    NodeState::StopReplication,
    Kind::Promote,
    "it has everything that may have been acknowledged, and enough others promised",
)];

const BYSTANDER: &[Rule] = &[
    rule(
        "promotion.rests",
        &[(Rests, true)],
        NodeState::Maintenance,
        Kind::Keep,
        "an operator maintains it",
    ),
    rule(
        "promotion.joins-later",
        &[(HasCopy, false)],
        NodeState::WaitStandby,
        Kind::Wait,
        "it waits for the new primary",
    ),
    rule(
        "promotion.stops-fetching",
        &[(MayReceive, true)],
        NodeState::ReportLsn,
        Kind::Promise,
        "another node is promoted: it stops fetching WAL, and says how far it got",
    ),
    rule(
        "promotion.old-primary-away",
        &[(KeeperAnswers, false), (WasPrimary, true)],
        NodeState::Demoted,
        Kind::Follow,
        "it was primary, and its keeper is away",
    ),
    rule(
        "promotion.follow",
        &[],
        NodeState::Catchingup,
        Kind::Follow,
        "it follows the new primary",
    ),
];

impl Section {
    /// Every section.
    pub const ALL: &'static [Self] = &[
        Self::Primary,
        Self::Standby,
        Self::OldPrimary,
        Self::Voter,
        Self::Candidate,
        Self::Bystander,
    ];

    /// Its rows, in order.
    #[must_use]
    pub fn rules(self) -> &'static [Rule] {
        match self {
            Self::Primary => PRIMARY,
            Self::Standby => STANDBY,
            Self::OldPrimary => OLD_PRIMARY,
            Self::Voter => VOTER,
            Self::Candidate => CANDIDATE,
            Self::Bystander => BYSTANDER,
        }
    }

    /// The first row whose conditions hold. Every section ends with a row without conditions.
    #[must_use]
    pub fn decide(self, holds: impl Fn(Condition) -> bool) -> &'static Rule {
        let rules = self.rules();
        rules
            .iter()
            .find(|r| {
                r.when
                    .iter()
                    .all(|(condition, wanted)| holds(*condition) == *wanted)
            })
            .unwrap_or(&rules[rules.len() - 1])
    }
}

/// The row of an id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Rule> {
    Section::ALL
        .iter()
        .flat_map(|s| s.rules())
        .find(|r| r.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    /// Every combination of the conditions that a section mentions.
    fn combinations(section: Section) -> Vec<BTreeSet<Condition>> {
        let mentioned: BTreeSet<Condition> = section
            .rules()
            .iter()
            .flat_map(|r| r.when.iter().map(|(c, _)| *c))
            .collect();
        let mut all = alloc::vec![BTreeSet::new()];
        for condition in mentioned {
            let with: Vec<BTreeSet<Condition>> = all
                .iter()
                .map(|set| set.iter().copied().chain([condition]).collect())
                .collect();
            all.extend(with);
        }
        all
    }

    #[test]
    fn every_row_fires_and_none_is_shadowed() {
        for section in Section::ALL {
            let fired: BTreeSet<&str> = combinations(*section)
                .iter()
                .map(|set| section.decide(|c| set.contains(&c)).id)
                .collect();
            for rule in section.rules() {
                assert!(fired.contains(rule.id), "{} never fires", rule.id);
            }
        }
    }

    #[test]
    fn every_section_decides_whatever_holds() {
        for section in Section::ALL {
            assert!(
                section.rules().last().unwrap().when.is_empty(),
                "{section:?}"
            );
        }
    }

    #[test]
    fn ids_are_unique_and_found_again() {
        let all: Vec<&Rule> = Section::ALL.iter().flat_map(|s| s.rules()).collect();
        let ids: BTreeSet<&str> = all.iter().map(|r| r.id).collect();
        assert_eq!(ids.len(), all.len());
        assert!(all.iter().all(|r| find(r.id).is_some()));
    }
}
