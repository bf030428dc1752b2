//! Goals: the table's row for each node, filled in from the group.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use pgaf_protocol::{
    CopyRole, Fetch, Follow, Goal, Lead, Member, NodeId, NodeState, Order, Peer, Promote, Reach,
    Stamp,
};

use super::elect::event;
use super::facts::Facts;
use super::fetch;
use super::maintenance;
use super::model::{Event, Fetching, Group, Node, Phase};
use super::rules::{Condition, Kind, Rule, Section};

/// Gives every node the goal that its row asks for; one that changed gets the next sequence.
pub(super) fn assign(facts: &Facts<'_>, group: &mut Group) -> Vec<Event> {
    let mut events = Vec::new();
    if group.doubted.is_some() {
        return events;
    }
    let ids: Vec<NodeId> = group.nodes.keys().copied().collect();
    for id in ids {
        let Some(node) = group.nodes.get(&id) else {
            continue;
        };
        if node.goal.state == NodeState::Dropped {
            continue;
        }
        let rule = row(facts, node);
        let Some(order) = order(facts, group, node, rule) else {
            continue;
        };
        // A keeper that knows a later goal, of a store that was lost, would refuse this one for ever.
        let is_newest = facts
            .live
            .report(id)
            .is_none_or(|r| r.seen <= node.goal.stamp);
        let same_term = node.goal.stamp.term == group.term && is_newest;
        if same_term && node.goal.state == rule.state && node.goal.order == order {
            continue;
        }
        let state_changed = node.goal.state != rule.state;
        group.sequence = group.sequence.next();
        let stamp = Stamp {
            term: group.term,
            sequence: group.sequence,
        };
        let goal = Goal {
            stamp,
            state: rule.state,
            order,
            rule: rule.id.to_string(),
        };
        if let Some(node) = group.nodes.get_mut(&id) {
            if matches!(goal.order, Order::Fetch(_)) {
                node.fetched = Some(fetch::told(node, stamp));
            }
            node.goal = goal;
        }
        if state_changed {
            let text = format!(
                "Setting goal state of node {id} \"{}\" to {}: {} [{}]",
                group.nodes[&id].name, rule.state, rule.why, rule.id
            );
            events.push(event(group, id, rule.id, text));
        }
    }
    events
}

/// The table's row for a node.
pub(super) fn row(facts: &Facts<'_>, node: &Node) -> &'static Rule {
    let is_leader = facts.leader().is_some_and(|l| l.node == node.id);
    let section = match (&facts.group.phase, is_leader) {
        (Phase::Steady | Phase::Preparing(_), true) => Section::Primary,
        (Phase::Steady | Phase::Preparing(_), false) => Section::Standby,
        (Phase::Collecting(_), true) => Section::OldPrimary,
        (Phase::Collecting(_), false) => Section::Voter,
        (Phase::Promoting { .. }, true) => Section::Candidate,
        (Phase::Promoting { .. }, false) => Section::Bystander,
    };
    section.decide(|condition| holds(facts, node, condition))
}

fn holds(facts: &Facts<'_>, node: &Node, condition: Condition) -> bool {
    match condition {
        Condition::Alone => !facts.members().any(|n| n.id != node.id),
        Condition::Names => !facts.current_sync().is_asynchronous(),
        Condition::AsyncWithStandby => {
            facts.is_asynchronous_by_choice()
                && facts.staying().any(|n| {
                    n.reported == NodeState::Secondary && n.goal.state == NodeState::Secondary
                })
        }
        Condition::MayGo => may_go(facts, node),
        Condition::CaughtUp => facts.is_caught_up(node),
        Condition::Lost => facts.is_lost(node.id) || node.copy.is_none(),
        Condition::IsSecondary => {
            node.goal.state == NodeState::Secondary && facts.is_admitted(node)
        }
        Condition::KeeperAnswers => facts.keeper_answers(node.id),
        Condition::HasCopy => node.copy.is_some(),
        Condition::WasPrimary => matches!(node.role, CopyRole::Primary { .. }),
        Condition::PrimaryReady => primary_ready(facts, node),
        Condition::Planned => {
            matches!(&facts.group.phase, Phase::Collecting(e) if e.planned)
        }
        Condition::Reaching => matches!(
            &facts.group.phase,
            Phase::Collecting(e) if e.planned && e.reaching.is_some_and(|(n, _)| n == node.id)
        ),
        Condition::Fetching => fetching(facts.group).is_some_and(|f| f.node == node.id),
        Condition::Serving => fetching(facts.group).is_some_and(|f| f.source == node.id),
        Condition::Maintained => node.maintenance,
        Condition::Rests => node.rests(),
        Condition::MayRest => maintenance::may_rest(facts, node),
        Condition::MayReceive => fetch::may_receive(facts.group.term, node),
    }
}

/// The fetch that is under way.
fn fetching(group: &Group) -> Option<Fetching> {
    match &group.phase {
        Phase::Collecting(election) => election.fetching,
        Phase::Steady | Phase::Preparing(_) | Phase::Promoting { .. } => None,
    }
}

/// Whether a node that is being removed can go: nothing may count on its copy any more, and if it
/// is the primary, nobody else stays.
fn may_go(facts: &Facts<'_>, node: &Node) -> bool {
    if !node.leaving {
        return false;
    }
    if facts.leader().is_some_and(|l| l.node == node.id) {
        // A worker that the coordinator still lists is not taken away under its shards.
        return facts.staying().next().is_none() && !super::hold::is_listed(facts);
    }
    node.copy.is_none_or(|copy| !facts.is_listed(copy))
}

/// Whether the primary takes writes and has heard of the node that wants to join.
fn primary_ready(facts: &Facts<'_>, node: &Node) -> bool {
    let (Some(leader), Some(report)) = (facts.leader_node(), facts.leader_report()) else {
        return false;
    };
    let expected =
        matches!(&leader.goal.order, Order::Lead(lead) if lead.expected.contains(&node.id));
    report.postgres.is_primary() && expected && report.seen >= leader.goal.stamp
}

/// The contents of the order; `None`: leave the goal as it is.
fn order(facts: &Facts<'_>, group: &Group, node: &Node, rule: &Rule) -> Option<Order> {
    match rule.kind {
        Kind::Keep => None,
        Kind::Wait => Some(Order::Wait),
        Kind::Stop => Some(Order::Stop),
        Kind::Drop => Some(Order::Drop),
        Kind::Lead => Some(Order::Lead(lead(facts, group, node))),
        Kind::Follow => follow(facts, group, node).map(Order::Follow),
        Kind::Promise => {
            let fast = matches!(&group.phase, Phase::Collecting(e) if e.planned);
            let taker = fetching(group).filter(|f| f.source == node.id);
            let serves = taker.map(|f| f.node).into_iter().collect();
            Some(Order::Promise { fast, serves })
        }
        Kind::Fetch => fetch_order(facts, group, node),
        Kind::Reach => match &group.phase {
            Phase::Collecting(e) => e
                .reaching
                .map(|(_, position)| Order::Reach(Reach { position })),
            Phase::Steady | Phase::Preparing(_) | Phase::Promoting { .. } => None,
        },
        Kind::Promote => promote(facts, group, node),
    }
}

fn lead(facts: &Facts<'_>, group: &Group, node: &Node) -> Lead {
    let entry = facts.current_entry();
    let others = || group.nodes.values().filter(|n| n.id != node.id);
    let stays = |n: &&Node| n.goal.state != NodeState::Dropped && !may_go(facts, n);
    let admitted: BTreeSet<Member> = others()
        .filter(stays)
        .filter(|n| facts.is_admitted(n))
        .filter_map(|n| {
            Some(Member {
                node: n.id,
                copy: n.copy?,
            })
        })
        .collect();
    let expected = others().filter(stays).map(|n| n.id).collect();
    Lead {
        sync: entry.map(|p| p.config.clone()).unwrap_or_default(),
        sync_stamp: entry.map(|p| p.stamp).unwrap_or_default(),
        admitted,
        expected,
        may_create: facts.leader().is_some_and(|l| l.copy.is_none()),
        checkpoint: matches!(group.phase, Phase::Preparing(_)),
        lease: group.lease.map(|mode| mode.since),
    }
}

fn follow(facts: &Facts<'_>, group: &Group, node: &Node) -> Option<Follow> {
    let leader = group.nodes.get(&group.primary?.node)?;
    Some(Follow {
        upstream: peer(leader),
        history: group.history.clone(),
        // What may be in force must not lose a copy that it counts on (`safety.md` §2.6).
        may_replace: node
            .copy
            .is_none_or(|copy| !facts.is_listed(copy) || facts.is_only_way(node)),
    })
}

fn fetch_order(facts: &Facts<'_>, group: &Group, node: &Node) -> Option<Order> {
    let fetching = fetching(group)?;
    let source = group.nodes.get(&fetching.source)?;
    let promised = facts.promise_of(node);
    let goes_on = promised.is_none_or(|(_, at)| fetch::continues(facts, source, at));
    let replace = match &node.goal.order {
        // What the copy was when it was told so: a new one is not replaced again.
        Order::Fetch(fetch) if fetch.source.node == source.id => fetch.replace,
        Order::Wait
        | Order::Lead(_)
        | Order::Follow(_)
        | Order::Promise { .. }
        | Order::Reach(_)
        | Order::Fetch(_)
        | Order::Promote(_)
        | Order::Stop
        | Order::Drop => node.copy.filter(|_| !goes_on),
    };
    Some(Order::Fetch(Fetch {
        source: peer(source),
        position: fetching.position,
        replace,
    }))
}

fn promote(facts: &Facts<'_>, group: &Group, node: &Node) -> Option<Order> {
    let Phase::Promoting { position, .. } = &group.phase else {
        return None;
    };
    let entry = facts.current_entry()?;
    let admitted = group
        .nodes
        .values()
        .filter(|n| n.id != node.id && facts.is_admitted(n))
        .filter_map(|n| {
            Some(Member {
                node: n.id,
                copy: n.copy?,
            })
        })
        .collect();
    Some(Order::Promote(Promote {
        sync: entry.config.clone(),
        sync_stamp: entry.stamp,
        admitted,
        position: *position,
        timeline: group.used_timeline,
    }))
}

/// A node, as others are told of it.
#[must_use]
pub fn peer(node: &Node) -> Peer {
    Peer {
        node: node.id,
        name: node.name.clone(),
        host: node.host.clone(),
        port: node.port,
    }
}
