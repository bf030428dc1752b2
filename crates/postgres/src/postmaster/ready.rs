//! Waiting for a server to accept connections, however long its recovery takes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::{Exit, LOG, Phase, PidFile, Postmaster};
use crate::processes;

/// Between two looks at `postmaster.pid` (chosen: a start takes 60 ms at least).
const LOOK: Duration = Duration::from_millis(5);
/// Between two looks at what recovery does, which read all of `/proc` (chosen).
const LOOK_CLOSER: Duration = Duration::from_secs(1);
/// Recovery that moves uses more of the processor than this between two looks (chosen: 2 %; looking
/// for WAL ten times a second takes 0.1 %), …
const MOVING_TICKS: u64 = 2;
/// … or reads more than this (chosen; looking for WAL ten times a second reads 80 KiB).
const MOVING_BYTES: u64 = 256 << 10;
/// Lines of a log that go into a message (chosen).
const LOG_LINES: usize = 6;

/// Why a server is not ready.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// It ended.
    #[error("Postgres ended while it was starting ({exit:?}): {log}")]
    Exited {
        /// How.
        exit: Exit,
        /// The last lines of its start-up log.
        log: String,
    },
    /// It lives, and nothing has moved for this long: it waits for WAL, or hangs. It still runs.
    #[error("Postgres has made no progress in starting for {} ms", limit.as_millis())]
    Stalled {
        /// The limit.
        limit: Duration,
    },
}

/// What a server that becomes ready is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What its startup process shows, such as `recovering 000000010000000000000003`.
    pub activity: String,
}

impl Postmaster {
    /// Waits until it is [`Phase::Ready`] or [`Phase::Standby`], however long recovery takes, as
    /// long as something moves within each `stall`. `on_progress` hears of recovery, once a second.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`ReadyError`]; the server is left as it is.
    pub async fn wait_ready(
        &self,
        stall: Duration,
        mut on_progress: impl FnMut(&Recovery) + Send,
    ) -> Result<Phase, ReadyError> {
        let mut movement = Movement::new();
        loop {
            if let Some(phase) = self.settled_phase() {
                return Ok(phase);
            }
            if let Some(activity) = movement.look(self) {
                on_progress(&Recovery { activity });
            }
            if movement.none_for() >= stall {
                return Err(ReadyError::Stalled { limit: stall });
            }
            if let Ok(exit) = tokio::time::timeout(LOOK, self.exited()).await {
                return Err(ReadyError::Exited {
                    exit,
                    log: log_tail(self.pgdata()),
                });
            }
        }
    }

    /// Waits until it has ended by itself, as long as something moves within each `stall`.
    pub(crate) async fn exited_while_moving(&self, stall: Duration) -> bool {
        let mut movement = Movement::new();
        while movement.none_for() < stall {
            if tokio::time::timeout(LOOK, self.exited()).await.is_ok() {
                return true;
            }
            movement.look(self);
        }
        false
    }

    /// The phase in `postmaster.pid`, once it is one to wait for, and this server wrote it.
    fn settled_phase(&self) -> Option<Phase> {
        let file = PidFile::read(self.pgdata()).ok()??;
        let settled = matches!(file.phase, Some(Phase::Ready | Phase::Standby));
        file.phase.filter(|_| settled && file.pid == self.pid())
    }
}

/// Whether recovery gets on.
///
/// A startup process that waits for WAL looks for it several times a second: it reads a page then,
/// and uses some time of the processor, and shows the same title as one that replays.
struct Movement {
    looked: Instant,
    moved: Instant,
    last: Option<Sample>,
}

#[derive(Debug, PartialEq, Eq)]
struct Sample {
    pid: i32,
    shown: String,
    cpu_ticks: u64,
    bytes: u64,
    on_disk: bool,
}

impl Movement {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            looked: now,
            moved: now,
            last: None,
        }
    }

    fn none_for(&self) -> Duration {
        self.moved.elapsed()
    }

    /// Looks once a second; answers what the startup process shows.
    fn look(&mut self, server: &Postmaster) -> Option<String> {
        if self.looked.elapsed() < LOOK_CLOSER {
            return None;
        }
        self.looked = Instant::now();
        let sample = Sample::of(server);
        let shown = sample.shown.clone();
        if self
            .last
            .as_ref()
            .is_none_or(|last| sample.moved_since(last))
        {
            self.moved = self.looked;
        }
        self.last = Some(sample);
        Some(shown)
    }
}

impl Sample {
    /// Of the startup process, or of the postmaster until there is one.
    fn of(server: &Postmaster) -> Self {
        let pids = processes::of_cluster(server.pgdata()).unwrap_or_default();
        let startup = pids.iter().find_map(|pid| {
            let title = processes::title(*pid);
            title
                .split_once(": startup")
                .map(|(_, shown)| (*pid, shown.trim().to_owned()))
        });
        let (pid, shown) = startup.unwrap_or((server.pid(), String::new()));
        let stat = processes::stat(pid);
        Self {
            pid,
            shown,
            cpu_ticks: stat.map_or(0, |s| s.cpu_ticks),
            bytes: processes::bytes_read(pid),
            on_disk: stat.is_some_and(|s| s.state == 'D'),
        }
    }

    fn moved_since(&self, last: &Self) -> bool {
        self.pid != last.pid
            || self.shown != last.shown
            || self.on_disk
            || self.cpu_ticks.saturating_sub(last.cpu_ticks) >= MOVING_TICKS
            || self.bytes.saturating_sub(last.bytes) >= MOVING_BYTES
    }
}

/// The last lines of the start-up log, and of the server's own log once it has one.
fn log_tail(pgdata: &Path) -> String {
    let mut lines = last_lines(&pgdata.join(LOG));
    let current = fs::read_to_string(pgdata.join("current_logfiles")).unwrap_or_default();
    let own = current
        .lines()
        .find_map(|line| line.strip_prefix("stderr "));
    lines.extend(
        own.map(|name| last_lines(&pgdata.join(name)))
            .unwrap_or_default(),
    );
    lines.join("; ")
}

fn last_lines(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let text =
        String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(4096)..).unwrap_or(&[]))
            .into_owned();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    lines.into_iter().skip(from).map(str::to_owned).collect()
}
