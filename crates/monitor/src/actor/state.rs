//! Everything the actor knows, and how inputs change it. No IO happens here: what must be written
//! or sent stands in the [`Turn`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgaf_fsm::group::{
    AtRest, FormationView, Group, Live, LiveGroup, Probe, ProbeOutcome, Session, decide, fold,
    judge, longest_ms, restored,
};
use pgaf_protocol::{GroupId, KeeperSettings, Lineage, NodeId, Report, Settings, Time, Waiting};
use pgaf_store::StoreError;

use super::announce::{self, find};
use super::answer;
use super::deadlines::Deadlines;
use super::memory::{Key, Memory};
use super::rows::Seen;
use super::sessions::Sessions;
use super::turn::Turn;
use crate::sql::{Closed, SessionId};

/// Looks at one group in a row, each on what the last one changed. It settles in a few; more than
/// this is a fault in the rules, and the group is looked at again with the next input.
const ROUNDS: usize = 24;

/// The group of a Citus formation that knows all others.
pub(super) const COORDINATOR: GroupId = GroupId(0);

/// The present state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) memory: Memory,
    pub(crate) live: BTreeMap<Key, LiveGroup>,
    /// Since when this monitor listens: groups that appear later start from here.
    pub(crate) listening_since: Time,
    /// Leases that were granted before this start are over then.
    leased_until: Time,
    pub(crate) settings: Settings,
    pub(crate) file_settings: Vec<(String, String)>,
    pub(crate) sessions: Sessions,
    pub(crate) seen: HashMap<NodeId, Seen>,
    /// When to look at a group again though nothing comes in.
    pub(crate) deadlines: Deadlines,
    /// Groups in which nothing goes on, as they were when that was found.
    at_rest: BTreeMap<Key, AtRest>,
    /// Nodes that need a closer look.
    pub(crate) suspects: BTreeMap<Key, BTreeSet<NodeId>>,
    /// What groups waited for when they were looked at last, for the log.
    waits: BTreeMap<Key, BTreeSet<String>>,
    /// Why nothing can be written at present.
    pub(crate) disk: Option<StoreError>,
}

impl State {
    pub(crate) fn new(memory: Memory, file_settings: Vec<(String, String)>, now: Time) -> Self {
        let longest = longest_ms(memory.longest_lease_ms);
        let mut state = Self {
            memory,
            live: BTreeMap::new(),
            listening_since: now,
            leased_until: Time(now.0.saturating_add(longest)),
            settings: Settings::default(),
            file_settings,
            sessions: Sessions::default(),
            seen: HashMap::new(),
            deadlines: Deadlines::default(),
            at_rest: BTreeMap::new(),
            suspects: BTreeMap::new(),
            waits: BTreeMap::new(),
            disk: None,
        };
        for problem in state.apply_settings() {
            tracing::warn!("{problem}");
        }
        state
    }

    /// Nodes whose Postgres ran when this monitor was last there.
    pub(crate) fn was_running(&self) -> BTreeSet<NodeId> {
        let formations = self.memory.cluster.formations.values();
        formations
            .flat_map(|f| f.groups.values())
            .flat_map(|g| g.nodes.values())
            .filter(|n| n.copy.is_some() && n.position.is_some())
            .map(|n| n.id)
            .collect()
    }

    /// What every answer is made of.
    pub(crate) fn answering(&self) -> answer::Answering<'_> {
        answer::Answering {
            memory: &self.memory,
            settings: KeeperSettings::from(&self.settings),
            live: &self.live,
        }
    }

    /// Computes the settings in force: defaults, then the stored ones, then the file's. Answers
    /// what is wrong with them.
    pub(crate) fn apply_settings(&mut self) -> Vec<String> {
        let mut settings = Settings::default();
        let mut problems = Vec::new();
        let stored = self.memory.settings.iter();
        let stored = stored.map(|(name, value)| (name, value, "the store"));
        let file = self.file_settings.iter();
        let file = file.map(|(name, value)| (name, value, "the configuration file"));
        for (name, value, source) in stored.chain(file) {
            if let Err(error) = settings.set(name, value) {
                problems.push(format!("a setting of {source} is ignored: {error}"));
            }
        }
        self.settings = settings;
        problems
    }

    /// The longest lease is stored before one of that length is granted, and that once
    /// (`safety.md` §5.4).
    pub(crate) fn raise_longest_lease(&mut self, turn: &mut Turn) {
        if self.memory.longest_lease_ms < self.settings.lease_ms {
            turn.keep_all(&self.memory);
            self.memory.longest_lease_ms = self.settings.lease_ms;
        }
    }

    /// The monitor itself was away: it listens again before it judges silence (`safety.md` §3).
    pub(crate) fn was_away(&mut self, now: Time) {
        self.listening_since = now;
        for live in self.live.values_mut() {
            live.listening_since = now;
        }
    }

    /// What is known of a group while this monitor runs.
    pub(crate) fn live_mut(&mut self, key: &Key) -> &mut LiveGroup {
        let since = self.listening_since;
        let leased_until = self.leased_until;
        self.live.entry(key.clone()).or_insert_with(|| LiveGroup {
            phase_since: since,
            listening_since: since,
            leased_until,
            ..LiveGroup::default()
        })
    }

    /// Notes that a group's phase began in this turn, when it is another one than `before`.
    pub(crate) fn note_phase(&mut self, turn: &mut Turn, key: &Key, before: Option<&Group>) {
        let phase = |group: &Group| std::mem::discriminant(&group.phase);
        let new = self.memory.group(key).map(phase);
        if new.is_some() && new != before.map(phase) {
            turn.keep(key, &self.memory, self.live.get(key));
            self.live_mut(key).phase_since = turn.now;
        }
    }

    fn live_node(&mut self, key: &Key, node: NodeId) -> &mut Live {
        self.live_mut(key).nodes.entry(node).or_default()
    }

    fn seen_mut(&mut self, node: NodeId, wall: i64) -> &mut Seen {
        self.seen.entry(node).or_insert(Seen::nothing(wall))
    }

    /// Folds a report in; its node is in the group.
    pub(crate) fn report(&mut self, turn: &mut Turn, key: &Key, report: Box<Report>, at: Time) {
        let node = report.node;
        let wall = turn.wall;
        let seen = self.seen_mut(node, wall);
        seen.report_time = wall;
        if report.position.is_some() {
            seen.wal_report_time = wall;
        }
        let runs = report.postgres.is_running();
        if runs && seen.health != 1 {
            turn.unseen.insert(node);
        }
        let Err(report) = self.heartbeat(turn, key, report, at) else {
            return;
        };
        turn.keep(key, &self.memory, self.live.get(key));
        let _ = self.live_mut(key);
        let formation = self.memory.cluster.formations.get_mut(&key.0);
        let group = formation.and_then(|f| f.groups.get_mut(&key.1));
        let (Some(group), Some(live)) = (group, self.live.get_mut(key)) else {
            return;
        };
        let phase = std::mem::discriminant(&group.phase);
        let told = |live: &LiveGroup| live.report(node).and_then(|r| r.metadata.clone());
        let before = told(live);
        let events = fold(group, live, *report, at);
        if std::mem::discriminant(&group.phase) != phase {
            live.phase_since = turn.now;
        }
        self.at_rest.entry(key.clone()).or_default().folded(node);
        // Other groups of the formation may wait for what the coordinator has done.
        if told(live) != before {
            let others = formation_groups(&self.memory, key);
            turn.dirty.extend(others);
        }
        let Some(group) = self.memory.group(key) else {
            return;
        };
        let is_gone = !group.nodes.contains_key(&node);
        if is_gone && !self.memory.cluster.dropped.contains(&node) {
            turn.keep_all(&self.memory);
            self.memory.cluster.dropped.insert(node);
        }
        self.happened(turn, key, events);
        turn.dirty.insert(key.clone());
    }

    /// Takes a report that says nothing new without a copy of the group and without a decision; gives
    /// any other back. A group that was touched in this turn is decided about at its end anyway.
    fn heartbeat(
        &mut self,
        turn: &Turn,
        key: &Key,
        report: Box<Report>,
        at: Time,
    ) -> Result<(), Box<Report>> {
        if turn.has_touched(key) {
            return Err(report);
        }
        let formation = self.memory.cluster.formations.get(&key.0);
        let (Some(formation), Some(live), Some(at_rest)) =
            (formation, self.live.get_mut(key), self.at_rest.get_mut(key))
        else {
            return Err(report);
        };
        let Some(group) = formation.groups.get(&key.1) else {
            return Err(report);
        };
        let group = (FormationView::from(formation), group);
        let deadline = at_rest.heartbeat(group, live, &self.settings, report, at)?;
        self.deadlines.set(key, deadline);
        Ok(())
    }

    /// Looks at a group until nothing more follows.
    pub(crate) fn settle(&mut self, turn: &mut Turn, key: &Key) {
        if self.memory.group(key).is_none() {
            self.forget(key);
            return;
        }
        turn.keep(key, &self.memory, self.live.get(key));
        let _ = self.live_mut(key);
        let coordinator = (key.0.clone(), COORDINATOR);
        for _ in 0..ROUNDS {
            let Some(formation) = self.memory.cluster.formations.get_mut(&key.0) else {
                return;
            };
            let view = FormationView::of(formation, key.1, self.live.get(&coordinator));
            let (Some(group), Some(live)) =
                (formation.groups.get_mut(&key.1), self.live.get_mut(key))
            else {
                return;
            };
            live.nodes.retain(|id, _| group.nodes.contains_key(id));
            let Some(decision) = contained(|| decide(&view, group, live, &self.settings, turn.now))
            else {
                return;
            };
            if decision.phase_changed {
                live.phase_since = turn.now;
            }
            let again = decision.phase_changed || decision.group != *group;
            if !again {
                let at_rest = self.at_rest.entry(key.clone()).or_default();
                at_rest.looked(view, &self.settings, &decision, turn.now);
            }
            *group = decision.group;
            self.deadlines.set(key, decision.deadline);
            self.happened(turn, key, decision.events);
            if !again {
                self.log_suspects(key, decision.suspects, turn.now);
                self.log_waits(key, &decision.waiting);
                return;
            }
        }
        tracing::error!(formation = %key.0, group = %key.1, "decisions about a group do not settle");
    }

    fn forget(&mut self, key: &Key) {
        self.live.remove(key);
        self.at_rest.remove(key);
        self.deadlines.forget(key);
        self.suspects.remove(key);
        self.waits.remove(key);
    }

    /// Notes events for the commit and for those who listen.
    pub(crate) fn happened(
        &mut self,
        turn: &mut Turn,
        key: &Key,
        events: Vec<pgaf_fsm::group::Event>,
    ) {
        for event in events {
            let before = turn.before.get(key).and_then(|(group, _)| group.as_ref());
            let node = find(&[self.memory.group(key), before], event.node);
            let seen = self.seen.get(&event.node);
            let health = seen.map_or(-1, |s| s.health);
            let live = self.live.get(key);
            let happening = announce::happening(key, event, node, live, (health, turn.wall));
            turn.happened.push(happening);
            let wall = turn.wall;
            let id = turn.happened.last().map(|h| h.record.node);
            if let Some(id) = id {
                self.seen_mut(id, wall).state_change_time = wall;
            }
        }
    }

    /// A keeper's session is over. Answers the node whose Postgres needs a look at once.
    pub(crate) fn session_closed(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        how: Closed,
        at: Time,
    ) -> Option<NodeId> {
        let node = self.sessions.closed(session)?;
        let key = pgaf_fsm::group::operate::find(&self.memory.cluster, node)?;
        self.live_node(&key, node).session = match how {
            Closed::Terminated | Closed::Eof | Closed::Reset => Session::Closed { since: at },
            // We ended it ourselves: that says nothing about the node.
            Closed::Dropped | Closed::Shutdown => Session::Never,
        };
        tracing::info!(node = %node, ?how, "the session of a keeper is over");
        turn.dirty.insert(key);
        Some(node)
    }

    /// A connection attempt to a node's Postgres has ended.
    pub(crate) fn probed(&mut self, turn: &mut Turn, node: NodeId, probe: Probe) {
        let Some(key) = pgaf_fsm::group::operate::find(&self.memory.cluster, node) else {
            return;
        };
        let health = match probe.outcome {
            ProbeOutcome::Ok => 1,
            ProbeOutcome::Refused | ProbeOutcome::TimedOut | ProbeOutcome::Failed => 0,
        };
        self.live_node(&key, node).probe = Some(probe);
        let wall = turn.wall;
        let seen = self.seen_mut(node, wall);
        seen.health_time = wall;
        if seen.health != health {
            seen.health = health;
            self.health_changed(turn, &key, node, health);
        }
        turn.dirty.insert(key);
    }

    fn health_changed(&mut self, turn: &mut Turn, key: &Key, id: NodeId, health: i32) {
        let Some(node) = find(&[self.memory.group(key)], id) else {
            return;
        };
        let mark = if health == 1 { "healthy" } else { "unhealthy" };
        let event = pgaf_fsm::group::Event {
            node: id,
            group: key.1,
            reported: node.reported,
            goal: node.goal.state,
            rule: format!("health.{mark}"),
            description: format!(
                "Node {id} \"{}\" ({}:{}) is marked as {mark} by the monitor",
                node.name, node.host, node.port
            ),
        };
        self.happened(turn, key, vec![event]);
    }

    /// Voids the memory of every group, and begins another life of the store: it may be older than
    /// the nodes (`safety.md` §8).
    pub(crate) fn void(&mut self, why: &str) {
        tracing::warn!(
            why,
            "the monitor's store may be older than its nodes: nothing opens, shrinks or promotes until they have reported"
        );
        let cluster = &mut self.memory.cluster;
        self.memory.past_lineages.push(cluster.lineage);
        cluster.lineage = Lineage(rand::random());
        for formation in cluster.formations.values_mut() {
            for group in formation.groups.values_mut() {
                restored(group);
            }
        }
    }

    /// Writes a line for each wait that is new, as `inspect explain` shows it, and for each that is over.
    fn log_waits(&mut self, key: &Key, waiting: &[Waiting]) {
        let now: BTreeSet<String> = waiting.iter().map(|w| w.id.clone()).collect();
        let before = self.waits.remove(key).unwrap_or_default();
        for wait in waiting.iter().filter(|w| !before.contains(&w.id)) {
            let way_out = wait.way_out.as_deref().unwrap_or("none is needed");
            tracing::info!(formation = %key.0, group = %key.1, way_out, "waits: {} [{}]", wait.why, wait.id);
        }
        for id in before.difference(&now) {
            tracing::info!(formation = %key.0, group = %key.1, "waits no longer [{id}]");
        }
        if !now.is_empty() {
            self.waits.insert(key.clone(), now);
        }
    }

    /// Writes a line for each node that is suspected or no longer, with the evidence.
    fn log_suspects(&mut self, key: &Key, suspects: BTreeSet<NodeId>, now: Time) {
        let before = self.suspects.remove(key).unwrap_or_default();
        if let (Some(group), Some(live)) = (self.memory.group(key), self.live.get(key)) {
            for node in suspects.difference(&before) {
                let verdict = judge(group, live, &self.settings, now, *node);
                tracing::info!(node = %node, "a closer look is taken at a node: {}", verdict.text());
            }
            for node in before.difference(&suspects) {
                tracing::info!(node = %node, "a node is well again, or gone for good");
            }
        }
        if !suspects.is_empty() {
            self.suspects.insert(key.clone(), suspects);
        }
    }
}

/// All groups of a group's formation.
fn formation_groups(memory: &Memory, key: &Key) -> Vec<Key> {
    let formation = memory.cluster.formations.get(&key.0);
    let groups = formation.into_iter().flat_map(|f| f.groups.keys());
    groups.map(|group| (key.0.clone(), *group)).collect()
}

/// Runs a pure function of the fsm. In a release build a fault in it stops decisions about this
/// one group, with a line in the log, and not the monitor; elsewhere it is seen at once.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    if cfg!(debug_assertions) {
        return Some(work());
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!("a decision failed: this is a fault of pgaf, the group is left as it is");
    }
    outcome.ok()
}

pub(super) fn disk_trouble(error: &StoreError) -> Waiting {
    Waiting {
        id: "monitor-disk".into(),
        nodes: Vec::new(),
        why: format!("{error}: this monitor changes nothing until it can write again"),
        way_out: Some("make space on the monitor's disk, or make it writable".into()),
    }
}
