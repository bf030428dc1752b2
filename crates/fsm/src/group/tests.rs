//! Pairs from end to end, against keepers that do at once what they are told.

mod elections;
mod flows;
mod lease;
mod maintenance;
mod old_faults;
mod settings;
mod what_if;
pub(crate) mod world;
