//! Which goals are obeyed.

use alloc::string::String;

use pgaf_protocol::{Answer, Incarnation, Order, PROTOCOL_VERSION, Stamp};

use super::{Entry, Journal};

/// What an answer means for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// The goal that is obeyed already.
    Same,
    /// A newer one: to be journaled before it is obeyed.
    New(Entry),
}

/// Why an answer is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another version of the protocol.
    #[error("the monitor speaks version {theirs} of the protocol, this keeper {ours}")]
    Protocol {
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// From another run of the monitor than the one this session was opened with.
    #[error("the goal is of incarnation {theirs}, this session is of {session}")]
    Incarnation {
        /// Theirs.
        theirs: Incarnation,
        /// The session's.
        session: Incarnation,
    },
    /// From an older run of the monitor than one that was obeyed.
    #[error("the goal is of incarnation {theirs}, and {obeyed} was obeyed before")]
    OldIncarnation {
        /// Theirs.
        theirs: Incarnation,
        /// The newest one.
        obeyed: Incarnation,
    },
    /// Older than one that was seen.
    #[error("the goal has the stamp {theirs}, and {seen} was seen before")]
    Old {
        /// Theirs.
        theirs: Stamp,
        /// The highest one.
        seen: Stamp,
    },
    /// Two goals with one stamp.
    #[error("there are two goals with the stamp {stamp}: {difference}")]
    Ambiguous {
        /// The stamp.
        stamp: Stamp,
        /// What differs.
        difference: String,
    },
}

/// Looks at an answer that came on a session which opened with `session`.
///
/// # Errors
/// [`Refused`]: nothing of it counts, its lease neither.
pub fn accept(
    journal: &Journal,
    answer: &Answer,
    session: Incarnation,
) -> Result<Accepted, Refused> {
    if answer.protocol != PROTOCOL_VERSION {
        return Err(Refused::Protocol {
            theirs: answer.protocol,
            ours: PROTOCOL_VERSION,
        });
    }
    if answer.incarnation != session {
        return Err(Refused::Incarnation {
            theirs: answer.incarnation,
            session,
        });
    }
    let same_store = journal.lineage.is_none_or(|l| l == answer.lineage);
    if same_store
        && let Some(obeyed) = journal.incarnation
        && answer.incarnation < obeyed
    {
        return Err(Refused::OldIncarnation {
            theirs: answer.incarnation,
            obeyed,
        });
    }
    let theirs = answer.goal.stamp;
    if theirs < journal.seen {
        return Err(Refused::Old {
            theirs,
            seen: journal.seen,
        });
    }
    match &journal.goal {
        // The word that the node was removed comes with a new stamp each time: once is enough.
        Some(goal) if goal.order == Order::Drop && answer.goal.order == Order::Drop => {
            Ok(Accepted::Same)
        }
        Some(goal) if goal.stamp == theirs => {
            if goal.order == answer.goal.order && goal.state == answer.goal.state {
                Ok(Accepted::Same)
            } else {
                Err(Refused::Ambiguous {
                    stamp: theirs,
                    difference: "state or order".into(),
                })
            }
        }
        Some(_) | None => Ok(Accepted::New(Entry::Obey {
            goal: answer.goal.clone(),
            lineage: answer.lineage,
            incarnation: answer.incarnation,
        })),
    }
}
