//! The loop on real Postgres, with a monitor that is a channel.

mod chaos;
mod fencer;
mod harness;
mod pair;
mod single;
mod three;
