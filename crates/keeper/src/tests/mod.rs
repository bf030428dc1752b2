//! The loop on real Postgres, with a monitor that is a channel.

mod chaos;
mod harness;
mod pair;
mod single;
