//! The agent of pgaf that owns one Postgres.
//!
//! Owns the loop observe → decide → journal → act → report, the journal, the session to the
//! monitor, the lease, and the local Postgres as a child. It must never decide anything about
//! high availability itself: `pgaf_fsm::node` does, and this crate carries it out.
//!
//! ```text
//!   monitor ◄─ report ── session ── answers, goals ─► keeper loop ─► fsm::node::decide
//!                                                        │   ▲
//!                                                  apply │   │ observe
//!                                                        ▼   │
//!                                                  local (Postgres, PGDATA)
//! ```
//!
//! Read first: [`KeeperConfig`], [`create()`], [`run()`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

mod change;
mod citus;
mod clock;
mod config;
mod create;
mod error;
mod failpoint;
mod fencer;
mod instance;
mod journal;
mod keeper;
mod local;
mod run;
mod session;
#[cfg(test)]
mod tests;

pub use config::{HbaLevel, Joining, KeeperConfig};
pub use create::create;
pub use error::KeeperError;
pub use fencer::{FenceError, fence, file_beside};
pub use instance::Instance;
pub use run::run;

/// An error with all its causes, for one line of a log.
pub(crate) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// What the keeper is told from outside (signals).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shutdown {
    /// Go on.
    #[default]
    No,
    /// SIGTERM, SIGINT: say goodbye, stop Postgres with `fast`, end.
    Fast,
    /// SIGQUIT: stop Postgres with `immediate`, end.
    Immediate,
    /// SIGUSR2: end and leave Postgres as it is, for another program to adopt.
    HandOver,
}

/// How long [`run()`] goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until it is told to stop, or the node is dropped.
    Stopped,
    /// `create` without `--run`: until the node has reached its first goal (a primary takes writes,
    /// a standby has its copy and runs); then Postgres is stopped.
    Initialized,
}

/// How [`run()`] ended without an error; all are exit code 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop; Postgres is down.
    Stopped,
    /// [`Until::Initialized`] was reached; Postgres is down.
    Initialized,
    /// The node was dropped; Postgres is down.
    Dropped,
    /// [`Shutdown::HandOver`]: Postgres is as it was.
    HandedOver,
}
