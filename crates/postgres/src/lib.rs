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

pub mod certs;
pub mod client;
pub mod conf;
pub mod conninfo;
pub mod hba;
pub mod probe;
pub mod server;
pub mod tls;
