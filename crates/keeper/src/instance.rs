//! The border between deciding and acting: exactly two methods (`style.md` B3).

use std::future::Future;

use pgaf_fsm::node::{Observation, Outcome, Step};

/// A Postgres that a keeper owns.
pub trait Instance {
    /// Looks. Cheap, bounded by a timeout, changes nothing; failure is itself an observation.
    fn observe(&self) -> impl Future<Output = Observation>;

    /// Starts or continues exactly one step. Safe to repeat, and to drop where
    /// [`Step::may_be_dropped`] says so. Never called with [`Step::Journal`], which is the loop's.
    fn apply(&self, step: Step) -> impl Future<Output = Outcome>;
}
