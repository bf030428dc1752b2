//! The decisions of pgaf: who may be primary, and what each node does next.
//!
//! Deciding is a function: both brains take a view, settings and the time, and return what should
//! be. Nothing here knows a clock, a socket, a file, a thread or a random number (`no_std` holds
//! it to that), so everything is simulated, model-checked and replayed exactly as shipped.
//!
//! ```text
//!   reports, probes, sessions ─► group (the monitor's brain) ─► goals, list of configurations
//!                                                                 │
//!   observation, journal ──────► node (the keeper's brain) ◄──────┘
//!                                   └─► steps, in order
//! ```
//!
//! The rules that must hold whatever happens are `safety.md`'s; they are named in [`invariants`].
//!
//! Read first: [`group::Group`] (what the monitor remembers) and
//! `group::decide`, `node::decide`.
#![no_std]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::wildcard_enum_match_arm,
        reason = "a test may panic on what it does not expect"
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod citus;
pub mod group;
pub mod invariants;
pub mod node;
