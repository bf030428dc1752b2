//! A handful of fixed seeds, the scenarios, and that a seed is the whole story.

use std::path::Path;

use pgaf_sim::script::Script;
use pgaf_sim::{Sabotage, play, run_sabotaged, run_seed, trace_seed};

/// Writes what happened where the developer can read it, and says where.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness may write what the simulator may not"
)]
fn keep(name: &str, trace: &str) -> String {
    let path = std::env::temp_dir().join(format!("pgaf-sim-{name}.trace"));
    match std::fs::write(&path, trace) {
        Ok(()) => format!("trace in {}", path.display()),
        Err(error) => format!("no trace: {error}"),
    }
}

fn check(nodes: usize, seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        let run = run_seed(seed, nodes);
        if let Some(broken) = &run.broken {
            let trace = trace_seed(seed, nodes, None).trace;
            let kept = keep(&format!("{nodes}-{seed}"), &trace);
            panic!("seed {seed} with {nodes} nodes: {broken}\n{kept}");
        }
        assert!(
            run.acknowledged > 500,
            "seed {seed}: hardly anything was written"
        );
        assert!(run.virtual_ms >= 600_000);
    }
}

#[test]
fn fixed_seeds_of_pairs_keep_every_invariant() {
    check(2, 1..=6);
}

#[test]
fn fixed_seeds_of_three_nodes_keep_every_invariant() {
    check(3, 1..=5);
}

#[test]
fn fixed_seeds_of_four_nodes_keep_every_invariant() {
    check(4, 1..=2);
    // Two acknowledgements are asked for: these ended in a state that nothing led out of.
    check(4, 130..=130);
    check(4, 302..=302);
}

/// Those of `cargo xtask sim --controls` that have a seed: each is clean without.
#[test]
fn broken_rules_are_noticed_by_seeds_that_are_clean_without() {
    let known = [
        (Sabotage::PromiseNotFsynced, 763, 2),
        (Sabotage::PromiseLostAtRestart, 548, 2),
        (Sabotage::ConfirmedByShow, 7, 2),
        (Sabotage::PositionOnTheWay, 85, 2),
        (Sabotage::DownTakenForPromise, 433, 2),
        (Sabotage::RestoredTrusted, 4, 2),
        (Sabotage::TimelineTwice, 471, 3),
        (Sabotage::OpensUnderNobody, 5, 4),
        (Sabotage::AsynchronousForgotten, 211, 2),
        (Sabotage::OlderTermsHidden, 6787, 2),
        (Sabotage::SlotsForAll, 2, 2),
        (Sabotage::ReplacedWhileNamed, 257, 3),
        (Sabotage::ShrinkBeforeConfirm, 975, 3),
        (Sabotage::OlderGoalObeyed, 215, 2),
        (Sabotage::PromotedAnywhere, 93, 2),
        (Sabotage::ChildrenNotAwaited, 9, 3),
        (Sabotage::GivenUpUnrevoked, 468, 3),
        (Sabotage::ListedEarly, 33, 3),
    ];
    for (how, seed, nodes) in known {
        assert_eq!(run_seed(seed, nodes).broken, None, "seed {seed}");
        let caught = run_sabotaged(seed, nodes, how).broken;
        assert!(
            caught.is_some(),
            "{}: the simulator is too kind",
            how.word()
        );
    }
}

#[test]
fn fixed_seeds_of_asynchronous_groups_keep_every_invariant() {
    for seed in [5, 13, 21, 29, 37, 45] {
        check(2, seed..=seed);
        check(3, seed..=seed);
    }
}

#[test]
fn a_lease_that_is_not_awaited_and_a_missing_fencer_are_noticed() {
    for how in [Sabotage::LeaseNotAwaited, Sabotage::NoFencer] {
        let caught = (0..30).any(|n| run_sabotaged(5 + 8 * n, 2, how).broken.is_some());
        assert!(caught, "the simulator is too kind: {how:?}");
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    let (one, two) = (trace_seed(42, 3, None), trace_seed(42, 3, None));
    assert!(one.trace == two.trace, "the traces differ");
    assert!(one.trace.len() > 10_000);
    assert!(one.trace != trace_seed(43, 3, None).trace);
    let silent = run_seed(42, 3);
    assert_eq!(
        silent.acknowledged, one.acknowledged,
        "writing it down changes it"
    );
    assert_eq!(silent.coverage, one.coverage);
}

#[test]
fn every_scenario_holds_in_the_simulator() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    files.sort();
    assert!(files.len() > 10, "no scenarios in {}", folder.display());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let script = Script::parse(&text).unwrap();
        for seed in 1..=3 {
            let played = play(&script, seed);
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            if let Some(broken) = &played.broken {
                let kept = keep(&name, &played.trace);
                panic!("{name} with seed {seed}: {broken}\n{kept}");
            }
        }
    }
}
