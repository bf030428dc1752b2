//! What pgaf knows about Postgres: connections, SQL, configuration, processes, data directories.
//!
//! Owns every conversation with a Postgres server and every file of a data directory that we
//! write. It must never decide anything about high availability: it answers what is, and does what
//! it is told, always within a deadline.
//!
//! ```text
//!   keeper ──► server (SQL) ──┐                 ┌── conf, hba, certs (files we write)
//!   monitor ─► probe ─────────┼─► client ─► tls │
//!   cli ─────► client ────────┘   conninfo      └── process and data directory modules
//! ```
//!
//! Read first: [`conninfo::Conninfo`], [`client::Client`], [`server::Server`].

pub mod basebackup;
pub mod certs;
pub mod client;
pub mod command;
pub mod conf;
pub mod conninfo;
pub mod control;
pub mod copy;
pub mod durable;
pub mod hba;
pub mod history;
pub mod initdb;
pub mod locate;
pub mod postmaster;
pub mod probe;
mod processes;
pub mod reaper;
pub mod rewind;
pub mod server;
pub mod swap;
pub mod tls;
pub mod version;
pub mod wal;
