//! The border between the SQL endpoint and the rest of the monitor.
//!
//! The endpoint never decides and never stores: it turns statements into a [`Call`] or into a
//! read of a [`Snapshot`], and sends what comes back. Everything behind this trait is somebody
//! else's.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use super::auth::ScramVerifier;
use super::error::{Notice, SqlError};
use super::notify::{ChannelSet, SessionHandle};
use super::snapshot::{EventRow, Snapshot};

/// Number of a session, unique in one run of the monitor, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client on the Unix socket.
    Unix {
        /// It runs as the monitor's own user, or as root, by the kernel's word: it could read the
        /// store, so it needs no password to set one.
        owner: bool,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => write!(f, "{address}"),
            Peer::Unix { .. } => f.write_str("[local]"),
        }
    }
}

/// What the backend may know of an authenticated session.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The session's number.
    pub id: SessionId,
    /// The client's address.
    pub peer: Peer,
    /// `application_name` of the start-up message; empty when not given.
    pub application_name: String,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Way to push a notification to this session alone.
    pub handle: SessionHandle,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client said goodbye (Terminate message).
    Terminated,
    /// The client closed the connection without goodbye (FIN): its process is gone, as a rule.
    Eof,
    /// The connection was reset or failed.
    Reset,
    /// The endpoint ended it: a limit was exceeded or the protocol was broken.
    Dropped,
    /// The monitor shuts down.
    Shutdown,
}

/// Whether a call stands alone or inside BEGIN … COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// The call is a transaction of its own.
    Auto,
    /// The call is inside an open transaction; [`Backend::end_transaction`] follows, also when the
    /// client goes away.
    Open,
}

/// Which events a read needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Only of this formation.
    pub formation: Option<String>,
    /// Only of this group.
    pub group: Option<i32>,
    /// At most this many, the newest ones.
    pub limit: u32,
}

/// What the endpoint needs of the monitor.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The present state, for read-only SQL.
    ///
    /// # Errors
    /// When the monitor cannot answer with authority (starting, follower): 57P03.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, SqlError>;

    /// The newest events that match, ordered by event id, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, SqlError>;

    /// Runs one function of the API and answers when its effect is durable.
    ///
    /// # Errors
    /// With the SQLSTATE of the API's contract.
    async fn call(
        &self,
        session: &SessionInfo,
        transaction: Transaction,
        call: Call,
    ) -> Result<Reply, SqlError>;

    /// Ends a transaction in which at least one call was made. Called with `commit` false when the
    /// client rolls back, an error aborted the transaction, or the client goes away.
    ///
    /// # Errors
    /// A failed commit; the transaction then counts as rolled back.
    async fn end_transaction(&self, session: &SessionInfo, commit: bool) -> Result<(), SqlError>;

    /// Tells which public channels (`state`, `log`) the session listens to from now on; replaces
    /// the earlier set. Never blocks. [`super::notify::Hub::subscribe`] is a ready-made body.
    fn subscribe(&self, session: &SessionInfo, channels: ChannelSet);

    /// A session is authenticated. Never blocks.
    fn session_opened(&self, session: &SessionInfo);

    /// A session is over; told the moment its FIN or RST is read. Never blocks.
    fn session_closed(&self, session: &SessionInfo, how: Closed);

    /// The stored verifier of `autoctl_node`'s password, if one was set.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn password_verifier(&self) -> Result<Option<ScramVerifier>, SqlError>;

    /// Stores the verifier of a new password (`None`: the password is removed).
    ///
    /// # Errors
    /// When it cannot be made durable.
    async fn set_password(
        &self,
        session: &SessionInfo,
        verifier: Option<ScramVerifier>,
    ) -> Result<(), SqlError>;
}

/// Arguments of `register_node`.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterNode {
    /// `formation_id`
    pub formation: String,
    /// `node_host`
    pub host: String,
    /// `node_port`
    pub port: i32,
    /// `dbname`
    pub dbname: String,
    /// `node_name`; empty: the monitor chooses.
    pub name: String,
    /// `sysidentifier`; 0: not known yet.
    pub system_identifier: i64,
    /// `desired_node_id`; -1: the monitor chooses.
    pub desired_node_id: i64,
    /// `desired_group_id`; -1: the monitor chooses.
    pub desired_group_id: i32,
    /// `initial_group_role`
    pub initial_state: String,
    /// `node_kind`: `standalone`, `coordinator` or `worker`; not validated by the endpoint.
    pub kind: String,
    /// `candidate_priority`
    pub candidate_priority: i32,
    /// `replication_quorum`
    pub replication_quorum: bool,
    /// `node_cluster`
    pub cluster: String,
}

/// Arguments of `node_active`, the old program's heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeActive {
    /// `formation_id`
    pub formation: String,
    /// `node_id`
    pub node_id: i64,
    /// `group_id`
    pub group: i32,
    /// `current_group_role`
    pub state: String,
    /// `current_pg_is_running`
    pub postgres_is_running: bool,
    /// `current_tli`; 0: not known.
    pub timeline: i32,
    /// `current_lsn`; 0: not known.
    pub lsn: u64,
    /// `current_rep_state`
    pub replication_state: String,
}

/// Which node `remove_node` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeRef {
    /// By id.
    Id(i64),
    /// By host and port.
    Address(String, i32),
}

/// A function that the endpoint does not answer by itself, with typed arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `register_node` → [`ReplyValue::Registered`]
    RegisterNode(Box<RegisterNode>),
    /// `node_active` → [`ReplyValue::Active`]
    NodeActive(Box<NodeActive>),
    /// `set_node_system_identifier` → [`ReplyValue::NodeAddress`]
    SetNodeSystemIdentifier {
        /// The node.
        node_id: i64,
        /// Its system identifier.
        system_identifier: i64,
    },
    /// `set_group_system_identifier` → [`ReplyValue::NodeAddresses`]
    SetGroupSystemIdentifier {
        /// The group (of the default formation, as in the old program's text).
        group: i64,
        /// The system identifier of its nodes.
        system_identifier: i64,
    },
    /// `update_node_metadata` → [`ReplyValue::Bool`]; `None` keeps a value.
    UpdateNodeMetadata {
        /// The node.
        node_id: i64,
        /// New name.
        name: Option<String>,
        /// New host.
        host: Option<String>,
        /// New port.
        port: Option<i32>,
    },
    /// `remove_node` → [`ReplyValue::Bool`]
    RemoveNode {
        /// Which one.
        node: NodeRef,
        /// Delete the row at once.
        force: bool,
    },
    /// `perform_failover` → [`ReplyValue::Void`]
    PerformFailover {
        /// The formation.
        formation: String,
        /// The group.
        group: i32,
        /// The operator accepts the loss of acknowledged commits (ours, default false).
        allow_data_loss: bool,
    },
    /// `perform_promotion` → [`ReplyValue::Bool`]
    PerformPromotion {
        /// The formation.
        formation: String,
        /// Name of the node to promote.
        node_name: String,
    },
    /// `start_maintenance` → [`ReplyValue::Bool`]
    StartMaintenance {
        /// The node.
        node_id: i64,
    },
    /// `stop_maintenance` → [`ReplyValue::Bool`]
    StopMaintenance {
        /// The node.
        node_id: i64,
    },
    /// `create_formation` → [`ReplyValue::Formation`]
    CreateFormation {
        /// Its name.
        formation: String,
        /// `pgsql` or `citus`; not validated by the endpoint.
        kind: String,
        /// Database name.
        dbname: String,
        /// Whether nodes may have secondaries.
        opt_secondary: bool,
        /// `number_sync_standbys`
        number_sync_standbys: i32,
    },
    /// `drop_formation` → [`ReplyValue::Void`]
    DropFormation {
        /// The formation.
        formation: String,
    },
    /// `enable_secondary` and `disable_secondary` → [`ReplyValue::Bool`]
    SetSecondary {
        /// The formation.
        formation: String,
        /// Enable or disable.
        enabled: bool,
    },
    /// `set_node_candidate_priority` → [`ReplyValue::Bool`]
    SetCandidatePriority {
        /// The formation.
        formation: String,
        /// The node's name.
        node_name: String,
        /// 0 to 100; not validated by the endpoint.
        priority: i32,
    },
    /// `set_node_replication_quorum` → [`ReplyValue::Bool`]
    SetReplicationQuorum {
        /// The formation.
        formation: String,
        /// The node's name.
        node_name: String,
        /// Whether it takes part.
        quorum: bool,
    },
    /// `set_formation_number_sync_standbys` → [`ReplyValue::Bool`]
    SetNumberSyncStandbys {
        /// The formation.
        formation: String,
        /// The number.
        number: i32,
    },
    /// `keeper_register(json)`, private to our keepers → [`ReplyValue::Text`] (JSON)
    KeeperRegister(String),
    /// `keeper_report(json)`, private to our keepers → [`ReplyValue::Text`] (JSON)
    KeeperReport(String),
    /// A question about the monitor's decisions → [`ReplyValue::Text`] (JSON)
    Ask(Question),
    /// `set_setting(name, value)` → [`ReplyValue::Bool`]
    SetSetting {
        /// Name, without or with the `pgautofailover.` prefix as given.
        name: String,
        /// New value; `None` resets to the default.
        value: Option<String>,
    },
}

/// A question about the monitor's decisions. Asking changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `explain(formation, group)`: why groups are as they are.
    Explain {
        /// The formation.
        formation: String,
        /// The group; `None`: all groups.
        group: Option<i32>,
    },
    /// `what_if(formation, node, fault)`: what would become of a group without a node.
    WhatIf {
        /// The formation.
        formation: String,
        /// The node's name.
        node_name: String,
        /// The word of a `pgaf_protocol::Fault`.
        fault: String,
    },
    /// `settings()`: every setting, its value, and where that comes from.
    Settings,
}

/// What a call answers, with the notices to send before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// NOTICE and WARNING messages.
    pub notices: Vec<Notice>,
    /// The value.
    pub value: ReplyValue,
}

impl From<ReplyValue> for Reply {
    fn from(value: ReplyValue) -> Self {
        Reply {
            notices: Vec::new(),
            value,
        }
    }
}

/// The value of a [`Reply`]; each call documents its own kind.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyValue {
    /// Nothing.
    Void,
    /// Yes or no.
    Bool(bool),
    /// A text, JSON mostly.
    Text(String),
    /// Answer to `register_node`.
    Registered {
        /// The assignment.
        active: Assigned,
        /// The node's final name.
        name: String,
    },
    /// Answer to `node_active`.
    Active(Assigned),
    /// A node's address, or `None` when there is no such node.
    NodeAddress(Option<NodeAddress>),
    /// Addresses of several nodes.
    NodeAddresses(Vec<NodeAddress>),
    /// Answer to `create_formation`.
    Formation {
        /// Its name.
        formation: String,
        /// Its kind.
        kind: String,
        /// Its database name.
        dbname: String,
        /// Whether nodes may have secondaries.
        opt_secondary: bool,
        /// `number_sync_standbys`
        number_sync_standbys: i32,
    },
}

/// What the monitor assigned to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// `assigned_node_id`
    pub node_id: i64,
    /// `assigned_group_id`
    pub group: i32,
    /// `assigned_group_state`
    pub state: Cow<'static, str>,
    /// `assigned_candidate_priority`
    pub candidate_priority: i32,
    /// `assigned_replication_quorum`
    pub replication_quorum: bool,
}

/// Id, name and address of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// `node_id`
    pub node_id: i64,
    /// `node_name`
    pub name: String,
    /// `node_host`
    pub host: String,
    /// `node_port`
    pub port: i32,
}
