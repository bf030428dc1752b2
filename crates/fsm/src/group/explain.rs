//! Why a group is as it is: one value for every place that shows it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::{Explanation, Fact, NodeId, NodeView, Settings, Time};

use super::decide::decide;
use super::facts::{Facts, FormationView};
use super::goals::row;
use super::live::LiveGroup;
use super::model::{Group, Phase};

/// Explains a group, exactly as the next decision would see it.
#[must_use]
pub fn explain(
    formation: &FormationView,
    group: &Group,
    live: &LiveGroup,
    settings: &Settings,
    now: Time,
) -> Explanation {
    let decision = decide(formation, group, &mut live.clone(), settings, now);
    let phase_since = live.phase_since;
    let facts = Facts {
        formation,
        group,
        live,
        settings,
        now,
        phase_since,
    };
    Explanation {
        formation: group.formation.clone(),
        group: group.id,
        term: group.term,
        phase: group.phase.word().to_string(),
        since_ms: now.0.saturating_sub(phase_since.0),
        primary: group.primary.map(|l| l.node),
        summary: summary(&facts),
        waiting: decision.waiting,
        nodes: group
            .nodes
            .keys()
            .filter_map(|id| node_view(&facts, *id))
            .collect(),
        possible: group.possible.clone(),
        facts: named_facts(&facts),
    }
}

fn node_view(facts: &Facts<'_>, id: NodeId) -> Option<NodeView> {
    let node = facts.group.nodes.get(&id)?;
    let report = facts.live.report(id);
    Some(NodeView {
        node: id,
        name: node.name.clone(),
        reported: node.reported,
        goal: node.goal.state,
        stamp: node.goal.stamp,
        rule: node.goal.rule.clone(),
        why: row(facts, node).why.to_string(),
        health: facts.verdict(id).text().to_string(),
        trouble: report.and_then(|r| {
            let progress = r.progress.as_ref().map(|p| match p.total_bytes {
                Some(total) => format!("{}: {} of {total} bytes", p.what, p.done_bytes),
                None => format!("{}: {} bytes", p.what, p.done_bytes),
            });
            r.trouble.clone().or(progress)
        }),
    })
}

fn summary(facts: &Facts<'_>) -> String {
    let group = facts.group;
    let name = |id: NodeId| {
        let name = group.nodes.get(&id).map_or("", |n| n.name.as_str());
        format!("node {id} \"{name}\"")
    };
    let Some(leader) = facts.leader() else {
        return "the group has no node".to_string();
    };
    let primary = name(leader.node);
    match &group.phase {
        Phase::Steady if facts.verdict(leader.node).is_gone() => {
            format!(
                "{primary} is primary of term {} and gone: {}",
                leader.term,
                facts.verdict(leader.node).text()
            )
        }
        Phase::Steady if facts.current_sync().is_asynchronous() && group.lease.is_some() => {
            format!(
                "{primary} is primary of term {} and acknowledges commits alone, by choice, while it holds a lease; automatic failover is {}",
                leader.term,
                automatic(facts)
            )
        }
        Phase::Steady if facts.current_sync().is_asynchronous() => format!(
            "{primary} is primary of term {} and acknowledges commits alone; there is no automatic failover until a standby is in its synchronous standby names",
            leader.term
        ),
        Phase::Steady => format!(
            "{primary} is primary of term {}; commits wait for {}{}",
            leader.term,
            facts.current_sync(),
            if facts.current_is_confirmed() {
                ""
            } else {
                " (not confirmed yet)"
            }
        ),
        Phase::Preparing(e) => format!(
            "a switchover is prepared ({}); {primary} takes writes until its checkpoint is done",
            e.reason
        ),
        Phase::Collecting(e) => format!(
            "term {}: promises are collected for a new primary ({})",
            group.term, e.reason
        ),
        Phase::Promoting { node, position, .. } => {
            format!(
                "term {}: {} is promoted; it has everything up to {position}",
                group.term,
                name(*node)
            )
        }
    }
}

fn named_facts(facts: &Facts<'_>) -> Vec<Fact> {
    let mut all = Vec::new();
    let mut add = |node, name: &str, value: String| {
        all.push(Fact {
            node,
            name: name.to_string(),
            value,
        });
    };
    add(None, "sequence", facts.group.sequence.to_string());
    add(
        None,
        "synchronous-standby-names",
        facts.current_sync().to_string(),
    );
    add(None, "confirmed", facts.current_is_confirmed().to_string());
    add(
        None,
        "number-sync-standbys",
        facts.number_sync().to_string(),
    );
    add(None, "automatic-failover", automatic(facts));
    for node in facts.group.nodes.values() {
        let id = Some(node.id);
        add(id, "admitted", facts.is_admitted(node).to_string());
        add(id, "caught-up", facts.is_caught_up(node).to_string());
        if let Some(copy) = node.copy {
            add(id, "copy", copy.to_string());
        }
        if let Some(promise) = node.promise {
            let position = promise
                .position
                .map_or_else(|| "unknown".to_string(), |p| p.to_string());
            add(
                id,
                "promise",
                format!("term {} at {position}", promise.term),
            );
        }
        if let Some(setting) = facts.gate(node) {
            add(id, "setting-below-primary", setting.to_string());
        }
    }
    all
}

/// Whether the loss of the primary would be answered without a hand, and if not, why.
pub(super) fn automatic(facts: &Facts<'_>) -> String {
    if let Some(text) = super::lease::automatic(facts) {
        return text;
    }
    let Some(leader) = facts.leader() else {
        return "off: there is no primary".to_string();
    };
    let reachable = super::candidates::reachable_without(facts, leader.node);
    if super::candidates::candidates(facts, leader.node).is_empty() {
        return "off: no standby could take over".to_string();
    }
    match super::quorum::obstacle(&facts.group.possible, &reachable) {
        None => "on".to_string(),
        Some(l) if l.copies.is_empty() => {
            "off: the primary may have acknowledged commits alone".to_string()
        }
        Some(l) => format!(
            "off: {} more standby(s) must be reachable",
            l.missing(&reachable)
        ),
    }
}
