//! A keeper without a Postgres: it does at once whatever it is told, and reports as a real one does.

use pgaf_protocol::{
    Answer, Confirmed, CopyId, CopyRole, FormationId, GateSettings, GroupId, History, Lsn, NodeId,
    NodeState, Order, PROTOCOL_VERSION, Position, Postgres, Registered, Registration, Report,
    Stamp, StandbySeen, Term, TimelineId, UpstreamSeen,
};

/// Microseconds since 1970 at which every simulated postmaster started.
const STARTED: i64 = 1_700_000_000_000_000;
/// Bytes of WAL between two reports.
const STEP_BYTES: u64 = 8192;

/// One simulated keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    number: u32,
    pair: u32,
    formation: FormationId,
    host: String,
    port: u16,
    registered: Option<Registered>,
    answer: Option<Answer>,
    lsn: u64,
    /// A standby that says it is catching up though it was told to be a secondary: a change that the
    /// monitor has to remember.
    astray: bool,
}

impl Keeper {
    /// Number `number` of all, in a group of `nodes`. Each has an address of its own.
    pub(super) fn new(number: u32, nodes: u32, port: u16) -> Self {
        let [_, b, c, d] = number.to_be_bytes();
        Self {
            number,
            pair: number / nodes,
            formation: FormationId(format!("bench{}", number / nodes)),
            host: format!("127.{}.{c}.{d}", b + 1),
            port,
            registered: None,
            answer: None,
            lsn: 0x0300_0000,
            astray: false,
        }
    }

    pub(super) fn formation(&self) -> &str {
        &self.formation.0
    }

    pub(super) fn registration(&self) -> Registration {
        Registration {
            protocol: PROTOCOL_VERSION,
            token: format!("{:032x}", self.number + 1),
            formation: self.formation.clone(),
            name: format!("node{}", self.number),
            host: self.host.clone(),
            port: self.port,
            dbname: "postgres".into(),
            candidate_priority: 50,
            replication_quorum: true,
            cluster: "default".into(),
            ..Registration::default()
        }
    }

    pub(super) fn registered(&mut self, registered: Registered) {
        self.registered = Some(registered);
    }

    /// Hears an answer or a push; whether it brings a goal that was not reported on yet.
    pub(super) fn hear(&mut self, answer: Answer) -> bool {
        let is_new = self.answer.as_ref().map(|a| &a.goal) != Some(&answer.goal);
        self.answer = Some(answer);
        is_new
    }

    fn order(&self) -> Option<&Order> {
        self.answer.as_ref().map(|a| &a.goal.order)
    }

    pub(super) fn leads(&self) -> bool {
        matches!(self.order(), Some(Order::Lead(_)))
    }

    /// The term of the last goal.
    pub(super) fn term(&self) -> Term {
        self.answer
            .as_ref()
            .map_or(Term::default(), |a| a.goal.stamp.term)
    }

    /// Whether it is where a pair ends up: a primary with sync names that it confirmed, or a
    /// secondary.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.answer.as_ref().map(|a| a.goal.state);
        match self.order() {
            Some(Order::Lead(lead)) => {
                state == Some(NodeState::Primary) && !lead.sync.is_asynchronous()
            }
            Some(Order::Follow(_)) => state == Some(NodeState::Secondary),
            _ => false,
        }
    }

    /// Changes what it reports in a way that the monitor has to store: a standby only.
    pub(super) fn change(&mut self) -> bool {
        let may = matches!(self.order(), Some(Order::Follow(_)));
        self.astray ^= may;
        may
    }

    /// WAL was written meanwhile.
    pub(super) fn advance(&mut self) {
        self.lsn += STEP_BYTES;
    }

    pub(super) fn report(&self) -> Report {
        let (node, group) = self
            .registered
            .as_ref()
            .map_or((NodeId::default(), GroupId::default()), |r| {
                (r.node, r.group)
            });
        let goal = self.answer.as_ref().map(|a| &a.goal);
        let stamp = goal.map_or(Stamp::default(), |g| g.stamp);
        let mut report = Report {
            protocol: PROTOCOL_VERSION,
            formation: self.formation.clone(),
            group,
            node,
            lineage: self.registered.as_ref().map(|r| r.lineage),
            incarnation: self.answer.as_ref().map(|a| a.incarnation),
            seen: stamp,
            reached: stamp,
            state: goal.map_or(NodeState::Init, |g| g.state),
            ..Report::default()
        };
        match self.order() {
            Some(Order::Lead(lead)) => {
                self.running(&mut report, false);
                report.role = CopyRole::Primary { term: stamp.term };
                report.history = Some(History::first());
                report.confirmed = Some(Confirmed {
                    stamp: lead.sync_stamp,
                    postmaster_start: STARTED,
                });
                let lsn = Lsn(self.lsn);
                let seen = lead.admitted.iter().map(|member| StandbySeen {
                    node: member.node,
                    streaming: true,
                    flushed: lsn,
                    lag_bytes: 0,
                    fresh: true,
                    synchronous: lead.sync.members.contains(member),
                });
                report.standbys = seen.collect();
            }
            Some(Order::Follow(follow)) => {
                self.running(&mut report, true);
                report.role = CopyRole::Standby;
                report.replayed = Some(Lsn(self.lsn));
                report.history = Some(History::first());
                report.upstream = Some(UpstreamSeen {
                    node: follow.upstream.node,
                    streaming: true,
                    fresh: true,
                    timeline: TimelineId(1),
                });
                if self.astray {
                    report.state = NodeState::Catchingup;
                }
            }
            _ => {}
        }
        report
    }

    /// What every running Postgres shows.
    fn running(&self, report: &mut Report, in_recovery: bool) {
        report.postgres = Postgres::Running {
            since: STARTED,
            in_recovery,
        };
        report.copy = Some(CopyId(0x00c0_ffee_0000_0000 + u64::from(self.number)));
        report.system_identifier = Some(7_300_000_000_000_000_000 + u64::from(self.pair));
        report.position = Some(Position {
            timeline: TimelineId(1),
            lsn: Lsn(self.lsn),
        });
        report.redo_bytes = Some(STEP_BYTES);
        report.gate = Some(GateSettings {
            max_connections: 100,
            max_worker_processes: 8,
            max_wal_senders: 12,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
        });
    }
}
