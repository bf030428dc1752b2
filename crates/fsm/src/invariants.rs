//! The safety invariants of `safety.md` §10, named once.
//!
//! [`step`] checks those that one step of the monitor's brain can break; it runs after every
//! decision in debug builds, in the tests' worlds and in the simulator. The others need to see
//! all nodes at once, or whole runs: the simulator checks them under the same names.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::group::{Group, Node, Phase, by_term, obstacle};

/// An invariant: its number, its name, its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invariant {
    /// Its number in `safety.md` §10.
    pub number: u8,
    /// A stable word for it.
    pub name: &'static str,
    /// What must hold.
    pub text: &'static str,
}

const fn invariant(number: u8, name: &'static str, text: &'static str) -> Invariant {
    Invariant { number, name, text }
}

/// All eight.
pub const ALL: [Invariant; 8] = [
    invariant(
        1,
        "one-writer",
        "at most one node of a group can acknowledge writes at a time",
    ),
    invariant(
        2,
        "nothing-lost",
        "nobody is promoted who may miss an acknowledged commit, unless an operator allowed it by name",
    ),
    invariant(
        3,
        "never-back",
        "terms, sequences and timeline numbers never go back, and a promise is never broken by an older term",
    ),
    invariant(
        4,
        "fenced-is-closed",
        "a fenced node serves nobody but replication and keepers",
    ),
    invariant(
        5,
        "always-a-way-out",
        "every assignable goal is reachable, and with all nodes healthy every group converges",
    ),
    invariant(
        6,
        "total",
        "no combination of present, absent or half-registered nodes crashes or blocks the monitor",
    ),
    invariant(
        7,
        "repeatable",
        "repeating any keeper step, after a crash at any point, ends in the same place",
    ),
    invariant(
        8,
        "complete-or-as-it-was",
        "a manual operation completes, or leaves the group as it was and says why",
    ),
];

/// A broken invariant, with what was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {number} ({name}) is broken: {what}")]
pub struct Violation {
    /// Its number.
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    /// What was seen.
    pub what: String,
}

fn broken(number: u8, what: String) -> Violation {
    let name = ALL
        .iter()
        .find(|i| i.number == number)
        .map_or("", |i| i.name);
    Violation { number, name, what }
}

/// Checks one step of a group, by decision, report or operation.
///
/// # Errors
/// The first invariant that is broken.
pub fn step(before: &Group, after: &Group) -> Result<(), Violation> {
    never_back(before, after)?;
    promotion_is_covered(before, after)?;
    goals_are_of_this_term(after)
}

fn never_back(before: &Group, after: &Group) -> Result<(), Violation> {
    let went_back = after.term < before.term
        || after.sequence < before.sequence
        || after.used_timeline < before.used_timeline;
    if went_back {
        return Err(broken(
            3,
            format!(
                "term {} to {}, sequence {} to {}, timeline {} to {}",
                before.term,
                after.term,
                before.sequence,
                after.sequence,
                before.used_timeline,
                after.used_timeline
            ),
        ));
    }
    for (id, node) in &after.nodes {
        let old = before.nodes.get(id).and_then(|n| n.promise);
        if old.is_some_and(|old| node.promise.is_none_or(|new| new.term < old.term)) {
            return Err(broken(
                3,
                format!("node {id} lost its promise of a newer term"),
            ));
        }
    }
    Ok(())
}

/// When a promotion begins, what was promised ends every older term, and the candidate has it all.
fn promotion_is_covered(before: &Group, after: &Group) -> Result<(), Violation> {
    let Phase::Promoting {
        node,
        copy,
        position,
        ..
    } = &after.phase
    else {
        return Ok(());
    };
    if before.phase == after.phase {
        return Ok(());
    }
    let promised = after
        .nodes
        .values()
        .filter_map(|n| {
            n.promise
                .filter(|p| p.term == after.term && Some(p.copy) == n.copy)
        })
        .filter(|p| p.position.is_some_and(|at| at <= *position))
        .map(|p| p.copy)
        .collect();
    let lacking = obstacle(&before.possible, &promised);
    // The end of a lease ends its primary's term, where that is the group's choice.
    let lapsed = before.lease.map(|mode| mode.since.term);
    let rest: Vec<_> = before
        .possible
        .iter()
        .filter(|p| Some(p.stamp.term) != lapsed)
        .cloned()
        .collect();
    let by_lease = lacking.as_ref().zip(before.lease).is_some_and(|(l, mode)| {
        let own = |n: &&Node| n.copy == Some(mode.copy);
        let promise = after.nodes.values().find(own).and_then(|n| n.promise);
        let promised = promise.is_some_and(|p| p.term == after.term && p.copy == mode.copy);
        l.term == mode.since.term && l.primary == mode.copy && (mode.reported || promised)
    });
    if let Some(lacking) = lacking.filter(|_| !by_lease || obstacle(&rest, &promised).is_some()) {
        return Err(broken(
            2,
            format!(
                "node {node} is promoted although term {} is not over",
                lacking.term
            ),
        ));
    }
    if !promised.contains(copy) {
        return Err(broken(
            2,
            format!("node {node} is promoted without its own promise"),
        ));
    }
    match by_term(&after.possible).first() {
        Some(newest) if newest.term == after.term && newest.primary == *copy => Ok(()),
        Some(_) | None => Err(broken(
            1,
            format!("node {node} is promoted and its configuration is not listed"),
        )),
    }
}

fn goals_are_of_this_term(group: &Group) -> Result<(), Violation> {
    let ahead = group
        .nodes
        .values()
        .find(|n| n.goal.stamp.term > group.term);
    match ahead {
        Some(node) => Err(broken(
            3,
            format!(
                "node {} has a goal of a term that is not there yet",
                node.id
            ),
        )),
        None => Ok(()),
    }
}
