//! What real Postgres does, as far as a decision of ours rests on it.
//!
//! The list is the simulator's, which holds its fake to the same facts; a fact without a test here does
//! not compile. `cargo test -p pgaf-postgres --test facts -- --nocapture` prints the measured times.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "helpers of tests fail loudly; a skipped test says so, others print what they measured"
)]

#[macro_use]
#[path = "../../../sim/src/fact.rs"]
mod fact;

mod ends;
mod names;
mod replica;
mod server;
mod standbys;
mod timelines;

use ends::*;
use names::*;
use standbys::*;
use timelines::*;

/// One test for each fact of the list, whatever the fake makes of it.
macro_rules! on_real_postgres {
    ($($fact:ident $section:literal $says:literal $(left $why:literal)?;)*) => {
        mod holds {
            $(
                #[doc = $says]
                #[tokio::test]
                async fn $fact() {
                    if crate::server::available() {
                        super::$fact().await;
                    } else {
                        eprintln!("SKIPPED: no Postgres: {}", $says);
                    }
                }
            )*
        }
    };
}

facts!(on_real_postgres);
