//! placeholder

pub mod sql;
