//! Negative controls: one rule of `safety.md` broken on purpose, to see that the simulator notices.

use pgaf_fsm::group::{Group, Phase};
use pgaf_protocol::{
    Answer, Member, Order, Possible, Postgres, Promise, Report, Stamp, SyncConfig,
};

use crate::world::World;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// A promise is not on the disk when the power fails.
    PromiseNotFsynced,
    /// A keeper that starts forgets its promise.
    PromiseLostAtRestart,
    /// Names count as in force once a session shows them.
    ConfirmedByShow,
    /// The position of a stopped copy is where its recovery begins.
    PositionOnTheWay,
    /// A primary's report "my Postgres is down" counts as its promise.
    DownTakenForPromise,
    /// A monitor that was put back to an older store trusts it.
    RestoredTrusted,
    /// A timeline number is used twice.
    TimelineTwice,
    /// A promotion opens under `''`.
    OpensUnderNobody,
    /// `''` is forgotten among the possible configurations.
    AsynchronousForgotten,
    /// A new, unconfirmed term hides the older ones.
    OlderTermsHidden,
    /// A slot exists for everybody, whether checked against the history or not.
    SlotsForAll,
    /// A copy is replaced while a configuration that counts names it.
    ReplacedWhileNamed,
    /// A standby is promoted though the lease of an asynchronous primary may run.
    LeaseNotAwaited,
    /// Nothing ends Postgres at the end of a lease when its keeper does not.
    NoFencer,
    /// An entry leaves the list when a smaller one is listed, not when that is confirmed.
    ShrinkBeforeConfirm,
    /// A goal is obeyed whatever stamp was seen before.
    OlderGoalObeyed,
    /// A candidate is promoted on whatever position it has.
    PromotedAnywhere,
    /// A promotion is given up without an end to what its candidate may acknowledge.
    GivenUpUnrevoked,
    /// A candidate is on the list before it has the position.
    ListedEarly,
    /// Postgres is started while children of its dead postmaster live.
    ChildrenNotAwaited,
    /// Number and names change in one step, and the list reads either entry alone. Read as their
    /// union, as the shipped list does, the two cover every mixture.
    TwoChangesAtOnce,
}

impl Sabotage {
    /// Every control.
    pub const ALL: &'static [Self] = &[
        Self::PromiseNotFsynced,
        Self::PromiseLostAtRestart,
        Self::ConfirmedByShow,
        Self::PositionOnTheWay,
        Self::DownTakenForPromise,
        Self::RestoredTrusted,
        Self::TimelineTwice,
        Self::OpensUnderNobody,
        Self::AsynchronousForgotten,
        Self::OlderTermsHidden,
        Self::SlotsForAll,
        Self::ReplacedWhileNamed,
        Self::LeaseNotAwaited,
        Self::NoFencer,
        Self::ShrinkBeforeConfirm,
        Self::OlderGoalObeyed,
        Self::PromotedAnywhere,
        Self::GivenUpUnrevoked,
        Self::ListedEarly,
        Self::ChildrenNotAwaited,
        Self::TwoChangesAtOnce,
    ];
}

impl Sabotage {
    /// Its word on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::PromiseNotFsynced => "promise-not-fsynced",
            Self::PromiseLostAtRestart => "promise-lost-at-restart",
            Self::ConfirmedByShow => "confirmed-by-show",
            Self::PositionOnTheWay => "position-on-the-way",
            Self::DownTakenForPromise => "down-taken-for-promise",
            Self::RestoredTrusted => "restored-trusted",
            Self::TimelineTwice => "timeline-twice",
            Self::OpensUnderNobody => "opens-under-nobody",
            Self::AsynchronousForgotten => "asynchronous-forgotten",
            Self::OlderTermsHidden => "older-terms-hidden",
            Self::SlotsForAll => "unchecked-standby",
            Self::ReplacedWhileNamed => "replaced-while-named",
            Self::LeaseNotAwaited => "lease-not-awaited",
            Self::NoFencer => "no-fencer",
            Self::ShrinkBeforeConfirm => "shrink-before-confirm",
            Self::OlderGoalObeyed => "older-goal-obeyed",
            Self::PromotedAnywhere => "promoted-anywhere",
            Self::GivenUpUnrevoked => "given-up-unrevoked",
            Self::ListedEarly => "listed-early",
            Self::ChildrenNotAwaited => "children-not-awaited",
            Self::TwoChangesAtOnce => "two-changes-at-once",
        }
    }
}

impl World {
    /// What of the list leaves too early, or comes too early.
    fn tamper_with_list(&self, before: &Group, group: &mut Group) {
        if self.is_sabotaged(Sabotage::ShrinkBeforeConfirm)
            && let Some(last) = group.possible.last().cloned()
        {
            group.possible.retain(|p| {
                p.stamp.term != last.stamp.term
                    || *p == last
                    || p.config.is_asynchronous()
                    || !last.config.members.is_subset(&p.config.members)
            });
        }
        if self.is_sabotaged(Sabotage::GivenUpUnrevoked)
            && matches!(before.phase, Phase::Promoting { .. })
            && matches!(group.phase, Phase::Collecting(_))
        {
            group.possible.retain(|p| p.stamp.term != before.term);
        }
        if self.is_sabotaged(Sabotage::ListedEarly)
            && matches!(group.phase, Phase::Collecting(_))
            && group.possible.iter().all(|p| p.stamp.term != group.term)
        {
            let term = group.term;
            let promised = |n: &&pgaf_fsm::group::Node| {
                n.candidate_priority > 0
                    && n.promise
                        .is_some_and(|p| p.term == term && Some(p.copy) == n.copy)
            };
            let leader = group.primary.map(|l| l.node);
            let standbys = group.nodes.values().filter(|n| Some(n.id) != leader);
            let Some((node, Some(copy))) = standbys.filter(promised).map(|n| (n.id, n.copy)).next()
            else {
                return;
            };
            let others = group.nodes.values().filter(|n| n.id != node);
            let members: Vec<Member> = others
                .filter_map(|n| {
                    Some(Member {
                        node: n.id,
                        copy: n.copy?,
                    })
                })
                .collect();
            group.sequence = group.sequence.next();
            group.possible.push(Possible {
                stamp: Stamp {
                    term,
                    sequence: group.sequence,
                },
                primary: copy,
                config: SyncConfig::any(1, members),
            });
        }
    }

    /// A step that lowers the number takes out all names but one, too. Whoever revokes the new
    /// entry alone has revoked the old one alone, so that leaves the list.
    fn change_twice(&self, before: &Group, group: &mut Group) {
        if !self.is_sabotaged(Sabotage::TwoChangesAtOnce) {
            return;
        }
        let [.., old, new] = &mut group.possible[..] else {
            return;
        };
        let is_step = before.possible.last() == Some(old) && old.stamp.term == new.stamp.term;
        if !is_step || new.config.is_asynchronous() || new.config.number >= old.config.number {
            return;
        }
        let left = new.config.members.iter().take(1).copied();
        new.config = SyncConfig::any(1, left);
        let (old, new) = (old.clone(), new.clone());
        group.possible.retain(|p| *p != old);
        for node in group.nodes.values_mut() {
            if let Order::Lead(lead) = &mut node.goal.order
                && lead.sync_stamp == new.stamp
            {
                lead.sync = new.config.clone();
            }
        }
    }

    /// An answer on its way into a keeper.
    pub(crate) fn tampered_answer(&mut self, host: usize, answer: &Answer) -> Answer {
        let mut answer = answer.clone();
        if let Order::Follow(follow) = &mut answer.goal.order {
            follow.may_replace |= self.is_sabotaged(Sabotage::ReplacedWhileNamed);
            if self.is_sabotaged(Sabotage::SlotsForAll) && self.hosts[host].pg.disk.is_some() {
                follow.history = None;
            }
        }
        let own = self.hosts[host].pg.disk.as_ref().map(|d| d.position());
        if let (true, Order::Promote(promote), Some(own)) = (
            self.is_sabotaged(Sabotage::PromotedAnywhere),
            &mut answer.goal.order,
            own,
        ) {
            promote.position = own;
        }
        let seen = self.hosts[host].journal.seen;
        if self.is_sabotaged(Sabotage::OlderGoalObeyed) && answer.goal.stamp < seen {
            self.hosts[host].journal.seen = answer.goal.stamp;
        }
        answer
    }

    /// The promise that stands, and the goal that asked for it, were never on the disk.
    pub(crate) fn lose_promise(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        let stands = it
            .journal
            .goal
            .as_ref()
            .is_some_and(|g| matches!(g.order, Order::Promise { .. } | Order::Reach(_)));
        if let (true, Some(before)) = (stands, it.journal_before_promise.take()) {
            it.journal.promise = before.promise;
            it.journal.goal = before.goal;
            it.journal.seen = before.seen;
        }
    }

    /// A child of a dead postmaster ends a commit that the next start has not read any more.
    pub(crate) fn child_acknowledges(&mut self, host: usize) {
        let pg = &self.hosts[host].pg;
        let (Some(disk), Some(server)) = (&pg.disk, &pg.server) else {
            return;
        };
        let Some(branch) = server.branch.filter(|_| self.writing && server.client) else {
            return;
        };
        let (end, line) = (disk.path.end(), disk.path.timeline());
        let names = server.names.clone();
        let near = server.senders.iter().find(|s| {
            let theirs = &self.hosts[s.host];
            let same = theirs.pg.disk.as_ref().is_some_and(|d| d.path == disk.path);
            names.has(s.node) && same && theirs.up && !theirs.frozen
        });
        let enough = matches!(&names, crate::pg::SyncNames::Any { number: 1, .. });
        let Some(other) = near.map(|s| s.host).filter(|_| enough) else {
            return;
        };
        let id = self.ledger.begin(host, self.now);
        self.ledger.written(id, branch, end + 100);
        if let Some(disk) = self.hosts[other].pg.disk.as_mut() {
            disk.path.append(branch, line, end + 100);
            disk.flushed = end + 100;
        }
        self.note(|| "a child of the dead postmaster acknowledges".to_owned());
        self.acknowledge_late(host, id);
    }

    pub(crate) fn is_sabotaged(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    /// A report on its way into the monitor's brain.
    pub(crate) fn tamper_with_report(&self, report: &mut Report) {
        if self.is_sabotaged(Sabotage::PromotedAnywhere)
            && let Some(promise) = &mut report.promise
            && promise.position.is_some()
        {
            let all = self
                .monitor
                .group()
                .into_iter()
                .flat_map(|g| g.nodes.values());
            let known = all.filter_map(|n| n.promise?.position);
            promise.position = known.chain(promise.position).max();
        }
        let down = matches!(report.postgres, Postgres::Down { .. });
        let term = self.monitor.group().map(|g| g.term);
        if self.is_sabotaged(Sabotage::DownTakenForPromise)
            && down
            && let (Some(term), Some(copy)) = (term, report.copy)
        {
            let host = self.hosts.iter().find(|h| h.journal.node == report.node);
            report.promise = Some(Promise {
                term,
                copy,
                position: host.and_then(|h| h.pg.disk.as_ref()).map(|d| d.position()),
            });
        }
    }

    /// A group on its way out of the monitor's brain.
    pub(crate) fn tamper_with_group(&self, before: &Group, group: &mut Group) {
        self.tamper_with_list(before, group);
        self.change_twice(before, group);
        let newest = group.possible.last().map(|p| p.stamp.term);
        if self.is_sabotaged(Sabotage::OlderTermsHidden) {
            group.possible.retain(|p| Some(p.stamp.term) == newest);
        }
        let last = group.possible.last().cloned();
        if self.is_sabotaged(Sabotage::AsynchronousForgotten) {
            group
                .possible
                .retain(|p| !p.config.is_asynchronous() || Some(p) == last.as_ref());
        }
    }
}
