//! One look at a group: what should be, what it waits for, when to look again.

use alloc::borrow::Cow;
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
use super::live::{Live, LiveGroup, Session};
use super::maintenance;
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
    live.note_maintenance(group, now);
    let decision = look(formation, group, live, settings, now);
    live.note_phase(&decision.group.phase, now);
    live.note_maintenance(&decision.group, now);
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
    let mut events = maintenance::give_up(&at.facts(group, live.phase_since), &mut next);
    let before = if events.is_empty() {
        Cow::Borrowed(group)
    } else {
        Cow::Owned(next.clone())
    };
    let step = elect::advance(&at.facts(&before, live.phase_since), &mut next);
    let phase_since = if step.changed { now } else { live.phase_since };
    let mut waiting = step.waiting;
    events.extend(step.events);
    waiting.extend(maintenance::waiting(&at.facts(&before, phase_since)));

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
    let hold = super::hold::deadline(facts).filter(|t| *t > facts.now);
    let rest = earliest(
        facts.group,
        facts.live,
        facts.phase_since,
        settings,
        facts.now,
    );
    let rest = rest.into_iter().chain(hold).min();
    if suspects.is_empty() {
        return rest;
    }
    let since = facts.live.listening_since;
    [
        since.plus(ms(settings.grace_ms)),
        since.plus(ms(settings.unhealthy_timeout_ms)),
        facts.now.plus(ms(settings.heartbeat_interval_ms)),
    ]
    .into_iter()
    .filter(|t| *t > facts.now)
    .chain(rest)
    .min()
}

/// The same for a group without suspects that was just looked at.
pub(super) fn deadline_at_rest(
    group: &Group,
    live: &LiveGroup,
    settings: &Settings,
    now: Time,
) -> Option<Time> {
    earliest(group, live, live.phase_since, settings, now)
}

fn earliest(
    group: &Group,
    live: &LiveGroup,
    phase_since: Time,
    settings: &Settings,
    now: Time,
) -> Option<Time> {
    let ms = Duration::from_millis;
    let of_node = |live: &Live| {
        let heard = match live.session {
            Session::Open { .. } => live.heard,
            Session::Never | Session::Closed { .. } => None,
        };
        [
            heard.map(|t| t.plus(ms(settings.heartbeat_interval_ms * 2 + 1))),
            heard.map(|t| t.plus(ms(settings.unhealthy_timeout_ms))),
            live.down_since
                .map(|t| t.plus(ms(settings.restart_budget_ms))),
            live.unseen_since
                .map(|t| t.plus(ms(settings.unhealthy_timeout_ms))),
        ]
    };
    let phase = phase_since.plus(ms(match group.phase {
        Phase::Steady => settings.return_wait_ms,
        Phase::Preparing(_) | Phase::Collecting(_) | Phase::Promoting { .. } => {
            settings.move_deadline_ms
        }
    }));
    let lease = group.lease.is_some().then_some(live.leased_until);
    let maintenance = live.maintenance.values().copied();
    live.nodes
        .values()
        .flat_map(of_node)
        .flatten()
        .chain(maintenance.map(maintenance::deadline))
        .chain([phase])
        .chain(lease)
        .filter(|t| *t > now)
        .min()
}
