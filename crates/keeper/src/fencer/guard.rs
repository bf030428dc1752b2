//! The fencer's own process: waits for the end of the lease, and ends Postgres.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use pgaf_protocol::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::{open, read_end, whole_file};
use crate::clock::{self, JumpWatch};

/// After SIGQUIT, processes get this long before SIGKILL: nothing they could still do is wanted, and
/// the monitor counts on the end (chosen: well within its drift).
const GRACE: Duration = Duration::from_millis(50);
/// Between two attempts to end what does not end (chosen).
const AGAIN: Duration = Duration::from_millis(100);
/// Seconds of a wait at most: a look at the file costs nothing (chosen).
const LONGEST_WAIT: i64 = 3600;

/// Why there is no fencer.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The file cannot be opened.
    #[error("cannot open `{path}`", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another one guards the data directory.
    #[error("another fencer guards this data directory")]
    Taken,
    /// The system gives no timers, or no runtime.
    #[error("cannot wait for the end of the lease")]
    System(#[source] io::Error),
}

/// Guards a data directory until the lease whose end stands in `file` is over, then ends every
/// process of its cluster and returns. SIGTERM ends the guard alone.
///
/// # Errors
/// [`FenceError`]: nothing is guarded.
pub fn fence(path: &Path, pgdata: &Path) -> Result<(), FenceError> {
    let file = open(path).map_err(|source| FenceError::File {
        path: path.to_owned(),
        source,
    })?;
    // Closing any other handle of this file would give the lock up: there is none.
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&whole_file())).map_err(|_| FenceError::Taken)?;
    // A session of its own: what ends the keeper's does not end this process. It fails for the
    // leader of a group only, which has one already.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(FenceError::System)?;
    let why = wait(&file).map_err(FenceError::System)?;
    say(why);
    runtime.block_on(async {
        loop {
            match pgaf_postgres::postmaster::end_cluster(pgdata, GRACE).await {
                Ok(ended) => return say(&format!("ended {ended} processes of Postgres")),
                Err(error) => say(&crate::words(&error)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
    Ok(())
}

/// Returns when the lease is over, with the reason.
fn wait(file: &File) -> io::Result<&'static str> {
    let mut jumps = JumpWatch::new();
    let timer = timer(TimerfdClockId::Boottime)?;
    // This one never ends by itself: it tells when somebody sets the clock.
    let set = timer_that_tells_jumps()?;
    loop {
        let until = read_end(file);
        if clock::now() >= until {
            return Ok("the lease has run out");
        }
        arm(&timer, until)?;
        let mut watched = [
            PollFd::new(&timer, PollFlags::IN),
            PollFd::new(&set, PollFlags::IN),
        ];
        let longest = Timespec {
            tv_sec: LONGEST_WAIT,
            tv_nsec: 0,
        };
        match poll(&mut watched, Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let was_set = !watched[1].revents().is_empty();
        if jumps.jumped() {
            return Ok("the clock has jumped: the lease is over");
        }
        if was_set {
            // A step too small to be a jump: watch for the next one.
            arm_for_jumps(&set)?;
        }
    }
}

fn timer(clock: TimerfdClockId) -> io::Result<OwnedFd> {
    Ok(timerfd_create(
        clock,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?)
}

fn arm(timer: &OwnedFd, until: Time) -> io::Result<()> {
    let end = Itimerspec {
        it_interval: at(0),
        it_value: at(until.0.max(1)),
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &end)?;
    Ok(())
}

fn timer_that_tells_jumps() -> io::Result<OwnedFd> {
    let timer = timer(TimerfdClockId::Realtime)?;
    arm_for_jumps(&timer)?;
    Ok(timer)
}

fn arm_for_jumps(timer: &OwnedFd) -> io::Result<()> {
    // Far away: only the cancelling of it is of interest.
    let never = Itimerspec {
        it_interval: at(0),
        it_value: at(u64::MAX / 1_000_000),
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &never)?;
    Ok(())
}

fn at(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    }
}

/// Words that cannot be written stop nothing.
fn say(words: &str) {
    let _ = writeln!(io::stderr(), "{words}");
}
