//! How things look: tables, JSON, help. The only place that writes to stdout.
//!
//! Owns layouts that scripts of the old program may match, byte for byte.

pub(crate) mod help;
pub(crate) mod json;
pub(crate) mod out;
pub(crate) mod table;
