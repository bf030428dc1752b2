//! Why a group is as it is: one value for `show`, `inspect`, logs and the web.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{FormationId, GroupId, NodeId, NodeState, Possible, Stamp, Term};

/// A named thing the decision looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The node it is about, if one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<NodeId>,
    /// Its name: words with dashes.
    pub name: String,
    /// Its value, for people.
    pub value: String,
}

/// Something the group waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Stable id: words with dashes, such as `promise-of-primary`.
    pub id: String,
    /// Whom it waits for.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
    /// What for and why, one sentence for an operator.
    pub why: String,
    /// The safe command that ends the wait, when an operator can end it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub way_out: Option<String>,
}

/// One node's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it says.
    pub reported: NodeState,
    /// What it is told.
    pub goal: NodeState,
    /// Term and sequence of that goal.
    pub stamp: Stamp,
    /// The rule that assigned it.
    pub rule: String,
    /// Why, in the rule's words.
    pub why: String,
    /// `good`, `bad` or `unknown`, with the evidence.
    pub health: String,
    /// What stands in its way, in its keeper's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<String>,
}

/// The whole answer to "why".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The formation.
    pub formation: FormationId,
    /// The group.
    pub group: GroupId,
    /// Its term.
    pub term: Term,
    /// `steady`, or the phase of a change of primary.
    pub phase: String,
    /// Milliseconds it has been in that phase, in this incarnation of the monitor.
    pub since_ms: u64,
    /// The primary of this term, or its chosen candidate.
    pub primary: Option<NodeId>,
    /// One sentence.
    pub summary: String,
    /// What it waits for; empty: nothing.
    pub waiting: Vec<Waiting>,
    /// The nodes.
    pub nodes: Vec<NodeView>,
    /// Configurations that may be in force, oldest first.
    pub possible: Vec<Possible>,
    /// Everything else that was looked at.
    pub facts: Vec<Fact>,
}

/// What happens to a node in a question of "what if".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Every process of its host ends; the host's kernel still answers.
    Down,
    /// It falls silent: power, a cut link, a frozen host.
    Silent,
}

impl Fault {
    /// Every fault that can be asked about.
    pub const ALL: [Self; 2] = [Self::Down, Self::Silent];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Silent => "silent",
        }
    }

    /// The fault of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.word() == word)
    }
}

/// What would become of a group if a node were gone now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIf {
    /// The formation.
    pub formation: FormationId,
    /// The group.
    pub group: GroupId,
    /// The node that would be gone.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// How.
    pub fault: Fault,
    /// Whether it is the primary now.
    pub is_primary: bool,
    /// One sentence.
    pub summary: String,
    /// Who would be primary; `None`: nobody, until what blocks is gone.
    pub winner: Option<NodeId>,
    /// Milliseconds until commits are acknowledged again; `None`: not by itself.
    pub estimated_ms: Option<u64>,
    /// Bytes of WAL that may hold acknowledged commits and would be lost by what happens by itself.
    pub bytes_at_risk: u64,
    /// The same if an operator forced a failover; `None`: none is needed, or nobody could take over.
    pub bytes_at_risk_forced: Option<u64>,
    /// What would block, with the way out of each.
    pub blocks: Vec<Waiting>,
    /// Whether the loss of the primary would be answered without a hand afterwards.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub automatic_failover_afterwards: Option<String>,
    /// What the monitor would do, in order.
    pub steps: Vec<String>,
}
