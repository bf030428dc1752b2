//! What the primary's sync configuration should be, and the next safe step towards it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::{Member, NodeId, Possible, Stamp, SyncConfig, Waiting};

use super::facts::Facts;
use super::lease;
use super::model::{Group, Phase};
use super::sync_plan::{grown, next_step};

/// Puts a configuration on the list of what may be in force, under the group's next sequence.
///
/// An older entry of the same term with the same contents is the same reading, and leaves: the
/// list stays as short as there are different configurations.
pub(super) fn list(group: &mut Group, config: SyncConfig) -> Option<Stamp> {
    let leader = group.primary?;
    let primary = leader.copy.unwrap_or_default();
    group.sequence = group.sequence.next();
    let stamp = Stamp {
        term: leader.term,
        sequence: group.sequence,
    };
    group
        .possible
        .retain(|p| p.stamp.term != stamp.term || p.config != config || p.primary != primary);
    group.possible.push(Possible {
        stamp,
        primary,
        config,
    });
    Some(stamp)
}

/// The next configuration to list, if one is due, and what that waits for otherwise.
pub(super) fn next(facts: &Facts<'_>) -> (Option<SyncConfig>, Vec<Waiting>) {
    let mut waiting = Vec::new();
    if !matches!(facts.group.phase, Phase::Steady | Phase::Preparing(_))
        || facts.group.doubted.is_some()
        || facts.leader().is_none()
    {
        return (None, waiting);
    }
    let current = facts.current_sync();
    let Some(wanted) = wanted(facts, &current, &mut waiting) else {
        return (None, waiting);
    };
    let last = last_confirmed(facts);
    let confirmed = facts.current_is_confirmed();
    let step = next_step(&current, confirmed, last.as_ref(), &wanted).or_else(|| {
        // Who is named is away, and cannot confirm; others can (`safety.md` §2.6).
        (!confirmed && !can_confirm(facts, &current))
            .then(|| grown(&current, &wanted))
            .flatten()
    });
    if step.is_none() && wanted != current {
        waiting.push(wait(
            "confirmation",
            facts.leader().map(|l| l.node),
            format!("the primary has not confirmed that {current} is in force yet"),
        ));
    }
    (step, waiting)
}

/// What should be in force; `None`: leave it as it is for now.
fn wanted(
    facts: &Facts<'_>,
    current: &SyncConfig,
    waiting: &mut Vec<Waiting>,
) -> Option<SyncConfig> {
    // Before the primary takes writes nothing is changed: what it opens under is on the list.
    if !facts.leader_writes() {
        return None;
    }
    let mut members = facts.nameable();
    if is_first_of_term(facts) && !current.is_asynchronous() {
        let away = absent(facts, current);
        if !away.is_empty() && may_return(facts, &away) {
            waiting.push(wait_for(
                "return",
                &away,
                "the standbys that the promotion opened under are about to stream".to_string(),
            ));
            return None;
        }
        members.retain(|m| facts.is_seen_streaming(m.node));
    }
    let number = facts.number_sync();
    if members.is_empty() {
        if number == 0 {
            if !current.is_asynchronous()
                && lease::comes_first(facts)
                && can_confirm(facts, current)
            {
                waiting.push(wait(
                    "lease-mode",
                    facts.leader().map(|l| l.node),
                    "the primary starts its fencer before its commits wait for nobody".to_string(),
                ));
                return None;
            }
            return Some(SyncConfig::asynchronous());
        }
        if current.is_asynchronous() {
            return None;
        }
        if let Some(narrowed) = narrowed(facts, current, number) {
            return (narrowed != *current).then_some(narrowed);
        }
        waiting.push(wait_for(
            "synchronous-standby",
            &current.nodes().into_iter().collect::<Vec<_>>(),
            format!(
                "commits wait for {number} synchronous standby, as number_sync_standbys asks, and none streams"
            ),
        ));
        return None;
    }
    if members.len() < usize::try_from(number).unwrap_or(usize::MAX) && !current.is_asynchronous() {
        // Too few for the wanted number: naming fewer would acknowledge with fewer copies.
        // Whoever does not count any more, by an operator's word, leaves all the same.
        let counts = |m: &&Member| {
            facts
                .staying()
                .any(|n| n.id == m.node && n.replication_quorum)
        };
        members.extend(current.members.iter().filter(counts).copied());
    }
    Some(SyncConfig::any(number.max(1), members))
}

/// Nobody of the quorum can be named, and enough of those who are named stream all the same: they
/// alone go on to count, for the others can be replaced only when they count no more (`safety.md`
/// §2.6).
fn narrowed(facts: &Facts<'_>, current: &SyncConfig, number: u32) -> Option<SyncConfig> {
    let streaming: BTreeSet<Member> = current
        .members
        .iter()
        .filter(|m| facts.is_seen_streaming(m.node))
        .copied()
        .collect();
    let enough = usize::try_from(number).is_ok_and(|number| streaming.len() >= number);
    enough.then(|| SyncConfig::any(number, streaming))
}

/// Whether nothing of this term was ever confirmed: the configuration of the promotion stands.
fn is_first_of_term(facts: &Facts<'_>) -> bool {
    let Some(leader) = facts.leader() else {
        return false;
    };
    facts
        .leader_node()
        .and_then(|n| n.confirmed)
        .is_none_or(|c| c.stamp.term < leader.term)
}

/// Whether enough of the named stream to acknowledge anything.
fn can_confirm(facts: &Facts<'_>, config: &SyncConfig) -> bool {
    let streaming = config.nodes().len() - absent(facts, config).len();
    usize::try_from(config.number).is_ok_and(|number| streaming >= number)
}

/// Named nodes that the primary does not see streaming.
fn absent(facts: &Facts<'_>, config: &SyncConfig) -> Vec<NodeId> {
    config
        .nodes()
        .into_iter()
        .filter(|n| !facts.is_seen_streaming(*n))
        .collect()
}

/// After a promotion, its named standbys get a moment to stream, if their keepers are there and
/// not all of them are away for good (`safety.md` §4.6).
fn may_return(facts: &Facts<'_>, away: &[NodeId]) -> bool {
    let elapsed = facts.now.0.saturating_sub(facts.phase_since.0);
    elapsed < facts.settings.return_wait_ms
        && away.iter().any(|n| {
            facts.keeper_answers(*n)
                && facts
                    .group
                    .nodes
                    .get(n)
                    .is_some_and(|node| facts.is_admitted(node))
        })
}

/// The configuration that was confirmed last in this term, if it is still on the list.
fn last_confirmed(facts: &Facts<'_>) -> Option<SyncConfig> {
    let stamp = facts.leader_node()?.confirmed?.stamp;
    facts
        .group
        .possible
        .iter()
        .find(|p| p.stamp == stamp)
        .map(|p| p.config.clone())
}

/// The copies a promotion opens under: those that promised in this term and the old primary's,
/// whoever they are (`safety.md` §4.6). Never empty while there is any other copy.
pub(super) fn opening(facts: &Facts<'_>, candidate: NodeId) -> SyncConfig {
    let old = facts.leader();
    let members: BTreeSet<Member> = facts
        .group
        .nodes
        .values()
        .filter(|n| n.id != candidate)
        .filter_map(|n| {
            let copy = n.copy?;
            let is_old = old.is_some_and(|l| l.node == n.id && l.copy == Some(copy));
            (facts.promise_of(n).is_some() || is_old).then_some(Member { node: n.id, copy })
        })
        .collect();
    SyncConfig::any(facts.number_sync().max(1), members)
}

fn wait(id: &str, node: Option<NodeId>, why: String) -> Waiting {
    Waiting {
        id: id.to_string(),
        nodes: node.into_iter().collect(),
        why,
        way_out: None,
    }
}

fn wait_for(id: &str, nodes: &[NodeId], why: String) -> Waiting {
    Waiting {
        id: id.to_string(),
        nodes: nodes.to_vec(),
        why,
        way_out: None,
    }
}
