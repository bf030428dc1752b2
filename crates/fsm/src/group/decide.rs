//! One look at a group: what should be, what it waits for, when to look again.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use pgaf_protocol::{NodeId, NodeState, Settings, Time, Waiting};

use super::config;
use super::elect;
use super::facts::{Facts, FormationView};
use super::fold;
use super::goals;
use super::health::Verdict;
use super::lease;
use super::live::{LiveGroup, Session};
use super::model::{Event, Group, Phase};

/// What a look at a group led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The group as it should be: to be stored before anybody is told.
    pub group: Group,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What the group waits for.
    pub waiting: Vec<Waiting>,
    /// When to look again, if nothing comes in before.
    pub deadline: Option<Time>,
    /// Nodes that need a fresh probe, and a fresh look by the other members, now.
    pub suspects: BTreeSet<NodeId>,
    /// The phase changed: ask again at once.
    pub phase_changed: bool,
}

/// Decides. Total: a view that makes no sense leads to a wait with a reason, never to an error.
#[must_use]
pub fn decide(
    formation: &FormationView,
    group: &Group,
    live: &mut LiveGroup,
    settings: &Settings,
    now: Time,
) -> Decision {
    live.note_phase(&group.phase, now);
    let decision = look(formation, group, live, settings, now);
    live.note_phase(&decision.group.phase, now);
    decision
}

/// Everything but the group, which changes from step to step of one look.
struct Moment<'a> {
    formation: &'a FormationView,
    live: &'a LiveGroup,
    settings: &'a Settings,
    now: Time,
}

impl Moment<'_> {
    fn facts<'g>(&'g self, group: &'g Group, phase_since: Time) -> Facts<'g> {
        Facts {
            formation: self.formation,
            group,
            live: self.live,
            settings: self.settings,
            now: self.now,
            phase_since,
        }
    }
}

fn look(
    formation: &FormationView,
    group: &Group,
    live: &LiveGroup,
    settings: &Settings,
    now: Time,
) -> Decision {
    let mut next = group.clone();
    let at = Moment {
        formation,
        live,
        settings,
        now,
    };
    let step = elect::advance(&at.facts(group, live.phase_since), &mut next);
    let phase_since = if step.changed { now } else { live.phase_since };
    let mut waiting = step.waiting;
    let mut events = step.events;

    let (sync, more) = config::next(&at.facts(&next, phase_since));
    waiting.extend(more);
    if let Some(sync) = sync {
        config::list(&mut next, sync);
    }
    let after_config = next.clone();
    let facts = at.facts(&after_config, phase_since);
    events.extend(lease::settle(&facts, &mut next));
    let after_lease = next.clone();
    let facts = at.facts(&after_lease, phase_since);
    events.extend(goals::assign(&facts, &mut next));
    events.extend(remove_dropped(&facts, &mut next));
    if let Some(doubted) = &next.doubted {
        waiting.push(Waiting {
            id: "restored-monitor".into(),
            nodes: doubted.iter().copied().collect(),
            why: "this monitor's memory may be older than the group; it waits until every member has reported".into(),
            way_out: None,
        });
    }
    debug_assert_eq!(crate::invariants::step(group, &next), Ok(()));
    let last = at.facts(&next, phase_since);
    let suspects = suspects(&last);
    let deadline = deadline(&last, &suspects);
    Decision {
        events,
        waiting,
        deadline,
        suspects,
        phase_changed: step.changed,
        group: next,
    }
}

/// A node that was told that it is removed is gone before it said so: nothing depends on it, and its
/// keeper is told again if it ever comes back.
fn remove_dropped(facts: &Facts<'_>, group: &mut Group) -> Vec<Event> {
    let gone: Vec<NodeId> = group
        .nodes
        .values()
        .filter(|n| n.goal.state == NodeState::Dropped && facts.verdict(n.id).is_gone())
        .map(|n| n.id)
        .collect();
    let mut events = Vec::new();
    for id in gone {
        fold::remove(group, id, &mut events);
    }
    events
}

fn suspects(facts: &Facts<'_>) -> BTreeSet<NodeId> {
    facts
        .group
        .nodes
        .keys()
        .copied()
        .filter(|id| !matches!(facts.verdict(*id), Verdict::Well))
        .collect()
}

/// Silence and waits end by the monitor's own clock, not by somebody's heartbeat.
fn deadline(facts: &Facts<'_>, suspects: &BTreeSet<NodeId>) -> Option<Time> {
    let settings = facts.settings;
    let ms = Duration::from_millis;
    let mut times: Vec<Time> = Vec::new();
    for live in facts.live.nodes.values() {
        if let (Session::Open { .. }, Some(heard)) = (live.session, live.heard) {
            times.push(heard.plus(ms(settings.heartbeat_interval_ms * 2 + 1)));
            times.push(heard.plus(ms(settings.unhealthy_timeout_ms)));
        }
        times.extend(
            live.down_since
                .map(|t| t.plus(ms(settings.restart_budget_ms))),
        );
        times.extend(
            live.unseen_since
                .map(|t| t.plus(ms(settings.unhealthy_timeout_ms))),
        );
    }
    if !suspects.is_empty() {
        times.push(facts.live.listening_since.plus(ms(settings.grace_ms)));
        times.push(
            facts
                .live
                .listening_since
                .plus(ms(settings.unhealthy_timeout_ms)),
        );
        times.push(facts.now.plus(ms(settings.heartbeat_interval_ms)));
    }
    if facts.group.lease.is_some() {
        times.push(facts.live.leased_until);
    }
    let since = facts.phase_since;
    times.extend(super::hold::deadline(facts));
    match facts.group.phase {
        Phase::Steady => times.push(since.plus(ms(settings.return_wait_ms))),
        Phase::Preparing(_) | Phase::Collecting(_) | Phase::Promoting { .. } => {
            times.push(since.plus(ms(settings.move_deadline_ms)));
        }
    }
    times.into_iter().filter(|t| *t > facts.now).min()
}
