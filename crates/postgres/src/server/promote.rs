//! Promotion.

use std::time::Duration;

use pgaf_protocol::{Lsn, TimelineId};

use super::PgTime;

/// A promotion that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// The new timeline.
    pub timeline: TimelineId,
    /// Where its WAL is.
    pub lsn: Lsn,
    /// The run of the postmaster.
    pub postmaster_start: PgTime,
    /// How long it took.
    pub took: Duration,
}
