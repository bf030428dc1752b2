//! `cargo xtask`: every developer command of pgaf, and nothing that a user's machine runs.
//!
//! Owns the gate (`verify`), the test run, the harness that drives real `pg_autoctl` processes on real
//! Postgres, and the two commands of the README. It must never hold a decision about high availability,
//! and it ends only processes that it started, by their ids.
//!
//! Read first: [`cluster::Cluster`] (a monitor and its nodes), [`writer::Writers`] (the record of what was
//! acknowledged), [`scenario`] (a story run on them).

mod command;
mod console;
mod interrupt;
mod machine;
mod tally;
mod test_run;
mod verify;
mod wait;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};
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
    /// Random faults on simulated formations (comes with the next issue)
    Sim,
    /// Model checking of the deciding half (comes with the next issue)
    Model,
}

fn main() -> ExitCode {
    let task = Xtask::parse().task;
    match interrupt::watch().and_then(|()| run(task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::bad(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Test { long } => test_run::run(long),
        Task::Verify => verify::run(),
        Task::Fix => verify::fix(),
        Task::Sim | Task::Model => {
            bail!(
                "the simulator and the model checker come with the next issue; there is nothing to run yet"
            )
        }
    }
}
