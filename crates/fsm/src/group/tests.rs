//! Pairs from end to end, against keepers that do at once what they are told.

mod flows;
pub(crate) mod world;
