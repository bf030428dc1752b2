//! Waiting for something to hold: level-triggered, with a limit, and it says why it did not.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Waits until `holds` answers true. An error of `holds` counts as "not yet", and is named at the end.
///
/// # Errors
/// When the limit is over, or at an interrupt.
pub(crate) fn until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    let mut last = String::new();
    loop {
        match holds() {
            Ok(true) => return Ok(start.elapsed()),
            Ok(false) => last.clear(),
            Err(error) => last = format!(" ({error:#})"),
        }
        interrupt::check()?;
        if start.elapsed() > limit {
            bail!("{what}: not within {}{last}", crate::console::human(limit));
        }
        std::thread::sleep(POLL);
    }
}

/// Lets time pass.
///
/// # Errors
/// At an interrupt.
pub(crate) fn pass(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        interrupt::check()?;
        std::thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}
