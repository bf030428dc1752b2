//! Faults on a cluster of real processes, and undoing their causes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::plan::{Fault, Kind, Whom};
use crate::cluster::Cluster;
use crate::host::{Host, Place};
use crate::network::Namespace;
use crate::process::{self, Pids};

/// A host of the cluster: 0 is the monitor's, node1 is 1.
type Seat = usize;

/// What takes a fault's cause away again. Nobody repairs anything: a host or a daemon starts as a supervisor would
/// start it, a process goes on, a link is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Undo {
    Start(Seat),
    Thaw(Seat),
    /// What goes from the first to the second comes through again.
    Mend(Vec<(Seat, Seat)>),
}

/// A fault that struck.
#[derive(Debug, Clone)]
pub(super) struct Strike {
    /// What was done, and to whom.
    pub(super) said: String,
    pub(super) undo: Option<Undo>,
}

/// What is wrong with the cluster at the moment, by our own doing.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// Hosts, or their daemons, that were killed and not started again.
    down: BTreeSet<Seat>,
    frozen: BTreeSet<Seat>,
    /// One way each; counted, since faults overlap.
    lost: BTreeMap<(Seat, Seat), u32>,
}

impl Damage {
    /// Strikes. A kind that has nothing to strike there, as a postmaster on a host that is down, answers none.
    pub(super) fn strike(
        &mut self,
        cluster: &mut Cluster,
        fault: &Fault,
        primary: usize,
    ) -> Result<Option<Strike>> {
        let seat = whom(cluster, fault, primary);
        let name = host(cluster, seat).name.clone();
        let role = if seat == 0 || cluster.group_count() > 1 {
            ""
        } else if seat == primary + 1 {
            " (primary)"
        } else {
            " (standby)"
        };
        let target = host_mut(cluster, seat);
        let mut what = format!("{} {name}{role}", fault.kind);
        let undo = match fault.kind {
            Kind::KillPostgres => {
                let postmaster = target.postmaster().ok();
                // The file may be a dead one's, and its number somebody else's by now.
                let pids = target.postgres_pids();
                let Some(pid) = postmaster.filter(|pid| pids.contains(pid)) else {
                    return Ok(None);
                };
                process::send(&Pids::from([pid]), Signal::SIGKILL)?;
                None
            }
            Kind::KillHost | Kind::KillMonitor => {
                if self.down.contains(&seat) && target.pids().is_empty() {
                    return Ok(None);
                }
                target.kill()?;
                self.down.insert(seat);
                self.frozen.remove(&seat);
                Some(Undo::Start(seat))
            }
            Kind::KillKeeper => {
                if target.keeper_pids().is_empty() {
                    return Ok(None);
                }
                target.kill_keeper()?;
                self.down.insert(seat);
                Some(Undo::Start(seat))
            }
            Kind::FreezeHost | Kind::FreezeMonitor => {
                self.freeze(target, seat, &|host| host.pids())?
            }
            Kind::FreezeKeeper => self.freeze(target, seat, &Host::keeper_pids)?,
            Kind::FreezePostgres => self.freeze(target, seat, &Host::postgres_pids)?,
            Kind::CutFromAll
            | Kind::CutFromMonitor
            | Kind::CutFromNode
            | Kind::LoseSent
            | Kind::LoseReceived
            | Kind::CutMonitor => {
                let (links, end) = links(cluster, fault, seat);
                for link in &links {
                    self.lose(cluster, *link)?;
                }
                if let Some(end) = end {
                    what.push_str(&format!(" {}", host(cluster, end).name));
                }
                Some(Undo::Mend(links))
            }
        };
        if undo.is_none() && fault.kind.lasts() {
            return Ok(None);
        }
        Ok(Some(Strike { said: what, undo }))
    }

    fn freeze(
        &mut self,
        target: &Host,
        seat: Seat,
        which: &dyn Fn(&Host) -> Pids,
    ) -> Result<Option<Undo>> {
        if self.frozen.contains(&seat) || which(target).is_empty() {
            return Ok(None);
        }
        process::send(&which(target), Signal::SIGSTOP)?;
        // One may have been started meanwhile.
        process::send(&which(target), Signal::SIGSTOP)?;
        self.frozen.insert(seat);
        Ok(Some(Undo::Thaw(seat)))
    }

    fn lose(&mut self, cluster: &Cluster, (from, to): (Seat, Seat)) -> Result<()> {
        let count = self.lost.entry((from, to)).or_default();
        *count += 1;
        if *count == 1 {
            space(cluster, from)?.lose(space(cluster, to)?, true)?;
        }
        Ok(())
    }

    /// Takes a cause away.
    pub(super) fn undo(&mut self, cluster: &mut Cluster, undo: &Undo) -> Result<()> {
        match undo {
            Undo::Start(seat) => {
                let host = host_mut(cluster, *seat);
                if self.down.remove(seat) && !host.is_running() {
                    host.start(&["run"])?;
                }
            }
            Undo::Thaw(seat) => {
                host(cluster, *seat).signal(Signal::SIGCONT)?;
                self.frozen.remove(seat);
            }
            Undo::Mend(links) => {
                for link in links {
                    let count = self.lost.entry(*link).or_default();
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.lost.remove(link);
                        space(cluster, link.0)?.lose(space(cluster, link.1)?, false)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// # Errors
    /// When a daemon has ended though nobody killed it.
    pub(super) fn must_run(&self, cluster: &mut Cluster) -> Result<()> {
        for seat in 0..=cluster.nodes.len() {
            if !self.down.contains(&seat) {
                host_mut(cluster, seat).must_run()?;
            }
        }
        Ok(())
    }
}

fn whom(cluster: &Cluster, fault: &Fault, primary: usize) -> Seat {
    if fault.kind.is_of_monitor() {
        return 0;
    }
    let node = match fault.whom {
        Whom::Primary => primary,
        Whom::Other(number) => {
            let others = cluster.nodes.len() - 1;
            let other = number % others;
            other + usize::from(other >= primary)
        }
    };
    node + 1
}

/// The one-way links that a fault cuts, and the other end when there is one.
fn links(cluster: &Cluster, fault: &Fault, seat: Seat) -> (Vec<(Seat, Seat)>, Option<Seat>) {
    let others: Vec<Seat> = (0..=cluster.nodes.len()).filter(|s| *s != seat).collect();
    let nodes: Vec<Seat> = others.iter().copied().filter(|s| *s != 0).collect();
    let both = |ends: &[Seat]| ends.iter().flat_map(|e| [(seat, *e), (*e, seat)]).collect();
    let node = nodes[fault.other % nodes.len()];
    let any = others[fault.other % others.len()];
    match fault.kind {
        Kind::CutFromMonitor => (both(&[0]), Some(0)),
        Kind::CutFromNode => (both(&[node]), Some(node)),
        Kind::LoseSent => (vec![(seat, any)], Some(any)),
        Kind::LoseReceived => (vec![(any, seat)], Some(any)),
        Kind::CutFromAll
        | Kind::CutMonitor
        | Kind::KillPostgres
        | Kind::KillHost
        | Kind::KillKeeper
        | Kind::FreezeHost
        | Kind::FreezeKeeper
        | Kind::FreezePostgres
        | Kind::KillMonitor
        | Kind::FreezeMonitor => (both(&others), None),
    }
}

pub(super) fn host(cluster: &Cluster, seat: Seat) -> &Host {
    match seat.checked_sub(1) {
        None => &cluster.monitor,
        Some(node) => &cluster.nodes[node],
    }
}

fn host_mut(cluster: &mut Cluster, seat: Seat) -> &mut Host {
    match seat.checked_sub(1) {
        None => &mut cluster.monitor,
        Some(node) => &mut cluster.nodes[node],
    }
}

fn space(cluster: &Cluster, seat: Seat) -> Result<&Namespace> {
    let host = host(cluster, seat);
    match &host.place {
        Place::Namespace(space) => Ok(space),
        Place::Loopback => bail!("{} shares the loopback: it cannot be cut off", host.name),
    }
}
