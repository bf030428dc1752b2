//! What a storm leaves: a line per fault, a summary, and after a failure everything that tells why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::load::Load;
use super::plan::{Fault, Kind, When};
use super::strike::Strike;
use crate::cluster::Cluster;
use crate::console::{self, human};

/// The files of a node that say what its keeper and its Postgres thought.
const OF_A_NODE: &[&str] = &["pgdata/startup.log", "pgdata/log"];

/// What each node's Postgres knows about replication.
const VIEWS: &[&str] = &[
    "select * from pg_stat_replication",
    "select * from pg_stat_wal_receiver",
    "select * from pg_replication_slots",
    "select name, setting, sourcefile from pg_settings where name in ('synchronous_standby_names', 'primary_conninfo', 'primary_slot_name')",
    "select pid, backend_type, state, wait_event, left(query, 60) from pg_stat_activity",
];

/// Faults that were close to each other, and what became of them.
#[derive(Debug)]
pub(super) struct Burst {
    /// Each with the moment at which it struck.
    pub(super) strikes: Vec<(Fault, Strike, Instant)>,
    /// The switchover that it struck, under way.
    pub(super) command: Option<Child>,
    /// Whether that switchover was done.
    pub(super) switchover: Option<bool>,
    /// When the first fault struck.
    pub(super) struck: Instant,
    /// When the last cause was gone.
    pub(super) undone: Instant,
}

impl Default for Burst {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            strikes: Vec::new(),
            command: None,
            switchover: None,
            struck: now,
            undone: now,
        }
    }
}

/// What a burst did to the group.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The longest time without an acknowledged write.
    pub(super) outage: Duration,
    /// Who acknowledged last before and after.
    pub(super) moved: (Option<usize>, Option<usize>),
    pub(super) timeline: i32,
    /// From the end of the calm before to healed.
    pub(super) took: Duration,
    /// From the last cause gone to every node primary or secondary, and a write; none when it did not.
    pub(super) healed: Option<Duration>,
}

/// The log of one storm.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    file: File,
    head: String,
    zero: Instant,
    kinds: BTreeMap<Kind, usize>,
    soon: usize,
    moving: usize,
    switchovers: (usize, usize),
    moves: usize,
    timeline: i32,
    outages: Vec<Duration>,
    heals: Vec<Duration>,
    took: Duration,
    bursts: usize,
    rows: Option<usize>,
    failure: Option<String>,
}

impl Log {
    /// Makes the folder and the log in it, anew.
    pub(super) fn create(folder: &Path, formation: &str, faults: usize, seed: u64) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove `{}`", folder.display()))?;
        }
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make `{}`", folder.display()))?;
        let path = folder.join("storm.log");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open `{}`", path.display()))?;
        let head = format!("seed {seed}, {formation}, {faults} faults planned");
        let mut log = Self {
            folder: folder.to_owned(),
            file,
            head: head.clone(),
            zero: Instant::now(),
            kinds: BTreeMap::new(),
            soon: 0,
            moving: 0,
            switchovers: (0, 0),
            moves: 0,
            timeline: 0,
            outages: Vec::new(),
            heals: Vec::new(),
            took: Duration::ZERO,
            bursts: 0,
            rows: None,
            failure: None,
        };
        log.line(&format!("{head}; begun at {}", clock()))?;
        Ok(log)
    }

    /// One line a fault; the last one of a burst says how the burst ended.
    pub(super) fn burst(&mut self, burst: &Burst, outcome: &Outcome) -> Result<()> {
        self.bursts += 1;
        self.took += outcome.took;
        self.outages.push(outcome.outage);
        self.heals.extend(outcome.healed);
        self.timeline = outcome.timeline;
        self.moves += usize::from(outcome.moved.0 != outcome.moved.1);
        if let Some(done) = burst.switchover {
            self.switchovers.0 += usize::from(done);
            self.switchovers.1 += usize::from(!done);
        }
        for (index, (fault, strike, at)) in burst.strikes.iter().enumerate() {
            *self.kinds.entry(fault.kind).or_default() += 1;
            let when = match fault.when {
                When::Calm(_) => "in calm".to_owned(),
                When::Soon(time) => {
                    self.soon += 1;
                    format!("{} after #{}", human(time), fault.number - 1)
                }
                When::Moving(time) => {
                    self.moving += 1;
                    format!("{} into a switchover", human(time))
                }
            };
            let lasts = if fault.kind.lasts() {
                format!(" for {}", human(fault.lasts))
            } else {
                String::new()
            };
            let ending = if index + 1 == burst.strikes.len() {
                ending(burst, outcome)
            } else {
                "…".to_owned()
            };
            let seconds = at.saturating_duration_since(self.zero).as_secs_f64();
            self.line(&format!(
                "#{:03} {seconds:7.1} s  {}{lasts}, {when} | {ending}",
                fault.number, strike.said
            ))?;
        }
        Ok(())
    }

    /// Every node has these rows, and every acknowledged one is among them.
    pub(super) fn verified(&mut self, rows: usize) {
        self.rows = Some(rows);
    }

    /// The storm broke something.
    pub(super) fn fail(&mut self, error: &anyhow::Error) -> Result<()> {
        let text = format!("{error:#}");
        self.line(&format!("FAILED at {}: {text}", clock()))?;
        self.failure = Some(text);
        Ok(())
    }

    /// The summary, in the folder and on the terminal.
    pub(super) fn summarize(&mut self, load: &dyn Load) -> Result<()> {
        let faults: usize = self.kinds.values().sum();
        let monitor: usize = self
            .kinds
            .iter()
            .filter(|(k, _)| k.is_of_monitor())
            .map(|(_, n)| n)
            .sum();
        let kinds: Vec<_> = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let each = u32::try_from(faults.max(1)).map_or(self.took, |count| self.took / count);
        let mut text = format!(
            "{}: {faults} faults struck in {} bursts, {} a fault\n",
            self.head,
            self.bursts,
            human(each)
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "close: {} ({} within 3 s of the last one, {} in a switchover); monitor: {monitor}",
            self.soon + self.moving,
            self.soon,
            self.moving
        );
        let _ = writeln!(text, "faults: {}", kinds.join(", "));
        let _ = writeln!(
            text,
            "switchovers: {} done, {} refused or broken off; the primary moved {} times, timeline {}",
            self.switchovers.0, self.switchovers.1, self.moves, self.timeline
        );
        let _ = writeln!(
            text,
            "healed: {} of {} ({})",
            self.heals.len(),
            self.bursts,
            spread(&mut self.heals)
        );
        let _ = writeln!(text, "outages: {}", spread(&mut self.outages));
        let equal = self.rows.map_or("not compared".to_owned(), |rows| {
            format!("{rows} rows, as they must be")
        });
        let _ = writeln!(
            text,
            "acknowledged: {}; at the end: {equal}",
            load.summary()
        );
        let _ = match &self.failure {
            Some(failure) => writeln!(text, "FAILED: {failure}"),
            None if self.rows.is_some() => writeln!(text, "nothing lost"),
            None => writeln!(text, "interrupted"),
        };
        for line in text.lines() {
            self.line(line)?;
        }
        let path = self.folder.join("summary.txt");
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Copies logs, and asks everybody what they see. What cannot be had is said in its place.
    pub(super) fn keep_evidence(
        &self,
        cluster: &Cluster,
        load: &dyn Load,
        top: &Path,
        zero: Instant,
    ) {
        let mut asked = String::new();
        for args in [
            &["show", "state"][..],
            &["inspect", "explain"],
            &["show", "events", "--count", "200"],
        ] {
            let said = cluster
                .monitor
                .run(args)
                .map(|c| format!("{}{}", c.stdout, c.stderr));
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(asked, "== {}\n{said}", args.join(" "));
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            for view in VIEWS {
                let rows = cluster.query(index, view).map(|rows| {
                    rows.iter()
                        .map(|row| row.join(" | "))
                        .collect::<Vec<_>>()
                        .join("\n")
                });
                let rows = rows.unwrap_or_else(|error| format!("{error:#}"));
                let _ = writeln!(asked, "== {}: {view}\n{rows}", node.name);
            }
            for file in OF_A_NODE {
                let from = top.join(&node.name).join(file);
                let to = self
                    .folder
                    .join(format!("{}-{}", node.name, file.replace('/', "-")));
                if let Err(error) = copy(&from, &to) {
                    let _ = writeln!(asked, "== {}: {error}", from.display());
                }
            }
        }
        let logs = std::fs::read_dir(top).into_iter().flatten().flatten();
        for log in logs.filter(|entry| entry.path().is_file()) {
            if let Err(error) = copy(&log.path(), &self.folder.join(log.file_name())) {
                let _ = writeln!(asked, "== {}: {error}", log.path().display());
            }
        }
        for (name, text) in [("asked.txt", asked), ("acks.txt", load.lines(zero))] {
            if let Err(error) = std::fs::write(self.folder.join(name), text) {
                console::bad(&format!("cannot keep {name}: {error}"));
            }
        }
    }

    fn line(&mut self, text: &str) -> Result<()> {
        console::note(text);
        writeln!(self.file, "{text}").context("cannot write the storm's log")
    }
}

fn ending(burst: &Burst, outcome: &Outcome) -> String {
    let name = |node: Option<usize>| node.map_or("nobody".to_owned(), |n| format!("node{}", n + 1));
    let moved = match outcome.moved {
        (before, after) if before == after => format!("{} stays", name(after)),
        (before, after) => format!("{} to {}", name(before), name(after)),
    };
    let switchover = match burst.switchover {
        Some(true) => ", switchover done",
        Some(false) => ", switchover not done",
        None => "",
    };
    let healed = outcome.healed.map_or("NOT HEALED".to_owned(), |time| {
        format!("healed in {}", human(time))
    });
    format!(
        "outage {}, {healed}, {moved}{switchover}",
        human(outcome.outage)
    )
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) else {
        return "none".to_owned();
    };
    format!("median {}, worst {}", human(*middle), human(*worst))
}

/// A file, or the files of a folder.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return std::fs::copy(from, to).map(drop);
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)?.flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// A seed that nobody has used yet.
pub(super) fn fresh_seed() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The time of the day, as the keepers' logs have it.
fn clock() -> String {
    let seconds = fresh_seed() % 86_400;
    format!(
        "{:02}:{:02}:{:02} UTC",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}
