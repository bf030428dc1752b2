//! What pgaf knows about Postgres: connections, SQL, configuration, processes, data directories.
//!
//! Owns every conversation with a Postgres server and every file of a data directory that we
//! write. It must never decide anything about high availability: it answers what is, and does what
//! it is told, always within a deadline.
//!
//! ```text
//!   keeper ──► server (SQL) ──┐
//!   monitor ─► probe ─────────┼─► client ─► tls, conninfo
//!   cli ─────► client ────────┘
//!   keeper ──► conf, hba, certs, copy, history           files that we write     ─► durable
//!   keeper ──► postmaster (start, adopt, stop, end all)  the server's processes  ─► reaper
//!   keeper ──► initdb, basebackup, rewind ─► swap        data directories        ─► command
//!   keeper ──► control, wal (where valid WAL ends), version, locate              what is there
//! ```
//!
//! Read first: [`server::Server`], [`postmaster::Postmaster`], [`swap::Staging`].

pub mod basebackup;
pub mod certs;
pub mod citus;
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
