//! A store that is not provably a continuation of itself (`safety.md` §8).
//!
//! Its memory of a group is void: `''` counts as possible, and nothing opens, shrinks or promotes
//! until every member has reported.

use alloc::format;
use alloc::vec::Vec;

use pgaf_protocol::{
    CopyId, CopyRole, Member, NodeId, NodeState, Possible, Stamp, SyncConfig, Term,
};

use super::elect::{begin, event};
use super::live::LiveGroup;
use super::model::{Election, Event, Group, Leader, Phase};

/// Voids what is remembered of a group.
pub fn restored(group: &mut Group) {
    group.lease = None;
    if !group.nodes.is_empty() {
        group.doubted = Some(group.nodes.keys().copied().collect());
    }
}

/// Another member reported: once all have, what they say replaces what was remembered.
pub(super) fn heard(group: &mut Group, live: &LiveGroup, node: NodeId, events: &mut Vec<Event>) {
    let Some(doubted) = group.doubted.as_mut() else {
        return;
    };
    doubted.remove(&node);
    let seen = live
        .nodes
        .values()
        .filter_map(|l| l.report.as_ref())
        .map(|r| r.seen);
    for stamp in seen {
        group.term = group.term.max(stamp.term);
        group.sequence = group.sequence.max(stamp.sequence);
    }
    if !doubted.is_empty() {
        return;
    }
    group.doubted = None;
    group.phase = Phase::Steady;
    renew_goals(group);
    let newest = group
        .nodes
        .values()
        .filter_map(|n| match n.role {
            CopyRole::Primary { term } => Some((term, n.id, n.copy)),
            CopyRole::None | CopyRole::Standby => None,
        })
        .max_by_key(|(term, id, _)| (*term, *id));
    let Some((term, leader, copy)) = newest else {
        return only_standbys(group, events);
    };
    if group.term > term {
        // A change of primary was under way: somebody may be about to open in the newer term.
        let why = "this monitor's memory was void, and a change of primary was under way";
        return elect_anew(group, (leader, copy), why, events);
    }
    group.primary = Some(Leader {
        node: leader,
        copy,
        term,
    });
    group.history = live
        .nodes
        .get(&leader)
        .and_then(|l| l.report.as_ref()?.history.clone());
    group.sequence = group.sequence.next();
    weakest(group, term, copy);
    let text = format!(
        "this monitor's memory was void; every member has reported, and node {leader} is primary of term {term}"
    );
    events.push(event(group, leader, "monitor.restored", text));
}

/// What was told to a node since the store was copied has a higher stamp: the same goal again, with the
/// old one, would be refused for ever. Every goal is made anew.
fn renew_goals(group: &mut Group) {
    let term = group.term;
    for node in group.nodes.values_mut() {
        if node.goal.state == NodeState::Dropped {
            group.sequence = group.sequence.next();
            node.goal.stamp = Stamp {
                term,
                sequence: group.sequence,
            };
        } else {
            node.goal.stamp = Stamp::default();
        }
    }
}

/// Every member is there and none is a primary.
fn only_standbys(group: &mut Group, events: &mut Vec<Event>) {
    let furthest = group
        .nodes
        .values()
        .filter(|n| n.copy.is_some())
        .max_by_key(|n| (n.position, core::cmp::Reverse(n.id)))
        .map(|n| (n.id, n.copy));
    // Nobody has made a data directory yet: nothing was ever acknowledged.
    if let Some(furthest) = furthest {
        let why = "this monitor's memory was void, and no member is a primary";
        elect_anew(group, furthest, why, events);
    }
}

/// Whatever was acknowledged is on one of the members' copies: all of them have to promise, and the
/// one that got furthest goes on.
fn elect_anew(
    group: &mut Group,
    (node, copy): (NodeId, Option<CopyId>),
    why: &str,
    events: &mut Vec<Event>,
) {
    // A member that lost a copy may have lost one that mattered: it stands there as one that cannot
    // promise, and an operator has to say that it is lost. Who never had one does not count.
    let members = group
        .nodes
        .values()
        .filter(|n| n.copy.is_some() || n.position.is_some() || n.promise.is_some())
        .map(|n| Member {
            node: n.id,
            copy: n.copy.unwrap_or_default(),
        });
    let config = SyncConfig::any(1, members);
    group.primary = Some(Leader {
        node,
        copy,
        term: group.term,
    });
    group.history = None;
    group.sequence = group.sequence.next();
    // Below every term: this is what must be revoked, and never a configuration to load.
    group.possible = alloc::vec![Possible {
        stamp: Stamp {
            term: Term(0),
            sequence: group.sequence
        },
        primary: CopyId::default(),
        config,
    }];
    for node in group.nodes.values_mut() {
        node.confirmed = None;
        node.admitted = None;
    }
    let election = Election {
        reason: why.into(),
        ..Election::default()
    };
    events.extend(begin(group, election, node).events);
}

/// Nothing is known of what was in force: `''` is possible.
fn weakest(group: &mut Group, term: Term, copy: Option<CopyId>) {
    group.possible = alloc::vec![Possible {
        stamp: Stamp {
            term,
            sequence: group.sequence
        },
        primary: copy.unwrap_or_default(),
        config: SyncConfig::asynchronous(),
    }];
    for node in group.nodes.values_mut() {
        node.confirmed = None;
    }
}
