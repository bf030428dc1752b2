//! The daemon of pgaf that decides: one process that knows every formation.
//!
//! It owns the sessions of keepers and people, the probes of the nodes' Postgres, the store, and
//! one actor that applies what `pgaf_fsm::group` decides. It must never decide anything about high
//! availability by itself, and never tell anybody what is not durable.
//!
//! ```text
//!   keepers, psql ──► sql (wire protocol) ──┐           ┌──► store (durable, then …)
//!   probes of each node's Postgres ─────────┼──► actor ─┤
//!   its own timer ──────────────────────────┘     │     └──► … answers, pushed goals, notifications
//!                                                 └── pgaf_fsm::group: fold, decide, explain
//! ```
//!
//! Read first: [`MonitorConfig`], [`run()`], [`sql::Backend`].
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

mod actor;
mod backend;
mod clock;
mod config;
mod create;
mod descriptors;
mod listen;
mod run;
pub mod sql;

pub use actor::LoadError;
pub use config::{MonitorConfig, Tls};
pub use create::{CreateError, Created, create};
pub use listen::ListenError;
pub use run::{Running, StartError, run, start};
