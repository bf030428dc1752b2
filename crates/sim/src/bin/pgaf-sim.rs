//! The simulator's own program, for `cargo xtask sim`: an optimised build needs only the deciding crates.
#![expect(
    clippy::disallowed_types,
    reason = "the harness may use the clock that the simulator may not"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use pgaf_sim::{Sabotage, SeedRun, Seeds, Total, run_seed, trace_seed};

/// A control has to be noticed within so many seeds.
const NOTICED_WITHIN: u64 = 10_000;

/// What is asked for.
struct Wish {
    seeds: Seeds,
    controls: Vec<Sabotage>,
    traces: Option<PathBuf>,
    coverage: bool,
}

fn main() -> ExitCode {
    let wish = match parse(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            say(&why);
            return ExitCode::from(2);
        }
    };
    let good = if wish.controls.is_empty() {
        storms(&wish)
    } else {
        controls(&wish)
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn now() -> Instant {
    Instant::now()
}

/// Runs seeds as they are; whether all invariants held.
fn storms(wish: &Wish) -> bool {
    let start = now();
    let mut told = 0;
    let total = wish.seeds.run(|run| {
        told += 1;
        if told % 5000 == 0 {
            say(&format!(
                "{told} seeds after {:.0} s",
                start.elapsed().as_secs_f64()
            ));
        }
        if let Some(broken) = &run.broken {
            say(&format!(
                "seed {} with {} nodes: {broken}",
                run.seed, run.nodes
            ));
            keep_trace(wish, run, None);
        }
        true
    });
    say(&summary(&total, start.elapsed().as_secs_f64()));
    if wish.coverage {
        for (what, count) in total.coverage.counts() {
            say(&format!("  {count:>9} {what}"));
        }
    }
    for (what, reason) in total.coverage.missing() {
        match reason {
            Some(reason) => say(&format!("never happened, as expected: {what}: {reason}")),
            None => say(&format!("never happened: {what}")),
        }
    }
    for what in total.coverage.stale() {
        say(&format!(
            "happened, though a reason says why it need not: {what}"
        ));
    }
    total.broken.is_empty()
}

fn summary(total: &Total, took: f64) -> String {
    let runs = u32::try_from(total.runs).unwrap_or(u32::MAX);
    format!(
        "{} seeds, {} broken; {} faults, {} acknowledged commits, {} virtual hours; {took:.1} s, {:.0} seeds a minute",
        total.runs,
        total.broken.len(),
        total.faults,
        total.acknowledged,
        total.virtual_ms / 3_600_000,
        60.0 * f64::from(runs) / took.max(0.001),
    )
}

/// Runs seeds with one rule broken each; whether each was noticed by a seed that is clean without.
fn controls(wish: &Wish) -> bool {
    let mut all = true;
    let count = wish.seeds.count.max(NOTICED_WITHIN);
    say("| Broken rule | First seed | Nodes | Noticed as |");
    say("|---|---|---|---|");
    for how in &wish.controls {
        let seeds = Seeds {
            count,
            sabotage: Some(*how),
            ..wish.seeds
        };
        let total =
            seeds.run(|run| run.broken.is_none() || run_seed(run.seed, run.nodes).broken.is_some());
        let first = total
            .broken
            .iter()
            .filter(|run| run_seed(run.seed, run.nodes).broken.is_none())
            .min_by_key(|run| run.seed);
        match first {
            Some(run) => {
                let broken = run.broken.as_deref().unwrap_or_default();
                say(&format!(
                    "| {} | {} | {} | {broken} |",
                    how.word(),
                    run.seed,
                    run.nodes
                ));
                keep_trace(wish, run, Some(*how));
            }
            None => {
                all = false;
                say(&format!("| {} | **none of {count}** | | |", how.word()));
            }
        }
    }
    all
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness may write what the simulator may not"
)]
fn keep_trace(wish: &Wish, run: &SeedRun, how: Option<Sabotage>) {
    let Some(folder) = &wish.traces else { return };
    let again = trace_seed(run.seed, run.nodes, how);
    let name = how.map_or("seed", Sabotage::word);
    let path = folder.join(format!("{name}-{}-nodes-{}.trace", run.seed, run.nodes));
    let done = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, again.trace));
    if let Err(error) = done {
        say(&format!("no trace: {}: {error}", path.display()));
    } else if how.is_none() {
        say(&format!("  its trace: {}", path.display()));
    }
}

fn parse(words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut wish = Wish {
        seeds: Seeds {
            first: 1,
            count: 1,
            nodes: None,
            sabotage: None,
            threads,
        },
        controls: Vec::new(),
        traces: None,
        coverage: false,
    };
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        let number = || value.parse::<u64>().map_err(|e| format!("{word}: {e}"));
        let size = || value.parse::<usize>().map_err(|e| format!("{word}: {e}"));
        match name {
            "--seed" => wish.seeds.first = number()?,
            "--seeds" => wish.seeds.count = number()?,
            "--nodes" => wish.seeds.nodes = Some(size()?),
            "--threads" => wish.seeds.threads = size()?,
            "--traces" => wish.traces = Some(value.into()),
            "--coverage" => wish.coverage = true,
            "--controls" => wish.controls = Sabotage::ALL.to_vec(),
            "--control" => {
                let found = Sabotage::ALL.iter().find(|s| s.word() == value);
                let found = *found.ok_or_else(|| format!("there is no control `{value}`"))?;
                wish.controls.push(found);
            }
            other => return Err(format!("`{other}` is not understood")),
        }
    }
    Ok(wish)
}

/// One line for people.
fn say(text: &str) {
    // A closed pipe is nobody who reads.
    let _ = writeln!(std::io::stdout(), "{text}");
}
