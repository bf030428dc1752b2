//! What was measured, and what was wanted.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Heartbeats;

/// Daemon CPU of a report. Source: the goals of the project.
const CPU_GOAL: Duration = Duration::from_micros(25);
/// Memory for ten thousand keepers, in MiB: with TLS, and without.
const MEMORY_GOALS_MIB: (u64, u64) = (350, 250);
/// The number of sessions that the memory goals are for.
const GOAL_SESSIONS: u32 = 10_000;
/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) user: Duration,
    pub(super) system: Duration,
    pub(super) pss_bytes: u64,
    pub(super) rss_bytes: u64,
}

impl Usage {
    pub(super) fn of(pid: i32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))
        };
        let stat = read("stat")?;
        let rest = stat.rsplit_once(')').context("no name in stat")?.1;
        // Source: proc(5): the fields after the name; 14 and 15 of all.
        let mut ticks = rest.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut next = || -> Result<Duration> {
            let ticks = ticks.next().context("no times in stat")??;
            Ok(Duration::from_millis(ticks * 1000 / ticks_per_second()?))
        };
        let (user, system) = (next()?, next()?);
        let rollup = read("smaps_rollup")?;
        let bytes = |name: &str| -> Result<u64> {
            let line = rollup.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            let number = number.with_context(|| format!("no {name} in smaps_rollup"))?;
            Ok(number.parse::<u64>()? * 1024)
        };
        Ok(Self {
            user,
            system,
            pss_bytes: bytes("Pss:")?,
            rss_bytes: bytes("Rss:")?,
        })
    }
}

fn ticks_per_second() -> Result<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    Ok(u64::try_from(ticks.context("no CLK_TCK")?)?)
}

/// The outcome of a run.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(super) sessions: u32,
    pub(super) tls: bool,
    pub(super) settled_after: Duration,
    pub(super) took: Duration,
    pub(super) reports: u64,
    pub(super) stored: u64,
    pub(super) cpu_user: Duration,
    pub(super) cpu_system: Duration,
    pub(super) pss_bytes: u64,
    pub(super) rss_bytes: u64,
    pub(super) answer_mean: Duration,
    pub(super) answer_worst: Duration,
    /// Closer looks that the monitor took: 0 unless heartbeats came late.
    pub(super) suspicions: usize,
    pub(super) wrong: Vec<String>,
}

impl Figures {
    fn per_report(&self, cpu: Duration) -> Duration {
        let reports = u32::try_from(self.reports).unwrap_or(u32::MAX).max(1);
        cpu / reports
    }

    fn memory_goal_mib(&self) -> u64 {
        if self.tls {
            MEMORY_GOALS_MIB.0
        } else {
            MEMORY_GOALS_MIB.1
        }
    }

    /// What makes the figures void.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut found = self.wrong.clone();
        if self.reports == 0 {
            found.push("no report was answered".to_owned());
        }
        found
    }

    /// Faults, and goals that were not reached.
    pub(super) fn missed(&self) -> Vec<String> {
        let mut missed = self.faults();
        let cpu = self.per_report(self.cpu_user + self.cpu_system);
        if cpu > CPU_GOAL {
            missed.push(format!("{cpu:?} of CPU a report, the goal is {CPU_GOAL:?}"));
        }
        let goal = self.memory_goal_mib();
        if self.sessions <= GOAL_SESSIONS && self.pss_bytes > goal * MIB {
            let mib = self.pss_bytes / MIB;
            missed.push(format!("{mib} MiB of memory, the goal is {goal} MiB"));
        }
        missed
    }

    /// The name of the section of docs/benchmarks.md that these belong to.
    pub(super) fn section(&self, bench: &Heartbeats) -> String {
        let tls = if self.tls { "-tls" } else { "" };
        format!("heartbeats-{}{tls}", bench.sessions)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { "over TLS" } else { "without TLS" };
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let cpu = self.cpu_user + self.cpu_system;
        writeln!(f, "| {} keepers {tls} | Goal | Measured |", self.sessions)?;
        writeln!(f, "|---|---|---|")?;
        writeln!(
            f,
            "| daemon CPU of a report, µs (user + system) | ≤ {} | {:.1} ({:.1} + {:.1}) |",
            CPU_GOAL.as_micros(),
            us(self.per_report(cpu)),
            us(self.per_report(self.cpu_user)),
            us(self.per_report(self.cpu_system)),
        )?;
        writeln!(
            f,
            "| memory of the daemon, MiB: PSS, RSS | ≤ {} | {:.0}, {:.0} |",
            self.memory_goal_mib(),
            self.pss_bytes as f64 / MIB as f64,
            self.rss_bytes as f64 / MIB as f64,
        )?;
        writeln!(
            f,
            "| reports a second; of these stored | | {:.0}; {:.2} % |",
            self.reports as f64 / self.took.as_secs_f64(),
            self.stored as f64 * 100.0 / self.reports.max(1) as f64,
        )?;
        writeln!(
            f,
            "| time to the answer, ms: mean, worst | | {:.1}, {:.0} |",
            us(self.answer_mean) / 1000.0,
            us(self.answer_worst) / 1000.0,
        )?;
        writeln!(
            f,
            "| closer looks taken since the start | | {} |",
            self.suspicions
        )?;
        write!(
            f,
            "| from the first keeper to the last settled one, s | | {:.1} |",
            self.settled_after.as_secs_f64()
        )
    }
}
