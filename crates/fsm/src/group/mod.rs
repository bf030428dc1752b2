//! The monitor's brain: who is primary, and what each node of a group is told.
//!
//! A [`Group`] is durable: the shell stores it before anything that follows from it leaves the
//! process. [`Live`] is what is known of a node only while this monitor runs. [`decide()`] looks at
//! both and at the time, and returns the group as it should be, what it waits for, and when to
//! ask again. The shell's loop is: fold what came in, `decide`, store, send.
//!
//! ```text
//!  steady ──► preparing ──► collecting ──► promoting ──► steady (next term)
//!     └── verdict: gone ──────▲  │ nobody else can: the old primary, in place
//!                                └──────────────────────► steady (next term)
//! ```

mod anew;
mod candidates;
mod config;
mod decide;
mod elect;
mod explain;
mod facts;
mod fetch;
mod fold;
mod goals;
mod health;
mod heartbeat;
mod hold;
mod lease;
mod live;
mod maintenance;
mod model;
pub mod operate;
mod promotion;
mod quorum;
mod restore;
pub mod rules;
mod rules_words;
mod sync_plan;
mod what_if;

pub use decide::{Decision, decide};
pub use explain::explain;
pub use facts::{Facts, FormationView};
pub use fold::fold;
pub use goals::peer;
pub use health::{FAILED_STARTS, Verdict, judge};
pub use heartbeat::AtRest;
pub use lease::{granted, longest_ms};
pub use live::{Live, LiveGroup, Probe, ProbeOutcome, Session};
pub use model::{
    Cluster, Election, Event, Fetched, Fetching, Formation, Group, Kind, Leader, LeaseMode, Node,
    Phase, Refusal,
};
pub use quorum::{TermConfig, by_term, obstacle};
pub use restore::restored;
pub use sync_plan::next_step;
pub use what_if::what_if;

#[cfg(test)]
mod tests;
