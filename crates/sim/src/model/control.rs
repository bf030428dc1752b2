//! Negative controls: one rule broken on purpose, to see that the checker finds what follows.

use pgaf_fsm::group::Group;
use pgaf_fsm::node::{Conf, Journal, Replication};
use pgaf_protocol::{Lsn, Postgres, Promise, Report, Stamp, Term};

use super::postgres::SyncNames;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    /// `''` is forgotten among the possible configurations.
    AsynchronousForgotten,
    /// A new, unconfirmed term hides the older ones.
    OlderTermsHidden,
    /// Whoever promised may be promoted, whatever it has.
    AnyPosition,
    /// A keeper obeys an older goal.
    OlderGoalObeyed,
    /// Names count as in force once a session shows them.
    ConfirmedByShow,
    /// A keeper that starts forgets its promise.
    PromiseLostAtRestart,
    /// A promotion opens under `''`.
    OpensUnderEmpty,
    /// A primary's report "my Postgres is down" counts as its promise.
    DownTakenForPromise,
    /// A timeline number is used twice.
    TimelineTwice,
}

impl Control {
    /// Every control.
    pub const ALL: &'static [Self] = &[
        Self::AsynchronousForgotten,
        Self::OlderTermsHidden,
        Self::AnyPosition,
        Self::OlderGoalObeyed,
        Self::ConfirmedByShow,
        Self::PromiseLostAtRestart,
        Self::OpensUnderEmpty,
        Self::DownTakenForPromise,
        Self::TimelineTwice,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AsynchronousForgotten => "asynchronous-forgotten",
            Self::OlderTermsHidden => "older-terms-hidden",
            Self::AnyPosition => "any-position",
            Self::OlderGoalObeyed => "older-goal-obeyed",
            Self::ConfirmedByShow => "confirmed-by-show",
            Self::PromiseLostAtRestart => "promise-lost-at-restart",
            Self::OpensUnderEmpty => "opens-under-empty",
            Self::DownTakenForPromise => "down-taken-for-promise",
            Self::TimelineTwice => "timeline-twice",
        }
    }

    /// A report on its way into the monitor's brain.
    pub(super) fn report(self, term: Term, report: &mut Report) {
        if self == Self::AnyPosition
            && let Some(position) = report.promise.as_mut().and_then(|p| p.position.as_mut())
        {
            position.lsn = Lsn(0);
        }
        let down = matches!(report.postgres, Postgres::Down { .. });
        if self == Self::DownTakenForPromise
            && down
            && let (Some(copy), Some(position)) = (report.copy, report.position)
        {
            report.promise = Some(Promise {
                term,
                copy,
                position: Some(position),
            });
        }
    }

    /// A group on its way out of the monitor's brain.
    pub(super) fn group(self, group: &mut Group) {
        let last = group.possible.last().cloned();
        let newest = last.as_ref().map(|p| p.stamp.term);
        if self == Self::OlderTermsHidden {
            group.possible.retain(|p| Some(p.stamp.term) == newest);
        }
        if self == Self::AsynchronousForgotten {
            group
                .possible
                .retain(|p| !p.config.is_asynchronous() || Some(p) == last.as_ref());
        }
    }

    /// A keeper starts with this journal.
    pub(super) fn start(self, journal: &mut Journal) {
        if self == Self::PromiseLostAtRestart {
            journal.promise = None;
            journal.goal = None;
        }
    }

    /// The journal that an answer is held against.
    pub(super) fn journal(self, journal: &mut Journal) {
        if self == Self::OlderGoalObeyed {
            journal.seen = Stamp::default();
        }
    }

    /// The names that go into the configuration file.
    pub(super) fn names(self, conf: &Conf, names: SyncNames) -> SyncNames {
        let opens = conf.replication == Replication::Promise && names != SyncNames::Nobody;
        if self == Self::OpensUnderEmpty && opens {
            SyncNames::Off
        } else {
            names
        }
    }
}
