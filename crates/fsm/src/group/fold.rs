//! A report came in: what it changes of what is remembered and known.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use pgaf_protocol::{CopyId, CopyRole, NodeId, NodeState, Postgres, Promise, Report, Time};

use super::elect::event;
use super::fetch;
use super::lease;
use super::live::{LiveGroup, Session};
use super::model::{Event, Group};

/// Folds a report in. The caller has checked that the node is one of the group's.
pub fn fold(group: &mut Group, live: &mut LiveGroup, report: Report, now: Time) -> Vec<Event> {
    let mut events = Vec::new();
    let id = report.node;
    remember(group, &report, &mut events);
    confirm(group, &report);
    lease::note(group, &report);
    note_sight(group, live, &report, now);
    let entry = live.nodes.entry(id).or_default();
    if !matches!(entry.session, Session::Open { .. }) {
        entry.session = Session::Open { since: now };
    }
    entry.down_since = match report.postgres {
        Postgres::Running { .. } => None,
        Postgres::Absent | Postgres::Down { .. } | Postgres::Starting | Postgres::Unresponsive => {
            Some(entry.down_since.unwrap_or(now))
        }
    };
    if let Some(look) = report.look {
        entry.look = Some((look, now));
    }
    entry.heard = Some(now);
    entry.report = Some(report);
    if group.doubted.is_some() {
        super::restore::heard(group, live, id, &mut events);
    }
    events
}

/// What a report changes of what is durable.
fn remember(group: &mut Group, report: &Report, events: &mut Vec<Event>) {
    let id = report.node;
    let leader = group.primary;
    let Some(node) = group.nodes.get_mut(&id) else {
        return;
    };
    if node.copy != report.copy {
        node.copy = report.copy;
        node.admitted = None;
    }
    node.role = report.role;
    if report.system_identifier.is_some() {
        node.system_identifier = report.system_identifier;
    }
    if report
        .position
        .is_some_and(|p| Some(p.timeline) != node.position.map(|old| old.timeline))
    {
        node.position = report.position;
    }
    if let Some(mut promise) = report.promise
        && node.promise.is_none_or(|old| old.term <= promise.term)
    {
        // A position once promised stands while it is read anew, or more is fetched: the same copy
        // can only have more.
        let same = |old: &Promise| old.term == promise.term && old.copy == promise.copy;
        if let Some(old) = node.promise.filter(same) {
            promise.position = promise.position.max(old.position);
        }
        node.promise = Some(promise);
    }
    let old = node.reported;
    node.reported = report.state;
    let name = node.name.clone();
    fetch::heard(group, report);
    admit(group, report);
    let Some(node) = group.nodes.get(&id) else {
        return;
    };
    if old != report.state {
        let text = format!(
            "New state is reported by node {id} \"{name}\": {}",
            report.state
        );
        events.push(event(group, id, "reported", text));
    }
    let leads = leader.is_some_and(|l| l.node == id);
    if leads && node.copy.is_some() && leader.is_some_and(|l| l.copy.is_none()) {
        name_first_copy(group, report.copy);
    }
    if leads
        && report.postgres.is_primary()
        && leader.is_some_and(|l| report.role == CopyRole::Primary { term: l.term })
        && report.history.is_some()
        && group.history != report.history
    {
        group.history.clone_from(&report.history);
    }
    if let Some(position) = report.position {
        group.used_timeline = group.used_timeline.max(position.timeline);
    }
    if report.state == NodeState::Dropped
        && group
            .nodes
            .get(&id)
            .is_some_and(|n| n.goal.state == NodeState::Dropped)
    {
        remove(group, id, events);
    }
}

/// The first node of a group has made its data directory: entries that could not name it do now.
fn name_first_copy(group: &mut Group, copy: Option<CopyId>) {
    let (Some(leader), Some(copy)) = (group.primary.as_mut(), copy) else {
        return;
    };
    leader.copy = Some(copy);
    for entry in &mut group.possible {
        if entry.primary == CopyId::default() {
            entry.primary = copy;
        }
    }
}

/// A standby may stream once it has reported, in this term, its copy and a received position that
/// fits the primary's history (`safety.md` §2.5).
fn admit(group: &mut Group, report: &Report) {
    let (Some(leader), Some(history)) = (group.primary, group.history.as_ref()) else {
        return;
    };
    let Some(node) = group.nodes.get_mut(&report.node) else {
        return;
    };
    let (Some(copy), Some(position)) = (report.copy, report.position) else {
        return;
    };
    // Only once it takes nothing from an older term's primary any more is its position final.
    if fetch::may_receive(group.term, node) {
        return;
    }
    let settled = report.reached.term == group.term
        || report
            .promise
            .is_some_and(|p| p.term == group.term && p.position.is_some());
    let in_this_term = settled && leader.term == group.term;
    let is_standby = report.role == CopyRole::Standby && !report.postgres.is_primary();
    if node.id != leader.node
        && in_this_term
        && is_standby
        && history.fits(position)
        && same_system(
            group_system(group.nodes.get(&leader.node)),
            report.system_identifier,
        )
        && let Some(node) = group.nodes.get_mut(&report.node)
        && node.admitted != Some((leader.term, copy))
    {
        node.admitted = Some((leader.term, copy));
    }
}

fn group_system(leader: Option<&super::model::Node>) -> Option<u64> {
    leader.and_then(|n| n.system_identifier)
}

fn same_system(a: Option<u64>, b: Option<u64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        (Some(_) | None, None) | (None, Some(_)) => true,
    }
}

/// A confirmation by the primary of a term removes the entries of lower stamps, older terms
/// included, and nothing else (`safety.md` §1).
fn confirm(group: &mut Group, report: &Report) {
    let Some(confirmed) = report.confirmed else {
        return;
    };
    let Some(leader) = group.primary else { return };
    let known = group.possible.iter().any(|p| {
        p.stamp == confirmed.stamp && Some(p.primary) == report.copy && p.stamp.term == leader.term
    });
    if leader.node != report.node || !known {
        return;
    }
    group.possible.retain(|p| p.stamp >= confirmed.stamp);
    if let Some(node) = group.nodes.get_mut(&report.node) {
        node.confirmed = Some(confirmed);
    }
}

/// Since when the primary does not see its standbys.
fn note_sight(group: &Group, live: &mut LiveGroup, report: &Report, now: Time) {
    if group.primary.is_none_or(|l| l.node != report.node) {
        return;
    }
    for id in group.nodes.keys().filter(|id| **id != report.node) {
        let seen = report
            .standbys
            .iter()
            .any(|s| s.node == *id && s.streaming && s.fresh);
        let entry = live.nodes.entry(*id).or_default();
        entry.unseen_since = if seen {
            None
        } else {
            Some(entry.unseen_since.unwrap_or(now))
        };
    }
}

/// A node is gone for good.
pub(super) fn remove(group: &mut Group, id: NodeId, events: &mut Vec<Event>) {
    events.push(event(
        group,
        id,
        "removed",
        "the node has been removed".to_string(),
    ));
    group.nodes.remove(&id);
    if group.primary.is_some_and(|l| l.node == id) && group.nodes.is_empty() {
        group.primary = None;
        group.possible.clear();
        group.history = None;
        group.phase = super::model::Phase::Steady;
    }
}
