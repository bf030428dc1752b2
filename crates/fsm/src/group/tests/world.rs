//! A group with ideal keepers: each does what it is told at its next step, unless it is dead.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::*;

use crate::group::operate::{self, Now};
use crate::group::*;

/// One fake node: its disk and its Postgres.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) alive: bool,
    pub(crate) postgres: Postgres,
    pub(crate) copy: Option<CopyId>,
    pub(crate) role: CopyRole,
    pub(crate) position: Position,
    pub(crate) history: History,
    pub(crate) goal: Option<Goal>,
    pub(crate) reached: Stamp,
    pub(crate) state: NodeState,
    pub(crate) promise: Option<Promise>,
    pub(crate) confirmed: Option<Confirmed>,
    pub(crate) checkpointed: Option<Stamp>,
    pub(crate) upstream: Option<NodeId>,
    /// Never confirms, whatever it is told.
    pub(crate) stubborn: bool,
    /// Its fencer cannot be started.
    pub(crate) unguarded: bool,
    /// Its Postgres does not start again.
    pub(crate) broken: bool,
}

/// The monitor, its clock, and the nodes.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) live: LiveGroup,
    pub(crate) settings: Settings,
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<NodeId, Fake>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) events: Vec<Event>,
    pub(crate) next_copy: u64,
    /// Keepers that report and get nothing done.
    pub(crate) slow: BTreeSet<NodeId>,
    pub(crate) at_rest: AtRest,
    /// Reports that needed no decision.
    pub(crate) heartbeats: u32,
    /// Hosts that are stopped, connections open, since when.
    pub(crate) frozen: BTreeMap<NodeId, Time>,
}

const SINCE: i64 = 1;

impl World {
    pub(crate) fn new() -> Self {
        let mut cluster = Cluster {
            lineage: Lineage(1),
            incarnation: Incarnation(1),
            next_node: NodeId(1),
            dropped: BTreeSet::new(),
            formations: BTreeMap::new(),
        };
        operate::create_formation(
            &mut cluster,
            &"default".into(),
            Kind::Pgsql,
            "postgres",
            true,
            0,
        )
        .unwrap();
        Self {
            cluster,
            live: LiveGroup::default(),
            settings: Settings::default(),
            now: Time(100_000),
            nodes: BTreeMap::new(),
            waiting: Vec::new(),
            events: Vec::new(),
            next_copy: 100,
            slow: BTreeSet::new(),
            at_rest: AtRest::default(),
            heartbeats: 0,
            frozen: BTreeMap::new(),
        }
    }

    pub(crate) fn pair() -> Self {
        let mut world = Self::new();
        world.add(true);
        world.run(2000);
        world.add(true);
        world.run(3000);
        world
    }

    /// A primary and two standbys, settled.
    pub(crate) fn three() -> Self {
        let mut world = Self::pair();
        let third = world.add(true);
        world.run(3000);
        assert_eq!(
            [world.state(2), world.state(third.0)],
            ["secondary/secondary"; 2]
        );
        world
    }

    pub(crate) fn add(&mut self, quorum: bool) -> NodeId {
        let number = self.nodes.len() + 1;
        let wish = Registration {
            protocol: PROTOCOL_VERSION,
            token: number.to_string(),
            host: "h".to_string() + &number.to_string(),
            port: 5432,
            dbname: "postgres".to_string(),
            candidate_priority: 50,
            replication_quorum: quorum,
            cluster: "default".to_string(),
            ..Registration::default()
        };
        let done = operate::register(&mut self.cluster, &wish).unwrap();
        self.nodes.insert(
            done.node,
            Fake {
                alive: true,
                postgres: Postgres::Absent,
                copy: None,
                role: CopyRole::None,
                position: Position::default(),
                history: History::first(),
                goal: None,
                reached: Stamp::default(),
                state: NodeState::Init,
                promise: None,
                confirmed: None,
                checkpointed: None,
                upstream: None,
                stubborn: false,
                unguarded: false,
                broken: false,
            },
        );
        done.node
    }

    pub(crate) fn group(&self) -> &Group {
        &self.cluster.formations[&FormationId::default()].groups[&GroupId(0)]
    }

    pub(crate) fn group_mut(&mut self) -> &mut Group {
        self.cluster
            .formations
            .get_mut(&FormationId::default())
            .unwrap()
            .groups
            .get_mut(&GroupId(0))
            .unwrap()
    }

    pub(crate) fn view(&self) -> FormationView {
        FormationView::from(&self.cluster.formations[&FormationId::default()])
    }

    /// Lets `ms` go by in steps of 10, every keeper acting and reporting in each.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now.0 += 10;
            self.step();
        }
    }

    fn step(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in &ids {
            let here = self.nodes[id].alive && !self.frozen.contains_key(id);
            if here && self.group().nodes.contains_key(id) {
                let goal = self.group().nodes[id].goal.clone();
                if !self.slow.contains(id) {
                    self.act(*id, goal);
                }
                let report = self.report(*id);
                self.check_heartbeat(&report);
                self.at_rest.folded(*id);
                let (now, mut live) = (self.now, self.live.clone());
                let events = fold(self.group_mut(), &mut live, report, now);
                self.events.extend(events);
                self.live = live;
                self.decide();
                // The answer, with a lease if one is due.
                if let Some(lease) = granted(self.group(), *id, self.settings.lease_ms) {
                    self.live.note_lease(lease.duration_ms.into(), self.now);
                }
            }
        }
        self.probes();
        self.decide();
    }

    /// A report that is taken for a mere heartbeat would have changed nothing the long way.
    fn check_heartbeat(&mut self, report: &Report) {
        let (now, before) = (self.now, self.group().clone());
        let (mut short, mut long) = (self.live.clone(), self.live.clone());
        let group = (self.view(), &before);
        let boxed = Box::new(report.clone());
        let taken = self
            .at_rest
            .heartbeat(group, &mut short, &self.settings, boxed, now);
        let Ok(deadline) = taken else { return };
        let mut group = before.clone();
        let events = fold(&mut group, &mut long, report.clone(), now);
        let looked = decide(&self.view(), &group, &mut long, &self.settings, now);
        assert_eq!((events, looked.events), (Vec::new(), Vec::new()));
        assert_eq!((&group, &looked.group), (&before, &before));
        assert_eq!((short, deadline), (long, looked.deadline));
        assert!(looked.suspects.is_empty());
        self.heartbeats += 1;
    }

    pub(crate) fn decide(&mut self) {
        for _ in 0..20 {
            let mut live = self.live.clone();
            let d = decide(
                &self.view(),
                self.group(),
                &mut live,
                &self.settings,
                self.now,
            );
            self.live = live;
            self.waiting.clone_from(&d.waiting);
            let same = *self.group() == d.group;
            if same {
                let (view, settings) = (self.view(), self.settings.clone());
                self.at_rest.looked(view, &settings, &d, self.now);
            }
            self.events.extend(d.events);
            *self.group_mut() = d.group;
            if same {
                return;
            }
        }
        panic!("decide does not settle: {:?}", self.group());
    }

    /// Dead nodes' kernels answer: sessions close at once and probes are refused.
    fn probes(&mut self) {
        let now = self.now;
        for id in self.frozen.keys() {
            self.live.nodes.entry(*id).or_default().probe = Some(Probe {
                began: now,
                ended: now,
                outcome: ProbeOutcome::TimedOut,
            });
            let look = Look {
                number: 0,
                node: *id,
                connected: false,
                heard: false,
            };
            for other in self.nodes.keys().filter(|n| *n != id) {
                self.live.nodes.entry(*other).or_default().look = Some((look, now));
            }
        }
        for (id, fake) in &self.nodes {
            let live = self.live.nodes.entry(*id).or_default();
            if !fake.alive {
                if matches!(live.session, Session::Open { .. }) {
                    live.session = Session::Closed { since: now };
                }
                live.probe = Some(Probe {
                    began: now,
                    ended: now,
                    outcome: ProbeOutcome::Refused,
                });
            }
        }
    }

    pub(crate) fn kill(&mut self, id: NodeId) {
        let fake = self.nodes.get_mut(&id).unwrap();
        fake.alive = false;
        fake.postgres = Postgres::Down { crashed: true };
        fake.confirmed = None;
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().alive = true;
    }

    fn running(&self, id: NodeId, primary: bool) -> bool {
        let fake = &self.nodes[&id];
        fake.alive
            && if primary {
                fake.postgres.is_primary()
            } else {
                fake.postgres.is_standby()
            }
    }

    fn act(&mut self, id: NodeId, goal: Goal) {
        let mut fake = self.nodes[&id].clone();
        if goal.stamp < fake.goal.as_ref().map_or(Stamp::default(), |g| g.stamp) {
            return;
        }
        match &goal.order {
            Order::Wait => fake.reached = goal.stamp,
            Order::Lead(lead) => self.lead(id, &mut fake, &goal, lead),
            Order::Follow(follow) => self.follow(id, &mut fake, &goal, follow),
            Order::Promise { .. } | Order::Reach(_) => promise(&mut fake, &goal),
            Order::Fetch(fetch) => self.fetch(id, &mut fake, &goal, fetch),
            Order::Promote(promote_to) => promote(&mut fake, &goal, promote_to),
            Order::Stop | Order::Drop => {
                fake.postgres = Postgres::Down { crashed: false };
                fake.reached = goal.stamp;
            }
        }
        if fake.reached == goal.stamp {
            fake.state = goal.state;
        }
        fake.goal = Some(goal);
        self.nodes.insert(id, fake);
    }

    fn lead(&mut self, id: NodeId, fake: &mut Fake, goal: &Goal, lead: &Lead) {
        let term = goal.stamp.term;
        if fake.copy.is_none() && lead.may_create {
            fake.copy = Some(CopyId(self.next_copy));
            self.next_copy += 1;
            fake.position = Position {
                timeline: TimelineId(1),
                lsn: Lsn(1000),
            };
        }
        if fake.copy.is_some() && !fake.broken {
            fake.role = CopyRole::Primary { term };
            fake.postgres = Postgres::Running {
                since: SINCE,
                in_recovery: false,
            };
            fake.position.lsn.0 += 1;
            let names = lead.sync.nodes();
            let streaming = names
                .iter()
                .any(|n| self.streams(*n, id, lead) && !self.frozen.contains_key(n));
            if (names.is_empty() || streaming) && !fake.stubborn {
                fake.confirmed = Some(Confirmed {
                    stamp: lead.sync_stamp,
                    postmaster_start: SINCE,
                });
            }
            if lead.checkpoint {
                fake.checkpointed = Some(goal.stamp);
            }
            let confirmed = fake.confirmed.is_some_and(|c| c.stamp == lead.sync_stamp);
            if confirmed || goal.state == NodeState::WaitPrimary {
                fake.reached = goal.stamp;
            }
        }
    }

    fn follow(&mut self, id: NodeId, fake: &mut Fake, goal: &Goal, follow: &Follow) {
        let up = follow.upstream.node;
        if self.running(up, true) && follow.history.is_some() {
            let source = self.nodes[&up].clone();
            let fits = fake.copy.is_some() && source.history.fits(fake.position);
            if !fits && follow.may_replace {
                fake.copy = Some(CopyId(self.next_copy));
                self.next_copy += 1;
                fake.position = source.position;
            }
            if fits || follow.may_replace {
                fake.role = CopyRole::Standby;
                fake.upstream = Some(up);
                fake.postgres = Postgres::Running {
                    since: SINCE,
                    in_recovery: true,
                };
                fake.reached = goal.stamp;
                if self.is_admitted(id, fake.copy) {
                    fake.position = source.position;
                    fake.history = source.history;
                }
            }
        } else if fake.copy.is_some() && fake.role == CopyRole::Standby {
            fake.upstream = None;
            fake.postgres = Postgres::Running {
                since: SINCE,
                in_recovery: true,
            };
            fake.reached = goal.stamp;
        }
    }

    /// Takes everything from the source at once, if that one hands it out.
    fn fetch(&mut self, id: NodeId, fake: &mut Fake, goal: &Goal, fetch: &Fetch) {
        let source = self.nodes[&fetch.source.node].clone();
        let order = source.goal.as_ref().map(|g| &g.order);
        let serves = matches!(order, Some(Order::Promise { serves, .. }) if serves.contains(&id));
        if !serves || !source.alive || !source.postgres.is_standby() {
            return;
        }
        assert!(source.position >= fetch.position, "nothing to fetch");
        let stays = fetch.replace.is_none() || fetch.replace != fake.copy;
        if !stays || fake.copy.is_none() {
            fake.copy = Some(CopyId(self.next_copy));
            self.next_copy += 1;
            fake.role = CopyRole::Standby;
        }
        if fake.role != CopyRole::Standby {
            fake.role = CopyRole::Standby;
        }
        fake.postgres = Postgres::Running {
            since: SINCE,
            in_recovery: true,
        };
        fake.position = source.position;
        fake.history = source.history;
        promise(fake, goal);
    }

    fn is_admitted(&self, id: NodeId, copy: Option<CopyId>) -> bool {
        let group = self.group();
        let leader = group.primary.unwrap();
        copy.is_some_and(|c| group.nodes[&id].admitted == Some((leader.term, c)))
    }

    fn streams(&self, standby: NodeId, primary: NodeId, lead: &Lead) -> bool {
        let Some(fake) = self.nodes.get(&standby) else {
            return false;
        };
        self.running(standby, false)
            && fake.upstream == Some(primary)
            && lead
                .admitted
                .iter()
                .any(|m| m.node == standby && Some(m.copy) == fake.copy)
    }

    fn report(&self, id: NodeId) -> Report {
        let fake = &self.nodes[&id];
        let goal = fake.goal.as_ref().unwrap();
        let Order::Lead(lead) = &goal.order else {
            return self.words(id, Vec::new());
        };
        let others = self
            .nodes
            .keys()
            .filter(|n| **n != id && self.streams(**n, id, lead));
        let standbys = others.map(|n| StandbySeen {
            node: *n,
            streaming: true,
            flushed: fake.position.lsn,
            lag_bytes: 0,
            fresh: !self.is_stale(*n),
            synchronous: true,
        });
        self.words(id, standbys.collect())
    }

    fn is_stale(&self, id: NodeId) -> bool {
        let timeout = self.settings.unhealthy_timeout_ms;
        self.frozen
            .get(&id)
            .is_some_and(|since| self.now.0 - since.0 >= timeout)
    }

    pub(crate) fn freeze(&mut self, id: NodeId) {
        self.frozen.insert(id, self.now);
    }

    fn words(&self, id: NodeId, standbys: Vec<StandbySeen>) -> Report {
        let fake = &self.nodes[&id];
        let goal = fake.goal.as_ref().unwrap();
        let upstream = fake
            .upstream
            .filter(|u| self.running(*u, true))
            .map(|u| UpstreamSeen {
                node: u,
                streaming: self.is_admitted(id, fake.copy),
                fresh: !self.is_stale(u),
                timeline: self.nodes[&u].history.timeline,
            });
        Report {
            protocol: PROTOCOL_VERSION,
            node: id,
            seen: goal.stamp,
            reached: fake.reached,
            state: fake.state,
            copy: fake.copy,
            role: fake.role,
            system_identifier: fake.copy.map(|_| 7),
            postgres: fake.postgres,
            position: fake.copy.map(|_| fake.position),
            history: Some(fake.history.clone()),
            promise: fake.promise,
            confirmed: fake.confirmed,
            checkpointed: fake.checkpointed,
            standbys,
            upstream,
            leased: match &goal.order {
                Order::Lead(lead) if !fake.unguarded => lead.lease,
                _ => None,
            },
            failed_starts: if fake.broken { 3 } else { 0 },
            ..Report::default()
        }
    }

    pub(crate) fn failover(&mut self, allow_data_loss: bool) -> Result<Vec<Event>, Refusal> {
        let live = self.live.clone();
        let at = Now {
            live: &live,
            settings: &self.settings,
            now: self.now,
        };
        operate::perform_failover(
            &mut self.cluster,
            &FormationId::default(),
            GroupId(0),
            allow_data_loss,
            at,
        )
    }

    /// "reported/goal" of a node, for assertions.
    pub(crate) fn state(&self, node: i64) -> String {
        let node = &self.group().nodes[&NodeId(node)];
        alloc::format!("{}/{}", node.reported, node.goal.state)
    }

    pub(crate) fn sync(&self) -> String {
        self.group()
            .possible
            .last()
            .map(|p| p.config.to_string())
            .unwrap_or_default()
    }
}

fn promise(fake: &mut Fake, goal: &Goal) {
    let term = goal.stamp.term;
    if let Order::Reach(reach) = &goal.order {
        fake.position = fake.position.max(reach.position);
    }
    if let Some(copy) = fake.copy {
        if !fake.postgres.is_standby() {
            fake.postgres = Postgres::Down { crashed: false };
        }
        // A standby runs without an upstream, and so does whoever hands WAL out.
        let serves = matches!(&goal.order, Order::Promise { serves, .. } if !serves.is_empty());
        if serves || fake.role == CopyRole::Standby {
            fake.role = CopyRole::Standby;
            fake.postgres = Postgres::Running {
                since: SINCE,
                in_recovery: true,
            };
        }
        fake.upstream = None;
        fake.promise = Some(Promise {
            term,
            copy,
            position: Some(fake.position),
        });
        fake.reached = goal.stamp;
    }
}

fn promote(fake: &mut Fake, goal: &Goal, promote: &Promote) {
    let term = goal.stamp.term;
    assert!(
        fake.position >= promote.position,
        "promoted without everything"
    );
    let fork = Fork {
        timeline: fake.position.timeline,
        at: fake.position.lsn,
    };
    if fake.position.timeline != promote.timeline {
        fake.history.parents.push(fork);
        fake.history.timeline = promote.timeline;
        fake.position.timeline = promote.timeline;
    }
    fake.postgres = Postgres::Running {
        since: SINCE,
        in_recovery: false,
    };
    fake.role = CopyRole::Primary { term };
    fake.reached = goal.stamp;
}
