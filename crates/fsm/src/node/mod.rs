//! The keeper's brain: from goal, journal and observation to the next step.
//!
//! The shell's loop is: observe, fold what was seen into [`Memory`], [`decide()`], carry out the one
//! step of the [`Plan`], fold its [`Outcome`], [`report`](fn@report). Every step may be repeated;
//! what must not be mistaken after a crash is journaled first ([`Work`], [`Entry`]).
//!
//! ```text
//!   answers ─ accept ─► Journal ─┐
//!   Postgres ─ Observation ──────┼─► decide ─► Plan { step, reached, waiting, trouble }
//!   Memory (this run only) ──────┘                │
//!      ▲                                          ▼
//!      └──────────────── Outcome ◄────────────  Step
//! ```
//!
//! What no goal can do: open a copy for writing in a term older than its promise, promote without
//! having heard the goal in this run, replace a copy without leave.

mod accept;
mod decide;
mod fetch;
mod follow;
mod journal;
mod lead;
mod lease;
mod memory;
mod plan;
mod promise;
mod promote;
mod report;
mod step;
mod unheard;
mod view;

#[cfg(test)]
mod tests;

pub use accept::{Accepted, Refused, accept};
pub use decide::decide;
pub use journal::{Entry, Journal, Work};
pub use memory::{Hba, Memory, Pause, Slots};
pub use plan::{Plan, SOON};
pub use report::{Extras, report};
pub use step::{Conf, Names, Outcome, Replication, RewindEnd, Step, StopMode};
pub use view::{Contents, Directory, NodeView, Observation, Receiver, Server};
