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
const LOOK_CLOSER: Duration = Duration::from_millis(250);
/// Between two reports of recovery (chosen).
const REPORT: Duration = Duration::from_secs(1);
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
    /// long as something moves within each `stall`. `on_progress` hears of recovery, at most once a
    /// second. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadyError`]; the server is left as it is.
    pub async fn wait_ready(
        &self,
        stall: Duration,
        mut on_progress: impl FnMut(&Recovery) + Send,
    ) -> Result<Phase, ReadyError> {
        let begin = Instant::now();
        let (mut moved, mut looked, mut reported) = (begin, begin, begin);
        let mut last = None;
        loop {
            if let Some(phase) = self.settled_phase() {
                return Ok(phase);
            }
            let now = Instant::now();
            if now - looked >= LOOK_CLOSER {
                looked = now;
                let (seen, activity) = self.activity();
                if last.as_ref() != Some(&seen) {
                    last = Some(seen);
                    moved = now;
                }
                if now - reported >= REPORT {
                    reported = now;
                    on_progress(&Recovery { activity });
                }
                if now - moved >= stall {
                    return Err(ReadyError::Stalled { limit: stall });
                }
            }
            if let Ok(exit) = tokio::time::timeout(LOOK, self.exited()).await {
                return Err(ReadyError::Exited {
                    exit,
                    log: log_tail(self.pgdata()),
                });
            }
        }
    }

    /// The phase in `postmaster.pid`, once it is one to wait for, and this server wrote it.
    fn settled_phase(&self) -> Option<Phase> {
        let file = PidFile::read(self.pgdata()).ok()??;
        let settled = matches!(file.phase, Some(Phase::Ready | Phase::Standby));
        file.phase.filter(|_| settled && file.pid == self.pid())
    }

    /// What changes when recovery moves, and what the startup process shows.
    ///
    /// A startup process that waits for WAL looks for it several times a second: that is no
    /// movement, though it reads and uses the processor.
    fn activity(&self) -> ((u64, u64, String), String) {
        let pids = processes::of_cluster(self.pgdata()).unwrap_or_default();
        let startup = pids.iter().find_map(|pid| {
            let title = processes::title(*pid);
            title
                .split_once(": startup")
                .map(|(_, shown)| (*pid, shown.trim().to_owned()))
        });
        let (pid, shown) = startup.unwrap_or((self.pid(), String::new()));
        if shown.starts_with("waiting for") {
            return ((0, 0, shown.clone()), shown);
        }
        let cpu = processes::stat(pid).map_or(0, |s| s.cpu_ticks);
        ((cpu, processes::bytes_read(pid), shown.clone()), shown)
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
