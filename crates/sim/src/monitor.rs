//! The monitor's shell: fold, decide until nothing more follows, store, and only then speak.
//!
//! What it decides comes from [`pgaf_fsm::group`] alone. The store is a second [`Cluster`]: what is not
//! in it when the process dies is lost.

mod operation;
mod quiet;
mod speak;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pgaf_fsm::group::operate::{self, Now};
use pgaf_fsm::group::{
    Cluster, FormationView, Group, Kind, LeaseMode, LiveGroup, Phase, Probe, ProbeOutcome, Session,
    decide, fold, granted, peer, restored,
};
use pgaf_fsm::invariants;
use pgaf_protocol::{
    Answer, FormationId, Goal, GroupId, Incarnation, KeeperSettings, Lineage, NodeId, NodeState,
    Order, PROTOCOL_VERSION, Report, Settings, Stamp, Time, Waiting,
};

use crate::event::{Down, Event, MonitorEvent, Up};
use crate::net::Place;
use crate::sabotage::Sabotage;
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
    Maintain { host: usize, start: bool },
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
    /// A primary is given up with its lease, once this is stored.
    lapsing: Option<LeaseMode>,
    pub(crate) waiting: Vec<Waiting>,
    probing: BTreeMap<NodeId, u64>,
    looks: u64,
    timer: u64,
    /// Nothing has happened since the last decision that it could look at.
    settled: bool,
    /// That decision suspected nobody and waited for nothing.
    stands: bool,
    heartbeats: u64,
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
            lapsing: None,
            waiting: Vec::new(),
            probing: BTreeMap::new(),
            looks: 0,
            timer: u64::MAX,
            settled: false,
            stands: false,
            heartbeats: 0,
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
            citus: None,
        }
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
        answer.lease = answers
            .then(|| granted(group, node, self.settings.lease_ms))
            .flatten();
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
        // Settings do not change here: what is stored as the longest lease is this.
        m.live.note_lease(m.settings.lease_ms, now);
        m.links.clear();
        m.of_node.clear();
        m.inputs.clear();
        m.saying.clear();
        m.lapsing = None;
        m.probing.clear();
        m.busy = false;
        m.stands = false;
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
        let trusts = self.sabotage == Some(Sabotage::RestoredTrusted);
        if let (Some(group), false) = (group_mut(&mut m.durable), trusts) {
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
            self.monitor.settled = true;
            let is_message = matches!(input, Input::Message { .. });
            self.monitor_takes(input);
            if !(is_message && self.monitor.settled) {
                self.monitor_settles();
            }
            self.monitor_stores();
        }
    }

    fn monitor_takes(&mut self, input: Input) {
        let now = Time(self.now);
        match input {
            Input::Message { session, up } => match up {
                Up::Report(report) => self.take_report(session, *report),
                Up::Register(wish) => {
                    self.monitor.settled = false;
                    let down = match operate::register(&mut self.monitor.cluster, &wish) {
                        Ok(done) => Down::Registered(Box::new(done)),
                        Err(refusal) => Down::Refused(refusal.message),
                    };
                    self.monitor.saying.push(Saying::Other { session, down });
                }
                Up::Close => {
                    self.monitor.settled = false;
                    self.session_closed(session);
                }
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

    fn take_report(&mut self, session: u64, mut report: Report) {
        self.tamper_with_report(&mut report);
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
        let quiet = m.is_quiet(&report);
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
        self.monitor.settled &= quiet;
        self.monitor.saying.push(Saying::Goal {
            session,
            node,
            answers: true,
        });
    }

    fn monitor_event_happened(&mut self, event: &pgaf_fsm::group::Event) {
        self.coverage.rule(&event.rule);
        if let Some(said) = &mut self.said {
            said.push(event.description.clone());
        }
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
            let decision = decide(&view, group, &mut m.live, &m.settings, now);
            let again = decision.phase_changed || decision.group != *group;
            let lease = group.lease;
            for node in decision.group.nodes.values() {
                let old = group.nodes.get(&node.id).map(|n| n.goal.stamp);
                if old != Some(node.goal.stamp) {
                    self.coverage.rule(&node.goal.rule);
                }
            }
            for waiting in &decision.waiting {
                self.coverage.waiting(&waiting.id);
            }
            self.coverage.phase(decision.group.phase.word());
            // The controls are to be caught by what happens in the world.
            let checked = if again && self.sabotage.is_none() {
                invariants::step(group, &decision.group)
            } else {
                Ok(())
            };
            m.waiting = decision.waiting;
            if again {
                let before = self.sabotage.map(|_| group.clone());
                let mut after = decision.group;
                if let Some(before) = before {
                    self.tamper_with_group(&before, &mut after);
                }
                if after.phase != Phase::Steady {
                    self.stir(3000);
                }
                if let Some(ours) = group_mut(&mut self.monitor.cluster) {
                    *ours = after;
                }
            }
            if let Err(broken) = checked {
                return self.fail(broken.to_string());
            }
            for event in &decision.events {
                if event.rule == "group.anew" {
                    // The operator removed the only data there was.
                    self.ledger.give_up(None);
                }
                if event.rule == "failover.possible-loss" {
                    self.monitor.lapsing = lease;
                }
                self.monitor_event_happened(event);
            }
            if !again {
                self.monitor.stands =
                    decision.suspects.is_empty() && self.monitor.waiting.is_empty();
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
