//! The monitor's turn: the shipped fold and decisions, until nothing more follows.
//!
//! Time has two classes: just now, and long enough ago for every limit to have passed. When a time changes
//! its class is a move of its own ([`Input`]). A turn is stored as a whole: a monitor that dies before has
//! not heard the message, one that dies after it has said nothing.

use std::collections::BTreeMap;

use pgaf_fsm::group::operate::{self, Now};
use pgaf_fsm::group::{
    Cluster, Formation, FormationView, Group, Kind, Live, LiveGroup, Phase, Probe, ProbeOutcome,
    Session, decide, fold,
};
use pgaf_fsm::invariants;
use pgaf_protocol::{
    FormationId, GroupId, Incarnation, Lineage, Look, Lsn, NodeId, Report, Settings, Time,
};

use super::control::Control;
use super::names::{Names, Numbered, index};
use super::{NODES, NOW, OLD, Seen};

/// Decisions in a row that change something before it counts as endless.
const ROUNDS: usize = 24;

/// What is durable, and the classes of the monitor's own times.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Brain {
    pub(super) group: Group,
    /// The phase has lasted longer than any limit.
    pub(super) phase_old: bool,
    /// This run of the monitor has listened long enough.
    pub(super) listened: bool,
}

impl Numbered for Brain {
    fn visit(&mut self, names: &mut Names) {
        self.group.visit(names);
    }
}

/// What a turn begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// A report, by its number in the table.
    Report(u32),
    /// The monitor starts.
    Start,
    /// The phase has lasted for long.
    PhaseOld,
    /// A node has said for long that its Postgres is down.
    DownOld(u8),
    /// The primary has not seen a standby for long.
    UnseenOld(u8),
    /// A node is silent for long; a probe has ended and the others have looked.
    Silent {
        node: u8,
        probe: ProbeOutcome,
        /// Per other node: 0, or 1 + (2 if it got an answer) + (4 if it hears it).
        looks: [u8; NODES],
    },
    /// A keeper's session is closed, and a probe has ended.
    Closed { node: u8, probe: ProbeOutcome },
    /// An operator asks for a switchover.
    Switch,
}

/// What came of a turn.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) brain: Brain,
    pub(super) lives: [Live; NODES],
    /// Nodes with a new goal, one bit each.
    pub(super) changed: u8,
    pub(super) violation: Option<String>,
}

/// What does not change.
#[derive(Debug, Clone)]
pub(super) struct Fixed {
    pub(super) formation: FormationView,
    pub(super) settings: Settings,
    pub(super) control: Option<Control>,
}

/// One turn; `None`: nothing came of it, or it was refused.
pub(super) fn turn(
    fixed: &Fixed,
    brain: &Brain,
    lives: [&Live; NODES],
    input: Input,
    report: Option<&Report>,
    seen: &mut Seen,
) -> Option<Turn> {
    let mut group = brain.group.clone();
    let mut live = gather(brain, lives);
    take(fixed, &mut group, &mut live, input, report, seen)?;
    let violation = settle(fixed, &mut group, &mut live, seen);
    let changed = group
        .nodes
        .iter()
        .filter(|(id, n)| {
            brain
                .group
                .nodes
                .get(id)
                .is_none_or(|old| old.goal.stamp != n.goal.stamp)
        })
        .fold(0, |mask, (id, _)| mask | (1 << index(*id)));
    // Whoever has heard of all has listened enough.
    let all = live.nodes.len() == group.nodes.len();
    let all = all && live.nodes.values().all(|n| n.heard.is_some());
    let next = Brain {
        phase_old: live.phase_since == OLD,
        listened: live.listening_since == OLD || all,
        group,
    };
    let mut after: [Live; NODES] = Default::default();
    for (id, it) in live.nodes {
        after[index(id)] = it;
    }
    // A limit that passes is a move only when something follows from it: until then it may as well pass
    // later.
    let limit = matches!(
        input,
        Input::PhaseOld | Input::DownOld(_) | Input::UnseenOld(_)
    );
    let same = if limit {
        next.group == brain.group
    } else {
        next == *brain && after.iter().zip(lives).all(|(a, b)| a == b)
    };
    if same && violation.is_none() && !matches!(input, Input::Report(_)) {
        return None;
    }
    Some(Turn {
        brain: next,
        lives: after,
        changed,
        violation,
    })
}

fn class(old: bool) -> Time {
    if old { OLD } else { NOW }
}

fn gather(brain: &Brain, lives: [&Live; NODES]) -> LiveGroup {
    let ids = brain.group.nodes.keys();
    LiveGroup {
        // Nor does an operator maintain one of its nodes.
        maintenance: std::collections::BTreeMap::new(),
        nodes: ids.map(|id| (*id, lives[index(*id)].clone())).collect(),
        phase: Some(brain.group.phase.clone()),
        phase_since: class(brain.phase_old),
        listening_since: class(brain.listened),
        // No group of the model is asynchronous by choice.
        leased_until: OLD,
    }
}

fn take(
    fixed: &Fixed,
    group: &mut Group,
    live: &mut LiveGroup,
    input: Input,
    report: Option<&Report>,
    seen: &mut Seen,
) -> Option<()> {
    let id = |node: u8| NodeId(i64::from(node) + 1);
    match input {
        Input::Report(_) => {
            let mut report = report?.clone();
            if let Some(control) = fixed.control {
                control.report(group.term, &mut report);
            }
            let node = report.node;
            for event in fold(group, live, report, NOW) {
                seen.note("event", &event.rule);
            }
            heard(live, node);
        }
        Input::Start => {
            live.nodes.clear();
            live.listening_since = NOW;
            live.phase_since = NOW;
        }
        Input::PhaseOld => live.phase_since = OLD,
        Input::DownOld(node) => {
            live.nodes.get_mut(&id(node))?.down_since.as_mut()?.0 = OLD.0;
        }
        Input::UnseenOld(node) => {
            live.nodes.get_mut(&id(node))?.unseen_since.as_mut()?.0 = OLD.0;
        }
        Input::Silent { node, probe, looks } => {
            live.listening_since = OLD;
            let it = live.nodes.entry(id(node)).or_default();
            it.heard = it.heard.map(|_| OLD);
            it.probe = Some(probed(probe));
            for (other, look) in looks.iter().enumerate().filter(|(_, look)| **look != 0) {
                let other = id(u8::try_from(other).unwrap_or(0));
                let look = Look {
                    number: 0,
                    node: id(node),
                    connected: look & 2 != 0,
                    heard: look & 4 != 0,
                };
                live.nodes.entry(other).or_default().look = Some((look, NOW));
            }
        }
        Input::Closed { node, probe } => {
            let it = live.nodes.entry(id(node)).or_default();
            it.session = Session::Closed { since: OLD };
            it.probe = Some(probed(probe));
        }
        Input::Switch => switch(fixed, group, live)?,
    }
    Some(())
}

fn probed(outcome: ProbeOutcome) -> Probe {
    Probe {
        began: NOW,
        ended: NOW,
        outcome,
    }
}

/// What was found out about a silent node is of no use once it speaks; the parts of its report that were
/// folded in are not looked at again.
fn heard(live: &mut LiveGroup, node: NodeId) {
    for it in live.nodes.values_mut() {
        it.look = it.look.filter(|(look, _)| look.node != node);
    }
    if let Some(it) = live.nodes.get_mut(&node) {
        it.probe = None;
        it.session = Session::Open { since: NOW };
        if let Some(report) = &mut it.report {
            report.position = None;
            report.history = None;
        }
    }
}

fn settle(
    fixed: &Fixed,
    group: &mut Group,
    live: &mut LiveGroup,
    seen: &mut Seen,
) -> Option<String> {
    let mut broken = None;
    for _ in 0..ROUNDS {
        let before = group.clone();
        let decision = decide(&fixed.formation, &before, live, &fixed.settings, NOW);
        let again = decision.phase_changed || decision.group != before;
        if let (Err(violation), None) = (invariants::step(&before, &decision.group), fixed.control)
        {
            broken.get_or_insert(violation.to_string());
        }
        for event in &decision.events {
            seen.note("event", &event.rule);
        }
        for waiting in &decision.waiting {
            seen.note("wait", &waiting.id);
        }
        seen.note("phase", decision.group.phase.word());
        for (id, node) in &decision.group.nodes {
            if before.nodes.get(id).map(|n| &n.goal) != Some(&node.goal) {
                seen.note("rule", &node.goal.rule);
            }
        }
        *group = decision.group;
        tidy(group);
        if let Some(control) = fixed.control {
            control.group(group);
        }
        if !again {
            return broken;
        }
    }
    Some("total: decisions about the group do not settle".to_owned())
}

/// Words for people take no part in decisions, nor does how far somebody was when his timeline was noted.
fn tidy(group: &mut Group) {
    for node in group.nodes.values_mut() {
        node.goal.rule.clear();
        if let Some(position) = &mut node.position {
            position.lsn = Lsn(0);
        }
    }
    if let Phase::Preparing(election) | Phase::Collecting(election) = &mut group.phase {
        election.reason.clear();
    }
}

fn switch(fixed: &Fixed, group: &mut Group, live: &LiveGroup) -> Option<()> {
    let id = FormationId::default();
    let formation = Formation {
        id: id.clone(),
        kind: Kind::Pgsql,
        dbname: String::new(),
        opt_secondary: fixed.formation.opt_secondary,
        number_sync_standbys: fixed.formation.number_sync_standbys,
        number_set_by_hand: true,
        groups: BTreeMap::from([(GroupId(0), core::mem::take(group))]),
    };
    let mut cluster = Cluster {
        lineage: Lineage(1),
        incarnation: Incarnation(1),
        next_node: NodeId(9),
        dropped: std::collections::BTreeSet::new(),
        formations: BTreeMap::from([(id.clone(), formation)]),
    };
    let at = Now {
        live,
        settings: &fixed.settings,
        now: NOW,
    };
    let done = operate::perform_failover(&mut cluster, &id, GroupId(0), false, at).is_ok();
    *group = cluster.formations.remove(&id)?.groups.remove(&GroupId(0))?;
    done.then(|| tidy(group))
}
