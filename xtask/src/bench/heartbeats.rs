//! `cargo xtask bench heartbeats`: what a report costs the monitor, and a connected keeper.
//!
//! The daemon is the real one, in a process of its own; this process plays ten thousand keepers at the
//! shipped heartbeat. Every report is parsed, folded in and answered; 1 % of them change what the monitor
//! has to store.

mod figures;
mod keeper;
mod load;
mod probed;
mod wire;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::host::{Host, Place};
use crate::temp::Folder;
use crate::{command, console, scenario, wait, workspace};

pub(crate) use figures::Figures;

/// How the bench runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Heartbeats {
    /// Simulated keepers
    #[arg(long, default_value_t = 10_000)]
    pub(crate) sessions: u32,
    /// Keepers of one group
    #[arg(long, default_value_t = 2)]
    pub(crate) nodes: u32,
    /// Encrypt the sessions
    #[arg(long)]
    pub(crate) tls: bool,
    /// Seconds that are measured, after a rest
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Reports in a hundred that change what the monitor has to store
    #[arg(long, default_value_t = 1)]
    pub(crate) changes: u32,
    /// The folder of another `pg_autoctl` to measure, instead of a fresh optimised build
    #[arg(long, value_name = "DIR")]
    pub(crate) bin: Option<PathBuf>,
    /// Write the result to docs/benchmarks.md
    #[arg(long)]
    pub(crate) write: bool,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            nodes: 2,
            tls: true,
            seconds: 30,
            changes: 1,
            bin: None,
            write: false,
        }
    }
}

/// How long the daemon may take to come up.
const COMES_UP: Duration = Duration::from_secs(30);
/// Between the last keeper's settling and the measurement.
const REST: Duration = Duration::from_secs(5);

/// Runs the bench.
///
/// # Errors
/// When it does not run, when something went wrong in the run, and when a goal is missed.
pub(crate) fn command(bench: &Heartbeats) -> Result<()> {
    if cfg!(debug_assertions) {
        return optimised(bench);
    }
    let figures = run(bench)?;
    console::say(&figures.to_string());
    if bench.write {
        super::sections::write(&figures.section(bench), &figures.to_string())?;
    }
    let missed = figures.missed();
    if !missed.is_empty() {
        bail!("{}", missed.join(", "));
    }
    Ok(())
}

/// Runs this command by an optimised build of this program: an unoptimised load generator is slower
/// than the daemon.
fn optimised(bench: &Heartbeats) -> Result<()> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "xtask"]);
    command::run(&mut build)?;
    let program = workspace::target()?.join("release").join("xtask");
    let mut words = vec![
        "bench".to_owned(),
        "heartbeats".to_owned(),
        format!("--sessions={}", bench.sessions),
        format!("--nodes={}", bench.nodes),
        format!("--seconds={}", bench.seconds),
        format!("--changes={}", bench.changes),
    ];
    words.extend(bench.tls.then(|| "--tls".to_owned()));
    words.extend(bench.write.then(|| "--write".to_owned()));
    if let Some(bin) = &bench.bin {
        words.push(format!("--bin={}", bin.display()));
    }
    command::run(Command::new(program).args(words))
}

/// Starts a monitor, plays the keepers, and measures.
///
/// # Errors
/// When it does not run, or a keeper hears what it must not.
pub(crate) fn run(bench: &Heartbeats) -> Result<Figures> {
    descriptors(bench.sessions)?;
    let (programs, _bin) = scenario::programs(bench.bin.as_deref(), true)?;
    let folder = Folder::new("heartbeats")?;
    let port = crate::cluster::free_ports(1)?;
    let port = *port.first().context("no free port")?;
    let mut monitor = Host::new(folder.path(), "monitor", port, Place::Loopback, &programs)?;
    monitor.start(&[
        "create",
        "monitor",
        "--pgport",
        &port.to_string(),
        "--hostname",
        "127.0.0.1",
        "--auth",
        "trust",
        if bench.tls {
            "--ssl-self-signed"
        } else {
            "--no-ssl"
        },
        "--run",
    ])?;
    wait::until("a monitor that listens", COMES_UP, || {
        monitor.must_run()?;
        Ok(monitor.listens())
    })?;
    let daemon = monitor.daemon().context("the monitor has ended")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let played = runtime.block_on(load::play(bench, port, daemon, REST));
    let log = std::fs::read_to_string(&monitor.log).unwrap_or_default();
    match played {
        Ok(mut figures) => {
            figures.suspicions = log.matches("a closer look is taken").count();
            Ok(figures)
        }
        Err(error) => {
            console::note("the end of the monitor's log:");
            console::quote(&command::tail(&log, 10));
            Err(error)
        }
    }
}

/// One for each session, and half as many again for the probes that the daemon keeps open.
fn descriptors(sessions: u32) -> Result<()> {
    let wanted = u64::from(sessions) * 3 / 2 + 100;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("no limit of descriptors")?;
    if most < wanted {
        bail!("{sessions} sessions want {wanted} file descriptors, the limit is {most}");
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_keepers_over_tls_are_answered_and_nobody_is_suspected() {
        let bench = Heartbeats {
            sessions: 200,
            seconds: 3,
            ..Heartbeats::default()
        };
        let built = workspace::build_pg_autoctl(false).unwrap();
        let figures = run(&Heartbeats {
            bin: built.parent().map(std::path::Path::to_path_buf),
            ..bench
        })
        .unwrap();
        assert_eq!(figures.faults(), Vec::<String>::new(), "{figures}");
        assert!(figures.reports > 200, "{figures}");
        assert!(figures.stored > 0, "{figures}");
    }
}
