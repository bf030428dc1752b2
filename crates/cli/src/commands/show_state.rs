//! `show state`: all nodes as the monitor sees them, or this node as its own files say.

use std::fmt::Display;

use pgaf_protocol::NodeState;
use serde_json::json;

use super::{Context, block_on, inspect, print_line};
use crate::config::Role;
use crate::error::{ExitCode, Failure};
use crate::local_state;
use crate::monitor_client::{MonitorClient, Param, Row};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::paths;
use crate::render::table::{Column, table};
use crate::render::{json, out};
use crate::target::{Local, Target};
use crate::watch;

const TEXT: &str = "SELECT formation_kind, nodename, nodehost, nodeport, \
 group_id, node_id, current_group_state, assigned_group_state, \
 candidate_priority, replication_quorum, \
 reported_tli, reported_lsn, health, nodecluster, \
 healthlag, reportlag \
 FROM pgautofailover.current_state($GROUP) cs \
 JOIN ( \
 select nodeid, \
 extract(epoch from now() - healthchecktime), \
 extract(epoch from now() - reporttime) \
 from pgautofailover.node \
 ) as n(nodeid, healthlag, reportlag) \
 on n.nodeid = cs.node_id \
 ORDER BY group_id, node_id";
const JSON: &str = "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(state)), '[]')) \
 FROM pgautofailover.current_state($GROUP) as state";
/// Stands in the texts above for the arguments of either form of the function.
const ARGUMENTS: &str = "$GROUP";

/// Prints the states of nodes.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    if wants_dashboard(context, parsed)? {
        return watch::run(context, parsed);
    }
    let group = parsed.value("group").map(values::group).transpose()?;
    if parsed.flag("local") {
        return local(context, &Local::open(parsed)?, group);
    }
    let by_uri = parsed.value("monitor").is_some()
        || std::env::var_os(crate::target::MONITOR_VARIABLE).is_some();
    if !by_uri && paths::names_pgdata(parsed.value("pgdata")) {
        let node = Local::open(parsed)?;
        if node.monitor_is_disabled() {
            tracing::info!("Monitor is disabled, showing --local state");
            return local(context, &node, group);
        }
    }
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        if context.json {
            print_line(&fetch_json(&client, &formation, group).await?);
        } else {
            out::stdout(&layout(&fetch(&client, &formation, group).await?));
            for note in inspect::notes(&client, &formation, group).await {
                tracing::warn!("{note}");
            }
        }
        Ok(())
    })
}

/// Whether `--watch` asks for the dashboard instead.
///
/// # Errors
/// Exit code 1 beside an option that it cannot go with.
pub(crate) fn wants_dashboard(context: &Context<'_>, parsed: &Parsed) -> Result<bool, Failure> {
    let both =
        |a: &str, b: &str| Failure::bad_args(format!("Please use either {a} or {b}, but not both"));
    if !parsed.flag("watch") {
        return Ok(false);
    }
    if context.json {
        return Err(both("--json", "--watch"));
    }
    if parsed.flag("local") {
        return Err(both("--local", "--watch"));
    }
    Ok(true)
}

/// `--local` of `show events` is an option without a meaning.
pub(crate) fn not_local(parsed: &Parsed) -> Result<(), Failure> {
    if parsed.flag("local") {
        return Err(Failure::monitor(
            "events are kept by the monitor, there are no local ones",
        ));
    }
    Ok(())
}

fn statement(text: &str, group: Option<i32>) -> String {
    text.replace(ARGUMENTS, if group.is_some() { "$1, $2" } else { "$1" })
}

fn params(formation: &str, group: Option<i32>) -> Vec<Param<'_>> {
    let group = group.map(|group| Param::Int(group.into()));
    [Some(Param::Text(formation)), group]
        .into_iter()
        .flatten()
        .collect()
}

async fn fetch_json(
    client: &MonitorClient,
    formation: &str,
    group: Option<i32>,
) -> Result<String, Failure> {
    let value = client
        .value(&statement(JSON, group), &params(formation, group))
        .await?;
    Ok(value.unwrap_or_default())
}

/// Asks the monitor for the nodes of a formation.
///
/// # Errors
/// Exit code 6.
pub(crate) async fn fetch(
    client: &MonitorClient,
    formation: &str,
    group: Option<i32>,
) -> Result<Vec<NodeRow>, Failure> {
    let rows = client
        .query(&statement(TEXT, group), &params(formation, group))
        .await?;
    Ok(rows.iter().map(NodeRow::of).collect())
}

/// One node of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeRow {
    pub(crate) citus: bool,
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: String,
    pub(crate) group: String,
    pub(crate) node: String,
    pub(crate) reported: String,
    pub(crate) goal: String,
    pub(crate) timeline: String,
    pub(crate) lsn: String,
    pub(crate) health: i64,
    pub(crate) priority: String,
    pub(crate) quorum: bool,
    /// Seconds since the monitor last looked at its Postgres.
    pub(crate) check_age: Option<f64>,
    /// Seconds since its keeper last reported.
    pub(crate) report_age: Option<f64>,
}

impl NodeRow {
    fn of(row: &Row) -> Self {
        Self {
            citus: row.get(0) == Some("citus"),
            name: row.text(1),
            host: row.text(2),
            port: row.text(3),
            group: row.text(4),
            node: row.text(5),
            reported: row.text(6),
            goal: row.text(7),
            timeline: row.text(10),
            lsn: row.text(11),
            health: row.number(12).unwrap_or(-1),
            priority: row.text(8),
            quorum: row.get(9) == Some("t"),
            check_age: row.get(14).and_then(|age| age.parse().ok()),
            report_age: row.get(15).and_then(|age| age.parse().ok()),
        }
    }

    pub(crate) fn cells(&self) -> [String; 7] {
        let connection = connection_type(&self.reported);
        let connection = match self.health {
            1 => connection.to_owned(),
            0 => format!("{connection} !"),
            _ => format!("{connection} ?"),
        };
        [
            self.name.clone(),
            node_id(self.citus, &self.group, &self.node),
            format!("{}:{}", self.host, self.port),
            format!("{:>3}: {}", self.timeline, self.lsn),
            connection,
            self.reported.clone(),
            self.goal.clone(),
        ]
    }
}

/// How a node is named by number: with its group where the formation has several.
pub(crate) fn node_id(citus: bool, group: impl Display, node: impl Display) -> String {
    if citus {
        format!("{group}/{node}")
    } else {
        node.to_string()
    }
}

/// What a client can do with a node in this state. Source: the old program's table.
fn connection_type(state: &str) -> &'static str {
    let Ok(state) = state.parse::<NodeState>() else {
        return "unknown";
    };
    match state {
        NodeState::Single
        | NodeState::WaitPrimary
        | NodeState::Primary
        | NodeState::JoinPrimary
        | NodeState::PrepareMaintenance
        | NodeState::ApplySettings => "read-write",
        NodeState::Secondary
        | NodeState::Catchingup
        | NodeState::PreparePromotion
        | NodeState::StopReplication
        | NodeState::WaitMaintenance
        | NodeState::FastForward
        | NodeState::JoinSecondary
        | NodeState::ReportLsn => "read-only",
        NodeState::Maintenance
        | NodeState::Draining
        | NodeState::Demoted
        | NodeState::DemoteTimeout
        | NodeState::WaitStandby
        | NodeState::Init
        | NodeState::Dropped => "none",
        NodeState::Unknown => "unknown",
    }
}

/// The table.
pub(crate) fn layout(rows: &[NodeRow]) -> String {
    // Without a row nothing sets the least width of a name: the old program prints it so.
    let columns = [
        Column::growing("Name", 4),
        Column::growing("Node", 5),
        Column::growing("Host:Port", if rows.is_empty() { 10 } else { 9 }),
        Column::growing("TLI: LSN", 9),
        Column::growing("Connection", 12),
        Column::fixed("Reported State", 19),
        Column::fixed("Assigned State", 19),
    ];
    table(
        &columns,
        &rows
            .iter()
            .map(|row| row.cells().to_vec())
            .collect::<Vec<_>>(),
    )
}

fn local(context: &Context<'_>, node: &Local, group: Option<i32>) -> Result<(), Failure> {
    if node.config.role() == Role::Monitor {
        return Err(Failure::monitor(
            "pg_autoctl show state --local is not supported on a monitor",
        ));
    }
    let state = local_state::read(&node.paths.state)?;
    if let Some(group) = group
        && i64::from(group) != state.group
    {
        return Err(Failure::error(
            ExitCode::BadConfig,
            format!(
                "--group {group} does not match this node's group: {}",
                state.group
            ),
        ));
    }
    let (timeline, lsn) = block_on(async { Ok(local_state::position(node).await) })?;
    let text = |key| {
        node.config
            .text("pg_autoctl", key)
            .unwrap_or_default()
            .to_owned()
    };
    let port = node.config.port().unwrap_or(crate::target::DEFAULT_PORT);
    if context.json {
        out::stdout(&json::pretty(&json!({
            "node_id": state.node,
            "group_id": state.group,
            "nodename": text("name"),
            "nodehost": text("hostname"),
            "nodeport": port,
            "current_group_state": state.current,
            "assigned_group_state": state.assigned,
            "timeline": timeline,
            "Minimum Recovery Ending LSN": lsn,
            "reachable": "unknown",
            "conntype": connection_type(&state.current),
        })));
        return Ok(());
    }
    let row = NodeRow {
        citus: node
            .config
            .text("pg_autoctl", "nodekind")
            .is_some_and(|kind| kind != "standalone"),
        name: text("name"),
        host: text("hostname"),
        port: port.to_string(),
        group: state.group.to_string(),
        node: state.node.to_string(),
        reported: state.current,
        goal: state.assigned,
        timeline: timeline.to_string(),
        lsn,
        health: -1,
        priority: String::new(),
        quorum: false,
        check_age: None,
        report_age: None,
    };
    out::stdout(&layout(&[row]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(citus: bool, health: i64, reported: &str) -> NodeRow {
        NodeRow {
            citus,
            name: "node1".into(),
            host: "localhost".into(),
            port: "15501".into(),
            group: "2".into(),
            node: "1".into(),
            reported: reported.into(),
            goal: "primary".into(),
            timeline: "1".into(),
            lsn: "0/3000110".into(),
            health,
            priority: "50".into(),
            quorum: true,
            check_age: Some(1.0),
            report_age: Some(0.2),
        }
    }

    #[test]
    fn states_print_as_in_the_old_program() {
        let rows = [
            row(false, 1, "primary"),
            row(false, 0, "secondary"),
            row(false, -1, "demoted"),
        ];
        insta::assert_snapshot!(layout(&rows));
    }

    #[test]
    fn a_citus_formation_shows_groups_and_nobody_shows_headings() {
        insta::assert_snapshot!(format!(
            "{}{}",
            layout(&[row(true, 1, "nonsense")]),
            layout(&[])
        ));
    }
}
