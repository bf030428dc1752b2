//! Every order in every situation: a step, the goal, or a named wait; and never a broken rule.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use pgaf_protocol::{CopyId, CopyRole, Order, Postgres, SyncConfig, Term};

use super::world::{OTHER, World, orders, peer, stamp};
use crate::group::rules::{self, Section};
use crate::node::{Conf, Directory, Work};

fn situations() -> Vec<(String, World)> {
    let mut all = vec![(String::from("absent"), World::new())];
    let mut broken = World::with_copy(CopyRole::Standby, false);
    broken.observation.directory = Directory::Broken {
        why: "no pg_control".into(),
    };
    all.push(("broken".into(), broken));
    let mut unnamed = World::with_copy(CopyRole::Primary { term: Term(1) }, true);
    unnamed.journal.copy = None;
    unnamed.journal.role = CopyRole::None;
    all.push(("unknown copy".into(), unnamed));
    let roles = [
        CopyRole::Primary { term: Term(1) },
        CopyRole::Primary { term: Term(2) },
        CopyRole::Standby,
    ];
    for role in roles {
        for clean in [true, false] {
            let world = World::with_copy(role, clean);
            all.push((format!("down, {role:?}, clean {clean}"), world));
        }
        let mut left = World::with_copy(role, false);
        left.observation.leftovers = true;
        all.push((format!("leftovers, {role:?}"), left));
        let confs = if role == CopyRole::Standby {
            vec![None, Some(Conf::follow(&peer())), Some(Conf::promise())]
        } else {
            vec![
                None,
                Some(Conf::primary(&SyncConfig::asynchronous())),
                Some(Conf::primary(&SyncConfig::any(1, [OTHER]))),
            ]
        };
        for conf in confs {
            let text = format!("running, {role:?}, {conf:?}");
            all.push((text, World::running(role, conf)));
        }
        for postgres in [Postgres::Starting, Postgres::Unresponsive] {
            let mut world = World::running(role, None);
            world.observation.server = None;
            world.observation.postgres = postgres;
            all.push((format!("{postgres:?}, {role:?}"), world));
        }
    }
    all
}

fn works() -> Vec<Option<Work>> {
    let copy = CopyId(0xe);
    vec![
        None,
        Some(Work::Initdb { copy }),
        Some(Work::Rewind { copy }),
        Some(Work::Replace { copy }),
        Some(Work::Promote { term: Term(2) }),
        Some(Work::Promote { term: Term(1) }),
    ]
}

#[test]
fn every_order_in_every_situation_settles_with_a_word() {
    let mut count = 0;
    let mut reached = 0;
    for (name, situation) in situations() {
        for (state, order) in orders() {
            for work in works() {
                for promise in [None, Some(Term(1)), Some(Term(2))] {
                    for heard in [true, false] {
                        let mut world = situation.clone();
                        world.journal.work = work;
                        world.journal.promise = promise;
                        let at = stamp(2, 3);
                        world.obey(at, state, order.clone(), heard);
                        let plan = world.settle();
                        count += 1;
                        reached += usize::from(plan.reached);
                        assert!(
                            plan.reached || plan.waiting.is_some() || plan.trouble.is_some(),
                            "{name}, {order:?}, {work:?}, {promise:?}, {heard}: {plan:?}"
                        );
                    }
                }
            }
        }
    }
    assert!(count > 5000, "{count}");
    assert!(reached * 2 > count / 2, "{reached} of {count}");
}

#[test]
fn a_keeper_that_is_killed_between_any_two_steps_ends_in_the_same_place() {
    for (name, situation) in situations() {
        for (state, order) in orders() {
            let mut straight = situation.clone();
            straight.obey(stamp(2, 3), state, order.clone(), true);
            let wanted = straight.settle();
            let steps = straight.steps.len();
            for kill_after in 0..steps {
                let mut world = situation.clone();
                world.obey(stamp(2, 3), state, order.clone(), true);
                world.run_and_die(kill_after);
                let plan = world.settle();
                assert_eq!(
                    (
                        plan.reached,
                        world.journal.state,
                        world.observation.postgres.is_primary()
                    ),
                    (
                        wanted.reached,
                        straight.journal.state,
                        straight.observation.postgres.is_primary()
                    ),
                    "{name}, {order:?}, killed after {kill_after} of {:?}, then {:?}: {plan:?}",
                    straight.words(),
                    world.words()
                );
            }
        }
    }
}

impl World {
    /// Does so many steps, then loses all memory; the goal is heard again afterwards.
    fn run_and_die(&mut self, steps: usize) {
        for _ in 0..steps {
            self.memory.saw(&self.observation, self.now);
            let Some(step) = crate::node::decide(&self.view()).step else {
                self.now.0 += 3000;
                continue;
            };
            self.take(&step);
        }
        let fresh = CopyId(self.memory.fresh.0 + 100);
        self.memory = crate::node::Memory::new(self.now, fresh);
        self.memory.obeyed(false, self.now);
        self.memory.leased(pgaf_protocol::Time(u64::MAX));
        self.steps.clear();
    }
}

/// Whether an order is one that a row of the monitor's table gives.
fn is_of(kind: rules::Kind, order: &Order) -> bool {
    use rules::Kind;
    match kind {
        Kind::Keep => false,
        Kind::Wait => *order == Order::Wait,
        Kind::Drop => *order == Order::Drop,
        Kind::Lead => matches!(order, Order::Lead(_)),
        Kind::Follow => matches!(order, Order::Follow(_)),
        Kind::Promise => matches!(order, Order::Promise { .. }),
        Kind::Reach => matches!(order, Order::Reach(_)),
        Kind::Fetch => matches!(order, Order::Fetch(_)),
        Kind::Stop => matches!(order, Order::Stop),
        Kind::Promote => matches!(order, Order::Promote(_)),
    }
}

#[test]
fn every_goal_that_the_monitor_can_assign_is_reached_from_somewhere() {
    for rule in Section::ALL.iter().flat_map(|s| s.rules()) {
        if rule.kind == rules::Kind::Keep {
            continue;
        }
        let orders: Vec<Order> = orders()
            .into_iter()
            .map(|(_, order)| order)
            .filter(|order| is_of(rule.kind, order))
            .collect();
        let reached = situations().iter().any(|(_, situation)| {
            orders.iter().any(|order| {
                let mut world = situation.clone();
                world.obey(stamp(2, 3), rule.state, order.clone(), true);
                let plan = world.settle();
                plan.reached && world.journal.state == rule.state
            })
        });
        assert!(reached, "{}: nobody reaches {}", rule.id, rule.state);
    }
}
