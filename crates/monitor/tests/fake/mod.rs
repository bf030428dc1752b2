//! Ideal keepers without Postgres: each does at once what it is told. They know nothing of the
//! monitor but the words of the protocol, so they serve in-process and over a real session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pgaf_protocol::*;

/// One node: its disk and its Postgres.
#[derive(Debug, Clone, Default)]
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
    pub(crate) lineage: Option<Lineage>,
    pub(crate) formation: FormationId,
    pub(crate) group: GroupId,
    pub(crate) look: Option<Look>,
}

/// Every node, seen by all: that is how streaming is imitated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes(pub(crate) Arc<Mutex<BTreeMap<NodeId, Fake>>>);

/// When every imitated postmaster started.
const SINCE: i64 = 1;

/// A wish to join.
pub(crate) fn wish(token: &str, port: u16) -> Registration {
    Registration {
        protocol: PROTOCOL_VERSION,
        token: token.into(),
        host: "127.0.0.1".into(),
        port,
        dbname: "postgres".into(),
        candidate_priority: 50,
        replication_quorum: true,
        cluster: "default".into(),
        ..Registration::default()
    }
}

impl Nodes {
    pub(crate) fn add(&self, done: &Registered) {
        let fake = Fake {
            alive: true,
            history: History::first(),
            lineage: Some(done.lineage),
            group: done.group,
            ..Fake::default()
        };
        self.0.lock().unwrap().insert(done.node, fake);
    }

    pub(crate) fn get(&self, id: NodeId) -> Fake {
        self.0.lock().unwrap()[&id].clone()
    }

    pub(crate) fn change(&self, id: NodeId, work: impl FnOnce(&mut Fake)) {
        work(self.0.lock().unwrap().get_mut(&id).unwrap());
    }

    pub(crate) fn kill(&self, id: NodeId) {
        self.change(id, |fake| {
            fake.alive = false;
            fake.postgres = Postgres::Down { crashed: true };
            fake.confirmed = None;
        });
    }

    /// Does what the answer says.
    pub(crate) fn obey(&self, id: NodeId, answer: &Answer) {
        let mut nodes = self.0.lock().unwrap();
        let mut fake = nodes[&id].clone();
        fake.lineage = Some(answer.lineage);
        fake.look = answer.look.as_ref().map(|(number, peer)| Look {
            number: *number,
            node: peer.node,
            connected: nodes.get(&peer.node).is_some_and(|n| n.alive),
            heard: nodes.get(&peer.node).is_some_and(|n| n.alive),
        });
        let goal = answer.goal.clone();
        if goal.stamp >= fake.goal.as_ref().map_or(Stamp::default(), |g| g.stamp) {
            carry_out(&nodes, id, &mut fake, &goal);
            if fake.reached == goal.stamp {
                fake.state = goal.state;
            }
            fake.goal = Some(goal);
        }
        nodes.insert(id, fake);
    }

    /// What the node would say now.
    pub(crate) fn report(&self, id: NodeId) -> Report {
        let nodes = self.0.lock().unwrap();
        let fake = &nodes[&id];
        let order = fake.goal.as_ref().map(|g| &g.order);
        let standbys = match order {
            Some(Order::Lead(lead)) => streaming(&nodes, id, lead)
                .map(|node| StandbySeen {
                    node,
                    streaming: true,
                    flushed: fake.position.lsn,
                    lag_bytes: 0,
                    fresh: true,
                    synchronous: true,
                })
                .collect(),
            _ => Vec::new(),
        };
        let upstream = fake.upstream.filter(|up| {
            nodes
                .get(up)
                .is_some_and(|n| n.alive && n.postgres.is_primary())
        });
        Report {
            protocol: PROTOCOL_VERSION,
            formation: fake.formation.clone(),
            group: fake.group,
            node: id,
            lineage: fake.lineage,
            seen: fake.goal.as_ref().map(|g| g.stamp).unwrap_or_default(),
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
            upstream: upstream.map(|node| UpstreamSeen {
                node,
                streaming: true,
                fresh: true,
                timeline: fake.history.timeline,
            }),
            look: fake.look,
            ..Report::default()
        }
    }
}

fn running(in_recovery: bool) -> Postgres {
    Postgres::Running {
        since: SINCE,
        in_recovery,
    }
}

/// The standbys that stream from `id` through the gate that `lead` keeps.
fn streaming<'a>(
    nodes: &'a BTreeMap<NodeId, Fake>,
    id: NodeId,
    lead: &'a Lead,
) -> impl Iterator<Item = NodeId> + 'a {
    lead.admitted
        .iter()
        .filter(move |m| {
            nodes.get(&m.node).is_some_and(|n| {
                n.alive
                    && n.postgres.is_standby()
                    && n.upstream == Some(id)
                    && n.copy == Some(m.copy)
            })
        })
        .map(|m| m.node)
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm for each order, as a keeper has"
)]
fn carry_out(nodes: &BTreeMap<NodeId, Fake>, id: NodeId, fake: &mut Fake, goal: &Goal) {
    let new_copy = || CopyId(u64::try_from(id.0).unwrap() * 1000 + goal.stamp.sequence.0);
    match &goal.order {
        Order::Wait => fake.reached = goal.stamp,
        Order::Lead(lead) => {
            if fake.copy.is_none() && lead.may_create {
                fake.copy = Some(new_copy());
                fake.position = Position {
                    timeline: TimelineId(1),
                    lsn: Lsn(1000),
                };
            }
            fake.role = CopyRole::Primary {
                term: goal.stamp.term,
            };
            fake.postgres = running(false);
            let names = lead.sync.nodes();
            if names.is_empty() || streaming(nodes, id, lead).any(|n| names.contains(&n)) {
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
        Order::Follow(follow) => {
            let Some(source) = nodes.get(&follow.upstream.node) else {
                return;
            };
            if !(source.alive && source.postgres.is_primary() && follow.history.is_some()) {
                return;
            }
            let fits = fake.copy.is_some() && source.history.fits(fake.position);
            if !fits && follow.may_replace {
                fake.copy = Some(new_copy());
            }
            if fits || follow.may_replace {
                fake.role = CopyRole::Standby;
                fake.upstream = Some(follow.upstream.node);
                fake.postgres = running(true);
                fake.position = source.position;
                fake.history = source.history.clone();
                fake.reached = goal.stamp;
            }
        }
        Order::Promise { .. } | Order::Reach(_) | Order::Fetch(_) => {
            if let Order::Reach(reach) = &goal.order {
                fake.position = fake.position.max(reach.position);
            }
            if !fake.postgres.is_standby() {
                fake.postgres = Postgres::Down { crashed: false };
            }
            fake.upstream = None;
            fake.promise = fake.copy.map(|copy| Promise {
                term: goal.stamp.term,
                copy,
                position: Some(fake.position),
            });
            fake.reached = goal.stamp;
        }
        Order::Promote(promote) if fake.position.timeline == promote.timeline => {
            fake.reached = goal.stamp;
        }
        Order::Promote(promote) => {
            fake.history.parents.push(Fork {
                timeline: fake.position.timeline,
                at: fake.position.lsn,
            });
            fake.history.timeline = promote.timeline;
            fake.position.timeline = promote.timeline;
            fake.role = CopyRole::Primary {
                term: goal.stamp.term,
            };
            fake.postgres = running(false);
            fake.upstream = None;
            fake.reached = goal.stamp;
        }
        Order::Stop | Order::Drop => {
            fake.postgres = Postgres::Down { crashed: false };
            fake.reached = goal.stamp;
        }
    }
}
