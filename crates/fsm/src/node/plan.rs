//! What a decision says.

use alloc::string::String;
use core::time::Duration;

use pgaf_protocol::Time;
use serde::{Deserialize, Serialize};

use super::Step;

/// What a keeper does next, and what it says meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The next action; none when there is nothing to do, or when it must wait.
    pub step: Option<Step>,
    /// The goal is carried out in full: its state is the one to report.
    pub reached: bool,
    /// What it waits for, in words.
    pub waiting: Option<String>,
    /// What stands in the way, for people; a person may have to act.
    pub trouble: Option<String>,
    /// Look again then at the latest.
    pub look_again: Option<Time>,
    /// The primary fences itself (`safety.md` §5.1).
    pub fence: bool,
    /// The node is dropped and its Postgres is down: the keeper ends.
    pub end: bool,
}

/// How soon to look again while something is on its way that nobody announces: on the path of a
/// failover (`design.md` §7: nothing polls slower than 5 to 10 ms there).
pub const SOON: Duration = Duration::from_millis(5);

impl Plan {
    /// Do this next.
    #[must_use]
    pub(super) fn act(step: Step) -> Self {
        Self {
            step: Some(step),
            ..Self::default()
        }
    }

    /// Nothing to do: the goal is carried out.
    #[must_use]
    pub(super) fn reached() -> Self {
        Self {
            reached: true,
            ..Self::default()
        }
    }

    /// Nothing to do until something changes.
    #[must_use]
    pub(super) fn wait(why: impl Into<String>) -> Self {
        Self {
            waiting: Some(why.into()),
            ..Self::default()
        }
    }

    /// Nothing can be done.
    #[must_use]
    pub(super) fn trouble(why: impl Into<String>) -> Self {
        Self {
            trouble: Some(why.into()),
            ..Self::default()
        }
    }

    /// Look again soon.
    #[must_use]
    pub(super) fn soon(mut self, now: Time) -> Self {
        let at = now.plus(SOON);
        self.look_again = Some(self.look_again.map_or(at, |t| t.min(at)));
        self
    }

    /// Look again at this time.
    #[must_use]
    pub(super) fn again_at(mut self, at: Time) -> Self {
        self.look_again = Some(self.look_again.map_or(at, |t| t.min(at)));
        self
    }

    /// The goal counts as carried out although there is more to do.
    #[must_use]
    pub(super) fn but_reached(mut self, reached: bool) -> Self {
        self.reached = reached;
        self
    }
}
