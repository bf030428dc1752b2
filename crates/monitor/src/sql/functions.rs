//! The table of known functions of schema `pgautofailover`, with typed arguments.
//!
//! Source of names, defaults and result columns: the old program's extension, version 2.2; ours are
//! marked. Adding a function is adding a row here and an arm in [`super::calls`] or
//! [`super::reads`].
//!
//! It is long because it is a table: one row per function.

use super::types::PgType::{self, Bool, Int4, Int8, Lsn, Name, State, Text, TimestampTz, Void};

/// A column of a row, or an argument's name and type.
pub(super) type Named = (&'static str, PgType);

/// Default of an argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Default {
    Required,
    Null,
    Int(i64),
    Bool(bool),
    Text(&'static str),
}

/// An argument.
#[derive(Debug)]
pub(super) struct Arg {
    pub(super) name: &'static str,
    pub(super) ty: PgType,
    pub(super) default: Default,
    /// A text that cannot be printed, or none, counts as NULL where a number is due: the old
    /// command line sends that.
    pub(super) garbage_is_null: bool,
}

/// What a function returns.
#[derive(Clone, Copy, Debug)]
pub(super) enum Returns {
    Scalar(PgType),
    /// One row.
    Row(&'static [Named]),
    /// Any number of rows.
    Rows(&'static [Named]),
}

/// Functions that are answered from the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFn {
    GetNodes,
    GetOtherNodes,
    GetOtherNodesInState,
    GetPrimary,
    GetCoordinator,
    GetMostAdvancedStandby,
    LastEvents,
    LastEventsOfFormation,
    LastEventsOfGroup,
    CurrentState,
    CurrentStateOfGroup,
    FormationUri,
    FormationSettings,
    SynchronousStandbyNames,
}

/// Functions that go to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallFn {
    RegisterNode,
    NodeActive,
    SetNodeSystemIdentifier,
    SetGroupSystemIdentifier,
    UpdateNodeMetadata,
    RemoveNodeById,
    RemoveNodeByAddress,
    PerformFailover,
    PerformPromotion,
    StartMaintenance,
    StopMaintenance,
    CreateFormation,
    DropFormation,
    EnableSecondary,
    DisableSecondary,
    SetNodeCandidatePriority,
    SetNodeReplicationQuorum,
    SetFormationNumberSyncStandbys,
    KeeperRegister,
    KeeperReport,
    Explain,
    WhatIf,
    Settings,
    SetSetting,
}

/// How a function is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Read(ReadFn),
    Call(CallFn),
}

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) args: &'static [Arg],
    pub(super) returns: Returns,
    /// A NULL argument gives NULL, and nothing is done.
    pub(super) strict: bool,
    pub(super) body: Body,
}

const fn arg(name: &'static str, ty: PgType) -> Arg {
    Arg {
        name,
        ty,
        default: Default::Required,
        garbage_is_null: false,
    }
}

const fn opt(name: &'static str, ty: PgType, default: Default) -> Arg {
    Arg {
        name,
        ty,
        default,
        garbage_is_null: false,
    }
}

const fn formation() -> Arg {
    opt("formation_id", Text, Default::Text("default"))
}

const fn call(
    name: &'static str,
    args: &'static [Arg],
    returns: Returns,
    body: CallFn,
) -> Function {
    Function {
        name,
        args,
        returns,
        strict: true,
        body: Body::Call(body),
    }
}

const fn read(
    name: &'static str,
    args: &'static [Arg],
    returns: Returns,
    body: ReadFn,
) -> Function {
    Function {
        name,
        args,
        returns,
        strict: true,
        body: Body::Read(body),
    }
}

/// Columns of `get_nodes` and its kin.
const NODES: &[Named] = &[
    ("node_id", Int8),
    ("node_name", Text),
    ("node_host", Text),
    ("node_port", Int4),
    ("node_lsn", Lsn),
    ("node_is_primary", Bool),
];

const ADDRESS: &[Named] = &[
    ("node_id", Int8),
    ("node_name", Text),
    ("node_host", Text),
    ("node_port", Int4),
];

const CURRENT_STATE: &[Named] = &[
    ("formation_kind", Text),
    ("nodename", Text),
    ("nodehost", Text),
    ("nodeport", Int4),
    ("group_id", Int4),
    ("node_id", Int8),
    ("current_group_state", Text),
    ("assigned_group_state", Text),
    ("candidate_priority", Int4),
    ("replication_quorum", Bool),
    ("reported_tli", Int4),
    ("reported_lsn", Lsn),
    ("health", Int4),
    ("nodecluster", Text),
];

/// Columns of table `event`.
pub(super) const EVENT: &[Named] = &[
    ("eventid", Int8),
    ("eventtime", TimestampTz),
    ("formationid", Text),
    ("nodeid", Int8),
    ("groupid", Int4),
    ("nodename", Text),
    ("nodehost", Text),
    ("nodeport", Int4),
    ("reportedstate", Text),
    ("goalstate", Text),
    ("reportedrepstate", Text),
    ("reportedtli", Int4),
    ("reportedlsn", Lsn),
    ("candidatepriority", Int4),
    ("replicationquorum", Bool),
    ("description", Text),
];

const SETTINGS: &[Named] = &[
    ("context", Text),
    ("group_id", Int4),
    ("node_id", Int8),
    ("nodename", Text),
    ("setting", Text),
    ("value", Text),
];

const REGISTERED: &[Named] = &[
    ("assigned_node_id", Int8),
    ("assigned_group_id", Int4),
    ("assigned_group_state", Text),
    ("assigned_candidate_priority", Int4),
    ("assigned_replication_quorum", Bool),
    ("assigned_node_name", Text),
];

const ACTIVE: &[Named] = &[
    ("assigned_node_id", Int8),
    ("assigned_group_id", Int4),
    ("assigned_group_state", Text),
    ("assigned_candidate_priority", Int4),
    ("assigned_replication_quorum", Bool),
];

const FORMATION: &[Named] = &[
    ("formation_id", Text),
    ("kind", Text),
    ("dbname", Name),
    ("opt_secondary", Bool),
    ("number_sync_standbys", Int4),
];

const PRIMARY: &[Named] = &[
    ("primary_node_id", Int8),
    ("primary_name", Text),
    ("primary_host", Text),
    ("primary_port", Int4),
];

const COORDINATOR: &[Named] = &[("node_host", Text), ("node_port", Int4)];

const READS: &[Function] = &[
    Function {
        strict: false,
        ..read(
            "get_nodes",
            &[
                formation(),
                Arg {
                    name: "group_id",
                    ty: Int4,
                    default: Default::Null,
                    garbage_is_null: true,
                },
            ],
            Returns::Rows(NODES),
            ReadFn::GetNodes,
        )
    },
    read(
        "get_other_nodes",
        &[arg("nodeid", Int8)],
        Returns::Rows(NODES),
        ReadFn::GetOtherNodes,
    ),
    read(
        "get_other_nodes",
        &[arg("nodeid", Int8), arg("current_state", State)],
        Returns::Rows(NODES),
        ReadFn::GetOtherNodesInState,
    ),
    read(
        "get_primary",
        &[formation(), opt("group_id", Int4, Default::Int(0))],
        Returns::Row(PRIMARY),
        ReadFn::GetPrimary,
    ),
    read(
        "get_coordinator",
        &[formation()],
        Returns::Rows(COORDINATOR),
        ReadFn::GetCoordinator,
    ),
    read(
        "get_most_advanced_standby",
        &[
            opt("formationid", Text, Default::Text("default")),
            opt("groupid", Int4, Default::Int(0)),
        ],
        Returns::Rows(NODES),
        ReadFn::GetMostAdvancedStandby,
    ),
    read(
        "last_events",
        &[opt("count", Int4, Default::Int(10))],
        Returns::Rows(EVENT),
        ReadFn::LastEvents,
    ),
    read(
        "last_events",
        &[
            arg("formation_id", Text),
            opt("count", Int4, Default::Int(10)),
        ],
        Returns::Rows(EVENT),
        ReadFn::LastEventsOfFormation,
    ),
    read(
        "last_events",
        &[
            arg("formation_id", Text),
            arg("group_id", Int4),
            opt("count", Int4, Default::Int(10)),
        ],
        Returns::Rows(EVENT),
        ReadFn::LastEventsOfGroup,
    ),
    read(
        "current_state",
        &[formation()],
        Returns::Rows(CURRENT_STATE),
        ReadFn::CurrentState,
    ),
    read(
        "current_state",
        &[arg("formation_id", Text), arg("group_id", Int4)],
        Returns::Rows(CURRENT_STATE),
        ReadFn::CurrentStateOfGroup,
    ),
    read(
        "formation_uri",
        &[
            formation(),
            opt("cluster_name", Text, Default::Text("default")),
            opt("sslmode", Text, Default::Text("prefer")),
            opt("sslrootcert", Text, Default::Text("")),
            opt("sslcrl", Text, Default::Text("")),
        ],
        Returns::Scalar(Text),
        ReadFn::FormationUri,
    ),
    read(
        "formation_settings",
        &[formation()],
        Returns::Rows(SETTINGS),
        ReadFn::FormationSettings,
    ),
    read(
        "synchronous_standby_names",
        &[formation(), opt("group_id", Int4, Default::Int(0))],
        Returns::Scalar(Text),
        ReadFn::SynchronousStandbyNames,
    ),
];

const CALLS: &[Function] = &[
    call(
        "register_node",
        &[
            arg("formation_id", Text),
            arg("node_host", Text),
            arg("node_port", Int4),
            arg("dbname", Name),
            opt("node_name", Text, Default::Text("")),
            opt("sysidentifier", Int8, Default::Int(0)),
            opt("desired_node_id", Int8, Default::Int(-1)),
            opt("desired_group_id", Int4, Default::Int(-1)),
            opt("initial_group_role", State, Default::Text("init")),
            opt("node_kind", Text, Default::Text("standalone")),
            opt("candidate_priority", Int4, Default::Int(100)),
            opt("replication_quorum", Bool, Default::Bool(true)),
            opt("node_cluster", Text, Default::Text("default")),
        ],
        Returns::Row(REGISTERED),
        CallFn::RegisterNode,
    ),
    call(
        "node_active",
        &[
            arg("formation_id", Text),
            arg("node_id", Int8),
            arg("group_id", Int4),
            opt("current_group_role", State, Default::Text("init")),
            opt("current_pg_is_running", Bool, Default::Bool(true)),
            opt("current_tli", Int4, Default::Int(1)),
            opt("current_lsn", Lsn, Default::Int(0)),
            opt("current_rep_state", Text, Default::Text("")),
        ],
        Returns::Row(ACTIVE),
        CallFn::NodeActive,
    ),
    call(
        "set_node_system_identifier",
        &[arg("node_id", Int8), arg("node_sysidentifier", Int8)],
        Returns::Row(ADDRESS),
        CallFn::SetNodeSystemIdentifier,
    ),
    call(
        "set_group_system_identifier",
        &[arg("group_id", Int8), arg("node_sysidentifier", Int8)],
        Returns::Rows(ADDRESS),
        CallFn::SetGroupSystemIdentifier,
    ),
    Function {
        strict: false,
        ..call(
            "update_node_metadata",
            &[
                arg("node_id", Int8),
                arg("node_name", Text),
                arg("node_host", Text),
                arg("node_port", Int4),
            ],
            Returns::Scalar(Bool),
            CallFn::UpdateNodeMetadata,
        )
    },
    call(
        "remove_node",
        &[
            arg("node_id", Int8),
            opt("force", Bool, Default::Bool(false)),
        ],
        Returns::Scalar(Bool),
        CallFn::RemoveNodeById,
    ),
    call(
        "remove_node",
        &[
            arg("node_host", Text),
            opt("node_port", Int4, Default::Int(5432)),
            opt("force", Bool, Default::Bool(false)),
        ],
        Returns::Scalar(Bool),
        CallFn::RemoveNodeByAddress,
    ),
    // The third argument is ours.
    call(
        "perform_failover",
        &[
            formation(),
            opt("group_id", Int4, Default::Int(0)),
            opt("allow_data_loss", Bool, Default::Bool(false)),
        ],
        Returns::Scalar(Void),
        CallFn::PerformFailover,
    ),
    call(
        "perform_promotion",
        &[arg("formation_id", Text), arg("node_name", Text)],
        Returns::Scalar(Bool),
        CallFn::PerformPromotion,
    ),
    call(
        "start_maintenance",
        &[arg("node_id", Int8)],
        Returns::Scalar(Bool),
        CallFn::StartMaintenance,
    ),
    call(
        "stop_maintenance",
        &[arg("node_id", Int8)],
        Returns::Scalar(Bool),
        CallFn::StopMaintenance,
    ),
    call(
        "create_formation",
        &[
            arg("formation_id", Text),
            arg("kind", Text),
            arg("dbname", Name),
            arg("opt_secondary", Bool),
            arg("number_sync_standbys", Int4),
        ],
        Returns::Row(FORMATION),
        CallFn::CreateFormation,
    ),
    call(
        "drop_formation",
        &[arg("formation_id", Text)],
        Returns::Scalar(Void),
        CallFn::DropFormation,
    ),
    call(
        "enable_secondary",
        &[arg("formation_id", Text)],
        Returns::Scalar(Bool),
        CallFn::EnableSecondary,
    ),
    call(
        "disable_secondary",
        &[arg("formation_id", Text)],
        Returns::Scalar(Bool),
        CallFn::DisableSecondary,
    ),
    call(
        "set_node_candidate_priority",
        &[
            arg("formation_id", Text),
            arg("node_name", Text),
            arg("candidate_priority", Int4),
        ],
        Returns::Scalar(Bool),
        CallFn::SetNodeCandidatePriority,
    ),
    call(
        "set_node_replication_quorum",
        &[
            arg("formation_id", Text),
            arg("node_name", Text),
            arg("replication_quorum", Bool),
        ],
        Returns::Scalar(Bool),
        CallFn::SetNodeReplicationQuorum,
    ),
    call(
        "set_formation_number_sync_standbys",
        &[arg("formation_id", Text), arg("number_sync_standbys", Int4)],
        Returns::Scalar(Bool),
        CallFn::SetFormationNumberSyncStandbys,
    ),
    // The rest is ours.
    call(
        "keeper_register",
        &[arg("registration", Text)],
        Returns::Scalar(Text),
        CallFn::KeeperRegister,
    ),
    call(
        "keeper_report",
        &[arg("report", Text)],
        Returns::Scalar(Text),
        CallFn::KeeperReport,
    ),
    Function {
        strict: false,
        ..call(
            "explain",
            &[formation(), opt("group_id", Int4, Default::Null)],
            Returns::Scalar(Text),
            CallFn::Explain,
        )
    },
    call(
        "what_if",
        &[
            formation(),
            arg("node_name", Text),
            opt("fault", Text, Default::Text("down")),
        ],
        Returns::Scalar(Text),
        CallFn::WhatIf,
    ),
    call("settings", &[], Returns::Scalar(Text), CallFn::Settings),
    Function {
        strict: false,
        ..call(
            "set_setting",
            &[arg("name", Text), arg("value", Text)],
            Returns::Scalar(Bool),
            CallFn::SetSetting,
        )
    },
];

/// All functions.
pub(super) fn all() -> impl Iterator<Item = &'static Function> {
    READS.iter().chain(CALLS)
}

/// Columns of table `formation`.
pub(super) const FORMATION_TABLE: &[Named] = &[
    ("formationid", Text),
    ("kind", Text),
    ("dbname", Name),
    ("opt_secondary", Bool),
    ("number_sync_standbys", Int4),
];

/// Columns of table `node`.
pub(super) const NODE_TABLE: &[Named] = &[
    ("formationid", Text),
    ("nodeid", Int8),
    ("groupid", Int4),
    ("nodename", Text),
    ("nodehost", Text),
    ("nodeport", Int4),
    ("sysidentifier", Int8),
    ("goalstate", Text),
    ("reportedstate", Text),
    ("reportedpgisrunning", Bool),
    ("reportedrepstate", Text),
    ("reporttime", TimestampTz),
    ("reportedtli", Int4),
    ("reportedlsn", Lsn),
    ("walreporttime", TimestampTz),
    ("health", Int4),
    ("healthchecktime", TimestampTz),
    ("statechangetime", TimestampTz),
    ("candidatepriority", Int4),
    ("replicationquorum", Bool),
    ("nodecluster", Text),
];
