//! `cargo xtask storm`: random faults on real Postgres under write load, one network namespace per host.
//!
//! A seed gives the plan ([`plan`]); [`strike`] carries it out; [`log`] keeps a line per fault, and everything that
//! is needed to find a cause. Between two bursts of faults the group must heal without a hand: every node primary or
//! secondary again, and writes acknowledged. Every node is written to all the time.

mod load;
mod log;
mod plan;
mod strike;
mod transactions;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::console::{self, human};
use crate::host::Programs;
use crate::temp::Folder;
use crate::writer::Writers;
use crate::{interrupt, machine, process, scenario, wait, workspace};
use load::Load;
use log::{Burst, Log, Outcome};
use plan::{Fault, When};
use strike::{Damage, Strike, Undo};
use transactions::Transactions;

/// After the last cause is gone a group has healed within this time.
const HEALS: Duration = Duration::from_secs(60);

/// A group that has not healed is watched for so long, to tell "late" from "never".
const LATE: Duration = Duration::from_secs(120);

/// A first row must be acknowledged within this time.
const FIRST_WRITE: Duration = Duration::from_secs(30);

/// How long `perform switchover` may go on after its group has healed; it waits up to a minute by itself.
const COMMAND: Duration = Duration::from_secs(70);

/// What a storm is made of.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Storm {
    /// Postgres nodes beside the monitor
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: u8,
    /// A Citus formation instead: two coordinators, and two nodes for each of so many groups of workers
    #[arg(long, value_name = "GROUPS", value_parser = clap::value_parser!(u8).range(1..=9), conflicts_with = "nodes")]
    citus: Option<u8>,
    /// How many faults strike
    #[arg(long, default_value_t = 20)]
    faults: usize,
    /// The plan's seed; without it, one that nobody has used yet
    #[arg(long)]
    seed: Option<u64>,
    /// An optimised build
    #[arg(long)]
    release: bool,
    /// The folder of another `pg_autoctl` to run
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// End after the fault under way, with every check, once this file exists
    #[arg(long, value_name = "FILE")]
    stop_file: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// When a group does not heal in time, a daemon ends, an acknowledged row is lost or written on two sides, or the
/// nodes differ in the end.
pub(crate) fn run(storm: &Storm) -> Result<()> {
    if let Some(reason) = scenario::unavailable() {
        bail!("{reason}");
    }
    machine::install_missing(scenario::PROGRAMS)?;
    let seed = storm.seed.unwrap_or_else(log::fresh_seed);
    let (programs, _bin) = scenario::programs(storm.bin.as_deref(), storm.release)?;
    let folder = Folder::new(&format!("storm-{seed}"))?;
    let kept = workspace::target()?.join(format!("storm-{seed}"));
    let mut log = Log::create(&kept, &storm.formation(), storm.faults, seed)?;
    let ended = in_folder(storm, seed, folder.path(), &programs, &mut log);
    if ended.is_err() && !interrupt::asked() {
        scenario::show_logs(folder.path());
        console::note(&format!("evidence: {}", kept.display()));
        console::note(&format!("everything else: {}", folder.keep().display()));
    }
    ended
}

fn in_folder(
    storm: &Storm,
    seed: u64,
    folder: &Path,
    programs: &Arc<Programs>,
    log: &mut Log,
) -> Result<()> {
    console::heading(&format!(
        "storm of {} faults on {}, seed {seed}",
        storm.faults,
        storm.formation()
    ));
    let (cluster, load) = storm.start(folder, programs)?;
    let mut weather = Weather {
        primaries: (0..cluster.group_count())
            .map(|group| cluster.primary_of(group))
            .collect::<Result<_>>()?,
        cluster,
        load,
        damage: Damage::default(),
        folder,
    };
    let start = Instant::now();
    wait::until("a first write", FIRST_WRITE, || {
        Ok(weather.load.wrote_since(start))
    })?;
    let ended = weather
        .blow(storm, seed, log)
        .and_then(|()| weather.verify(log));
    if let Err(error) = &ended
        && !interrupt::asked()
    {
        log.fail(error)?;
        log.keep_evidence(&weather.cluster, &*weather.load, folder, start);
    }
    log.summarize(&*weather.load)?;
    ended
}

impl Storm {
    fn formation(&self) -> String {
        match self.citus {
            Some(groups) => format!("2 coordinators and {} workers", groups * 2),
            None => format!("{} nodes", self.nodes),
        }
    }

    fn start(&self, folder: &Path, programs: &Arc<Programs>) -> Result<(Cluster, Box<dyn Load>)> {
        if let Some(groups) = self.citus {
            let cluster = Cluster::start_citus(folder, groups, programs)?;
            let load = Transactions::start(&cluster)?;
            return Ok((cluster, Box::new(load)));
        }
        let cluster = Cluster::start(folder, self.nodes, true, programs, &mut |_| {})?;
        let load = Writers::start(&cluster)?;
        Ok((cluster, Box::new(load)))
    }
}

/// A cluster in a storm.
struct Weather<'a> {
    cluster: Cluster,
    load: Box<dyn Load>,
    /// The primary of each group when it was calm last.
    primaries: Vec<usize>,
    damage: Damage,
    folder: &'a Path,
}

impl Weather<'_> {
    fn blow(&mut self, storm: &Storm, seed: u64, log: &mut Log) -> Result<()> {
        for faults in plan::bursts(seed, storm.faults) {
            if storm.stop_file.as_deref().is_some_and(Path::exists) {
                console::note("asked to stop: the rest of the plan is left out");
                return Ok(());
            }
            let start = Instant::now();
            let before = self.load.last_writer();
            self.know_primaries();
            let mut burst = self.burst(&faults)?;
            let healed = self.heal(&burst);
            if let Some(command) = burst.command.take() {
                burst.switchover = Some(ended(command)?);
            }
            let line = Outcome {
                outage: self.load.outage(burst.struck),
                moved: (before, self.load.last_writer()),
                timeline: self.load.timeline(),
                took: start.elapsed(),
                healed: healed.as_ref().ok().copied(),
            };
            log.burst(&burst, &line)?;
            healed?;
            self.load.intact(&self.cluster)?;
        }
        Ok(())
    }

    /// Faults that are close to each other, until every cause is gone.
    fn burst(&mut self, faults: &[Fault]) -> Result<Burst> {
        let mut burst = Burst::default();
        let mut undos: Vec<(Instant, Undo)> = Vec::new();
        for (index, fault) in faults.iter().enumerate() {
            let group = group_of(faults, index, self.primaries.len());
            match fault.when {
                When::Calm(time) | When::Soon(time) => self.pass(time, &mut undos)?,
                When::Moving(time) => {
                    burst.command = Some(self.switchover(group)?);
                    self.pass(time, &mut undos)?;
                }
            }
            let (fault, strike) = self.strike(fault, group)?;
            let now = Instant::now();
            if burst.strikes.is_empty() {
                burst.struck = now;
            }
            if let Some(undo) = strike.undo.clone() {
                undos.push((now + fault.lasts, undo));
            }
            burst.strikes.push((fault, strike, now));
        }
        while !undos.is_empty() {
            self.pass(Duration::from_millis(20), &mut undos)?;
        }
        burst.undone = Instant::now();
        Ok(burst)
    }

    /// The fault, or one that has something to strike: the kinds follow each other until one has.
    fn strike(&mut self, fault: &Fault, group: usize) -> Result<(Fault, Strike)> {
        let primary = match self.load.last_writer() {
            Some(node) if self.cluster.groups[node] == group => node,
            _ => self.primaries[group],
        };
        for instead in fault.and_others() {
            if let Some(strike) = self.damage.strike(&mut self.cluster, &instead, primary)? {
                return Ok((instead, strike));
            }
        }
        bail!("there is nothing left to strike");
    }

    /// Lets time pass, and takes away each cause whose time is over.
    fn pass(&mut self, time: Duration, undos: &mut Vec<(Instant, Undo)>) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            interrupt::check()?;
            let now = Instant::now();
            undos.sort_by_key(|(at, _)| *at);
            if undos.first().is_some_and(|(at, _)| *at <= now) {
                let (_, undo) = undos.remove(0);
                self.damage.undo(&mut self.cluster, &undo)?;
                continue;
            }
            if now >= end {
                return Ok(());
            }
            let next = undos.first().map_or(end, |(at, _)| (*at).min(end));
            std::thread::sleep(
                next.saturating_duration_since(now)
                    .min(Duration::from_millis(20)),
            );
        }
    }

    /// Begins a switchover, as an operator beside the monitor.
    fn switchover(&self, group: usize) -> Result<Child> {
        let path = self.folder.join("switchover.log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path);
        let log = log.with_context(|| format!("cannot open `{}`", path.display()))?;
        let errors = log.try_clone().context("cannot share the log")?;
        let child = self
            .cluster
            .monitor
            .autoctl(&["perform", "switchover", "--group", &group.to_string()])?
            .stdin(std::process::Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .context("cannot start `perform switchover`")?;
        process::own(child.id());
        Ok(child)
    }

    /// Every cause is gone: waits until the group is as it was, and says how long that took.
    fn heal(&mut self, burst: &Burst) -> Result<Duration> {
        let healed = self.healed_within(burst.undone, HEALS);
        if let Err(error) = healed {
            interrupt::check()?;
            let late = self.healed_within(burst.undone, LATE);
            let late = match late {
                Ok(time) => format!("it was late: after {}", human(time)),
                Err(_) => format!("nor within {}", human(HEALS + LATE)),
            };
            return Err(error.context(late));
        }
        healed
    }

    fn healed_within(&mut self, since: Instant, limit: Duration) -> Result<Duration> {
        let nodes = self.cluster.nodes.len();
        wait::until("every node primary or secondary as before", limit, || {
            self.damage.must_run(&mut self.cluster)?;
            Ok(self.cluster.state()?.len() == nodes && self.cluster.is_settled()?)
        })?;
        let settled = Instant::now();
        let left = limit.saturating_sub(since.elapsed());
        wait::until("writes", left.max(Duration::from_secs(5)), || {
            Ok(self.load.wrote_since(settled))
        })?;
        Ok(since.elapsed())
    }

    /// Whom a fault of a group's primary hits, until the group is calm again.
    fn know_primaries(&mut self) {
        for group in 0..self.primaries.len() {
            if let Ok(node) = self.cluster.primary_of(group) {
                self.primaries[group] = node;
            }
        }
    }

    /// The end: everything that must hold once nothing is written any more.
    fn verify(&mut self, log: &mut Log) -> Result<()> {
        wait::until("the group is settled", HEALS, || self.cluster.is_settled())?;
        self.load.stop();
        wait::until("standbys that have every row", HEALS, || {
            self.cluster.is_settled()
        })?;
        log.verified(self.load.verify(&self.cluster)?);
        Ok(())
    }
}

/// The Citus group of a fault: any, and another one than that of the fault just before it.
fn group_of(burst: &[Fault], index: usize, groups: usize) -> usize {
    burst
        .first()
        .map_or(0, |first| (first.other + index) % groups.max(1))
}

/// Whether a switchover was done. One that was refused, or ended with its host, was not.
fn ended(mut command: Child) -> Result<bool> {
    let start = Instant::now();
    let mut status = command.try_wait().context("cannot wait for a switchover")?;
    while status.is_none() && start.elapsed() < COMMAND {
        wait::pass(Duration::from_millis(50))?;
        status = command.try_wait().context("cannot wait for a switchover")?;
    }
    if status.is_none() {
        // It is asked for by this process alone, and collected below.
        let _ = command.kill();
        let _ = command.wait();
    }
    process::disown(command.id());
    status
        .map(|status| status.success())
        .context("`perform switchover` did not end")
}
