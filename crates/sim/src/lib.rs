//! The proof: fault scripts, and the simulated formations that run them.
//!
//! Owns the scenario grammar and the simulator: both brains as shipped (`pgaf_fsm::group`,
//! `pgaf_fsm::node`) in shells that keep the shipped order of effects, on fakes of Postgres, of the
//! network and of the disks. It must never use a clock, the network or a file, and never decide
//! anything itself: what is not in `fsm` is not proven here.
//!
//! ```text
//!   seed ─► faults ─┐
//!   script ─────────┼─► world ─► monitor (group::decide) ◄─ net ─► keeper (node::decide) ─► pg (fake)
//!                   │     └─ ledger: one-writer, nothing-lost, never-back, checked at each event
//!                   └─► trace, coverage
//! ```
//!
//! [`model`] explores the same brains whole, within bounds, on a smaller Postgres.
//!
//! Read first: [`script::Script`], [`run_seed`], `world::World`.

mod apply;
mod coverage;
mod event;
#[cfg(test)]
#[macro_use]
mod fact;
#[cfg(test)]
mod facts;
mod faults;
mod fencer;
mod keeper;
mod ledger;
pub mod model;
mod monitor;
mod net;
mod pg;
mod play;
mod queue;
mod rng;
mod runner;
mod sabotage;
pub mod script;
mod seed;
mod wal;
mod world;

pub use coverage::Coverage;
pub use play::{Played, play};
pub use runner::{Seeds, Total};
pub use sabotage::Sabotage;
pub use seed::{SeedRun, nodes_of, run_sabotaged, run_seed, trace_seed};
