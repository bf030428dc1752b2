//! `cargo xtask quiet`: an idle pair on a busy machine must not fail over.
//!
//! Busy loops and a writer that waits for the disk run at normal priority beside it. A primary that
//! changes, a Postgres that restarts and a new timeline are failures; a state that changes and comes back is
//! counted and named.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, Row};
use crate::console::{self, human};
use crate::temp::Folder;
use crate::{machine, process, scenario, wait};

/// How often the states are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What one write of the disk's load is, in bytes: a page of Postgres.
const BLOCK: usize = 8 * 1024;

/// The disk's load starts over after this many blocks, so that it needs 64 MB at most.
const BLOCKS: u64 = 8 * 1024;

/// How a quiet run is set up.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Quiet {
    /// How long the pair must stay as it is
    #[arg(long, default_value_t = 10)]
    pub(crate) minutes: u64,
    /// How many busy loops run beside it
    #[arg(long, default_value_t = 8)]
    pub(crate) busy: usize,
    /// The folder of another `pg_autoctl` to run
    #[arg(long, value_name = "DIR")]
    pub(crate) bin: Option<std::path::PathBuf>,
}

impl Default for Quiet {
    fn default() -> Self {
        Self {
            minutes: 10,
            busy: 8,
            bin: None,
        }
    }
}

/// Runs it.
///
/// # Errors
/// When the primary changes, a Postgres restarts, or the pair is not settled at the end.
pub(crate) fn run(quiet: &Quiet) -> Result<()> {
    machine::install_missing(scenario::PROGRAMS)?;
    let (programs, _bin) = scenario::programs(quiet.bin.as_deref(), true)?;
    let folder = Folder::new("quiet")?;
    let result = watch(quiet, folder.path(), &programs);
    if result.is_err() && !crate::interrupt::asked() {
        scenario::show_logs(folder.path());
    }
    result
}

fn watch(quiet: &Quiet, folder: &Path, programs: &Arc<crate::host::Programs>) -> Result<()> {
    console::heading("an idle pair on a busy machine");
    let mut progress = |line: &str| console::note(line);
    let cluster = Cluster::start(folder, 2, machine::is_root(), programs, &mut progress)?;
    let primary = cluster.primary()?;
    let before = postmasters(&cluster)?;
    let timeline = timeline(&cluster, primary)?;
    let load = Load::start(folder, quiet.busy)?;
    console::note(&format!(
        "{} busy loops and a writer with O_SYNC, for {} minutes",
        quiet.busy, quiet.minutes
    ));

    let (start, limit) = (Instant::now(), Duration::from_secs(quiet.minutes * 60));
    let (mut rows, mut changes, mut minute) = (cluster.state()?, 0_u32, 0);
    while start.elapsed() < limit {
        wait::pass(LOOK)?;
        // On a busy machine an answer may come late; that the states are right is what counts.
        let Ok(now) = cluster.state() else { continue };
        if now != rows {
            changes += 1;
            console::bad(&format!(
                "after {}: {}",
                human(start.elapsed()),
                shown(&now)
            ));
            rows = now;
        }
        if let Ok(now) = cluster.primary() {
            ensure!(
                now == primary,
                "a false failover: the primary is {}",
                cluster.nodes[now].name
            );
        }
        if start.elapsed().as_secs() / 60 > minute {
            minute += 1;
            console::note(&format!(
                "{minute} min: {} ({} disk writes)",
                shown(&rows),
                load.written()
            ));
        }
    }
    drop(load);
    ensure!(postmasters(&cluster)? == before, "a Postgres was restarted");
    ensure!(
        self::timeline(&cluster, primary)? == timeline,
        "the timeline is another one"
    );
    wait::until("the pair is settled", Duration::from_secs(30), || {
        cluster.is_settled()
    })?;
    console::good(&format!(
        "no failover in {} minutes; {changes} changes of state",
        quiet.minutes
    ));
    Ok(())
}

fn shown(rows: &[Row]) -> String {
    let row = |row: &Row| format!("{} {}/{}", row.name, row.reported, row.goal);
    rows.iter().map(row).collect::<Vec<_>>().join(", ")
}

fn postmasters(cluster: &Cluster) -> Result<Vec<i32>> {
    cluster
        .nodes
        .iter()
        .map(crate::host::Host::postmaster)
        .collect()
}

fn timeline(cluster: &Cluster, node: usize) -> Result<Vec<Vec<String>>> {
    cluster.query(node, "select timeline_id from pg_control_checkpoint()")
}

/// What keeps the machine busy; dropping ends it.
struct Load {
    loops: Vec<Child>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Load {
    fn start(folder: &Path, busy: usize) -> Result<Self> {
        let mut load = Self {
            loops: Vec::new(),
            stop: Arc::default(),
            written: Arc::default(),
            writer: None,
        };
        for _ in 0..busy {
            let child = Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn();
            let child = child.context("cannot start a busy loop")?;
            process::own(child.id());
            load.loops.push(child);
        }
        let path = folder.join("load");
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .custom_flags(nix::fcntl::OFlag::O_SYNC.bits())
            .open(&path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        let (stop, written) = (Arc::clone(&load.stop), Arc::clone(&load.written));
        load.writer = Some(std::thread::spawn(move || {
            use std::io::{Seek, SeekFrom};
            let block = vec![0x55; BLOCK];
            while !stop.load(Ordering::SeqCst) {
                let count = written.fetch_add(1, Ordering::SeqCst);
                let again = count % BLOCKS == 0 && file.seek(SeekFrom::Start(0)).is_err();
                if again || file.write_all(&block).is_err() {
                    return;
                }
            }
        }));
        Ok(load)
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for child in &mut self.loops {
            // They never end by themselves.
            let _ = child.kill();
            let _ = child.wait();
            process::disown(child.id());
        }
        if let Some(writer) = self.writer.take() {
            // A panic in there was printed by the thread itself.
            let _ = writer.join();
        }
    }
}
