//! Ctrl-C, SIGTERM and SIGHUP: noted once, and seen by everything that waits, so that whatever was
//! started is ended by the owner that started it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Begins to watch for signals, on a thread of its own. Handlers, not a blocked mask: a mask would be
/// inherited by every daemon that is started here, and they could not be stopped by a signal.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot make a runtime")?;
    let entered = runtime.enter();
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                ASKED.store(true, Ordering::SeqCst);
            }
        });
    });
    Ok(())
}

/// Whether somebody asked to stop.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// # Errors
/// When somebody asked to stop.
pub(crate) fn check() -> Result<()> {
    if asked() {
        bail!("interrupted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_started_can_be_stopped_by_signals() {
        watch().unwrap();
        let status = std::process::Command::new("grep")
            .args(["SigBlk", "/proc/self/status"])
            .output();
        let text = String::from_utf8(status.unwrap().stdout).unwrap();
        assert_eq!(text.split_whitespace().last(), Some("0000000000000000"));
    }
}
