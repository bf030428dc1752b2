//! `cargo xtask bench failover`: the write outage of each fault, measured from outside by
//! `bench/failover_bench.py`, which drives any `pg_autoctl`; beside the program that ours replaces, in one run.

mod heartbeats;
mod report;
mod sections;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::temp::Folder;
use crate::{command, console, machine, scenario, workspace};

pub(crate) use heartbeats::{Heartbeats, command as heartbeats};

/// Debian's own python, which is the one that has Debian's psycopg2.
const PYTHON: &str = "/usr/bin/python3";

/// Where Debian puts the program that ours replaces.
const OLD_PROGRAM: &str = "/usr/bin/pg_autoctl";

/// How the bench runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Failover {
    /// Postgres nodes beside the monitor
    #[arg(long, default_value_t = 2)]
    pub(crate) nodes: u8,
    /// A Citus formation instead: 2 coordinators and 2 nodes for each of so many groups of workers
    #[arg(long, value_name = "WORKERS", conflicts_with = "load")]
    pub(crate) citus: Option<u8>,
    /// Runs of each scenario
    #[arg(long, default_value_t = 1)]
    pub(crate) repeat: u32,
    /// switchover, kill-postgres, kill-node, freeze-node, partition (default: all); NAME:GROUP for a Citus group
    #[arg(long)]
    pub(crate) scenario: Vec<String>,
    /// Seconds over which idle CPU is measured
    #[arg(long, default_value_t = 10)]
    pub(crate) idle: u32,
    /// pgbench: scale 50, 16 clients, and 100 idle sessions on the primary meanwhile
    #[arg(long, value_parser = ["pgbench"])]
    pub(crate) load: Option<String>,
    /// Measure Debian's pg_auto_failover in the same run
    #[arg(long)]
    pub(crate) compare: bool,
    /// The folder of another `pg_autoctl` to measure, instead of a fresh optimised build
    #[arg(long, value_name = "DIR")]
    pub(crate) bin: Option<PathBuf>,
    /// Write the result to its section of docs/benchmarks.md
    #[arg(long)]
    pub(crate) write: bool,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            nodes: 2,
            citus: None,
            repeat: 1,
            scenario: Vec::new(),
            idle: 10,
            load: None,
            compare: false,
            bin: None,
            write: false,
        }
    }
}

/// Runs the bench.
///
/// # Errors
/// When it does not run, and when a run failed, lost or forked something.
pub(crate) fn failover(bench: &Failover) -> Result<()> {
    if !machine::is_root() {
        bail!("the bench makes network namespaces: run it as root");
    }
    machine::install_missing(scenario::PROGRAMS)?;
    prepare(bench)?;
    let (programs, _folder) = scenario::programs(bench.bin.as_deref(), true)?;
    let results = Folder::new("bench")?;
    let out = results.path().join("bench.json");
    let words = words(bench, programs.autoctl.clone(), &programs.postgres, &out);
    console::note(&format!("$ {PYTHON} {}", words.join(" ")));
    let mut python = Command::new(PYTHON);
    python.args(&words).current_dir(workspace::root());
    let status = command::status(&mut python)?;
    let text = std::fs::read_to_string(&out).context("the bench wrote no result")?;
    let measured: Value = serde_json::from_str(&text).context("the bench's result is no JSON")?;

    let report = report::markdown(bench, &measured, &programs);
    console::say(&report);
    if bench.write {
        sections::write(&section(bench), &report)?;
    }
    let ours = programs.autoctl.display().to_string();
    let faults = report::faults(&measured[&ours]);
    if !faults.is_empty() {
        bail!("ours: {}", faults.join(", "));
    }
    if !status.success() && !bench.compare {
        bail!("the bench ended with {status}");
    }
    Ok(())
}

/// The section of docs/benchmarks.md that a run belongs to.
fn section(bench: &Failover) -> String {
    if let Some(workers) = bench.citus {
        return format!("failover-citus-{workers}");
    }
    let load = bench.load.as_deref().map(|load| format!("-{load}"));
    format!("failover-{}{}", bench.nodes, load.unwrap_or_default())
}

fn prepare(bench: &Failover) -> Result<()> {
    let limit = Duration::from_secs(20);
    let python = command::capture(Command::new(PYTHON).args(["-c", "import psycopg2"]), limit);
    if !python.is_ok_and(|ended| ended.status.success()) {
        bail!("the bench needs psycopg2: apt-get install python3-psycopg2");
    }
    if bench.compare && !PathBuf::from(OLD_PROGRAM).is_file() {
        bail!(
            "--compare wants Debian's pg_auto_failover: \
             apt-get install pg-auto-failover-cli postgresql-15-auto-failover"
        );
    }
    Ok(())
}

fn words(
    bench: &Failover,
    ours: PathBuf,
    postgres: &std::path::Path,
    out: &std::path::Path,
) -> Vec<String> {
    let show = |path: &std::path::Path| path.display().to_string();
    let mut words = vec![
        "bench/failover_bench.py".to_owned(),
        "--bin".to_owned(),
        show(&ours),
    ];
    if bench.compare {
        words.extend(["--bin".to_owned(), "/usr/bin".to_owned()]);
    }
    for (name, value) in [
        ("--pgbin", show(postgres)),
        ("--nodes", bench.nodes.to_string()),
        ("--repeat", bench.repeat.to_string()),
        ("--idle", bench.idle.to_string()),
        ("--out", show(out)),
    ] {
        words.extend([name.to_owned(), value]);
    }
    if let Some(workers) = bench.citus {
        words.extend(["--citus".to_owned(), workers.to_string()]);
    }
    if let Some(load) = &bench.load {
        words.extend(["--load".to_owned(), load.clone()]);
    }
    for scenario in &bench.scenario {
        words.extend(["--scenario".to_owned(), scenario.clone()]);
    }
    words
}
