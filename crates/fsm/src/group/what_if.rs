//! What would become of a group if a node were gone now: the shipped decisions, run on the view
//! with that node gone, against keepers that answer at once.
//!
//! Time is simulated too: where a decision names the moment to look again, the clock goes there.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::{
    Confirmed, Fault, Look, NodeId, Postgres, Promise, Settings, Time, Waiting, WhatIf,
};

use super::decide::decide;
use super::explain::automatic;
use super::facts::{Facts, FormationView};
use super::fold::fold;
use super::live::{LiveGroup, Probe, ProbeOutcome, Session};
use super::model::{Group, Phase};

/// Milliseconds for a standby's promise. Measured: `safety.md` §4.2, 50 ms by a reload.
const PROMISE_MS: u64 = 50;

/// Milliseconds from the goal to promote to the first acknowledged commit. Measured: `safety.md`
/// §2.7, 115 ms for `pg_promote`; the rest is chosen, for two messages and a connection.
const PROMOTE_MS: u64 = 150;

/// Bytes of WAL that a standby replays in a millisecond. Chosen: 50 MB/s, a slow disk.
const REPLAY_BYTES_PER_MS: u64 = 50_000;

/// Looks at most: an election takes four; a lease and a grace period one each.
const LOOKS: usize = 24;

/// How far ahead the simulated clock may go, in milliseconds: longer than any lease and grace period
/// by default; whatever waits longer counts as waiting.
const HORIZON_MS: u64 = 120_000;

/// Tells what would happen; `None`: the group has no such node.
#[must_use]
pub fn what_if(
    formation: &FormationView,
    group: &Group,
    live: &LiveGroup,
    settings: &Settings,
    now: Time,
    (node, fault): (NodeId, Fault),
) -> Option<WhatIf> {
    let name = group.nodes.get(&node)?.name.clone();
    let mut run = Run {
        formation,
        settings,
        group: group.clone(),
        live: live.clone(),
        now,
        node,
        fault,
        steps: Vec::new(),
        waiting: Vec::new(),
        fetches: false,
        reconfigured: now,
        struck: now,
    };
    let served = run.is_served_without();
    run.strike();
    let is_primary = group.primary.is_some_and(|l| l.node == node);
    let chosen = run.settle();
    let winner = chosen.filter(|n| *n != node);
    let writes = winner.is_some_and(|w| run.writes_go_on(w));
    if winner.is_some() && !writes {
        run.waiting.push(Waiting {
            id: "synchronous-standby".into(),
            nodes: run.away(),
            why: "commits would wait: fewer standbys are left than number_sync_standbys asks for"
                .into(),
            way_out: Some(format!(
                "pg_autoctl set formation number-sync-standbys --formation {} {}",
                group.formation,
                run.others(winner).len()
            )),
        });
    }
    // A standby that is not needed is not missed; otherwise commits wait until it is not named.
    let took_ms = match (is_primary, served) {
        (true, _) => run.now.0.saturating_sub(now.0),
        (false, true) => 0,
        (false, false) => run.reconfigured.0.saturating_sub(now.0),
    };
    let leased = group.lease.is_some_and(|l| l.reported);
    let behind = |n: Option<NodeId>| behind_bytes(group, live, n);
    let bytes_at_risk = if is_primary && leased && winner.is_some() {
        behind(winner)
    } else {
        0
    };
    let forced =
        (is_primary && winner.is_none() && !run.others(None).is_empty()).then(|| behind(None));
    let mut outcome = WhatIf {
        formation: group.formation.clone(),
        group: group.id,
        node,
        name,
        fault,
        is_primary,
        summary: String::new(),
        winner,
        estimated_ms: match winner {
            Some(winner) if writes => Some(run.estimate_ms(winner, is_primary, took_ms)),
            Some(_) | None => None,
        },
        bytes_at_risk,
        bytes_at_risk_forced: forced,
        automatic_failover_afterwards: (!is_primary).then(|| run.automatic()),
        blocks: if writes { Vec::new() } else { run.waiting },
        steps: run.steps,
    };
    outcome.summary = summary(group, &outcome, run.fetches);
    Some(outcome)
}

struct Run<'a> {
    formation: &'a FormationView,
    settings: &'a Settings,
    group: Group,
    live: LiveGroup,
    now: Time,
    node: NodeId,
    fault: Fault,
    steps: Vec<String>,
    waiting: Vec<Waiting>,
    fetches: bool,
    /// When the configuration changed last.
    reconfigured: Time,
    /// When the fault came.
    struck: Time,
}

impl Run<'_> {
    /// The fault itself: what the monitor will see of it, and when.
    fn strike(&mut self) {
        let (node, now) = (self.node, self.now);
        let entry = self.live.nodes.entry(node).or_default();
        if self.fault == Fault::Down && matches!(entry.session, Session::Open { .. }) {
            entry.session = Session::Closed { since: now };
        }
        self.see();
    }

    /// Probes, looks and reports of the others, as they are while the node is gone.
    fn see(&mut self) {
        let (node, now) = (self.node, self.now);
        // What came from a silent node last still counts for a while.
        let stale_ms = match self.fault {
            Fault::Down => 0,
            Fault::Silent => self.settings.unhealthy_timeout_ms,
        };
        let is_fresh = now.0.saturating_sub(self.struck.0) < stale_ms;
        let gone = Look {
            number: 0,
            node,
            connected: false,
            heard: false,
        };
        for (id, entry) in &mut self.live.nodes {
            if *id == node {
                entry.unseen_since = entry.unseen_since.or(Some(now));
                entry.probe = Some(Probe {
                    began: now,
                    ended: now,
                    outcome: match self.fault {
                        Fault::Down => ProbeOutcome::Refused,
                        Fault::Silent => ProbeOutcome::TimedOut,
                    },
                });
                continue;
            }
            entry.look = Some((gone, now));
            let Some(report) = &mut entry.report else {
                continue;
            };
            if let Some(upstream) = report.upstream.as_mut().filter(|u| u.node == node) {
                upstream.streaming = is_fresh;
                upstream.fresh &= is_fresh;
            }
            match self.fault {
                Fault::Down => report.standbys.retain(|s| s.node != node),
                Fault::Silent => {
                    for seen in report.standbys.iter_mut().filter(|s| s.node == node) {
                        seen.fresh &= is_fresh;
                    }
                }
            }
        }
    }

    /// Looks until nothing changes any more. Who is primary then.
    fn settle(&mut self) -> Option<NodeId> {
        let end = self.now.0.saturating_add(HORIZON_MS);
        for _ in 0..LOOKS {
            let before = self.group.clone();
            let decision = decide(
                self.formation,
                &before,
                &mut self.live,
                self.settings,
                self.now,
            );
            self.steps
                .extend(decision.events.iter().map(|e| e.description.clone()));
            self.waiting = decision.waiting;
            self.group = decision.group;
            match &self.group.phase {
                Phase::Promoting { node, .. } => return Some(*node),
                Phase::Collecting(e) if e.fetching.is_some() => {
                    self.fetches = true;
                    return e.fetching.map(|f| f.node);
                }
                Phase::Steady | Phase::Preparing(_) | Phase::Collecting(_) => {}
            }
            if self.group.possible.last().map(|p| &p.config)
                != before.possible.last().map(|p| &p.config)
            {
                self.reconfigured = self.now;
            }
            self.answer();
            if self.group != before {
                continue;
            }
            match decision.deadline.filter(|at| at.0 <= end) {
                Some(at) => self.now = at,
                None => break,
            }
            self.see();
            self.answer();
        }
        self.group
            .primary
            .filter(|_| matches!(self.group.phase, Phase::Steady))
            .map(|l| l.node)
    }

    /// Every other keeper that answers now goes on answering: it promises what it is asked for, and
    /// the primary confirms what it is told.
    fn answer(&mut self) {
        for id in self.others(None) {
            let Some(mut report) = self.live.report(id).cloned() else {
                continue;
            };
            let collecting = matches!(self.group.phase, Phase::Collecting(_));
            let leads = self.group.primary.is_some_and(|l| l.node == id);
            if let (true, false, Some(copy)) = (collecting, leads, report.copy) {
                report.promise = Some(Promise {
                    term: self.group.term,
                    copy,
                    position: report.position,
                });
            }
            if let (true, Postgres::Running { since, .. }) = (leads, report.postgres) {
                let listed = self.group.possible.iter().rev();
                let term = self.group.primary.map(|l| l.term);
                report.confirmed =
                    listed
                        .into_iter()
                        .find(|p| Some(p.stamp.term) == term)
                        .map(|p| Confirmed {
                            stamp: p.stamp,
                            postmaster_start: since,
                        });
            }
            let seen = self.live.of(self.node).and_then(|l| l.unseen_since);
            fold(&mut self.group, &mut self.live, report, self.now);
            if let Some(entry) = self.live.nodes.get_mut(&self.node) {
                entry.unseen_since = seen.or(entry.unseen_since);
            }
        }
    }

    /// Whether the configuration that is listed now is satisfied by others than the node.
    fn is_served_without(&self) -> bool {
        let facts = self.facts(&self.group);
        let sync = facts.current_sync();
        let others = sync.members.iter().filter(|m| m.node != self.node);
        let streaming = others.filter(|m| facts.is_seen_streaming(m.node)).count();
        streaming >= usize::try_from(sync.number).unwrap_or(usize::MAX)
    }

    /// Nodes whose keepers answer, but for the one that is gone and the one that is asked about.
    fn others(&self, but: Option<NodeId>) -> Vec<NodeId> {
        self.group
            .nodes
            .keys()
            .copied()
            .filter(|id| *id != self.node && Some(*id) != but)
            .filter(|id| self.live.report(*id).is_some())
            .filter(|id| self.group.nodes.get(id).is_some_and(|n| !n.leaving))
            .collect()
    }

    fn away(&self) -> Vec<NodeId> {
        let here = self.others(None);
        let all = self.group.nodes.keys().copied();
        all.filter(|id| !here.contains(id)).collect()
    }

    /// Whether enough standbys are left that commits need not wait for those that are gone.
    fn writes_go_on(&self, primary: NodeId) -> bool {
        let mut after = self.group.clone();
        if let Some(leader) = &mut after.primary {
            leader.node = primary;
        }
        let number = self.facts(&after).number_sync();
        let here = self.others(Some(primary)).into_iter().filter(|id| {
            let node = self.group.nodes.get(id);
            node.is_some_and(|n| n.replication_quorum)
        });
        here.count() >= usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn facts<'g>(&'g self, group: &'g Group) -> Facts<'g> {
        Facts {
            formation: self.formation,
            group,
            live: &self.live,
            settings: self.settings,
            now: self.now,
            phase_since: self.live.phase_since,
        }
    }

    fn automatic(&self) -> String {
        automatic(&self.facts(&self.group))
    }

    fn estimate_ms(&self, winner: NodeId, is_primary: bool, took_ms: u64) -> u64 {
        if !is_primary {
            return took_ms;
        }
        let replay = self.live.report(winner).map_or(0, |r| {
            let received = r.position.map_or(0, |p| p.lsn.0);
            let replayed = r.replayed.map_or(received, |l| l.0);
            received.saturating_sub(replayed) / REPLAY_BYTES_PER_MS
        });
        took_ms + PROMISE_MS + PROMOTE_MS + replay
    }
}

/// How much WAL of the present primary a node lacks, by the last reports; without a node, the one
/// that lacks least.
fn behind_bytes(group: &Group, live: &LiveGroup, node: Option<NodeId>) -> u64 {
    let Some(leader) = group.primary else {
        return 0;
    };
    let last = |id: NodeId| live.of(id)?.report.as_ref()?.position;
    let Some(end) = last(leader.node) else {
        return 0;
    };
    let lacks = |id: NodeId| last(id).map(|p| end.lsn.0.saturating_sub(p.lsn.0));
    let others = group.nodes.keys().copied().filter(|id| *id != leader.node);
    others
        .filter(|id| node.is_none_or(|n| n == *id))
        .filter_map(lacks)
        .min()
        .unwrap_or(end.lsn.0)
}

fn summary(group: &Group, it: &WhatIf, fetches: bool) -> String {
    let name = |id: NodeId| {
        let name = group.nodes.get(&id).map_or("", |n| n.name.as_str());
        format!("node {id} \"{name}\"")
    };
    let gone = format!("if {} were {}", name(it.node), it.fault.word());
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    let why = it
        .blocks
        .first()
        .map_or_else(|| "nothing names why".to_string(), |w| w.why.clone());
    match (it.is_primary, it.winner, it.estimated_ms) {
        (true, Some(winner), Some(ms)) => format!(
            "{gone}, {} would be promoted{}, and writes go on after about {}",
            name(winner),
            if fetches {
                " once it has fetched the WAL that it lacks"
            } else {
                ""
            },
            seconds(ms)
        ),
        (true, Some(winner), None) => format!(
            "{gone}, {} would be promoted, and commits would wait: {why}",
            name(winner)
        ),
        (true, None, _) => format!("{gone}, nobody would be promoted: {why}"),
        (false, Some(primary), Some(0)) => {
            format!(
                "{gone}, {} would go on as primary without a pause",
                name(primary)
            )
        }
        (false, Some(primary), Some(ms)) => format!(
            "{gone}, {} would go on as primary; commits pause for {} at most",
            name(primary),
            seconds(ms)
        ),
        (false, Some(primary), None) => format!(
            "{gone}, {} would stay primary, and commits would wait: {why}",
            name(primary)
        ),
        (false, None, _) => format!("{gone}, the group would stay without a primary: {why}"),
    }
}
