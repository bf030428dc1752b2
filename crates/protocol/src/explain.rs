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
