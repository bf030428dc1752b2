//! The SQL half against real servers.
//!
//! `cargo test -p pgaf-postgres --test server -- --nocapture` prints the measured times.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "helpers of tests fail loudly; a skipped test says so"
)]

mod clients;
mod cluster;
mod names;
mod roles;
mod standby;
