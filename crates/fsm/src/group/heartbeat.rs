//! Most reports say nothing new: WAL went on, and that is all. Such a report needs no decision.
//!
//! A group at rest costs its monitor one comparison and one deadline a report, and no copy of the group:
//! at ten thousand keepers, deciding anew at each heartbeat is most of the daemon's work.
//!
//! It must never swallow a report that [`fold`](super::fold()) or [`decide`](super::decide()) would
//! answer with a change: whatever is not known to be without effect takes the long way.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;

use pgaf_protocol::{NodeId, Position, Postgres, Report, Settings, StandbySeen, Time};

use super::decide::{Decision, deadline_at_rest};
use super::facts::FormationView;
use super::live::{LiveGroup, Session};
use super::model::{Group, Kind, Phase};

/// After this many milliseconds a report takes the long way although it says nothing new. Chosen:
/// a rule that forgot to ask for its deadline is late by no more.
const RECHECK_MS: u64 = 1000;

/// What the last look at a group found, when it found nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtRest {
    /// What was looked at; `None` while something goes on.
    seen: Option<Seen>,
    /// Nodes whose last report was folded into that very group.
    folded: BTreeSet<NodeId>,
}

/// Everything that a decision rests on beside reports and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    group: Group,
    formation: FormationView,
    settings: Settings,
    at: Time,
    /// When to look again: from then on nothing is known.
    until: Option<Time>,
}

impl AtRest {
    /// A report of this node was folded in the long way.
    pub fn folded(&mut self, node: NodeId) {
        self.folded.insert(node);
    }

    /// The last look at the group: it changed nothing, and the next waits for its deadline.
    pub fn looked(
        &mut self,
        formation: FormationView,
        settings: &Settings,
        decision: &Decision,
        now: Time,
    ) {
        if !decision.suspects.is_empty() || !decision.events.is_empty() || decision.phase_changed {
            self.seen = None;
            return;
        }
        if self.seen.as_ref().is_none_or(|s| s.group != decision.group) {
            self.folded.clear();
        }
        match &mut self.seen {
            Some(seen)
                if seen.group == decision.group
                    && seen.formation == formation
                    && seen.settings == *settings =>
            {
                (seen.at, seen.until) = (now, decision.deadline);
            }
            other => {
                *other = Some(Seen {
                    group: decision.group.clone(),
                    formation,
                    settings: settings.clone(),
                    at: now,
                    until: decision.deadline,
                });
            }
        }
    }

    /// Takes a report that says nothing new, and answers when to look at the group again; gives it
    /// back when it has to be folded in, and the group to be looked at.
    ///
    /// # Errors
    /// The report, untouched.
    pub fn heartbeat(
        &mut self,
        (formation, group): (FormationView, &Group),
        live: &mut LiveGroup,
        settings: &Settings,
        report: Box<Report>,
        now: Time,
    ) -> Result<Option<Time>, Box<Report>> {
        let holds = self.folded.contains(&report.node)
            && self
                .seen
                .as_ref()
                .is_some_and(|seen| seen.holds(formation, group, settings, now));
        if !holds {
            return Err(report);
        }
        let Some(entry) = live.nodes.get_mut(&report.node) else {
            return Err(report);
        };
        let is_open = matches!(entry.session, Session::Open { .. });
        let same = entry
            .report
            .as_ref()
            .is_some_and(|last| says_the_same(last, &report, settings));
        if !is_open || !same {
            return Err(report);
        }
        entry.heard = Some(now);
        entry.report = Some(*report);
        let deadline = deadline_at_rest(group, live, settings, now);
        if let Some(seen) = &mut self.seen {
            seen.until = deadline;
        }
        Ok(deadline)
    }
}

impl Seen {
    fn holds(
        &self,
        formation: FormationView,
        group: &Group,
        settings: &Settings,
        now: Time,
    ) -> bool {
        now.0.saturating_sub(self.at.0) < RECHECK_MS
            && self.until.is_none_or(|until| now < until)
            && matches!(group.phase, Phase::Steady)
            // Groups of a Citus formation look at each other.
            && formation.kind == Kind::Pgsql
            // In lease mode positions are remembered (`safety.md` §5.3).
            && group.lease.is_none()
            && self.formation == formation
            && self.settings == *settings
            && self.group == *group
    }
}

/// Whether a report differs from the one before in nothing that `fold` or `decide` looks at while
/// the group is steady. Every field is named: a new one has to find its place here.
fn says_the_same(old: &Report, new: &Report, settings: &Settings) -> bool {
    let Report {
        protocol,
        formation,
        group,
        node,
        lineage,
        incarnation,
        seen,
        reached,
        state,
        copy,
        role,
        system_identifier,
        postgres,
        position,
        // For people and for elections, which read them when they are there.
        replayed: _,
        // Counts while Postgres is down only.
        redo_bytes: _,
        history,
        promise,
        confirmed,
        checkpointed,
        standbys,
        upstream,
        look,
        gate,
        failed_starts,
        progress,
        trouble,
        leaving,
        closed,
        leased,
        metadata,
        shut_out,
    } = new;
    // A look is noted with its time, and a Postgres that is down with that of its end.
    let quiet = look.is_none() && !leaving && matches!(postgres, Postgres::Running { .. });
    quiet
        && old.look.is_none()
        && goes_on(old.position, *position)
        && same_standbys(&old.standbys, standbys, settings)
        && (protocol, formation, group, node)
            == (&old.protocol, &old.formation, &old.group, &old.node)
        && (lineage, incarnation, seen, reached, state)
            == (
                &old.lineage,
                &old.incarnation,
                &old.seen,
                &old.reached,
                &old.state,
            )
        && (copy, role, system_identifier, postgres)
            == (&old.copy, &old.role, &old.system_identifier, &old.postgres)
        && (history, promise, confirmed, checkpointed)
            == (
                &old.history,
                &old.promise,
                &old.confirmed,
                &old.checkpointed,
            )
        && (upstream, gate, failed_starts, progress, trouble)
            == (
                &old.upstream,
                &old.gate,
                &old.failed_starts,
                &old.progress,
                &old.trouble,
            )
        && (leaving, closed, leased) == (&old.leaving, &old.closed, &old.leased)
        && (metadata, shut_out) == (&old.metadata, &old.shut_out)
}

/// Whether a position is where the last one was, or further on the same timeline.
fn goes_on(old: Option<Position>, new: Option<Position>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.timeline == new.timeline && old.lsn <= new.lsn,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether the primary sees the same standbys as well as before.
fn same_standbys(old: &[StandbySeen], new: &[StandbySeen], settings: &Settings) -> bool {
    let near = |seen: &StandbySeen| seen.lag_bytes <= settings.enable_sync_wal_log_threshold;
    old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| {
            let moved = StandbySeen {
                flushed: new.flushed,
                lag_bytes: new.lag_bytes,
                ..*old
            };
            moved == *new && near(old) == near(new)
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::world::World;
    use super::*;
    use pgaf_protocol::{Look, Lsn, NodeState, TimelineId};

    #[test]
    fn a_pair_at_rest_needs_no_decision() {
        let mut world = World::pair();
        world.run(1000);
        let before = world.heartbeats;
        world.run(2000);
        // Two keepers, a report each 10 ms; the world itself checks that nothing was overlooked.
        assert_eq!(world.heartbeats - before, 400);
    }

    #[test]
    fn a_group_is_decided_about_once_a_second_and_when_its_deadline_has_come() {
        let mut world = World::pair();
        world.run(1000);
        let taken = |after_ms| {
            let (mut at_rest, mut live) = (world.at_rest.clone(), world.live.clone());
            let last = live.nodes.values().find_map(|n| n.report.clone()).unwrap();
            let now = Time(world.now.0 + after_ms);
            let group = (world.view(), world.group());
            at_rest
                .heartbeat(group, &mut live, &world.settings, Box::new(last), now)
                .is_ok()
        };
        assert!(taken(1) && taken(RECHECK_MS - 1));
        assert!(!taken(RECHECK_MS));
    }

    fn report(lsn: u64) -> Report {
        Report {
            postgres: Postgres::Running {
                since: 1,
                in_recovery: true,
            },
            position: Some(Position {
                timeline: TimelineId(1),
                lsn: Lsn(lsn),
            }),
            ..Report::default()
        }
    }

    #[test]
    fn only_wal_that_goes_on_says_nothing_new() {
        let settings = Settings::default();
        let same = |new: &Report| says_the_same(&report(10), new, &settings);
        assert!(same(&report(10)) && same(&report(11)));
        assert!(!same(&report(9)), "a position that went back");
        let changed = |change: fn(&mut Report)| {
            let mut new = report(11);
            change(&mut new);
            !same(&new)
        };
        assert!(changed(|r| r.position = None));
        assert!(changed(|r| r.state = NodeState::Secondary));
        assert!(changed(|r| r.trouble = Some("x".into())));
        assert!(changed(|r| r.leaving = true));
        assert!(changed(|r| r.closed = true));
        assert!(changed(|r| r.postgres = Postgres::Starting));
        assert!(changed(|r| {
            r.look = Some(Look {
                number: 1,
                node: NodeId(2),
                connected: true,
                heard: true,
            });
        }));
    }

    #[test]
    fn a_standby_that_falls_back_or_is_lost_from_sight_is_news() {
        let settings = Settings::default();
        let seen = StandbySeen {
            node: NodeId(2),
            streaming: true,
            flushed: Lsn(10),
            lag_bytes: 5,
            fresh: true,
            synchronous: true,
        };
        let same = |new| same_standbys(&[seen], &[new], &settings);
        let further = StandbySeen {
            flushed: Lsn(99),
            lag_bytes: 100,
            ..seen
        };
        assert!(same(further));
        let far = StandbySeen {
            lag_bytes: settings.enable_sync_wal_log_threshold + 1,
            ..seen
        };
        let stale = StandbySeen {
            fresh: false,
            ..seen
        };
        assert!(!same(far) && !same(stale));
        assert!(!same_standbys(&[seen], &[], &settings));
    }
}
