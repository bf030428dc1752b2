//! Which goals are obeyed.

use pgaf_protocol::{
    Answer, Goal, Incarnation, KeeperSettings, Lineage, NodeState, Order, PROTOCOL_VERSION, Stamp,
};

use super::world::stamp;
use crate::node::{Accepted, Entry, Journal, Refused, accept};

fn answer(at: Stamp) -> Answer {
    Answer {
        protocol: PROTOCOL_VERSION,
        lineage: Lineage(1),
        incarnation: Incarnation(3),
        goal: Goal {
            stamp: at,
            state: NodeState::WaitStandby,
            order: Order::Wait,
            rule: "test".into(),
        },
        lease: None,
        peers: [].into(),
        settings: KeeperSettings::default(),
        look: None,
        citus: None,
    }
}

fn journal() -> Journal {
    let mut journal = Journal::default();
    let first = answer(stamp(2, 5));
    journal.apply(Entry::Obey {
        goal: first.goal,
        lineage: first.lineage,
        incarnation: first.incarnation,
    });
    journal
}

#[test]
fn newer_goals_are_obeyed_and_the_same_one_changes_nothing() {
    let journal = journal();
    assert_eq!(
        accept(&journal, &answer(stamp(2, 5)), Incarnation(3)),
        Ok(Accepted::Same)
    );
    for newer in [stamp(2, 6), stamp(3, 1)] {
        assert!(matches!(
            accept(&journal, &answer(newer), Incarnation(3)),
            Ok(Accepted::New(_))
        ));
    }
}

#[test]
fn an_older_stamp_is_refused_in_term_and_in_sequence() {
    for older in [stamp(2, 4), stamp(1, 99)] {
        assert!(matches!(
            accept(&journal(), &answer(older), Incarnation(3)),
            Err(Refused::Old { .. })
        ));
    }
}

#[test]
fn another_incarnation_than_the_sessions_is_refused() {
    let journal = journal();
    assert!(matches!(
        accept(&journal, &answer(stamp(3, 9)), Incarnation(4)),
        Err(Refused::Incarnation { .. })
    ));
    let mut thawed = answer(stamp(3, 9));
    thawed.incarnation = Incarnation(2);
    assert!(matches!(
        accept(&journal, &thawed, Incarnation(2)),
        Err(Refused::OldIncarnation { .. })
    ));
    // A restored store begins another life, in which incarnations count anew.
    thawed.lineage = Lineage(2);
    assert!(accept(&journal, &thawed, Incarnation(2)).is_ok());
}

#[test]
fn two_goals_with_one_stamp_are_refused() {
    let mut other = answer(stamp(2, 5));
    other.goal.order = Order::Stop;
    assert!(matches!(
        accept(&journal(), &other, Incarnation(3)),
        Err(Refused::Ambiguous { .. })
    ));
}

#[test]
fn another_protocol_is_refused_whatever_it_says() {
    let mut other = answer(stamp(9, 9));
    other.protocol += 1;
    assert!(matches!(
        accept(&journal(), &other, Incarnation(3)),
        Err(Refused::Protocol { .. })
    ));
}
