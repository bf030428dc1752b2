//! The proof: fault scripts, and the simulated formations that run them.
//!
//! Owns the scenario grammar. It must never use a clock, the network or a file: what it simulates is
//! the shipped `fsm`, and the same script runs on real Postgres through `cargo xtask scenario`.
//! Read first: [`script::Script`], [`script::Step`], [`script::VERBS`].

pub mod script;
