//! Groups at rest: a report that says nothing new to one takes a short way.
//!
//! What is remembered of a group at rest is that very group: [`State::check_rest`] sees to it after each
//! turn, so that a beat need not compare them.

use pgaf_fsm::group::FormationView;
use pgaf_protocol::{Beat, NodeId, Report, Same, Settings, Time};

use super::answer;
use super::groups::{Known, Place};
use super::memory::{Key, Memory};
use super::state::State;
use super::turn::Turn;
use crate::clock;
use crate::sql::SessionId;

impl State {
    /// Takes a report that says nothing new without a copy of the group and without a decision; gives
    /// any other back. A group that was touched in this turn is decided about at its end anyway.
    pub(super) fn heartbeat(
        &mut self,
        turn: &Turn,
        key: &Key,
        report: Box<Report>,
        at: Time,
    ) -> Result<(), Box<Report>> {
        if turn.has_touched(key) {
            return Err(report);
        }
        let formation = self.memory.cluster.formations.get(&key.0);
        let (Some(formation), Some(place)) = (formation, self.live.place(key)) else {
            return Err(report);
        };
        let (Some(group), Some(known)) = (formation.groups.get(&key.1), self.live.at(place)) else {
            return Err(report);
        };
        let group = (FormationView::from(formation), group);
        let (live, at_rest) = (&mut known.live, &mut known.at_rest);
        let deadline = at_rest.heartbeat(group, live, &self.settings, report, at)?;
        self.deadlines.set(place, deadline);
        Ok(())
    }

    /// Takes a beat that says nothing new to a group at rest, of which its node was told everything on
    /// this session. Nothing else than that group's own part of the memory is looked at: at ten thousand
    /// keepers it is the misses of the processor's cache that count.
    pub(super) fn beat(
        &mut self,
        turn: &mut Turn,
        (node, session, place): (NodeId, SessionId, Place),
        beat: &Beat,
        at: Time,
    ) -> Option<Same> {
        let known = self.live.at(place)?;
        if turn.has_touched(&known.key) || !known.was_told(node, session) {
            return None;
        }
        // A longer lease is stored before it is granted: at the end of a turn.
        if self.memory.longest_lease_ms < self.settings.lease_ms {
            return None;
        }
        debug_assert!(
            rests(&self.memory, &self.settings, known),
            "a group at rest is another one than was looked at last"
        );
        let deadline = known.at_rest.beat(&mut known.live, node, beat, at)?;
        let group = known.at_rest.group()?;
        let stamp = group.nodes.get(&node)?.goal.stamp;
        let lease = answer::lease(&self.memory, self.settings.lease_ms, group, node);
        if let Some(lease) = lease {
            // Counted from here on; the keeper counts from when it asked.
            known
                .live
                .note_lease(lease.duration_ms.into(), clock::now());
        }
        self.deadlines.set(place, deadline);
        let wall = turn.wall;
        let seen = self.seen_mut(node, wall);
        (seen.report_time, seen.wal_report_time) = (wall, wall);
        if seen.health != 1 {
            turn.unseen.insert(node);
        }
        Some(Same {
            stamp,
            lease_ms: lease.map(|l| l.duration_ms),
        })
    }

    /// After a turn: what is no longer the group that was looked at last does not count as at rest.
    /// `all` when more than the groups of the turn may have changed.
    pub(crate) fn check_rest(&mut self, turn: &Turn, all: bool) {
        let (memory, settings) = (&self.memory, &self.settings);
        if all {
            let unrested = self.live.all().filter(|k| !rests(memory, settings, k));
            unrested.for_each(Known::unrest);
            return;
        }
        for key in turn.before.keys() {
            if let Some(known) = self.live.known(key)
                && !rests(memory, settings, known)
            {
                known.unrest();
            }
        }
    }

    /// Nothing is known of a group at rest.
    pub(super) fn unrest(&mut self, key: &Key) {
        if let Some(known) = self.live.known(key) {
            known.unrest();
        }
    }
}

/// Whether a group is what it was when it was looked at last, with nothing to do.
fn rests(memory: &Memory, settings: &Settings, known: &Known) -> bool {
    let formation = memory.cluster.formations.get(&known.key.0);
    let found = formation.and_then(|f| Some((f, f.groups.get(&known.key.1)?)));
    found.is_some_and(|(formation, group)| {
        let view = FormationView::from(formation);
        known.at_rest.is_of(view, group, settings)
    })
}
