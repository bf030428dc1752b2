//! The SQL endpoint against a fake backend in memory: real psql, tokio-postgres, and raw bytes.
#![expect(clippy::unwrap_used, reason = "tests may panic")]
#![expect(
    clippy::too_many_lines,
    reason = "tables of statements and their answers"
)]

mod api;
mod auth;
mod catalog;
mod driver;
mod garbage;
mod limits;
mod old_client;
mod push;
mod queries;
mod support;
