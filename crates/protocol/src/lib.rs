//! The words of pgaf: what monitor, keepers, command line and simulator say to each other.
//!
//! This crate owns ids, numbers, states, reports, goals and settings, and their forms as text and
//! JSON. It must never decide, read a clock, open a socket or know what a disk is: `no_std` holds
//! it to that.
//!
//! ```text
//!   keeper ── Registration, Report ──►  monitor
//!   keeper ◄── Answer { Goal, Lease, Peers } ── monitor
//! ```
//!
//! Read first: [`Goal`] (what a node is told), [`Report`] (what it says), [`SyncConfig`]
//! (what counts as acknowledged).
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod citus;
mod code;
mod explain;
mod goal;
mod id;
mod lsn;
mod registration;
mod report;
mod settings;
mod state;
mod sync;
mod term;
mod time;
mod timeline;

pub use citus::{
    CitusOrders, Held, Metadata, MetadataSeen, Removal, Replica, SeenRow, Stage, WantedRow,
};
pub use code::{Code, CodeOf};
pub use explain::{Explanation, Fact, Fault, NodeView, Waiting, WhatIf};
pub use goal::{Answer, Fetch, Follow, Goal, Lead, Lease, Order, Peer, Promote, Reach};
pub use id::{CopyId, FormationId, GroupId, Incarnation, Lineage, NodeId, ParseIdError};
pub use lsn::{Lsn, ParseLsnError};
pub use registration::{NodeKind, Registered, Registration};
pub use report::{
    Confirmed, CopyRole, GateSettings, Look, Postgres, Progress, Promise, Report, StandbySeen,
    UpstreamSeen,
};
pub use settings::{KeeperSettings, Setting, SettingView, Settings, SettingsError};
pub use state::{NodeState, ParseStateError};
pub use sync::{Member, Possible, SyncConfig};
pub use term::{Sequence, Stamp, Term};
pub use time::Time;
pub use timeline::{Fork, History, Position, TimelineId};

/// Version of the private protocol between our monitor and our keepers.
///
/// It is in every [`Registration`], [`Report`] and [`Answer`]; a side that hears another number
/// says so clearly and does nothing else. Bumped when a field appears whose absence matters.
pub const PROTOCOL_VERSION: u32 = 1;

/// Version of the SQL API that is announced to clients of the old program.
///
/// Source: pg_auto_failover 2.2, `src/bin/pg_autoctl/defaults.h`; keepers compare it byte for byte.
pub const API_VERSION: &str = "2.2";

/// Channel on which a monitor pushes goals to one keeper's session; never offered to `LISTEN`.
pub const GOAL_CHANNEL: &str = "pgaf_goal";

/// Prefix of slot, `application_name` and member of `synchronous_standby_names` of a node.
///
/// Source: pg_auto_failover 2.2, `REPLICATION_SLOT_NAME_DEFAULT`.
pub const STANDBY_NAME_PREFIX: &str = "pgautofailover_standby_";
