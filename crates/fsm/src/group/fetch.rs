//! Fast-forward: a candidate that lacks WAL takes it from a member of R (`safety.md` §4.5).
//!
//! Whoever promised takes nothing from an older term's primary, and a member of R receives nothing
//! at all: what it has is final. So the candidate may take it from there, and promises again. If
//! that WAL is gone it takes a base backup from the same member; the new copy, which has at least as
//! much, then stands for the one that promised.

use alloc::format;
use alloc::vec::Vec;

use pgaf_protocol::{CopyRole, Member, NodeId, Position, Report, Stamp, Term};

use super::candidates::{can_reopen, is_in_place, may_lead, pending, preference, promised_up_to};
use super::elect::{Step, elapsed_ms, waits};
use super::facts::Facts;
use super::lease;
use super::model::{Election, Fetched, Fetching, Group, Leader, Node, Phase};

/// Chosen: twice the deadline of a promise, for which a candidate is waited for that has the highest
/// priority, while another one has everything already.
const PREFERRED_DEADLINES: u64 = 2;

/// Moves a fetch on, or begins one. `complete` is the candidate that lacks nothing, if there is
/// one; `None`: there is nothing to wait for here.
pub(super) fn advance(
    facts: &Facts<'_>,
    group: &mut Group,
    election: &Election,
    leader: Leader,
    complete: Option<NodeId>,
) -> Option<Step> {
    if election.planned {
        return None;
    }
    let reopens = can_reopen(facts, group, leader);
    if let Some(fetching) = election.fetching {
        return going_on(facts, group, election, fetching, (complete, reopens));
    }
    let late = elapsed_ms(facts) >= limit_ms(facts);
    if complete.is_none() && !late && !pending(facts, group, election, leader).is_empty() {
        // Whoever is about to promise may have everything.
        return None;
    }
    let pairs = match complete {
        Some(complete) => preferred(facts, election, leader, complete),
        None => needed(facts, election, leader),
    };
    let next = pairs
        .iter()
        .find(|f| !election.tried.contains(&(f.node, f.source)));
    if let Some(next) = next {
        return Some(change(group, election, Some(*next), None));
    }
    if complete.is_none() && !pairs.is_empty() && !reopens {
        // All were tried: from the beginning.
        group.phase = Phase::Collecting(Election {
            tried: alloc::collections::BTreeSet::new(),
            ..election.clone()
        });
        return Some(Step {
            changed: true,
            ..Step::default()
        });
    }
    None
}

fn limit_ms(facts: &Facts<'_>) -> u64 {
    facts.settings.promise_deadline_ms * PREFERRED_DEADLINES
}

fn change(
    group: &mut Group,
    election: &Election,
    fetching: Option<Fetching>,
    failed: Option<Fetching>,
) -> Step {
    let mut next = Election {
        fetching,
        ..election.clone()
    };
    next.tried.extend(failed.map(|f| (f.node, f.source)));
    group.phase = Phase::Collecting(next);
    Step {
        changed: true,
        ..Step::default()
    }
}

/// The last argument tells who has everything and can be promoted, and whether the old primary could
/// be opened again.
fn going_on(
    facts: &Facts<'_>,
    group: &mut Group,
    election: &Election,
    now: Fetching,
    (complete, reopens): (Option<NodeId>, bool),
) -> Option<Step> {
    let arrived = complete == Some(now.node);
    let overtaken = complete.is_some() && !now.preferred;
    if arrived || overtaken {
        return None;
    }
    if !is_possible(facts, election, now) {
        return Some(change(group, election, None, None));
    }
    // Nobody has to wait for a fetch that does not get on when somebody else is ready.
    let limit = if now.preferred || reopens {
        limit_ms(facts)
    } else {
        facts.settings.move_deadline_ms
    };
    if elapsed_ms(facts) >= limit && (now.preferred || !gets_on(facts, now)) {
        return Some(change(group, election, None, Some(now)));
    }
    Some(waits(
        "fetch",
        &[now.node, now.source],
        format!(
            "node {} fetches the WAL up to {} that it lacks from node {}",
            now.node, now.position, now.source
        ),
        None,
    ))
}

/// Whether both are still there, and the source still has what it is wanted for.
fn is_possible(facts: &Facts<'_>, election: &Election, it: Fetching) -> bool {
    let candidate = facts
        .staying()
        .any(|n| n.id == it.node && may_lead(n, election) && facts.keeper_answers(n.id));
    let source = facts.group.nodes.get(&it.source).is_some_and(|n| {
        facts.keeper_answers(n.id) && facts.promise_of(n).is_some_and(|(_, at)| at >= it.position)
    });
    candidate && source
}

/// Progress, not a fixed time, decides when to give up.
fn gets_on(facts: &Facts<'_>, it: Fetching) -> bool {
    facts.live.report(it.node).is_some_and(|r| {
        r.progress.is_some()
            || r.upstream
                .is_some_and(|u| u.node == it.source && u.streaming && u.fresh)
    })
}

/// Whether a node's copy may receive WAL in this term from a member that it was told to fetch from:
/// until it has promised again its position is not final.
pub(super) fn may_receive(term: Term, node: &Node) -> bool {
    node.fetched
        .is_some_and(|f| f.stamp.term == term && !f.done)
}

/// Nobody has everything that may lead: whom could a candidate get it from, best first?
fn needed(facts: &Facts<'_>, election: &Election, leader: Leader) -> Vec<Fetching> {
    let mut sources: Vec<(&Node, Position)> = facts
        .group
        .nodes
        .values()
        .filter(|n| can_serve(facts, n, leader))
        .filter_map(|n| facts.promise_of(n).map(|(_, at)| (n, at)))
        .filter(|(_, at)| {
            let r = promised_up_to(facts, *at);
            lease::obstacle(facts, &r, *at).is_none()
        })
        .collect();
    // The smallest R that suffices is enough.
    sources.sort_by_key(|(n, at)| (*at, n.id));
    let mut takers: Vec<(&Node, Option<Position>)> = facts
        .staying()
        .filter(|n| may_lead(n, election) && facts.keeper_answers(n.id))
        .filter(|n| !is_in_place(n, leader))
        .map(|n| (n, facts.promise_of(n).map(|(_, at)| at)))
        .collect();
    takers.sort_by_key(|(n, at)| {
        (
            at.is_none(),
            preference(n, election, leader),
            core::cmp::Reverse(*at),
            n.id,
        )
    });
    let pairs = takers.iter().flat_map(|(taker, has)| {
        sources
            .iter()
            .filter(move |(source, at)| source.id != taker.id && has.is_none_or(|p| p < *at))
            .map(|(source, at)| Fetching {
                node: taker.id,
                source: source.id,
                position: *at,
                preferred: false,
            })
    });
    pairs.collect()
}

/// One candidate has everything; another one, of a higher priority, is near, and can have it from
/// there.
fn preferred(
    facts: &Facts<'_>,
    election: &Election,
    leader: Leader,
    complete: NodeId,
) -> Vec<Fetching> {
    let Some(source) = facts.group.nodes.get(&complete) else {
        return Vec::new();
    };
    let Some((_, position)) = facts.promise_of(source) else {
        return Vec::new();
    };
    if !can_serve(facts, source, leader) {
        return Vec::new();
    }
    let rank = |n: &Node| {
        let (unnamed, _, priority) = preference(n, election, leader);
        (unnamed, priority)
    };
    let mut takers: Vec<&Node> = facts
        .staying()
        .filter(|n| n.id != complete && may_lead(n, election) && facts.keeper_answers(n.id))
        .filter(|n| n.id != leader.node && n.role == CopyRole::Standby)
        .filter(|n| rank(n) < rank(source))
        .filter(|n| {
            facts.promise_of(n).is_some_and(|(_, at)| {
                let missing = position.lsn.bytes_after(at.lsn);
                at < position
                    && missing <= facts.settings.enable_sync_wal_log_threshold
                    && continues(facts, source, at)
            })
        })
        .collect();
    takers.sort_by_key(|n| (rank(n), n.id));
    let best = takers.first().map(|n| Fetching {
        node: n.id,
        source: complete,
        position,
        preferred: true,
    });
    best.into_iter().collect()
}

/// Whether WAL can be fetched from a node: a standby that runs, or a former primary's copy that can
/// be started as one because nothing re-opens it in place.
fn can_serve(facts: &Facts<'_>, node: &Node, leader: Leader) -> bool {
    let Some(report) = facts.live.report(node.id) else {
        return false;
    };
    facts.keeper_answers(node.id)
        && !is_in_place(node, leader)
        && !may_receive(facts.group.term, node)
        && (report.postgres.is_standby() || matches!(node.role, CopyRole::Primary { .. }))
}

/// What is remembered of a node that is told to fetch.
pub(super) fn told(node: &Node, stamp: Stamp) -> Fetched {
    let earlier = node
        .fetched
        .filter(|f| f.stamp.term == stamp.term)
        .and_then(|f| f.before)
        // A copy that has not promised yet does not stand for the one before.
        .filter(|(copy, _)| node.copy != Some(*copy));
    let now = || {
        let promise = node.promise?;
        (promise.term == stamp.term && Some(promise.copy) == node.copy)
            .then_some((promise.copy, promise.position?))
    };
    Fetched {
        stamp,
        done: false,
        before: earlier.or_else(now),
    }
}

/// A node that was told to fetch reports: does it receive nothing any more, and is it another copy
/// now, which has everything that the one before had promised? Nothing that the one before
/// acknowledged is lost then, and nothing more can be acknowledged by it: the new one stands for it
/// wherever it is listed.
pub(super) fn heard(group: &mut Group, report: &Report) {
    let term = group.term;
    let Some(node) = group.nodes.get_mut(&report.node) else {
        return;
    };
    let Some(fetched) = node.fetched.as_mut().filter(|f| f.stamp.term == term) else {
        return;
    };
    let promised = report
        .promise
        .filter(|p| p.term == term && Some(p.copy) == report.copy)
        .and_then(|p| Some((p.copy, p.position?)));
    let Some((copy, position)) = promised else {
        return;
    };
    fetched.done |= report.reached >= fetched.stamp;
    let replaced = fetched
        .before
        .filter(|(before, had)| *before != copy && position >= *had);
    let Some((before, _)) = replaced else {
        return;
    };
    fetched.before = None;
    for entry in group.possible.iter_mut().filter(|p| p.stamp.term < term) {
        if entry.primary == before {
            entry.primary = copy;
        }
        let listed: Vec<Member> = entry
            .config
            .members
            .extract_if(.., |m| m.copy == before)
            .collect();
        entry
            .config
            .members
            .extend(listed.into_iter().map(|m| Member { copy, ..m }));
    }
}

/// Whether WAL that ends at a position goes on in a source's.
pub(super) fn continues(facts: &Facts<'_>, source: &Node, at: Position) -> bool {
    facts
        .live
        .report(source.id)
        .and_then(|r| r.history.as_ref())
        .is_some_and(|history| history.fits(at))
}
