//! Processes, by their ids only: who belongs to a host, signals, and collecting the dead.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::wait;

/// A set of process ids.
pub(crate) type Pids = BTreeSet<i32>;

/// How long killed processes may take to disappear.
const DEATH: Duration = Duration::from_secs(10);

/// How often orphans that came to us are looked for.
const REAP: Duration = Duration::from_millis(250);

/// Children whose end somebody in xtask waits for: not to be collected by the reaper.
static OWN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Notes that somebody waits for this child.
pub(crate) fn own(pid: u32) {
    if let (Ok(mut own), Ok(pid)) = (OWN.lock(), i32::try_from(pid)) {
        own.insert(pid);
    }
}

/// Notes that this child was collected.
pub(crate) fn disown(pid: u32) {
    if let (Ok(mut own), Ok(pid)) = (OWN.lock(), i32::try_from(pid)) {
        own.remove(&pid);
    }
}

/// Becomes the parent of what killed programs leave behind, and collects it when it dies: a zombie
/// that nobody collects looks alive to whoever only asks for its id.
pub(crate) fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot become a subreaper")?;
    std::thread::spawn(|| {
        let mut before = Pids::new();
        loop {
            let own = OWN.lock().map(|own| own.clone()).unwrap_or_default();
            let me = Pid::this().as_raw();
            let dead = |pid: &i32| stat(*pid).is_some_and(|s| s.state == 'Z' && s.parent == me);
            let zombies: Pids = all()
                .into_iter()
                .filter(|pid| !own.contains(pid))
                .filter(dead)
                .collect();
            // Seen twice: a child that was started a moment ago may not be noted as somebody's yet.
            for pid in zombies.intersection(&before) {
                let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            }
            before = zombies;
            std::thread::sleep(REAP);
        }
    });
    Ok(())
}

/// Sends a signal to each process that is still there.
pub(crate) fn send(pids: &Pids, signal: Signal) -> Result<()> {
    for pid in pids {
        match kill(Pid::from_raw(*pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot signal process {pid}"));
            }
        }
    }
    Ok(())
}

/// Kills until `which` finds nobody any more, and waits until all of them are gone. New processes
/// may appear while their parents die, so it looks again.
pub(crate) fn end_all(which: impl Fn() -> Pids) -> Result<()> {
    let mut seen = Pids::new();
    wait::until_done("processes that were killed are gone", DEATH, || {
        let now = which();
        send(&now, Signal::SIGKILL)?;
        seen.extend(&now);
        let me = Pid::this().as_raw();
        let own = OWN.lock().map(|own| own.clone()).unwrap_or_default();
        for pid in &seen {
            if stat(*pid).is_some_and(|s| s.state == 'Z' && s.parent == me) && !own.contains(pid) {
                let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        // Whoever holds a child of ours collects it as soon as this returns.
        seen.retain(|pid| {
            stat(*pid).is_some_and(|s| !(s.state == 'Z' && s.parent == me && own.contains(pid)))
        });
        Ok(now
            .iter()
            .all(|pid| stat(*pid).is_none_or(|s| s.state == 'Z'))
            && seen.is_empty())
    })?;
    Ok(())
}

/// What `/proc/PID/stat` says.
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: i32,
}

/// None when there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
    })
}

/// Every process of the machine.
pub(crate) fn all() -> Pids {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// A process and all that descend from it.
pub(crate) fn tree(root: i32) -> Pids {
    let parents: Vec<(i32, i32)> = all()
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut found: Pids = stat(root).map(|_| root).into_iter().collect();
    loop {
        let more: Pids = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The processes that work inside a folder. Every process of a Postgres does so in its data directory.
pub(crate) fn working_in(folder: &Path) -> Pids {
    let inside = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    all().into_iter().filter(inside).collect()
}

/// The processes in a network namespace that has a name.
pub(crate) fn in_namespace(name: &str) -> Pids {
    let Ok(space) = std::fs::metadata(format!("/run/netns/{name}")) else {
        return Pids::new();
    };
    let inside = |pid: &i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|its| (its.dev(), its.ino()) == (space.dev(), space.ino()))
    };
    all().into_iter().filter(inside).collect()
}

/// The program's own path as it was started; empty when it is gone.
pub(crate) fn program(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(first).into_owned()
}

/// Whether a process of this network listens on a TCP port. `pid` names the network.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|family| {
        let table =
            std::fs::read_to_string(format!("/proc/{pid}/net/{family}")).unwrap_or_default();
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            // Local address, remote address, state; 0A is LISTEN.
            fields.next().is_some_and(|local| local.ends_with(&wanted))
                && fields.nth(1) == Some("0A")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_tree_is_ended_with_all_that_descends_from_it() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60"])
            .spawn()
            .unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        wait::until("children", DEATH, || {
            Ok(tree(pid).len() >= 3 || tree(pid).len() == 2)
        })
        .unwrap();
        let members = tree(pid);
        assert!(members.contains(&pid));
        send(&members, Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
        assert!(stat(pid).is_none());
    }

    #[test]
    fn a_listening_port_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(std::process::id(), port));
        drop(listener);
        assert!(!listens(std::process::id(), port));
    }
}
