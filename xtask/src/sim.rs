//! `cargo xtask sim`: the shipped deciding half in a simulated formation, under random faults or a story.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pgaf_sim::{Coverage, play, run_seed};

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
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1)]
    pub(crate) seeds: u64,
    /// Postgres nodes of the simulated formation
    #[arg(long, default_value_t = 2)]
    pub(crate) nodes: usize,
    /// Play a story of `scenarios/` instead of random faults: its name, or `all`
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<String>,
    /// List what never happened: rules, phases, steps
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Print the trace of each run
    #[arg(long)]
    pub(crate) trace: bool,
}

/// Runs it.
///
/// # Errors
/// When an invariant was broken, or a story's claim did not hold.
pub(crate) fn run(sim: &Sim) -> Result<()> {
    let start = Instant::now();
    let mut coverage = Coverage::default();
    let names = match sim.scenario.as_deref() {
        None => Vec::new(),
        Some("all") => scenario::names()?,
        Some(name) => vec![name.to_owned()],
    };
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
        if names.is_empty() {
            let run = run_seed(seed, sim.nodes);
            coverage.add(&run.coverage);
            let what = format!("seed-{seed}-nodes-{}", sim.nodes);
            failed += report(&what, run.broken.as_deref(), &run.trace, sim.trace)?;
        }
    }
    if sim.coverage {
        console::note("never happened:");
        for what in coverage.missing() {
            console::note(&format!("  {what}"));
        }
    }
    let runs = sim
        .seeds
        .saturating_mul(names.len().max(1).try_into().unwrap_or(u64::MAX));
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
