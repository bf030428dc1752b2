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
//! Read first: [`KeeperConfig`], [`create`], [`run`].

mod config;
mod error;

pub use config::{HbaLevel, Joining, KeeperConfig};
pub use error::KeeperError;

use pgaf_protocol::Registered;
use tokio::sync::{mpsc, watch};

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
}

/// How long [`run`] goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until it is told to stop, or the node is dropped.
    Stopped,
    /// `create` without `--run`: until the node has reached its first goal (a primary takes writes,
    /// a standby has its copy and runs); then Postgres is stopped.
    Initialized,
}

/// How [`run`] ended without an error; all are exit code 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop; Postgres is down.
    Stopped,
    /// [`Until::Initialized`] was reached; Postgres is down.
    Initialized,
    /// The node was dropped; Postgres is down.
    Dropped,
}

/// Registers the node: writes the journal with a token first, so that repeating it after a crash
/// gives the same node; waits, with a message, for a monitor that is not there yet. Once
/// registered it answers at once from the journal. The caller stores `name` and `group` in its
/// configuration file.
///
/// # Errors
/// [`KeeperError`].
pub async fn create(
    _config: &KeeperConfig,
    _joining: &Joining,
    _shutdown: watch::Receiver<Shutdown>,
) -> Result<Registered, KeeperError> {
    std::future::ready(todo!()).await
}

/// Runs the keeper. Needs the journal that [`create`] wrote. Wants a current-thread runtime with
/// all drivers. A configuration that comes through `reload` replaces the one before.
///
/// # Errors
/// [`KeeperError`].
pub async fn run(
    _config: KeeperConfig,
    _until: Until,
    _shutdown: watch::Receiver<Shutdown>,
    _reload: mpsc::Receiver<KeeperConfig>,
) -> Result<Ended, KeeperError> {
    std::future::ready(todo!()).await
}
