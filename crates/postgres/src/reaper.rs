//! Children, one owner each: what a process with PID 1 in a container has to do.
//!
//! Owns the list of children that have an owner, and the reaping of those that have none: orphans
//! that the kernel gave to PID 1, such as the backends of a killed postmaster. It must never reap a
//! child that somebody waits for: its exit status would be lost.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::processes;

/// Children that have an owner: it waits for them, nobody else does.
static OWNED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How long a zombie must have been one before it counts as an orphan: somebody who waits for it
/// takes it within milliseconds (chosen).
const ORPHAN_AFTER: Duration = Duration::from_secs(1);

fn owned() -> MutexGuard<'static, BTreeSet<i32>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child whose exit status belongs to the holder of the returned [`Child`]. All children
/// of the process are started through this function.
///
/// # Errors
/// The system's reason.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    // Held over the start: the reaper must not meet the child before it is on the list.
    let mut owned = owned();
    let child = command.spawn()?;
    if owned.len() > 64 {
        // Entries are not removed at each exit, where a number may be somebody else's already.
        owned.retain(|pid| processes::exists(*pid));
    }
    owned.extend(child.id().and_then(|id| i32::try_from(id).ok()));
    drop(owned);
    Ok(child)
}

/// Whether a child's exit status belongs to somebody.
pub(crate) fn has_owner(pid: i32) -> bool {
    owned().contains(&pid)
}

/// Takes a child that this process started before it executed itself anew; `false` when it has an
/// owner already.
pub(crate) fn take(pid: i32) -> bool {
    owned().insert(pid)
}

/// Reaps orphans for ever when this process is PID 1; returns at once otherwise. Children that were
/// started through [`spawn`] are left to their owners. Run it once, as a task.
///
/// # Errors
/// When SIGCHLD cannot be watched.
pub async fn reap_orphans() -> io::Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let mut changes = signal(SignalKind::child())?;
    loop {
        let before = zombies();
        if !before.is_empty() {
            tokio::time::sleep(ORPHAN_AFTER).await;
            reap(&before);
        }
        // The timeout covers a zombie that was too young a moment ago.
        let _ = tokio::time::timeout(10 * ORPHAN_AFTER, changes.recv()).await;
    }
}

/// Zombies that are our children.
fn zombies() -> BTreeSet<i32> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    processes::all()
        .unwrap_or_default()
        .into_iter()
        .filter(|pid| processes::stat(*pid).is_some_and(|s| s.parent == me && s.is_dead()))
        .collect()
}

/// Reaps those zombies that still are one, and that nobody owns.
fn reap(candidates: &BTreeSet<i32>) {
    let now = zombies();
    let mut owned = owned();
    owned.retain(|pid| processes::exists(*pid));
    for pid in candidates
        .intersection(&now)
        .filter(|pid| !owned.contains(pid))
    {
        if let Some(pid) = Pid::from_raw(*pid) {
            let status = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            tracing::debug!(%pid, ?status, "reaped an orphan");
        }
    }
}
