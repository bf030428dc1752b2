//! A deadline that knows what it is for.

use std::time::Duration;

use tokio::time::Instant;

use super::ServerError;
use crate::client::QueryError;

/// The end of one operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    doing: &'static str,
    limit: Duration,
    start: Instant,
}

impl Limit {
    /// Starts now. `doing` completes the sentence "cannot …".
    pub(super) fn new(doing: &'static str, limit: Duration) -> Self {
        Self {
            doing,
            limit,
            start: Instant::now(),
        }
    }

    /// What is left; never zero, so that a last quick answer still counts.
    pub(super) fn left(&self) -> Duration {
        self.limit
            .saturating_sub(self.start.elapsed())
            .max(LAST_QUERY)
    }

    pub(super) fn is_over(&self) -> bool {
        self.start.elapsed() >= self.limit
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A part of the whole, from now, at most what is left.
    pub(super) fn part(&self, divisor: u32) -> Self {
        let limit = (self.limit / divisor).min(self.left());
        Self {
            doing: self.doing,
            limit,
            start: Instant::now(),
        }
    }

    /// The error of a statement.
    pub(super) fn failed(&self) -> impl Fn(QueryError) -> ServerError + use<> {
        let doing = self.doing;
        move |source| ServerError::Query { doing, source }
    }

    /// The error of a deadline that has passed.
    pub(super) fn timed_out(&self, state: impl Into<String>) -> ServerError {
        ServerError::TimedOut {
            doing: self.doing,
            limit: self.limit,
            state: state.into(),
        }
    }
}

/// Pauses between two looks: short at first, since most things take milliseconds, then longer.
#[derive(Debug)]
pub(super) struct Pace(Duration);

/// What the last query before the deadline gets at least: cut off after a millisecond it would end
/// the session, and hide what is being waited for. Chosen: far above what these queries take.
const LAST_QUERY: Duration = Duration::from_millis(250);

/// Chosen: a look over the local socket costs some 100 µs of CPU.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(10);

impl Pace {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(LONGEST);
    }
}
