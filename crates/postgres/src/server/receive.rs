//! Ending the reception of WAL, and replaying what is there.

use std::time::Duration;

use pgaf_protocol::{Lsn, Position};

/// A standby that receives no WAL any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The greater of received and replayed.
    pub position: Position,
    /// How long it took.
    pub took: Duration,
}

/// The end of replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Everything up to here is replayed.
    pub replayed: Lsn,
    /// Process ids of the sessions that were ended because they held replay up.
    pub ended: Vec<i32>,
}
