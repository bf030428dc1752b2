//! A Postgres and a data directory in memory, which carry out steps as the real ones would.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use pgaf_protocol::{
    CopyId, CopyRole, Fetch, Follow, Fork, Goal, History, Incarnation, Lead, Lineage, Lsn, Member,
    NodeId, NodeState, Order, Peer, Position, Postgres, Promote, Reach, Sequence, Stamp,
    SyncConfig, Term, Time, TimelineId,
};

use crate::node::{
    Conf, Contents, Directory, Entry, Journal, Memory, Names, NodeView, Observation, Outcome, Plan,
    Receiver, Replication, RewindEnd, Server, Step, StopMode, decide,
};

pub(super) const OWN: CopyId = CopyId(0xa);
pub(super) const OTHER: Member = Member {
    node: NodeId(2),
    copy: CopyId(0xb),
};

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) journal: Journal,
    pub(super) memory: Memory,
    pub(super) observation: Observation,
    pub(super) now: Time,
    /// The end of the copy's WAL.
    pub(super) end: Position,
    pub(super) steps: Vec<Step>,
    since: i64,
}

pub(super) fn stamp(term: u64, sequence: u64) -> Stamp {
    Stamp {
        term: Term(term),
        sequence: Sequence(sequence),
    }
}

pub(super) fn peer() -> Peer {
    Peer {
        node: NodeId(2),
        name: "node_2".into(),
        host: "b".into(),
        port: 5432,
    }
}

/// The history of timeline 2, which left timeline 1 at `at`.
pub(super) fn second(at: u64) -> History {
    History {
        timeline: TimelineId(2),
        parents: vec![Fork {
            timeline: TimelineId(1),
            at: Lsn(at),
        }],
    }
}

pub(super) fn at(lsn: u64) -> Position {
    Position {
        timeline: TimelineId(1),
        lsn: Lsn(lsn),
    }
}

/// To lead under `''`, in lease mode.
fn leased() -> Order {
    Order::Lead(Lead {
        sync: SyncConfig::asynchronous(),
        sync_stamp: stamp(2, 2),
        lease: Some(stamp(2, 3)),
        ..Lead::default()
    })
}

/// Each kind of order, with its variants, and the state it leads to.
pub(super) fn orders() -> Vec<(NodeState, Order)> {
    let lead = |sync: SyncConfig, may_create| {
        Order::Lead(Lead {
            sync,
            sync_stamp: stamp(2, 2),
            may_create,
            ..Lead::default()
        })
    };
    let follow = |history, may_replace| {
        Order::Follow(Follow {
            upstream: peer(),
            history,
            may_replace,
        })
    };
    let fetch = |lsn, replace| {
        Order::Fetch(Fetch {
            source: peer(),
            position: at(lsn),
            replace,
        })
    };
    vec![
        (NodeState::WaitStandby, Order::Wait),
        (NodeState::Single, lead(SyncConfig::asynchronous(), true)),
        (
            NodeState::WaitPrimary,
            lead(SyncConfig::asynchronous(), false),
        ),
        (NodeState::Primary, lead(SyncConfig::any(1, [OTHER]), false)),
        (NodeState::Primary, leased()),
        (NodeState::Catchingup, follow(None, true)),
        (NodeState::Catchingup, follow(Some(second(100)), true)),
        (NodeState::Catchingup, follow(Some(second(50)), true)),
        (NodeState::Secondary, follow(Some(second(50)), false)),
        (NodeState::ReportLsn, Order::promise(false)),
        (
            NodeState::ReportLsn,
            Order::Promise {
                fast: false,
                serves: [NodeId(3)].into(),
            },
        ),
        (NodeState::Demoted, Order::promise(true)),
        (NodeState::FastForward, fetch(90, None)),
        (NodeState::FastForward, fetch(200, None)),
        (NodeState::FastForward, fetch(200, Some(OWN))),
        (
            NodeState::PreparePromotion,
            Order::Reach(Reach { position: at(100) }),
        ),
        (
            NodeState::StopReplication,
            Order::Promote(Promote {
                sync: SyncConfig::any(1, [OTHER]),
                sync_stamp: stamp(2, 2),
                admitted: [OTHER].into(),
                position: at(100),
                timeline: TimelineId(2),
            }),
        ),
        (NodeState::Maintenance, Order::Stop),
        (NodeState::Dropped, Order::Drop),
    ]
}

impl World {
    /// A node with nothing.
    pub(super) fn new() -> Self {
        let journal = Journal {
            node: NodeId(1),
            ..Journal::default()
        };
        Self {
            journal,
            memory: Memory::new(Time(0), CopyId(0xf)),
            observation: Observation::default(),
            now: Time(10),
            end: at(100),
            steps: Vec::new(),
            since: 0,
        }
    }

    /// With a stopped copy.
    pub(super) fn with_copy(role: CopyRole, clean: bool) -> Self {
        let mut world = Self::new();
        world.journal.copy = Some(OWN);
        world.journal.role = role;
        world.journal.prepared = true;
        world.journal.upstream = Some(peer());
        world.observation.directory = Directory::Present(Contents {
            copy: Some(OWN),
            system_identifier: 7,
            was_primary: matches!(role, CopyRole::Primary { .. }),
            clean,
            timeline: TimelineId(1),
            history: Some(History::first()),
        });
        world.observation.postgres = Postgres::Down { crashed: !clean };
        world
    }

    /// With Postgres running under a role.
    pub(super) fn running(role: CopyRole, conf: Option<Conf>) -> Self {
        let mut world = Self::with_copy(role, false);
        let standby = !matches!(role, CopyRole::Primary { .. });
        let loaded = conf.clone().unwrap_or_else(Conf::promise);
        world.started(standby, &loaded);
        world.memory.saw(&world.observation, world.now);
        world.memory.conf = conf;
        world
    }

    /// Makes a goal the one that is obeyed.
    pub(super) fn obey(&mut self, at: Stamp, state: NodeState, order: Order, heard: bool) {
        self.journal.apply(Entry::Obey {
            goal: Goal {
                stamp: at,
                state,
                order,
                rule: "test".into(),
            },
            lineage: Lineage(1),
            incarnation: Incarnation(1),
        });
        if heard {
            self.memory.obeyed(true, self.now);
            self.memory.leased(Time(u64::MAX));
        }
    }

    pub(super) fn view(&self) -> NodeView<'_> {
        NodeView {
            journal: &self.journal,
            memory: &self.memory,
            observation: &self.observation,
            now: self.now,
        }
    }

    /// Goes on until there is no step any more; answers the last plan.
    pub(super) fn settle(&mut self) -> Plan {
        let mut idle = 0;
        for _ in 0..200 {
            self.arrive();
            self.memory.saw(&self.observation, self.now);
            let plan = decide(&self.view());
            let Some(step) = plan.step.clone() else {
                // What waits for time gets it.
                idle += 1;
                if idle > 3 || plan.end {
                    return plan;
                }
                self.now = Time(self.now.0 + 3000);
                continue;
            };
            idle = 0;
            self.check(&step);
            self.steps.push(step.clone());
            self.take(&step);
        }
        panic!(
            "never settles: {:#?}",
            self.steps.iter().rev().take(6).collect::<Vec<_>>()
        );
    }

    /// Does a step, as the loop would.
    pub(super) fn take(&mut self, step: &Step) {
        if let Step::Journal(entry) = step {
            let before = self.journal.copy;
            self.journal.apply(entry.clone());
            if self.journal.copy != before && self.journal.copy == Some(self.memory.fresh) {
                let named = self.observation.directory.contents().map(|c| c.copy);
                if named == Some(self.journal.copy) {
                    self.memory.fresh = CopyId(self.memory.fresh.0 + 1);
                }
            }
            return;
        }
        self.memory.began(step);
        let outcome = self.apply(step);
        let since = self.observation.since();
        self.memory
            .finished(step, &outcome, &self.journal, since, self.now);
        if matches!(step, Step::EnsureObjects) {
            self.journal.apply(Entry::Prepared);
        }
        if matches!(step, Step::Checkpoint { .. }) {
            self.journal.apply(Entry::Checkpointed);
        }
        if matches!(step, Step::NameCopy { .. } | Step::SwapIn { .. }) {
            self.memory.fresh = CopyId(self.memory.fresh.0 + 1);
        }
        self.now = Time(self.now.0 + 1);
    }

    fn contents(&mut self) -> &mut Contents {
        match &mut self.observation.directory {
            Directory::Present(contents) => contents,
            Directory::Absent | Directory::Broken { .. } => panic!("no copy"),
        }
    }

    fn started(&mut self, standby: bool, conf: &Conf) {
        self.since += 1;
        let end = self.end;
        let contents = self.contents();
        contents.was_primary = !standby;
        contents.clean = false;
        let history = contents.history.clone();
        self.observation.postgres = Postgres::Running {
            since: self.since,
            in_recovery: standby,
        };
        self.observation.server = Some(Server {
            in_recovery: standby,
            timeline: end.timeline,
            lsn: end.lsn,
            received: standby.then_some(end.lsn),
            replayed: standby.then_some(end.lsn),
            receiver: standby.then_some(Receiver {
                streaming: true,
                fresh: true,
            }),
            history,
            ..Server::default()
        });
        self.load(conf);
    }

    fn load(&mut self, conf: &Conf) {
        if let Some(server) = &mut self.observation.server {
            server.names = match &conf.names {
                Names::Nobody => String::from("nobody"),
                Names::Sync(sync) => sync.to_setting(),
            };
        }
    }

    /// What is fetched arrives at once.
    fn arrive(&mut self) {
        let goal = self.journal.goal.as_ref().map(|goal| &goal.order);
        let conf = self.memory.conf.as_ref().map(|conf| &conf.replication);
        if let (Some(Order::Fetch(fetch)), Some(Replication::Follow(_)), Some(server)) =
            (goal, conf, &mut self.observation.server)
        {
            self.end = self.end.max(fetch.position);
            (server.lsn, server.received) = (self.end.lsn, Some(self.end.lsn));
            server.timeline = self.end.timeline;
        }
    }

    fn down(&mut self, clean: bool) {
        self.observation.postgres = Postgres::Down { crashed: false };
        self.observation.server = None;
        self.observation.leftovers = false;
        if let Directory::Present(contents) = &mut self.observation.directory {
            contents.clean = clean;
        }
    }

    fn copied(&mut self, copy: CopyId, role: CopyRole) {
        let made = role == CopyRole::None;
        let order = self.journal.goal.as_ref().map(|goal| &goal.order);
        let (timeline, source) = match order {
            Some(Order::Follow(follow)) => (TimelineId(2), follow.history.clone()),
            Some(Order::Fetch(fetch)) => (fetch.position.timeline, None),
            _ => (TimelineId(2), None),
        };
        let timeline = if made { TimelineId(1) } else { timeline };
        self.observation.directory = Directory::Present(Contents {
            copy: Some(copy),
            system_identifier: 7,
            was_primary: made,
            clean: made,
            timeline,
            history: if made { Some(History::first()) } else { source },
        });
        self.end = Position {
            timeline,
            lsn: Lsn(200),
        };
        self.observation.postgres = Postgres::Down { crashed: false };
    }

    fn apply(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Journal(_) => unreachable!("the loop's"),
            Step::EndCluster => self.observation.leftovers = false,
            Step::Initdb { copy } => self.copied(*copy, CopyRole::None),
            Step::NameCopy { copy } => self.contents().copy = Some(*copy),
            Step::Start { standby, conf, .. } => {
                assert!(self.observation.is_down(), "started twice");
                self.started(*standby, conf);
            }
            Step::Stop { mode } => self.down(*mode == StopMode::Fast),
            Step::ReadPosition => return Outcome::Position { position: self.end },
            Step::Load { conf } => self.load(conf),
            Step::StopReceiving { conf } => {
                self.load(conf);
                return Outcome::Position { position: self.end };
            }
            Step::LoadEmpty { conf, .. }
            | Step::TurnWaitingOn { conf, .. }
            | Step::Confirm { conf, .. } => {
                self.load(conf);
                return Outcome::Confirmed {
                    postmaster_start: self.since,
                };
            }
            Step::EndSender { .. } => {
                if let Some(server) = &mut self.observation.server {
                    server.senders.clear();
                }
            }
            Step::Promote { timeline, .. } => {
                self.end.timeline = *timeline;
                self.observation.postgres = Postgres::Running {
                    since: self.since,
                    in_recovery: false,
                };
                if let Some(server) = &mut self.observation.server {
                    server.in_recovery = false;
                    server.timeline = *timeline;
                }
                self.contents().was_primary = true;
            }
            Step::Rewind { copy, .. } => {
                self.copied(*copy, CopyRole::Standby);
                return Outcome::Rewound {
                    end: RewindEnd::Done,
                };
            }
            Step::SwapIn { copy } => self.copied(*copy, CopyRole::Standby),
            Step::AskPeers => return Outcome::Peers { newer: false },
            Step::StartFencer { .. } => self.observation.fencer = true,
            Step::EndFencer => self.observation.fencer = false,
            Step::EnsureSlots { .. }
            | Step::EnsureObjects
            | Step::WriteHba { .. }
            | Step::Checkpoint { .. }
            | Step::BaseBackup { .. } => {}
        }
        Outcome::Done
    }

    /// What no step may ever do (`safety.md` §10).
    fn check(&self, step: &Step) {
        let goal = self.journal.goal.as_ref();
        let order = goal.map(|goal| &goal.order);
        let term = goal.map(|goal| goal.stamp.term);
        let heard = self.memory.heard;
        if matches!(step, Step::Start { standby: false, .. }) {
            assert!(!self.journal.promised_away(), "promise broken: {self:#?}");
            assert_eq!(self.journal.opened(), term, "opens in its goal's term only");
            let leads = matches!(order, Some(Order::Lead(_) | Order::Promote(_)));
            assert!(leads, "opens without an order");
            let contents = self.observation.directory.contents();
            let was_primary = contents.is_some_and(|c| c.was_primary);
            assert!(was_primary, "opens a standby's copy");
        }
        let opens = matches!(
            step,
            Step::Start {
                standby: false,
                closed: false,
                ..
            } | Step::WriteHba { closed: false }
        );
        if opens && self.journal.lease().is_some() {
            assert!(
                self.observation.fencer,
                "open in lease mode without a fencer"
            );
            let until = self.memory.lease_until;
            assert!(until > Some(self.now), "open in lease mode without a lease");
        }
        if matches!(step, Step::Promote { .. }) {
            assert!(heard, "promotes without having heard the goal in this run");
            assert!(matches!(order, Some(Order::Promote(_))));
            assert!(self.memory.receives_nothing(), "promotes while it receives");
            assert!(self.journal.promise >= term);
        }
        if matches!(
            step,
            Step::Rewind { .. } | Step::BaseBackup { .. } | Step::SwapIn { .. }
        ) {
            assert!(heard, "replaces a copy without a word");
            match order {
                Some(Order::Follow(follow)) => {
                    assert!(follow.may_replace || self.journal.copy.is_none());
                    let known = follow.history.is_some();
                    assert!(known, "from somebody who is no primary yet");
                }
                Some(Order::Fetch(_)) => {
                    assert!(!matches!(step, Step::Rewind { .. }), "rewound to a standby");
                }
                order => panic!("replaces a copy on {order:?}"),
            }
        }
        if matches!(step, Step::Initdb { .. }) {
            assert!(heard);
            assert!(matches!(order, Some(Order::Lead(lead)) if lead.may_create));
        }
        if let Step::Load { conf } = step
            && self.observation.postgres.is_standby()
        {
            let weak = matches!(&conf.names, Names::Sync(s) if s.is_asynchronous());
            assert!(!weak, "a standby whose commits would not wait");
        }
    }

    /// What the keeper would report now.
    pub(super) fn said(&self, plan: &Plan) -> pgaf_protocol::Report {
        crate::node::report(&self.view(), plan, &crate::node::Extras::default())
    }

    pub(super) fn words(&self) -> Vec<String> {
        self.steps.iter().map(|s| s.word().to_string()).collect()
    }
}
