//! What a decision looks at: the view, turned into questions with short answers.

use alloc::collections::BTreeSet;

use pgaf_protocol::{
    CopyId, CopyRole, GroupId, Member, NodeId, NodeState, Postgres, Report, Settings, SyncConfig,
    Time,
};

use crate::citus::Coordinator;

use super::health::{Verdict, judge};
use super::live::LiveGroup;
use super::model::{Formation, Group, Kind, Leader, Node};

/// What a group needs to know of its formation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormationView {
    /// What it consists of.
    pub kind: Kind,
    /// How many standbys must have a commit, before it is clamped to the group.
    pub number_sync_standbys: u32,
    /// Whether groups may have standbys.
    pub opt_secondary: bool,
    /// What a group of kind Citus knows of its coordinator; nothing until [`Self::of`] says so.
    pub coordinator: Coordinator,
}

impl FormationView {
    /// The view of one group; `coordinator` is what this monitor knows of group 0.
    #[must_use]
    pub fn of(formation: &Formation, group: GroupId, coordinator: Option<&LiveGroup>) -> Self {
        let coordinator = match formation.kind {
            Kind::Pgsql => Coordinator::default(),
            Kind::Citus => Coordinator::of(formation, coordinator, group),
        };
        Self {
            coordinator,
            ..Self::from(formation)
        }
    }
}

impl From<&Formation> for FormationView {
    fn from(f: &Formation) -> Self {
        Self {
            kind: f.kind,
            number_sync_standbys: f.number_sync_standbys,
            opt_secondary: f.opt_secondary,
            coordinator: Coordinator::default(),
        }
    }
}

/// Everything a decision may look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Settings of the formation.
    pub formation: &'a FormationView,
    /// The group as it is now.
    pub group: &'a Group,
    /// What this incarnation knows.
    pub live: &'a LiveGroup,
    /// Times and thresholds.
    pub settings: &'a Settings,
    /// The time.
    pub now: Time,
    /// When the present phase began.
    pub phase_since: Time,
}

impl<'a> Facts<'a> {
    /// The group's number.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.group.id
    }

    /// The verdict on a node.
    #[must_use]
    pub fn verdict(&self, node: NodeId) -> Verdict {
        if !self.group.nodes.contains_key(&node) {
            return Verdict::Gone("an operator removed it with --force".into());
        }
        judge(self.group, self.live, self.settings, self.now, node)
    }

    /// Whether a node's keeper has an open session, has reported on it, and is not gone.
    #[must_use]
    pub fn is_present(&self, node: NodeId) -> bool {
        self.live.report(node).is_some() && !self.verdict(node).is_gone()
    }

    /// Whether a node's keeper can be talked to, whatever its Postgres does.
    #[must_use]
    pub fn keeper_answers(&self, node: NodeId) -> bool {
        self.live.report(node).is_some()
            && self
                .live
                .of(node)
                .and_then(|l| l.heard)
                .is_some_and(|heard| {
                    self.now.0.saturating_sub(heard.0) < self.settings.unhealthy_timeout_ms
                })
    }

    /// Nodes that are to stay, and that nobody maintains. The primary counts until it has handed
    /// over: it goes on when nobody can take its place.
    pub fn staying(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        let leader = self.group.primary.map(|l| l.node);
        self.members()
            .filter(move |n| !n.maintenance || Some(n.id) == leader)
    }

    /// Nodes that are to stay, those in maintenance included.
    pub fn members(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.group
            .nodes
            .values()
            .filter(|n| !n.leaving && n.goal.state != NodeState::Dropped)
    }

    /// The primary of the present term, or its candidate.
    #[must_use]
    pub fn leader(&self) -> Option<Leader> {
        self.group.primary
    }

    /// The primary's row.
    #[must_use]
    pub fn leader_node(&self) -> Option<&'a Node> {
        self.group.nodes.get(&self.group.primary?.node)
    }

    /// The primary's last report, if it leads the present term as far as it says itself.
    #[must_use]
    pub fn leader_report(&self) -> Option<&'a Report> {
        let leader = self.leader()?;
        self.live.report(leader.node).filter(|r| {
            r.role == CopyRole::Primary { term: leader.term } || r.seen.term >= leader.term
        })
    }

    /// Whether the primary takes writes, by its own last word.
    #[must_use]
    pub fn leader_writes(&self) -> bool {
        self.leader_report()
            .is_some_and(|r| r.postgres.is_primary())
    }

    /// The configuration listed last for the present primary.
    #[must_use]
    pub fn current_sync(&self) -> SyncConfig {
        self.current_entry()
            .map(|p| p.config.clone())
            .unwrap_or_default()
    }

    /// The entry behind it.
    #[must_use]
    pub fn current_entry(&self) -> Option<&'a pgaf_protocol::Possible> {
        let leader = self.leader()?;
        self.group
            .possible
            .iter()
            .rev()
            .find(|p| p.stamp.term == leader.term)
    }

    /// Whether the current configuration is in force in the primary's running postmaster.
    #[must_use]
    pub fn current_is_confirmed(&self) -> bool {
        let (Some(entry), Some(node)) = (self.current_entry(), self.leader_node()) else {
            return false;
        };
        let start = self.leader_report().and_then(|r| match r.postgres {
            Postgres::Running { since, in_recovery } => (!in_recovery).then_some(since),
            Postgres::Absent
            | Postgres::Down { .. }
            | Postgres::Starting
            | Postgres::Unresponsive => None,
        });
        node.confirmed
            .is_some_and(|c| c.stamp == entry.stamp && Some(c.postmaster_start) == start)
    }

    /// How many standbys must have a commit in this group: the formation's number, but never so
    /// many that the loss of one standby blocks writes.
    #[must_use]
    pub fn number_sync(&self) -> u32 {
        let standbys = self
            .staying()
            .filter(|n| n.replication_quorum && Some(n.id) != self.leader().map(|l| l.node))
            .count();
        let most = u32::try_from(standbys.saturating_sub(1)).unwrap_or(u32::MAX);
        self.formation.number_sync_standbys.min(most)
    }

    /// Whether no standby's acknowledgement counts, by choice (`safety.md` §5.3).
    #[must_use]
    pub fn is_asynchronous_by_choice(&self) -> bool {
        let leader = self.leader().map(|l| l.node);
        let mut others = self.staying().filter(|n| Some(n.id) != leader).peekable();
        others.peek().is_some() && others.all(|n| !n.replication_quorum)
    }

    /// Whether a node's present copy may stream from the present primary.
    #[must_use]
    pub fn is_admitted(&self, node: &Node) -> bool {
        let (Some(leader), Some(copy)) = (self.leader(), node.copy) else {
            return false;
        };
        node.admitted == Some((leader.term, copy))
    }

    /// Whether the primary sees a node stream, and freshly.
    #[must_use]
    pub fn is_seen_streaming(&self, node: NodeId) -> bool {
        self.leader_report().is_some_and(|r| {
            r.standbys
                .iter()
                .any(|s| s.node == node && s.streaming && s.fresh)
        })
    }

    /// Whether a standby streams from the primary, is near to it, and could take its place.
    #[must_use]
    pub fn is_caught_up(&self, node: &Node) -> bool {
        let (Some(leader), Some(primary)) = (self.leader(), self.leader_report()) else {
            return false;
        };
        let Some(report) = self.live.report(node.id) else {
            return false;
        };
        let near = primary.standbys.iter().any(|s| {
            s.node == node.id
                && s.streaming
                && s.fresh
                && s.lag_bytes <= self.settings.enable_sync_wal_log_threshold
        });
        let follows = report.postgres.is_standby()
            && report.upstream.is_some_and(|u| {
                u.node == leader.node
                    && u.streaming
                    && self
                        .group
                        .history
                        .as_ref()
                        .is_none_or(|h| h.timeline == u.timeline)
            });
        near && follows && self.is_admitted(node) && self.gate(node).is_none()
    }

    /// The setting that keeps a standby from being promotable, if one does.
    #[must_use]
    pub fn gate(&self, node: &Node) -> Option<&'static str> {
        let primary = self.leader_report()?.gate?;
        self.live.report(node.id)?.gate?.lower_than(&primary)
    }

    /// Whether the primary has lost a standby: gone by evidence, or out of the primary's sight
    /// for `unhealthy_timeout`. One the primary sees fresh stays (`safety.md` §3).
    #[must_use]
    pub fn is_lost(&self, node: NodeId) -> bool {
        if self.is_seen_streaming(node) {
            return false;
        }
        if self.verdict(node).is_gone() {
            return true;
        }
        let stale = self.leader_report().is_some_and(|r| {
            r.standbys
                .iter()
                .any(|s| s.node == node && s.streaming && !s.fresh)
        });
        let unseen = self
            .live
            .of(node)
            .and_then(|l| l.unseen_since)
            .is_some_and(|since| {
                self.now.0.saturating_sub(since.0) >= self.settings.unhealthy_timeout_ms
            });
        self.leader_writes() && (stale || unseen)
    }

    /// Copies that promised for the present term and whose position is known: the set R.
    #[must_use]
    pub fn promised(&self) -> BTreeSet<CopyId> {
        self.group
            .nodes
            .values()
            .filter_map(|n| self.promise_of(n))
            .map(|(copy, _)| copy)
            .collect()
    }

    /// A node's promise for the present term, with its copy and position.
    #[must_use]
    pub fn promise_of(&self, node: &Node) -> Option<(CopyId, pgaf_protocol::Position)> {
        let promise = node.promise?;
        let copy = node.copy?;
        (promise.term == self.group.term && promise.copy == copy)
            .then_some(promise.position)
            .flatten()
            .map(|position| (copy, position))
    }

    /// Whether a copy stands in any configuration that may be in force, as primary or member:
    /// then it may not be replaced (`safety.md` §2.6).
    #[must_use]
    pub fn is_listed(&self, copy: CopyId) -> bool {
        self.group
            .possible
            .iter()
            .any(|p| p.primary == copy || p.config.members.iter().any(|m| m.copy == copy))
    }

    /// Whether a named copy has to be replaced because nobody else can ever confirm (`safety.md`
    /// §2.6): nothing of this term was confirmed, `''` is not allowed, and fewer copies may stream,
    /// named or not, than a commit needs. It has not streamed in this term, so it counts for nothing
    /// of it, and its new copy counts only once it is listed itself: until then the primary is
    /// needed. One at a time. A former primary that was admitted by its promise has still to become a standby, and
    /// may need to be replaced for that: it is no other that can confirm.
    #[must_use]
    pub fn is_only_way(&self, node: &Node) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let unconfirmed = self
            .leader_node()
            .and_then(|n| n.confirmed)
            .is_none_or(|c| c.stamp.term < leader.term);
        let steady = matches!(self.group.phase, super::model::Phase::Steady)
            && leader.term == self.group.term
            && self.group.doubted.is_none()
            && self.group.history.is_some();
        let is_other = |n: &Node| self.is_admitted(n) && n.role == CopyRole::Standby;
        let behind_it = || self.staying().filter(|n| n.id != leader.node);
        let others = behind_it().filter(|n| is_other(n)).count();
        let first = behind_it()
            .filter(|n| !is_other(n))
            .find(|n| n.copy.is_some() && self.keeper_answers(n.id));
        let needed = usize::try_from(self.current_sync().number).unwrap_or(usize::MAX);
        steady
            && unconfirmed
            && self.leader_writes()
            && self.number_sync() > 0
            && !self.current_sync().is_asynchronous()
            && others < needed
            && first.is_some_and(|n| n.id == node.id)
    }

    /// Members that the primary's configuration should name now.
    #[must_use]
    pub fn nameable(&self) -> BTreeSet<Member> {
        let leader = self.leader().map(|l| l.node);
        let current = self.current_sync();
        self.staying()
            .filter(|n| Some(n.id) != leader && n.replication_quorum)
            .filter_map(|n| {
                Some((
                    n,
                    Member {
                        node: n.id,
                        copy: n.copy?,
                    },
                ))
            })
            .filter(|(n, member)| {
                let counted = current.members.contains(member);
                let eligible = n.reported == NodeState::Secondary
                    && n.goal.state == NodeState::Secondary
                    && self.is_caught_up(n);
                // One that could not be promoted holds what it has, and nobody could take over.
                let well = !self.is_lost(n.id) && self.gate(n).is_none();
                self.is_admitted(n) && (eligible || (counted && well))
            })
            .map(|(_, member)| member)
            .collect()
    }
}
