//! Waiting for something to hold: level-triggered, with a limit, and it says why it did not.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A look that takes long, as one that starts a program, is followed by a pause of so many times its
/// length: waiting must not be what keeps the machine busy.
const PAUSE: u32 = 3;

/// Waits until `holds` answers true. An error of `holds` counts as "not yet", and is named at the end.
///
/// # Errors
/// When the limit is over, or at an interrupt.
pub(crate) fn until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    let mut last = String::new();
    loop {
        let look = Instant::now();
        match holds() {
            Ok(true) => return Ok(()),
            Ok(false) => last.clear(),
            Err(error) => last = format!(" ({error:#})"),
        }
        interrupt::check()?;
        if start.elapsed() > limit {
            bail!("{what}: not within {}{last}", crate::console::human(limit));
        }
        std::thread::sleep(POLL.max(look.elapsed() * PAUSE));
    }
}

/// As [`until`], for work that an interrupt must not cut short: cleaning up.
///
/// # Errors
/// When the limit is over, or at the first error.
pub(crate) fn until_done(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        if start.elapsed() > limit {
            bail!("{what}: not within {}", crate::console::human(limit));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
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
