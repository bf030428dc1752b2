//! The monitor's SQL endpoint: the Postgres wire protocol, a table of known functions, and
//! read-only SQL over the monitor's state.
//!
//! It owns connections, authentication, parsing and results. It must never decide, never store,
//! never half understand a statement: what it does not know is refused with a SQLSTATE and a hint.
//!
//! ```text
//!  client ──► endpoint ──► startup/auth ──► session ──► parse ──┬─► functions ──► Backend::call
//!                                              ▲                └─► planner ──► engine (SQLite)
//!                         SessionHandle::push ─┘                       ▲ Backend::snapshot
//! ```
//!
//! Read first: [`Backend`] (the border to the rest of the monitor), [`Call`], [`serve`].

mod auth;
mod backend;
mod base64;
mod calls;
mod catalog;
mod connection;
mod endpoint;
mod engine;
mod error;
mod execute;
mod extended;
mod functions;
mod json;
mod limits;
mod notify;
mod parse;
mod planner;
mod reads;
mod scram;
mod session;
mod snapshot;
mod startup;
mod types;
mod wire;

pub use auth::{AuthMethod, AuthMethodError, DATABASE, ROLE, ScramVerifier};
pub use backend::{
    Assigned, Backend, Call, Closed, EventQuery, NodeActive, NodeAddress, NodeRef, Peer, Question,
    RegisterNode, Reply, ReplyValue, SessionId, SessionInfo, Transaction,
};
pub use endpoint::{EndpointConfig, Listeners, TlsConfig, serve};
pub use error::{Notice, NoticeLevel, SqlError, codes};
pub use limits::Limits;
pub use notify::{Channel, ChannelSet, Hub, Notification, PushQueue, Pushed, SessionHandle};
pub use snapshot::{EventRow, FormationRow, GroupRow, NodeRow, Snapshot, Word};
