//! `cargo xtask sim`: the shipped deciding half in a simulated formation, under random faults or a story.
//!
//! Seeds and controls run in the simulator's own program, built optimised; stories run here.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pgaf_sim::{Coverage, Sabotage, play};

use crate::console::{self, human};
use crate::{command, interrupt, scenario, workspace};

/// How many of its last lines a failing trace shows.
const TAIL: usize = 40;

/// What is simulated.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Sim {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds, on all cores
    #[arg(long, default_value_t = 1)]
    pub(crate) seeds: u64,
    /// Postgres nodes of each simulated formation; otherwise each seed has its own number, 1 to 7
    #[arg(long)]
    pub(crate) nodes: Option<usize>,
    /// How many threads; otherwise as many as there are cores
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Play a story of `scenarios/` instead of random faults: its name, or `all`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["controls", "control"])]
    pub(crate) scenario: Option<String>,
    /// Break each rule on purpose, and say which seed notices it first
    #[arg(long)]
    pub(crate) controls: bool,
    /// Break this rule only
    #[arg(long, value_name = "NAME", value_parser = control_names())]
    pub(crate) control: Option<String>,
    /// Print how often everything happened
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Print the trace of each run of a story
    #[arg(long, requires = "scenario")]
    pub(crate) trace: bool,
}

fn control_names() -> clap::builder::PossibleValuesParser {
    let names = Sabotage::ALL.iter().map(|s| s.word());
    names.collect::<Vec<_>>().into()
}

/// Runs it.
///
/// # Errors
/// When an invariant was broken, a broken rule was not noticed, or a story's claim did not hold.
pub(crate) fn run(sim: &Sim) -> Result<()> {
    match sim.scenario.as_deref() {
        None => seeds(sim),
        Some("all") => stories(sim, scenario::names()?),
        Some(name) => stories(sim, vec![name.to_owned()]),
    }
}

/// Runs the simulator's own program, whose figures and words are shown as they come.
fn seeds(sim: &Sim) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--profile", "sim"]);
    cargo.args(["--package", "pgaf-sim", "--bin", "pgaf-sim", "--"]);
    cargo.arg(format!("--seed={}", sim.seed));
    cargo.arg(format!("--seeds={}", sim.seeds));
    if let Some(nodes) = sim.nodes {
        cargo.arg(format!("--nodes={nodes}"));
    }
    if let Some(threads) = sim.threads {
        cargo.arg(format!("--threads={threads}"));
    }
    if sim.coverage {
        cargo.arg("--coverage");
    }
    match &sim.control {
        Some(name) => drop(cargo.arg(format!("--control={name}"))),
        None if sim.controls => drop(cargo.arg("--controls")),
        None => {}
    }
    let traces = workspace::target()?.join("traces");
    cargo.arg(format!("--traces={}", traces.display()));
    let status = command::status(&mut cargo)?;
    if !status.success() {
        bail!("the simulator found something: {status}");
    }
    Ok(())
}

fn stories(sim: &Sim, names: Vec<String>) -> Result<()> {
    let start = Instant::now();
    let mut coverage = Coverage::default();
    let scripts = names
        .iter()
        .map(|name| scenario::read(name))
        .collect::<Result<Vec<_>>>()?;
    let mut failed = 0_u64;
    for seed in sim.seed..sim.seed.saturating_add(sim.seeds) {
        interrupt::check()?;
        for (name, script) in names.iter().zip(&scripts) {
            let played = play(script, seed);
            coverage.add(&played.coverage);
            failed += report(
                &format!("{name}-{seed}"),
                played.broken.as_deref(),
                &played.trace,
                sim.trace,
            )?;
        }
    }
    if sim.coverage {
        for (what, count) in coverage.counts() {
            console::note(&format!("{count:>9} {what}"));
        }
    }
    let runs = sim
        .seeds
        .saturating_mul(names.len().try_into().unwrap_or(u64::MAX));
    if failed > 0 {
        bail!("{failed} of {runs} simulated runs broke");
    }
    console::good(&format!(
        "{runs} simulated runs in {}",
        human(start.elapsed())
    ));
    Ok(())
}

/// Shows what broke, and saves its trace: 1 when it did.
fn report(what: &str, broken: Option<&str>, trace: &str, show: bool) -> Result<u64> {
    if show {
        console::say(trace);
    }
    let Some(broken) = broken else { return Ok(0) };
    console::bad(&format!("{what}: {broken}"));
    let path = save(what, trace)?;
    if !show {
        console::quote(&command::tail(trace, TAIL));
    }
    console::note(&format!("the whole trace: {}", path.display()));
    Ok(1)
}

fn save(what: &str, trace: &str) -> Result<PathBuf> {
    let folder = workspace::target()?.join("traces");
    let path = folder.join(format!("{what}.trace"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, trace))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}
