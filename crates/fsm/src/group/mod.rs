//! The monitor's brain: who is primary, and what each node of a group is told.
//!
//! A [`Group`] is durable: the shell stores it before anything that follows from it leaves the
//! process. [`Live`] is what is known of a node only while this monitor runs. `decide` looks at
//! both and at the time, and returns the group as it should be, what it waits for, and when to
//! ask again. The shell's loop is: fold what came in, `decide`, store, send.
//!
//! ```text
//!  steady ──► preparing ──► collecting ──► promoting ──► steady (next term)
//!     └── verdict: gone ──────▲  │ nobody else can: the old primary, in place
//!                                └──────────────────────► steady (next term)
//! ```

mod live;
mod model;

pub use live::{Live, Probe, ProbeOutcome, Session};
pub use model::{
    Cluster, Election, Event, Formation, Group, Kind, Leader, LiveGroup, Node, Phase, Refusal,
};
