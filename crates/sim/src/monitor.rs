//! The monitor's shell: fold, decide until nothing more follows, store, and only then speak.
//!
//! What it decides comes from [`pgaf_fsm::group`] alone. The store is a second [`Cluster`]: what is not
//! in it when the process dies is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pgaf_fsm::group::operate::{self, Now};
use pgaf_fsm::group::{
    Cluster, FormationView, Group, Kind, LiveGroup, Phase, Probe, ProbeOutcome, Session, decide,
    fold, peer, restored,
};
use pgaf_fsm::invariants;
use pgaf_protocol::{
    Answer, FormationId, Goal, GroupId, Incarnation, KeeperSettings, Lease, Lineage, NodeId,
    NodeState, Order, PROTOCOL_VERSION, Report, Settings, Stamp, Time, Waiting,
};

use crate::event::{Down, Event, MonitorEvent, Up};
use crate::net::Place;
use crate::world::World;

/// Decisions in a row that change something before it counts as endless.
const ROUNDS: usize = 24;
/// A suspect is probed again after this.
const PROBE_AGAIN: u64 = 500;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Failover { allow_data_loss: bool },
    Promotion(String),
    Drop { host: usize, force: bool },
    Priority { host: usize, priority: i64 },
    Quorum { host: usize, quorum: bool },
    NumberSync(i64),
}

/// Something the monitor has to deal with.
#[derive(Debug, Clone)]
enum Input {
    Message { session: u64, up: Up },
    Event(MonitorEvent),
}

/// A session as the monitor sees it.
#[derive(Debug, Clone, Default)]
struct Link {
    host: usize,
    received: u64,
    sent: u64,
    early: BTreeMap<u64, Up>,
}

/// Something to say once the turn is durable.
#[derive(Debug, Clone)]
enum Saying {
    Goal {
        session: u64,
        node: NodeId,
        answers: bool,
    },
    Look {
        node: NodeId,
        about: NodeId,
    },
    Other {
        session: u64,
        down: Down,
    },
}

/// The monitor: what is durable, and what only this run knows.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    pub(crate) run: u64,
    /// Dies before (false) or after (true) so many more commits.
    pub(crate) crash_in: Option<(u32, bool)>,
    pub(crate) durable: Cluster,
    past_lineages: Vec<Lineage>,
    pub(crate) cluster: Cluster,
    pub(crate) live: LiveGroup,
    pub(crate) settings: Settings,
    links: BTreeMap<u64, Link>,
    of_node: BTreeMap<NodeId, u64>,
    inputs: VecDeque<Input>,
    busy: bool,
    saying: Vec<Saying>,
    pub(crate) waiting: Vec<Waiting>,
    probing: BTreeMap<NodeId, u64>,
    looks: u64,
    timer: u64,
}

/// The only group.
pub(crate) const GROUP: GroupId = GroupId(0);

impl Monitor {
    pub(crate) fn new(lineage: Lineage) -> Self {
        let mut cluster = Cluster {
            lineage,
            incarnation: Incarnation(0),
            next_node: NodeId(1),
            dropped: BTreeSet::new(),
            formations: BTreeMap::new(),
        };
        // A fresh cluster has no formation of that name: nothing can be refused.
        let _ = operate::create_formation(
            &mut cluster,
            &FormationId::default(),
            Kind::Pgsql,
            "postgres",
            true,
            0,
        );
        Self {
            up: false,
            frozen: false,
            run: 0,
            crash_in: None,
            durable: cluster.clone(),
            past_lineages: Vec::new(),
            cluster,
            live: LiveGroup::default(),
            settings: Settings::default(),
            links: BTreeMap::new(),
            of_node: BTreeMap::new(),
            inputs: VecDeque::new(),
            busy: false,
            saying: Vec::new(),
            waiting: Vec::new(),
            probing: BTreeMap::new(),
            looks: 0,
            timer: u64::MAX,
        }
    }

    pub(crate) fn group(&self) -> Option<&Group> {
        group_of(&self.cluster)
    }

    fn answer(&self, goal: Goal) -> Answer {
        Answer {
            protocol: PROTOCOL_VERSION,
            lineage: self.cluster.lineage,
            incarnation: self.cluster.incarnation,
            goal,
            lease: None,
            peers: Vec::new(),
            settings: KeeperSettings::from(&self.settings),
            look: None,
        }
    }

    /// As the daemon's own: only the primary of the present term, and only while nobody else is about
    /// to become one.
    fn lease(&self, group: &Group, node: NodeId) -> Option<Lease> {
        let leader = group.primary?;
        let stays = match group.phase {
            Phase::Steady | Phase::Preparing(_) => true,
            Phase::Collecting(_) | Phase::Promoting { .. } => false,
        };
        let leads = leader.node == node
            && leader.term == group.term
            && group
                .nodes
                .get(&node)
                .is_some_and(|n| matches!(n.goal.order, Order::Lead(_)));
        (stays && leads && group.doubted.is_none()).then_some(Lease {
            duration_ms: u32::try_from(self.settings.lease_ms).unwrap_or(u32::MAX),
        })
    }

    fn goal_for(&self, node: NodeId, answers: bool) -> Option<Answer> {
        let group = self.group()?;
        let row = group.nodes.get(&node)?;
        let mut answer = self.answer(row.goal.clone());
        answer.peers = group
            .nodes
            .values()
            .filter(|n| n.id != node)
            .map(peer)
            .collect();
        answer.lease = answers.then(|| self.lease(group, node)).flatten();
        Some(answer)
    }
}

pub(crate) fn group_of(cluster: &Cluster) -> Option<&Group> {
    cluster
        .formations
        .get(&FormationId::default())?
        .groups
        .get(&GROUP)
}

fn group_mut(cluster: &mut Cluster) -> Option<&mut Group> {
    cluster
        .formations
        .get_mut(&FormationId::default())?
        .groups
        .get_mut(&GROUP)
}

impl World {
    /// A run of the monitor begins: a new incarnation, nothing live.
    pub(crate) fn start_monitor(&mut self) {
        if self.monitor.up {
            return;
        }
        self.runs += 1;
        let now = Time(self.now);
        let m = &mut self.monitor;
        m.up = true;
        m.frozen = false;
        m.run = self.runs;
        m.durable.incarnation = Incarnation(m.durable.incarnation.0 + 1);
        m.cluster = m.durable.clone();
        m.live = LiveGroup {
            listening_since: now,
            phase_since: now,
            ..LiveGroup::default()
        };
        m.links.clear();
        m.of_node.clear();
        m.inputs.clear();
        m.saying.clear();
        m.probing.clear();
        m.busy = false;
        m.timer = u64::MAX;
        m.crash_in = None;
        let incarnation = m.cluster.incarnation;
        self.note(|| format!("monitor starts, incarnation {incarnation}"));
        self.monitor_timer(1);
    }

    /// The monitor's process ends.
    pub(crate) fn end_monitor(&mut self, closes: bool) {
        if !self.monitor.up {
            return;
        }
        self.monitor.up = false;
        self.note(|| "monitor is gone".to_owned());
        let links = core::mem::take(&mut self.monitor.links);
        if closes {
            for (session, link) in links {
                self.say_closed(session, link.host);
            }
        }
    }

    fn say_closed(&mut self, session: u64, host: usize) {
        let event = Event::ToKeeper {
            host,
            session,
            number: u64::MAX,
            down: Down::Closed,
        };
        self.send(Place::Monitor, Place::Node(host), event);
    }

    /// The store is put back to an earlier state while the monitor is down.
    pub(crate) fn restore_monitor(&mut self, older: Cluster) {
        self.end_monitor(true);
        let lineage = Lineage(self.rng.next());
        let m = &mut self.monitor;
        m.past_lineages.push(m.durable.lineage);
        // Incarnations and node ids are counted outside of the store as well.
        let (incarnation, next_node) = (m.durable.incarnation, m.durable.next_node);
        m.durable = older;
        m.durable.lineage = lineage;
        m.durable.incarnation = incarnation;
        m.durable.next_node = next_node;
        if let Some(group) = group_mut(&mut m.durable) {
            restored(group);
        }
        self.note(|| "monitor's store is an older one".to_owned());
        self.start_monitor();
    }

    fn monitor_timer(&mut self, after: u64) {
        let at = self.now + after;
        if self.monitor.timer <= at && self.monitor.timer > self.now {
            return;
        }
        self.monitor.timer = at;
        let run = self.monitor.run;
        let what = MonitorEvent::Timer;
        self.after(after, Event::Monitor { run, what });
    }

    pub(crate) fn monitor_event(&mut self, run: u64, what: MonitorEvent) {
        if !self.monitor.up || self.monitor.run != run {
            return;
        }
        if matches!(what, MonitorEvent::Commit) {
            return self.monitor_commits();
        }
        self.monitor.inputs.push_back(Input::Event(what));
        self.monitor_works();
    }

    /// A message arrives; messages of one session are heard in order.
    pub(crate) fn monitor_hears(&mut self, session: u64, host: usize, number: u64, up: Up) {
        if !self.monitor.up {
            return self.say_closed(session, host);
        }
        if !self.monitor.links.contains_key(&session) {
            if number > 0 || matches!(up, Up::Close) {
                return self.say_closed(session, host);
            }
            let link = Link {
                host,
                ..Link::default()
            };
            self.monitor.links.insert(session, link);
        }
        if let Some(link) = self.monitor.links.get_mut(&session) {
            link.early.insert(number, up);
            while let Some(up) = link.early.remove(&link.received) {
                link.received += 1;
                self.monitor
                    .inputs
                    .push_back(Input::Message { session, up });
            }
        }
        self.monitor_works();
    }

    /// Works on inputs until a turn has to be stored.
    fn monitor_works(&mut self) {
        while !self.monitor.busy && self.failed.is_none() && self.monitor.up {
            let Some(input) = self.monitor.inputs.pop_front() else {
                return;
            };
            self.monitor_takes(input);
            self.monitor_settles();
            self.monitor_stores();
        }
    }

    fn monitor_takes(&mut self, input: Input) {
        let now = Time(self.now);
        match input {
            Input::Message { session, up } => match up {
                Up::Report(report) => self.take_report(session, *report),
                Up::Register(wish) => {
                    let down = match operate::register(&mut self.monitor.cluster, &wish) {
                        Ok(done) => Down::Registered(Box::new(done)),
                        Err(refusal) => Down::Refused(refusal.message),
                    };
                    self.monitor.saying.push(Saying::Other { session, down });
                }
                Up::Close => self.session_closed(session),
            },
            Input::Event(MonitorEvent::Probed {
                node,
                began,
                outcome,
            }) => {
                self.monitor.probing.insert(node, self.now);
                let live = self.monitor.live.nodes.entry(node).or_default();
                live.probe = Some(Probe {
                    began,
                    ended: now,
                    outcome,
                });
            }
            Input::Event(MonitorEvent::Timer) => {
                if self.monitor.timer <= self.now {
                    self.monitor.timer = u64::MAX;
                }
            }
            Input::Event(MonitorEvent::Commit) => {}
        }
    }

    fn take_report(&mut self, session: u64, report: Report) {
        let now = Time(self.now);
        let m = &mut self.monitor;
        let node = report.node;
        let other = report
            .lineage
            .is_some_and(|l| l != m.cluster.lineage && !m.past_lineages.contains(&l));
        let is_there = m.group().is_some_and(|g| g.nodes.contains_key(&node));
        if other || !is_there {
            let down = if !other && m.cluster.dropped.contains(&node) {
                Down::Answer(Box::new(m.answer(dropped(&report))))
            } else {
                Down::Refused(format!("couldn't find node with nodeid {node}"))
            };
            m.saying.push(Saying::Other { session, down });
            return;
        }
        m.of_node.insert(node, session);
        if let (Some(promise), true) = (
            report.promise,
            report.promise.is_some_and(|p| p.position.is_some()),
        ) && let Some(position) = promise.position
        {
            self.promises.insert(promise.copy, (promise.term, position));
        }
        let m = &mut self.monitor;
        let mut live = core::mem::take(&mut m.live);
        let events = group_mut(&mut m.cluster)
            .map(|group| fold(group, &mut live, report, now))
            .unwrap_or_default();
        m.live = live;
        if !m.group().is_some_and(|g| g.nodes.contains_key(&node)) {
            m.cluster.dropped.insert(node);
        }
        for event in events {
            self.monitor_event_happened(&event);
        }
        self.monitor.saying.push(Saying::Goal {
            session,
            node,
            answers: true,
        });
    }

    fn monitor_event_happened(&mut self, event: &pgaf_fsm::group::Event) {
        self.coverage.rule(&event.rule);
        self.note(|| format!("monitor: {} [{}]", event.description, event.rule));
    }

    fn session_closed(&mut self, session: u64) {
        let since = Time(self.now);
        self.monitor.links.remove(&session);
        let node = self
            .monitor
            .of_node
            .iter()
            .find(|(_, s)| **s == session)
            .map(|(n, _)| *n);
        if let Some(node) = node {
            self.monitor.of_node.remove(&node);
            self.monitor.live.nodes.entry(node).or_default().session = Session::Closed { since };
            self.note(|| format!("monitor: the session of node {node} is closed"));
            self.probe(node);
        }
    }

    /// Decides until nothing more follows.
    fn monitor_settles(&mut self) {
        let now = Time(self.now);
        for round in 0..=ROUNDS {
            let m = &mut self.monitor;
            let Some(formation) = m.cluster.formations.get(&FormationId::default()) else {
                return;
            };
            let view = FormationView::from(formation);
            let Some(group) = formation.groups.get(&GROUP) else {
                return;
            };
            let before = group.clone();
            let decision = decide(&view, &before, &mut m.live, &m.settings, now);
            let again = decision.phase_changed || decision.group != before;
            if let Some(group) = group_mut(&mut m.cluster) {
                group.clone_from(&decision.group);
            }
            m.waiting = decision.waiting;
            if let Err(broken) = invariants::step(&before, &decision.group) {
                return self.fail(broken.to_string());
            }
            for event in &decision.events {
                self.monitor_event_happened(event);
            }
            for waiting in self.monitor.waiting.clone() {
                self.coverage.waiting(&waiting.id);
            }
            self.coverage.phase(decision.group.phase.word());
            for node in decision.group.nodes.values() {
                self.coverage.rule(&node.goal.rule);
            }
            if !again {
                if let Some(at) = decision.deadline {
                    self.monitor_timer(at.0.saturating_sub(self.now).max(1));
                }
                return self.look_closer(&decision.suspects);
            }
            if round == ROUNDS {
                return self.fail("total: decisions about the group do not settle".to_owned());
            }
        }
    }

    /// Suspects are probed, and the others asked to look at them.
    fn look_closer(&mut self, suspects: &BTreeSet<NodeId>) {
        for node in suspects {
            let last = self.monitor.probing.get(node).copied();
            if last.is_none_or(|at| at != u64::MAX && self.now >= at + PROBE_AGAIN) {
                self.probe(*node);
                let others: Vec<NodeId> = self
                    .monitor
                    .of_node
                    .keys()
                    .copied()
                    .filter(|n| n != node)
                    .collect();
                for other in others {
                    self.monitor.saying.push(Saying::Look {
                        node: other,
                        about: *node,
                    });
                }
            }
        }
    }

    fn probe(&mut self, node: NodeId) {
        if self.monitor.probing.get(&node) == Some(&u64::MAX) {
            return;
        }
        let Some(row) = self.monitor.group().and_then(|g| g.nodes.get(&node)) else {
            return;
        };
        let Some(host) = self.host_of(&row.host.clone()) else {
            return;
        };
        self.monitor.probing.insert(node, u64::MAX);
        let (outcome, after) = match self.reaches(Place::Monitor, host) {
            Some(true) => (ProbeOutcome::Ok, 4),
            Some(false) if self.hosts[host].pg.server.is_some() => (ProbeOutcome::Failed, 4),
            Some(false) => (ProbeOutcome::Refused, 2),
            None => (
                ProbeOutcome::TimedOut,
                self.monitor.settings.probe_deadline_ms,
            ),
        };
        let what = MonitorEvent::Probed {
            node,
            began: Time(self.now),
            outcome,
        };
        let run = self.monitor.run;
        self.after(after, Event::Monitor { run, what });
    }

    /// Everything that follows leaves only after it is durable.
    fn monitor_stores(&mut self) {
        if self.monitor.cluster == self.monitor.durable {
            return self.monitor_speaks();
        }
        self.monitor.busy = true;
        let takes = if self.rng.one_in(30) {
            self.rng.between(20, 150)
        } else {
            self.rng.between(1, 6)
        };
        let run = self.monitor.run;
        let what = MonitorEvent::Commit;
        self.after(takes, Event::Monitor { run, what });
    }

    fn monitor_commits(&mut self) {
        let crash = match self.monitor.crash_in.as_mut() {
            Some((0, after)) => Some(*after),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if crash == Some(false) {
            self.note(|| "monitor dies before a commit".to_owned());
            return self.end_monitor(true);
        }
        let before = group_of(&self.monitor.durable).cloned();
        self.monitor.durable = self.monitor.cluster.clone();
        self.monitor.busy = false;
        if crash == Some(true) {
            self.note(|| "monitor dies after a commit".to_owned());
            return self.end_monitor(true);
        }
        self.push_goals(before.as_ref());
        self.monitor_speaks();
        self.monitor_works();
    }

    /// Goals that are new go out at once.
    fn push_goals(&mut self, before: Option<&Group>) {
        let m = &mut self.monitor;
        let Some(group) = group_of(&m.cluster) else {
            return;
        };
        let changed: Vec<NodeId> = group
            .nodes
            .values()
            .filter(|n| {
                before
                    .and_then(|g| g.nodes.get(&n.id))
                    .is_none_or(|old| old.goal != n.goal)
            })
            .map(|n| n.id)
            .collect();
        for node in changed {
            if let Some(session) = m.of_node.get(&node).copied() {
                let answered = m.saying.iter().any(
                    |s| matches!(s, Saying::Goal { node: n, answers: true, .. } if *n == node),
                );
                if !answered {
                    m.saying.push(Saying::Goal {
                        session,
                        node,
                        answers: false,
                    });
                }
            }
        }
    }

    fn monitor_speaks(&mut self) {
        for saying in core::mem::take(&mut self.monitor.saying) {
            match saying {
                Saying::Other { session, down } => self.say(session, down),
                Saying::Goal {
                    session,
                    node,
                    answers,
                } => match self.monitor.goal_for(node, answers) {
                    Some(answer) if answers => self.say(session, Down::Answer(Box::new(answer))),
                    Some(answer) => self.say(session, Down::Push(Box::new(answer))),
                    None => self.say(session, Down::Refused("the node has been removed".into())),
                },
                Saying::Look { node, about } => {
                    let target = self
                        .monitor
                        .group()
                        .and_then(|g| g.nodes.get(&about))
                        .map(peer);
                    let session = self.monitor.of_node.get(&node).copied();
                    if let (Some(target), Some(session), Some(mut answer)) =
                        (target, session, self.monitor.goal_for(node, false))
                    {
                        self.monitor.looks += 1;
                        answer.look = Some((self.monitor.looks, target));
                        self.say(session, Down::Push(Box::new(answer)));
                    }
                }
            }
        }
    }

    fn say(&mut self, session: u64, down: Down) {
        let Some(link) = self.monitor.links.get_mut(&session) else {
            return;
        };
        let event = Event::ToKeeper {
            host: link.host,
            session,
            number: link.sent,
            down,
        };
        link.sent += 1;
        let host = link.host;
        self.send(Place::Monitor, Place::Node(host), event);
    }

    /// An operator's wish; refused with a reason, and then nothing has changed.
    pub(crate) fn operate(&mut self, operation: &Operation) -> Result<(), String> {
        if !self.monitor.up || self.monitor.frozen {
            return Err("the monitor does not answer".to_owned());
        }
        if self.monitor.busy {
            // The turn that is being stored comes first.
            self.monitor_commits();
            if !self.monitor.up {
                return Err("the monitor does not answer".to_owned());
            }
        }
        let before = self.monitor.cluster.clone();
        let done = self.run_operation(operation);
        match done {
            Err(refusal) => {
                self.monitor.cluster = before;
                self.note(|| format!("operator: {operation:?} is refused: {refusal}"));
                Err(refusal)
            }
            Ok(events) => {
                self.note(|| format!("operator: {operation:?}"));
                for event in events {
                    self.monitor_event_happened(&event);
                }
                self.monitor_settles();
                self.monitor_stores();
                Ok(())
            }
        }
    }

    fn run_operation(
        &mut self,
        operation: &Operation,
    ) -> Result<Vec<pgaf_fsm::group::Event>, String> {
        let formation = FormationId::default();
        let now = Time(self.now);
        let name = |host: &usize| format!("node{}", host + 1);
        let m = &mut self.monitor;
        let live = m.live.clone();
        let text = |r: pgaf_fsm::group::Refusal| r.message;
        match operation {
            Operation::Failover { allow_data_loss } => {
                let at = Now {
                    live: &live,
                    settings: &m.settings,
                    now,
                };
                let old = group_of(&m.cluster)
                    .and_then(|g| g.primary)
                    .and_then(|l| l.copy);
                let events = operate::perform_failover(
                    &mut m.cluster,
                    &formation,
                    GROUP,
                    *allow_data_loss,
                    at,
                )
                .map_err(text)?;
                if events.iter().any(|e| e.rule == "operator.allow-data-loss") {
                    self.ledger.give_up(old);
                }
                Ok(events)
            }
            Operation::Promotion(name) => operate::perform_promotion(
                &mut m.cluster,
                &formation,
                name,
                |_| live.clone(),
                &m.settings,
                now,
            )
            .map(Option::unwrap_or_default)
            .map_err(text),
            Operation::Drop { host, force } => {
                let wanted = name(host);
                let node = group_of(&m.cluster)
                    .and_then(|g| g.nodes.values().find(|n| n.name == wanted))
                    .map(|n| n.id)
                    .ok_or("there is no such node")?;
                operate::remove_node(&mut m.cluster, node, *force, &live, &m.settings, now)
                    .map_err(text)
            }
            Operation::Priority { host, priority } => {
                operate::set_candidate_priority(&mut m.cluster, &formation, &name(host), *priority)
                    .map(|_| Vec::new())
                    .map_err(text)
            }
            Operation::Quorum { host, quorum } => {
                operate::set_replication_quorum(&mut m.cluster, &formation, &name(host), *quorum)
                    .map(|_| Vec::new())
                    .map_err(text)
            }
            Operation::NumberSync(number) => {
                operate::set_number_sync_standbys(&mut m.cluster, &formation, *number)
                    .map(|()| Vec::new())
                    .map_err(text)
            }
        }
    }

    /// The monitor was away (frozen): it listens first.
    pub(crate) fn monitor_was_away(&mut self) {
        self.monitor.live.listening_since = Time(self.now);
    }
}

/// The explicit word that a node was removed, above all that its keeper has seen.
fn dropped(report: &Report) -> Goal {
    Goal {
        stamp: Stamp {
            term: report.seen.term,
            sequence: report.seen.sequence.next(),
        },
        state: NodeState::Dropped,
        order: Order::Drop,
        rule: "removed".into(),
    }
}
