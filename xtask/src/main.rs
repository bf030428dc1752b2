//! `cargo xtask`: every developer command of pgaf, and nothing that a user's machine runs.
//!
//! Owns the gate (`verify`), the test run, the harness that drives real `pg_autoctl` processes on real
//! Postgres, and the two commands of the README. It must never hold a decision about high availability,
//! and it ends only processes that it started, by their ids.
//!
//! Read first: [`cluster::Cluster`] (a monitor and its nodes), [`writer::Writers`] (the record of what was
//! acknowledged), [`scenario`] (a story run on them).

mod bench;
mod cluster;
mod command;
mod console;
mod demo;
mod docs;
mod host;
mod interrupt;
mod machine;
mod model;
mod network;
mod process;
mod quiet;
mod scenario;
mod sim;
mod sql;
mod storm;
mod tally;
mod temp;
mod test_run;
mod verify;
mod wait;
mod walk;
mod workspace;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Every developer command of pgaf.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A failover before your eyes: monitor, two nodes, switchover, the primary killed, healed, verified
    Demo {
        /// Leave everything running at the end
        #[arg(long)]
        keep: bool,
        /// An optimised build: slower to make, faster to run
        #[arg(long)]
        release: bool,
        /// The folder of another `pg_autoctl` to show
        #[arg(long, value_name = "DIR")]
        bin: Option<PathBuf>,
        /// A Citus formation instead: two coordinators and six workers
        #[arg(long)]
        citus: bool,
    },
    /// Every test that fits in 15 minutes on a warm machine
    Test {
        /// The tests that take longer, too
        #[arg(long)]
        long: bool,
    },
    /// The gate: format, lints, docs, dependency edges, sizes, licences, stale documents; changes nothing
    Verify,
    /// Rewrite what tools can: format and machine-applicable lints
    Fix,
    /// Run a story of `scenarios/` on real Postgres, one network namespace per node
    Scenario {
        /// Its file's name without `.txt`, or `all`
        name: String,
        /// The folder of another `pg_autoctl` to run it with
        #[arg(long, value_name = "DIR")]
        bin: Option<PathBuf>,
        /// Leave the cluster running at the end, until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    Walk(walk::Walk),
    /// An idle pair beside busy loops and a slow disk: no failover may happen
    Quiet(quiet::Quiet),
    /// Random faults on real Postgres under write load, from a seed: healed by itself, nothing lost, each time
    Storm(storm::Storm),
    /// Figures, measured from outside
    #[command(subcommand)]
    Bench(Bench),
    /// Make the pages of docs/reference anew from the code
    Docs,
    /// Random faults on simulated formations: every invariant, at every step, from seeds
    Sim(sim::Sim),
    /// Every state of the deciding half within stated bounds: invariants, and a way out of each
    Model(model::Model),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Write outage, lost writes, healing, memory and idle CPU, per fault
    Failover(bench::Failover),
    /// What a keeper's report costs the monitor, and ten thousand connected keepers
    Heartbeats(bench::Heartbeats),
}

fn main() -> ExitCode {
    let task = Xtask::parse().task;
    let ready = interrupt::watch().and_then(|()| process::adopt_orphans());
    match ready.and_then(|()| run(task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::bad(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo {
            keep,
            release,
            bin,
            citus,
        } => demo::run(keep, release, bin.as_deref(), citus),
        Task::Walk(walk) => walk::run(&walk),
        Task::Test { long } => test_run::run(long),
        Task::Verify => verify::run(),
        Task::Fix => verify::fix(),
        Task::Scenario { name, bin, keep } => scenario::command(&name, bin.as_deref(), keep),
        Task::Quiet(quiet) => quiet::run(&quiet),
        Task::Storm(wish) => storm::run(&wish),
        Task::Bench(Bench::Failover(bench)) => bench::failover(&bench),
        Task::Bench(Bench::Heartbeats(bench)) => bench::heartbeats(&bench),
        Task::Docs => docs::run(),
        Task::Sim(wish) => sim::run(&wish),
        Task::Model(model) => model::run(&model),
    }
}
