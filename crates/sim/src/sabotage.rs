//! Negative controls: one rule of `safety.md` broken on purpose, to see that the simulator notices.

use pgaf_fsm::group::Group;
use pgaf_protocol::{Postgres, Promise, Report};

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
        }
    }
}

impl World {
    pub(crate) fn is_sabotaged(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    /// A report on its way into the monitor's brain.
    pub(crate) fn tamper_with_report(&self, report: &mut Report) {
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
    pub(crate) fn tamper_with_group(&self, _before: &Group, group: &mut Group) {
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
