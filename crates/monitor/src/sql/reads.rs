//! The read-only functions of the API, computed from the snapshot.

use super::backend::EventQuery;
use super::error::{SqlError, codes};
use super::functions::ReadFn;
use super::snapshot::{EventRow, FormationRow, NodeRow, Snapshot};
use super::types::Value;

/// States in which a node may be written to; source: the old program,
/// `CanTakeWritesInState`.
const WRITABLE: &[&str] = &[
    "single",
    "primary",
    "wait_primary",
    "join_primary",
    "apply_settings",
];
/// States of a primary on its way out, in order of preference of `get_primary`.
const LEAVING: &[&str] = &["prepare_maintenance", "draining", "demote_timeout"];
/// States of a coordinator that Citus workers may talk to.
const COORDINATING: &[&str] = &["single", "wait_primary", "primary"];
/// Prefix of replication names; source: the old program's `defaults.h`.
const STANDBY_PREFIX: &str = "pgautofailover_standby_";

/// Rows of values, in the function's column order.
pub(super) type Rows = Vec<Vec<Value>>;

fn text(args: &[Value], index: usize) -> &str {
    match args.get(index) {
        Some(Value::Text(text)) => text,
        Some(Value::Null | Value::Int(_) | Value::Real(_)) | None => "",
    }
}

fn int(args: &[Value], index: usize) -> Option<i64> {
    match args.get(index) {
        Some(Value::Int(number)) => Some(*number),
        Some(Value::Null | Value::Text(_) | Value::Real(_)) | None => None,
    }
}

fn is_writable(state: &str) -> bool {
    WRITABLE.contains(&state)
}

fn members<'a>(
    snapshot: &'a Snapshot,
    formation: &'a str,
    group: i64,
) -> impl Iterator<Item = &'a NodeRow> {
    let in_group =
        move |node: &&NodeRow| node.formation == formation && i64::from(node.group) == group;
    snapshot.nodes.iter().map(AsRef::as_ref).filter(in_group)
}

fn node_row(node: &NodeRow) -> Vec<Value> {
    vec![
        node.node_id.into(),
        node.name.as_str().into(),
        node.host.as_str().into(),
        node.port.into(),
        node.lsn.into(),
        is_writable(&node.reported_state).into(),
    ]
}

/// Which events the function needs, if any; at most `limit`.
pub(super) fn events_needed(function: ReadFn, args: &[Value], limit: u32) -> Option<EventQuery> {
    let count = |index| {
        u32::try_from(int(args, index).unwrap_or(0).max(0))
            .unwrap_or(limit)
            .min(limit)
    };
    let formation = || Some(text(args, 0).to_owned());
    match function {
        ReadFn::LastEvents => Some(EventQuery {
            formation: None,
            group: None,
            limit: count(0),
        }),
        ReadFn::LastEventsOfFormation => Some(EventQuery {
            formation: formation(),
            group: None,
            limit: count(1),
        }),
        ReadFn::LastEventsOfGroup => Some(EventQuery {
            formation: formation(),
            group: int(args, 1).and_then(|group| i32::try_from(group).ok()),
            limit: count(2),
        }),
        ReadFn::GetNodes
        | ReadFn::GetOtherNodes
        | ReadFn::GetOtherNodesInState
        | ReadFn::GetPrimary
        | ReadFn::GetCoordinator
        | ReadFn::GetMostAdvancedStandby
        | ReadFn::CurrentState
        | ReadFn::CurrentStateOfGroup
        | ReadFn::FormationUri
        | ReadFn::FormationSettings
        | ReadFn::SynchronousStandbyNames => None,
    }
}

/// Computes a function's rows. `args` have the function's types; `events` is what
/// [`events_needed`] asked for.
///
/// # Errors
/// With the SQLSTATEs of the old program.
pub(super) fn rows(
    function: ReadFn,
    args: &[Value],
    snapshot: &Snapshot,
    events: &[EventRow],
) -> Result<Rows, SqlError> {
    Ok(match function {
        ReadFn::GetNodes => get_nodes(snapshot, args)?,
        ReadFn::GetOtherNodes => get_other_nodes(snapshot, args, None)?,
        ReadFn::GetOtherNodesInState => get_other_nodes(snapshot, args, Some(text(args, 1)))?,
        ReadFn::GetPrimary => vec![get_primary(snapshot, args)?],
        ReadFn::GetCoordinator => get_coordinator(snapshot, args),
        ReadFn::GetMostAdvancedStandby => get_most_advanced_standby(snapshot, args),
        ReadFn::LastEvents | ReadFn::LastEventsOfFormation | ReadFn::LastEventsOfGroup => {
            events.iter().map(event_row).collect()
        }
        ReadFn::CurrentState => current_state(snapshot, text(args, 0), None),
        ReadFn::CurrentStateOfGroup => current_state(snapshot, text(args, 0), int(args, 1)),
        ReadFn::FormationUri => vec![vec![formation_uri(snapshot, args).into()]],
        ReadFn::FormationSettings => formation_settings(snapshot, text(args, 0)),
        ReadFn::SynchronousStandbyNames => {
            let group = int(args, 1).unwrap_or(0);
            vec![vec![
                synchronous_standby_names(snapshot, text(args, 0), group)?.into(),
            ]]
        }
    })
}

fn get_nodes(snapshot: &Snapshot, args: &[Value]) -> Result<Rows, SqlError> {
    if args.first() == Some(&Value::Null) {
        return Err(SqlError::new(
            codes::INTERNAL,
            "formation_id must not be null",
        ));
    }
    let (formation, group) = (text(args, 0), int(args, 1));
    let wanted = |node: &&NodeRow| {
        node.formation == formation && group.is_none_or(|group| i64::from(node.group) == group)
    };
    Ok(snapshot
        .nodes
        .iter()
        .map(AsRef::as_ref)
        .filter(wanted)
        .map(node_row)
        .collect())
}

fn get_other_nodes(
    snapshot: &Snapshot,
    args: &[Value],
    state: Option<&str>,
) -> Result<Rows, SqlError> {
    let id = int(args, 0).unwrap_or(0);
    let this = snapshot
        .nodes
        .iter()
        .find(|node| node.node_id == id)
        .ok_or_else(|| {
            SqlError::new(
                codes::UNDEFINED_OBJECT,
                format!("couldn't find node with nodeid {id}"),
            )
        })?;
    Ok(members(snapshot, &this.formation, this.group.into())
        .filter(|node| node.node_id != id && node.goal_state != "dropped")
        .filter(|node| state.is_none_or(|state| node.goal_state == state))
        .map(node_row)
        .collect())
}

fn get_primary(snapshot: &Snapshot, args: &[Value]) -> Result<Vec<Value>, SqlError> {
    let (formation, group) = (text(args, 0), int(args, 1).unwrap_or(0));
    let find = |wanted: &dyn Fn(&NodeRow) -> bool| {
        members(snapshot, formation, group).find(|node| wanted(node))
    };
    let leaving = |node: &NodeRow| LEAVING.contains(&&*node.reported_state);
    let primary = find(&|node| is_writable(&node.goal_state))
        .or_else(|| find(&|node| leaving(node) && node.goal_state != "demoted"))
        .or_else(|| find(&|node| leaving(node) || is_writable(&node.reported_state)))
        .ok_or_else(|| {
            SqlError::new(codes::INTERNAL, "group has no writable node right now").with_detail(
                format!("Group {group} of formation \"{formation}\" has no primary."),
            )
        })?;
    Ok(vec![
        primary.node_id.into(),
        primary.name.as_str().into(),
        primary.host.as_str().into(),
        primary.port.into(),
    ])
}

fn get_coordinator(snapshot: &Snapshot, args: &[Value]) -> Rows {
    let ready = |node: &&NodeRow| {
        COORDINATING.contains(&&*node.goal_state) && COORDINATING.contains(&&*node.reported_state)
    };
    let formation = snapshot
        .formations
        .iter()
        .any(|formation| formation.formation == text(args, 0) && formation.kind == "citus");
    if !formation {
        return Vec::new();
    }
    members(snapshot, text(args, 0), 0)
        .filter(ready)
        .map(|node| vec![node.host.as_str().into(), node.port.into()])
        .collect()
}

fn get_most_advanced_standby(snapshot: &Snapshot, args: &[Value]) -> Rows {
    members(snapshot, text(args, 0), int(args, 1).unwrap_or(0))
        .filter(|node| node.reported_state == "report_lsn")
        .max_by_key(|node| (node.lsn, node.health, -node.node_id))
        .map(|node| {
            let mut row = node_row(node);
            row[5] = false.into();
            row
        })
        .into_iter()
        .collect()
}

fn current_state(snapshot: &Snapshot, formation: &str, group: Option<i64>) -> Rows {
    let kind = kind_of(snapshot, formation);
    let mut nodes: Vec<&NodeRow> = snapshot
        .nodes
        .iter()
        .map(AsRef::as_ref)
        .filter(|node| node.formation == formation)
        .filter(|node| group.is_none_or(|group| i64::from(node.group) == group))
        .collect();
    nodes.sort_by_key(|node| (node.group, node.node_id));
    let row = |node: &NodeRow| {
        vec![
            kind.into(),
            node.name.as_str().into(),
            node.host.as_str().into(),
            node.port.into(),
            node.group.into(),
            node.node_id.into(),
            node.reported_state.as_ref().into(),
            node.goal_state.as_ref().into(),
            node.candidate_priority.into(),
            node.replication_quorum.into(),
            node.timeline.into(),
            node.lsn.into(),
            node.health.into(),
            node.cluster.as_str().into(),
        ]
    };
    nodes.into_iter().map(row).collect()
}

fn kind_of<'a>(snapshot: &'a Snapshot, formation: &str) -> &'a str {
    let found = snapshot
        .formations
        .iter()
        .find(|row| row.formation == formation);
    found.map_or("pgsql", |row| &row.kind)
}

/// The connection string of a formation; `None` when no node matches.
pub(super) fn formation_uri(snapshot: &Snapshot, args: &[Value]) -> Option<String> {
    let (formation, cluster) = (text(args, 0), text(args, 1));
    let hosts: Vec<String> = members(snapshot, formation, 0)
        .filter(|node| node.cluster == cluster)
        .map(|node| format!("{}:{}", uri_host(&node.host), node.port))
        .collect();
    let row = snapshot
        .formations
        .iter()
        .find(|row| row.formation == formation)?;
    if hosts.is_empty() {
        return None;
    }
    let mut options = Vec::new();
    if cluster == "default" {
        options.push("target_session_attrs=read-write".to_owned());
    }
    options.push(format!("sslmode={}", text(args, 2)));
    for (index, name) in [(3, "sslrootcert"), (4, "sslcrl")] {
        if !text(args, index).is_empty() {
            options.push(format!("{name}={}", text(args, index)));
        }
    }
    Some(format!(
        "postgres://{}/{}?{}",
        hosts.join(","),
        row.dbname,
        options.join("&")
    ))
}

/// An IPv6 address needs brackets inside a URI.
fn uri_host(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn formation_settings(snapshot: &Snapshot, formation: &str) -> Rows {
    let mut rows = Vec::new();
    for row in snapshot
        .formations
        .iter()
        .filter(|row| row.formation == formation)
    {
        rows.push(vec![
            "formation".into(),
            Value::Null,
            Value::Null,
            formation.into(),
            "number_sync_standbys".into(),
            row.number_sync_standbys.to_string().into(),
        ]);
    }
    let nodes = || {
        snapshot
            .nodes
            .iter()
            .filter(|node| node.formation == formation)
    };
    let row = |context: &str, node: &NodeRow, setting: &str, value: String| {
        vec![
            context.into(),
            node.group.into(),
            node.node_id.into(),
            node.name.as_str().into(),
            setting.into(),
            value.into(),
        ]
    };
    for node in nodes().filter(|node| is_writable(&node.reported_state)) {
        let names = synchronous_standby_names(snapshot, formation, node.group.into());
        let value = format!("'{}'", names.unwrap_or_default());
        rows.push(row("primary", node, "synchronous_standby_names", value));
    }
    for node in nodes() {
        rows.push(row(
            "node",
            node,
            "replication quorum",
            node.replication_quorum.to_string(),
        ));
    }
    for node in nodes() {
        rows.push(row(
            "node",
            node,
            "candidate priority",
            node.candidate_priority.to_string(),
        ));
    }
    rows
}

/// The value that a group's primary has or shall have: what the monitor decided, or, for a group
/// that it does not decide, the old program's rule.
///
/// # Errors
/// 42P17 for a group without nodes.
pub(super) fn synchronous_standby_names(
    snapshot: &Snapshot,
    formation: &str,
    group: i64,
) -> Result<String, SqlError> {
    let of_group = |row: &&super::snapshot::GroupRow| {
        row.formation == formation && i64::from(row.group) == group
    };
    let nodes: Vec<&NodeRow> = members(snapshot, formation, group)
        .filter(|node| node.goal_state != "dropped")
        .collect();
    if nodes.is_empty() {
        let message = format!("no nodes found in group {group} of formation \"{formation}\"");
        return Err(SqlError::new("42P17", message));
    }
    if let Some(row) = snapshot.groups.iter().find(of_group) {
        return Ok(row.synchronous_standby_names.clone());
    }
    let Some(primary) = nodes.iter().find(|node| is_writable(&node.goal_state)) else {
        return Ok(String::new());
    };
    let mut standbys: Vec<&&NodeRow> = nodes
        .iter()
        .filter(|node| node.node_id != primary.node_id && node.replication_quorum)
        .collect();
    if nodes.len() == 2 {
        standbys.retain(|node| node.goal_state == "secondary");
    }
    let waiting = primary.goal_state == "wait_primary" && primary.reported_state == "wait_primary";
    if standbys.is_empty() || waiting {
        return Ok(String::new());
    }
    standbys.sort_by_key(|node| (-node.candidate_priority, node.node_id));
    let number = snapshot
        .formations
        .iter()
        .find(|row: &&FormationRow| row.formation == formation)
        .map_or(1, |row| row.number_sync_standbys.max(1));
    let number = if nodes.len() == 2 { 1 } else { number };
    let names: Vec<String> = standbys
        .iter()
        .map(|node| format!("{STANDBY_PREFIX}{}", node.node_id))
        .collect();
    Ok(format!("ANY {number} ({})", names.join(", ")))
}

/// A row of table `event`.
pub(super) fn event_row(event: &EventRow) -> Vec<Value> {
    vec![
        event.event_id.into(),
        event.event_time.into(),
        event.formation.as_str().into(),
        event.node_id.into(),
        event.group.into(),
        event.name.as_str().into(),
        event.host.as_str().into(),
        event.port.into(),
        event.reported_state.as_ref().into(),
        event.goal_state.as_ref().into(),
        event.replication_state.as_ref().into(),
        event.timeline.into(),
        event.lsn.into(),
        event.candidate_priority.into(),
        event.replication_quorum.into(),
        event.description.as_str().into(),
    ]
}

/// A row of table `node`.
pub(super) fn node_table_row(node: &NodeRow) -> Vec<Value> {
    vec![
        node.formation.as_str().into(),
        node.node_id.into(),
        node.group.into(),
        node.name.as_str().into(),
        node.host.as_str().into(),
        node.port.into(),
        node.system_identifier.into(),
        node.goal_state.as_ref().into(),
        node.reported_state.as_ref().into(),
        node.postgres_is_running.into(),
        node.replication_state.as_ref().into(),
        node.report_time.into(),
        node.timeline.into(),
        node.lsn.into(),
        node.wal_report_time.into(),
        node.health.into(),
        node.health_check_time.into(),
        node.state_change_time.into(),
        node.candidate_priority.into(),
        node.replication_quorum.into(),
        node.cluster.as_str().into(),
    ]
}

/// A row of table `formation`.
pub(super) fn formation_table_row(row: &FormationRow) -> Vec<Value> {
    vec![
        row.formation.as_str().into(),
        row.kind.as_ref().into(),
        row.dbname.as_str().into(),
        row.opt_secondary.into(),
        row.number_sync_standbys.into(),
    ]
}
