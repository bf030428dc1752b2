//! The clocks of this process.
//!
//! Leases and deadlines count on CLOCK_BOOTTIME, which also runs while the host sleeps; a jump of
//! CLOCK_REALTIME against it ends a lease (`safety.md` §5.4).

use std::time::Duration;

use pgaf_protocol::Time;
use rustix::time::{ClockId, clock_gettime};

/// The real time may drift this much against the boot time between two looks before it counts as
/// a jump (chosen: far above what NTP slews in a heartbeat, far below a lease).
const JUMP: i128 = 500;

/// The time.
pub(crate) fn now() -> Time {
    Time(u64::try_from(millis(ClockId::Boottime)).unwrap_or(0))
}

/// Milliseconds of a clock.
fn millis(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1000 + i128::from(time.tv_nsec) / 1_000_000
}

/// Notices jumps of the real time.
#[derive(Debug)]
pub(crate) struct JumpWatch {
    offset: i128,
}

impl JumpWatch {
    /// Begins to watch.
    pub(crate) fn new() -> Self {
        Self { offset: offset() }
    }

    /// Whether the real time has jumped since the last look.
    pub(crate) fn jumped(&mut self) -> bool {
        let offset = offset();
        let jumped = (offset - self.offset).abs() > JUMP;
        self.offset = offset;
        jumped
    }
}

fn offset() -> i128 {
    millis(ClockId::Realtime) - millis(ClockId::Boottime)
}

/// How long until `then`; zero when it is over.
pub(crate) fn until(then: Time) -> Duration {
    then.since(now())
}
