//! Leases of a primary that is asynchronous by choice (`safety.md` §5.3-4): who holds one, when it
//! has certainly run out, and what may be done then.
//!
//! No standby's acknowledgement counts there, so no promise of theirs ends what the primary may
//! acknowledge: the end of its lease does, by its fencer. What it acknowledged and nobody has is lost
//! then: within `promote_wal_log_threshold`, and named in the event.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::{
    CopyId, Lease, NodeId, NodeState, Order, Position, Possible, Report, Stamp, Time, Waiting,
};

use super::elect::{data_loss_command, event};
use super::facts::Facts;
use super::live::LiveGroup;
use super::model::{Event, Group, Leader, LeaseMode, Node, Phase};
use super::quorum::{self, TermConfig};

/// The keeper's clock may run slower than the monitor's by one part in this many (`design.md` §4:
/// 10 % drift).
const DRIFT: u64 = 10;

/// The primary's position is stored when it is this far from the stored one, in bytes: what a
/// restarted monitor knows of it. Chosen: one WAL segment, so that no heartbeat costs a write.
const STORED_EVERY: u64 = 16 << 20;

/// The lease that goes with an answer: only the primary of the present term holds one, and only
/// while nobody else is about to become primary.
#[must_use]
pub fn granted(group: &Group, node: NodeId, duration_ms: u64) -> Option<Lease> {
    let leader = group.primary?;
    let stays = match group.phase {
        Phase::Steady | Phase::Preparing(_) => true,
        Phase::Collecting(_) | Phase::Promoting { .. } => false,
    };
    let row = group.nodes.get(&node)?;
    let leads = leader.node == node
        && leader.term == group.term
        && matches!(row.goal.order, Order::Lead(_));
    (stays && leads && group.doubted.is_none()).then_some(Lease {
        duration_ms: u32::try_from(duration_ms).unwrap_or(u32::MAX),
    })
}

/// How long after sending its reply a lease may run at most, on the monitor's clock.
#[must_use]
pub fn longest_ms(duration_ms: u64) -> u64 {
    duration_ms
        .saturating_add(duration_ms / DRIFT)
        .saturating_add(1)
}

impl LiveGroup {
    /// Notes a lease that is being sent at this moment, or that may have been sent until now.
    pub fn note_lease(&mut self, duration_ms: u64, now: Time) {
        let until = Time(now.0.saturating_add(longest_ms(duration_ms)));
        self.leased_until = self.leased_until.max(until);
    }
}

impl LeaseMode {
    /// Whether this is the mode of that primary.
    fn is_of(&self, leader: Leader) -> bool {
        self.since.term == leader.term && leader.copy == Some(self.copy)
    }
}

/// Turns lease mode on and off, while the primary can be told; announced either way. Whoever
/// changes the primary ends it.
pub(super) fn settle(facts: &Facts<'_>, group: &mut Group) -> Vec<Event> {
    let mut events = Vec::new();
    let Some(leader) = group.primary else {
        group.lease = None;
        return events;
    };
    if group.lease.is_some_and(|mode| !mode.is_of(leader)) {
        group.lease = None;
    }
    let steady = matches!(group.phase, Phase::Steady | Phase::Preparing(_));
    let told = facts.leader_writes() && facts.keeper_answers(leader.node);
    if !steady || !told || group.doubted.is_some() || leader.term != group.term {
        return events;
    }
    match (group.lease, leader.copy) {
        (None, Some(copy)) if is_wanted(facts) => {
            group.sequence = group.sequence.next();
            group.lease = Some(LeaseMode {
                since: Stamp {
                    term: leader.term,
                    sequence: group.sequence,
                },
                copy,
                reported: false,
            });
            let text = format!(
                "node {} goes on only with a lease from now on: its standbys are asynchronous by choice; when it is lost, one of them takes over after at most {} ms, and up to {} bytes of WAL may be lost",
                name(group, leader.node),
                longest_ms(facts.settings.lease_ms),
                facts.settings.promote_wal_log_threshold
            );
            events.push(event(group, leader.node, "lease.on", text));
        }
        (Some(_), _) if !is_wanted(facts) => {
            group.lease = None;
            let why = if facts.is_asynchronous_by_choice() {
                "no standby could take over at the moment, and there is no automatic failover"
            } else {
                "a standby is in the replication quorum"
            };
            let text = format!(
                "node {} needs no lease any more: {why}",
                name(group, leader.node)
            );
            events.push(event(group, leader.node, "lease.off", text));
        }
        (Some(_) | None, _) => {}
    }
    events
}

/// Whether the primary should be in lease mode: asynchronous by choice, and somebody could take
/// over. Without that a lease would only make the primary depend on its monitor (§5.2).
fn is_wanted(facts: &Facts<'_>) -> bool {
    let leader = facts.leader().map(|l| l.node);
    let successor = facts.staying().any(|n| {
        Some(n.id) != leader
            && n.candidate_priority > 0
            && n.reported == NodeState::Secondary
            && n.goal.state == NodeState::Secondary
            && facts.is_admitted(n)
    });
    // On the way back to names, the lease goes last: until they are in force, `''` may be.
    let names_to_come = facts.group.lease.is_some()
        && !facts.current_sync().is_asynchronous()
        && !facts.current_is_confirmed();
    successor && (facts.is_asynchronous_by_choice() || names_to_come)
}

/// Whether `''` has to wait: the lease comes before the names go, as long as they are satisfied.
pub(super) fn comes_first(facts: &Facts<'_>) -> bool {
    is_wanted(facts) && !facts.group.lease.is_some_and(|mode| mode.reported)
}

/// What the primary's own report says of its lease mode, and how far it has written.
pub(super) fn note(group: &mut Group, report: &Report) {
    let steady = matches!(group.phase, Phase::Steady | Phase::Preparing(_));
    let leads = group.primary.is_some_and(|l| l.node == report.node);
    let Some(mode) = group.lease.as_mut().filter(|_| leads && steady) else {
        return;
    };
    mode.reported = report.leased == Some(mode.since) && report.copy == Some(mode.copy);
    let Some(node) = group.nodes.get_mut(&report.node) else {
        return;
    };
    let far = |p: Position| {
        node.position.is_none_or(|old| {
            old.timeline != p.timeline || p.lsn.bytes_after(old.lsn) >= STORED_EVERY
        })
    };
    if report.position.is_some_and(far) {
        node.position = report.position;
    }
}

/// How far the primary is known to have written: by its last report, or by what is stored.
fn last_known(facts: &Facts<'_>) -> Option<Position> {
    let leader = facts.leader()?;
    let stored = facts.group.nodes.get(&leader.node)?.position;
    let heard = facts.live.of(leader.node).and_then(|l| l.report.as_ref());
    let heard = heard
        .filter(|r| r.copy == leader.copy)
        .and_then(|r| r.position);
    stored.max(heard)
}

/// How much of what the primary is known to have written a position lacks; `None`: that cannot be
/// said, or it is on another timeline.
fn missing_bytes(facts: &Facts<'_>, at: Position) -> Option<u64> {
    let known = last_known(facts)?;
    (known.timeline == at.timeline).then(|| known.lsn.bytes_after(at.lsn))
}

fn is_near(facts: &Facts<'_>, at: Position) -> bool {
    missing_bytes(facts, at).is_some_and(|b| b <= facts.settings.promote_wal_log_threshold)
}

/// Whether the primary can acknowledge nothing more: it has promised so itself, or its lease has
/// run out, and its fencer was there.
fn is_over(facts: &Facts<'_>, mode: LeaseMode) -> bool {
    let promised = facts
        .leader_node()
        .is_some_and(|n| facts.promise_of(n).is_some());
    promised || (mode.reported && facts.now >= facts.live.leased_until)
}

/// The mode that ends a term which nobody's promise can end.
fn mode_of(facts: &Facts<'_>, lacking: &TermConfig) -> Option<LeaseMode> {
    facts
        .group
        .lease
        .filter(|mode| mode.since.term == lacking.term && mode.copy == lacking.primary)
}

/// Whether the loss of the primary is answered now: with the reason, or with what that waits for.
/// `None`: no lease helps here.
pub(super) fn answer(
    facts: &Facts<'_>,
    lacking: &TermConfig,
    (reachable, candidates): (&BTreeSet<CopyId>, &[NodeId]),
    evidence: &str,
) -> Option<Result<String, Waiting>> {
    let mode = mode_of(facts, lacking)?;
    let leader = facts.leader()?;
    // An older term that nobody's promise ends is not ended by this lease.
    quorum::obstacle(&without(facts, mode), reachable)
        .is_none()
        .then_some(())?;
    if !facts.keeper_answers(leader.node) {
        if !mode.reported {
            return None;
        }
        if facts.now < facts.live.leased_until {
            return Some(Err(still_runs(facts, leader, evidence)));
        }
    }
    let near = candidates.iter().any(|id| {
        let position = facts.live.report(*id).and_then(|r| r.position);
        position.is_some_and(|at| is_near(facts, at))
    });
    if !near {
        return Some(Err(too_far(facts, leader, evidence)));
    }
    let how = if facts.keeper_answers(leader.node) {
        "its keeper is asked to promise"
    } else {
        "its lease has run out"
    };
    Some(Ok(format!("{evidence}; {how}")))
}

fn still_runs(facts: &Facts<'_>, leader: Leader, evidence: &str) -> Waiting {
    let left = facts.live.leased_until.0.saturating_sub(facts.now.0);
    Waiting {
        id: "lease".to_string(),
        nodes: alloc::vec![leader.node],
        why: format!(
            "the primary is gone ({evidence}); it is asynchronous by choice, and its lease may run for another {left} ms: a standby takes over then"
        ),
        way_out: None,
    }
}

fn too_far(facts: &Facts<'_>, leader: Leader, evidence: &str) -> Waiting {
    let known = last_known(facts).map_or_else(
        || "nothing is known of how far it got".to_string(),
        |at| {
            format!(
                "no standby is within promote_wal_log_threshold ({} bytes) of its last known position {at}",
                facts.settings.promote_wal_log_threshold
            )
        },
    );
    Waiting {
        id: "lease-threshold".to_string(),
        nodes: alloc::vec![leader.node],
        why: format!("the primary is gone ({evidence}); it is asynchronous by choice, and {known}"),
        way_out: Some(data_loss_command(facts.group)),
    }
}

/// As [`quorum::obstacle`], for the promotion of a copy at `at`: a term that a lease ended is no
/// obstacle, if that copy is the best there is and near enough.
pub(super) fn obstacle(
    facts: &Facts<'_>,
    promised: &BTreeSet<CopyId>,
    at: Position,
) -> Option<TermConfig> {
    let lacking = quorum::obstacle(&facts.group.possible, promised)?;
    match mode_of(facts, &lacking) {
        Some(mode) if is_over(facts, mode) && is_best(facts, at) => {
            quorum::obstacle(&without(facts, mode), promised)
        }
        Some(_) | None => Some(lacking),
    }
}

/// Whether a copy at `at` is the furthest that can be had, and near enough to what was lost. An old
/// primary that came back whole goes on itself: then nothing is lost.
fn is_best(facts: &Facts<'_>, at: Position) -> bool {
    let leader = facts.leader().map(|l| l.node);
    let others = || facts.group.nodes.values().filter(|n| Some(n.id) != leader);
    let furthest = others()
        .filter_map(|n| facts.promise_of(n))
        .all(|(_, theirs)| theirs <= at);
    let elapsed = facts.now.0.saturating_sub(facts.phase_since.0);
    let all_are_here = elapsed >= facts.settings.move_deadline_ms
        || others().all(|n| {
            n.leaving
                || n.rests()
                || n.copy.is_none()
                || !facts.keeper_answers(n.id)
                || has_promised(facts, n)
        });
    furthest && all_are_here && is_near(facts, at) && !goes_on_itself(facts)
}

fn has_promised(facts: &Facts<'_>, node: &Node) -> bool {
    node.promise.is_some_and(|p| p.term >= facts.group.term)
}

/// Whether the old primary has promised and could be opened in place: it was silent only.
fn goes_on_itself(facts: &Facts<'_>) -> bool {
    let (Some(leader), Some(node)) = (facts.leader(), facts.leader_node()) else {
        return false;
    };
    let was_silent = matches!(&facts.group.phase, Phase::Collecting(e) if !e.own_words);
    was_silent
        && facts.promise_of(node).is_some()
        && super::candidates::is_in_place(node, leader)
        && facts.keeper_answers(leader.node)
}

/// The configurations but for those of the term that a lease ended.
fn without(facts: &Facts<'_>, mode: LeaseMode) -> Vec<Possible> {
    let possible = facts.group.possible.iter();
    possible
        .filter(|p| p.stamp.term != mode.since.term)
        .cloned()
        .collect()
}

/// What a promotion at `at` gives up, when it rests on the end of a lease: for the event. The
/// term's entries are struck, as an operator would.
pub(super) fn give_up(
    facts: &Facts<'_>,
    group: &mut Group,
    promised: &BTreeSet<CopyId>,
    at: Position,
) -> Option<Event> {
    let lacking = quorum::obstacle(&facts.group.possible, promised)?;
    let mode = mode_of(facts, &lacking)?;
    let leader = facts.leader()?;
    group.possible.retain(|p| p.stamp.term != mode.since.term);
    let known = last_known(facts)?;
    let text = format!(
        "possible loss: node {} acknowledged commits alone, by choice, and is given up; it had written up to {known} when it was heard last, {} bytes after {at}, and maybe more since: commits after {at} are lost",
        name(group, leader.node),
        missing_bytes(facts, at).unwrap_or_default()
    );
    Some(event(group, leader.node, "failover.possible-loss", text))
}

/// What stands in the way of a promotion that would rest on the end of a lease, while promises
/// are collected.
pub(super) fn collecting(facts: &Facts<'_>, lacking: &TermConfig) -> Option<Waiting> {
    let mode = mode_of(facts, lacking)?;
    let leader = facts.leader()?;
    if mode.reported && facts.now < facts.live.leased_until && !facts.keeper_answers(leader.node) {
        return Some(still_runs(facts, leader, "a new one is wanted"));
    }
    let leader_id = Some(leader.node);
    let mut promised = facts
        .group
        .nodes
        .values()
        .filter(|n| Some(n.id) != leader_id)
        .filter_map(|n| facts.promise_of(n))
        .peekable();
    let some = promised.peek().is_some();
    (some && is_over(facts, mode) && promised.all(|(_, at)| !is_near(facts, at)))
        .then(|| too_far(facts, leader, "a new one is wanted"))
}

/// Whether the loss of the primary would be answered without a hand, when that rests on its lease.
pub(super) fn automatic(facts: &Facts<'_>) -> Option<String> {
    let mode = facts.group.lease?;
    Some(if mode.reported {
        format!(
            "on: after the primary's lease, {} ms at most; up to {} bytes of WAL may be lost",
            longest_ms(facts.settings.lease_ms),
            facts.settings.promote_wal_log_threshold
        )
    } else {
        "off: the primary has not started its fencer yet".to_string()
    })
}

fn name(group: &Group, node: NodeId) -> String {
    let name = group.nodes.get(&node).map_or("", |n| n.name.as_str());
    format!("{node} \"{name}\"")
}
