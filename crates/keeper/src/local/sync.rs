//! Steps that load and confirm a sync configuration, and slots (`safety.md` §2).

use std::collections::BTreeSet;
use std::time::Duration;

use pgaf_fsm::node::{Conf, Outcome};
use pgaf_postgres::server::{Confirmation, HOLD_PREFIX, NotYet, ServerError};
use pgaf_protocol::NodeId;

use super::Local;
use super::act::failed;
use super::look::micros;

/// One attempt at seeing names in force; the loop repeats it, and looks around in between.
const ATTEMPT: Duration = Duration::from_secs(1);
/// For `''` to be loaded; usually 10 ms.
const EMPTY_LIMIT: Duration = Duration::from_secs(1);
/// For a probe transaction to be seen waiting (27 to 46 ms in `safety.md` §2.1).
const TURN_LIMIT: Duration = Duration::from_secs(5);

impl Local {
    pub(super) async fn load_empty(&self, conf: &Conf) -> Outcome {
        let enforced = self.enforced(conf);
        translate(self.server().load_empty_names(&enforced, EMPTY_LIMIT).await)
    }

    pub(super) async fn turn_waiting_on(&self, conf: &Conf) -> Outcome {
        let enforced = self.enforced(conf);
        let outcome = translate(self.server().turn_waiting_on(&enforced, TURN_LIMIT).await);
        if let Outcome::NotYet { why } = &outcome
            && why != NO_COMMIT_WAITS
        {
            return Outcome::Loaded { why: why.clone() };
        }
        outcome
    }

    pub(super) async fn confirm(&self, conf: &Conf) -> Outcome {
        let enforced = self.enforced(conf);
        translate(self.server().confirm_names(&enforced, ATTEMPT).await)
    }

    pub(super) async fn ensure_slots(
        &self,
        admitted: &BTreeSet<NodeId>,
        expected: &BTreeSet<NodeId>,
        limit: Duration,
    ) -> Outcome {
        let wanted: Vec<_> = admitted.iter().map(|n| n.standby_name()).collect();
        let hold: Vec<_> = expected
            .difference(admitted)
            .map(|n| format!("{HOLD_PREFIX}{n}"))
            .collect();
        match self.server().ensure_slots(&wanted, &hold, limit).await {
            Ok(changes) => {
                if !changes.created.is_empty() || !changes.dropped.is_empty() {
                    tracing::info!(created = ?changes.created, dropped = ?changes.dropped, "changed slots");
                }
                if changes.busy.is_empty() {
                    Outcome::Done
                } else {
                    self.end_busy(&changes.busy, limit).await
                }
            }
            Err(error) => failed(&error),
        }
    }

    /// A slot in use cannot be removed: its walsender has no business here any more.
    async fn end_busy(&self, busy: &[String], limit: Duration) -> Outcome {
        for name in busy {
            if let Err(error) = self.server().end_walsender(name, limit).await {
                return failed(&error);
            }
        }
        Outcome::NotYet {
            why: format!("slots still in use: {}", busy.join(", ")),
        }
    }
}

const NO_COMMIT_WAITS: &str = "no commit could be made to wait";

fn translate(result: Result<Confirmation, ServerError>) -> Outcome {
    match result {
        Ok(Confirmation::Confirmed {
            postmaster_start,
            value,
        }) => {
            tracing::info!(names = value, "sync configuration in force");
            Outcome::Confirmed {
                postmaster_start: micros(postmaster_start),
            }
        }
        Ok(Confirmation::NotYet(reason)) => Outcome::NotYet {
            why: match reason {
                NotYet::NoCommitWaits => NO_COMMIT_WAITS.into(),
                NotYet::ReloadNotSeen => "no new session has seen the reload".into(),
                NotYet::Standbys(names) => format!("not flushed yet by {}", names.join(", ")),
                NotYet::Quorum { flushed, needed } => {
                    format!("{flushed} of {needed} standbys have flushed")
                }
            },
        },
        Ok(Confirmation::Overridden {
            setting,
            value,
            place,
        }) => Outcome::Failed {
            why: format!("`{setting}` is `{value}`, set in {place}, not by us"),
        },
        Ok(Confirmation::DuplicateName(name)) => Outcome::Failed {
            why: format!("two sessions replicate as `{name}`"),
        },
        Err(error) => failed(&error),
    }
}
