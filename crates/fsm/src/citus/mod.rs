//! Citus: which rows the coordinator's node metadata should have, and how to get there.
//!
//! Both halves are pure and hold no step: [`wanted()`] is computed from the monitor's durable state,
//! [`plan()`] from that list and from what stands in the coordinator's Postgres. Read `safety.md`
//! §9 first; its invariant is the seventh: repeating any update, after a crash at any point, ends
//! in the same place.
//!
//! ```text
//!   monitor: groups ─► wanted ─► Answer ─► keeper of the coordinator's primary
//!   keeper:  wanted + pg_dist_node + prepared updates + terms ─► plan ─► one update ─► read back
//! ```

mod gid;
mod plan;
mod view;
mod wanted;

#[cfg(test)]
mod tests;

pub use gid::Gid;
pub use plan::{Observed, Prepared, Row, Update, plan, seen};
pub use view::{Coordinator, HOLD_DEADLINE_MS};
pub use wanted::{generation, is_read_replica, orders, wanted};
