//! The SQL endpoint against a fake backend in memory: real psql, tokio-postgres, and raw bytes.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod api;
mod auth;
mod catalog;
mod driver;
mod garbage;
mod limits;
mod push;
mod queries;
mod support;
