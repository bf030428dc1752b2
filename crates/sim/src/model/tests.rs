//! The small configurations that every test run explores; the long ones are `cargo xtask model`.

use super::*;

/// One fault of any kind and a write, in every order, with messages that arrive at once.
fn small() -> Bounds {
    Bounds {
        faults: 1,
        writes: 1,
        grain: Grain::Prompt,
        ..Bounds::quiet(2)
    }
}

fn search(bounds: &Bounds) -> Explored {
    explore(bounds, &mut MemoryLog::default(), &mut |_| true).unwrap()
}

#[test]
fn a_pair_with_one_fault_breaks_nothing_and_has_a_way_out_of_every_state() {
    let found = search(&small());
    assert_eq!(found.broken, None);
    assert!(found.exhausted);
    assert_eq!(found.ways_out.0, found.states);
}

#[test]
fn a_switchover_of_a_pair_breaks_nothing_and_ends() {
    let bounds = Bounds {
        faults: 0,
        switches: 1,
        ..small()
    };
    let found = search(&bounds);
    assert_eq!(found.broken, None);
    assert!(found.exhausted);
    assert!(found.seen.has("phase", "preparing"));
    assert!(found.seen.has("rule", "election.reach-end"));
}

/// What the checker says of a pair whose hosts are killed twice, with a rule broken on purpose.
fn noticed(control: Control) -> String {
    let bounds = Bounds {
        faults: 2,
        only: &[Fault::KillHost],
        way_out_each: 0,
        control: Some(control),
        ..small()
    };
    let found = search(&bounds);
    let (what, history) = found.broken.expect("the checker notices");
    assert!(history.contains("KillHost"), "{history}");
    what
}

#[test]
fn it_notices_that_empty_names_are_forgotten() {
    let what = noticed(Control::AsynchronousForgotten);
    assert!(what.starts_with("nothing-lost"), "{what}");
}

#[test]
fn it_notices_that_a_promotion_opens_under_empty_names() {
    let what = noticed(Control::OpensUnderEmpty);
    assert!(what.starts_with("nothing-lost"), "{what}");
}

#[test]
fn it_notices_that_names_count_once_they_are_shown() {
    let what = noticed(Control::ConfirmedByShow);
    assert!(what.starts_with("nothing-lost"), "{what}");
}

#[test]
fn it_notices_that_anybody_who_promised_may_be_promoted() {
    let bounds = Bounds {
        only: &[Fault::PowerOff],
        way_out_each: 0,
        control: Some(Control::AnyPosition),
        nodes: 3,
        ..small()
    };
    let (what, history) = search(&bounds).broken.expect("the checker notices");
    assert!(what.starts_with("nothing-lost"), "{what}");
    assert!(history.contains("PowerOff"), "{history}");
}

/// Two states that differ in what may still come are told apart by that alone: every state of a pair with
/// one fault is among those of a pair with two.
#[test]
fn a_larger_budget_sees_what_a_smaller_one_sees() {
    let one = Bounds {
        only: &[Fault::RestartMonitor],
        ..small()
    };
    let two = Bounds { faults: 2, ..one };
    let (one, two) = (search(&one), search(&two));
    assert!(one.exhausted && two.exhausted);
    assert_eq!((one.broken, two.broken), (None, None));
    assert!(two.states >= one.states);
    for (kind, word) in &one.seen.0 {
        assert!(two.seen.has(kind, word), "{kind} {word}");
    }
}
