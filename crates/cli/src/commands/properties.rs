//! `get` and `set` of node and formation properties, kept by the monitor.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Context, block_on, print_line, show_state};
use crate::error::{ExitCode, Failure};
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::render::{json, out};
use crate::target::Target;

const NODE: &str = "SELECT candidatepriority, replicationquorum FROM pgautofailover.node \
 WHERE nodename = $1";
const FORMATION: &str =
    "SELECT number_sync_standbys FROM pgautofailover.formation WHERE formationid = $1";
const SET_PRIORITY: &str = "SELECT pgautofailover.set_node_candidate_priority($1, $2, $3)";
const SET_QUORUM: &str = "SELECT pgautofailover.set_node_replication_quorum($1, $2, $3)";
const SET_SYNC: &str = "SELECT pgautofailover.set_formation_number_sync_standbys($1, $2)";
const STANDBY_NAMES: &str = "select pgautofailover.synchronous_standby_names($1, $2)";
/// How long a change may take until the primary has applied it. Source: the old program.
const APPLY_LIMIT: Duration = Duration::from_secs(60);
/// How often the monitor is asked meanwhile. Chosen: below what a person notices.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// `get node candidate-priority`.
pub(crate) fn get_candidate_priority(
    context: &Context<'_>,
    parsed: &Parsed,
) -> Result<(), Failure> {
    let (name, priority, _) = node(parsed)?;
    print(
        context,
        &priority.to_string(),
        &json!({"name": name, "candidate-priority": priority}),
    );
    Ok(())
}

/// `get node replication-quorum`.
pub(crate) fn get_replication_quorum(
    context: &Context<'_>,
    parsed: &Parsed,
) -> Result<(), Failure> {
    let (name, _, quorum) = node(parsed)?;
    print(
        context,
        &quorum.to_string(),
        &json!({"name": name, "replication-quorum": quorum}),
    );
    Ok(())
}

/// `get formation number-sync-standbys`.
pub(crate) fn get_number_sync_standbys(
    context: &Context<'_>,
    parsed: &Parsed,
) -> Result<(), Failure> {
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let number = block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let rows = client.query(FORMATION, &[Param::Text(&formation)]).await?;
        rows.first().and_then(|row| row.number(0)).ok_or_else(|| {
            Failure::monitor(format!("the monitor knows no formation \"{formation}\""))
        })
    })?;
    print(
        context,
        &number.to_string(),
        &json!({"number-sync-standbys": number}),
    );
    Ok(())
}

/// `set node candidate-priority`.
pub(crate) fn set_candidate_priority(
    context: &Context<'_>,
    parsed: &Parsed,
) -> Result<(), Failure> {
    let text = argument(context, parsed, "a priority from 0 to 100")?;
    let priority = values::integer("candidate-priority", text, 0, 100)?;
    set(parsed, &NodeProperty::Priority(priority))?;
    print(
        context,
        &priority.to_string(),
        &json!({"candidate-priority": priority}),
    );
    Ok(())
}

/// `set node replication-quorum`.
pub(crate) fn set_replication_quorum(
    context: &Context<'_>,
    parsed: &Parsed,
) -> Result<(), Failure> {
    let text = argument(context, parsed, "true or false")?;
    let quorum = values::boolean(text).ok_or_else(|| {
        Failure::bad_args(format!(
            "replication-quorum is true or false, not \"{text}\""
        ))
    })?;
    set(parsed, &NodeProperty::Quorum(quorum))?;
    print(
        context,
        &quorum.to_string(),
        &json!({"replication-quorum": quorum}),
    );
    Ok(())
}

/// `set formation number-sync-standbys`.
pub(crate) fn set_number_sync_standbys(
    context: &Context<'_>,
    parsed: &Parsed,
) -> Result<(), Failure> {
    let text = argument(context, parsed, "a number")?;
    let number = values::integer("number-sync-standbys", text, 0, i64::from(i32::MAX))?;
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let names = block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let done = client
            .value(SET_SYNC, &[Param::Text(&formation), Param::Int(number)])
            .await?;
        if done.as_deref() != Some("t") {
            return Err(Failure::monitor(
                "the monitor did not set number_sync_standbys",
            ));
        }
        until_applied(&client, &formation).await?;
        // The group of plain formations, and of the coordinator.
        client
            .value(STANDBY_NAMES, &[Param::Text(&formation), Param::Int(0)])
            .await
    })?
    .unwrap_or_default();
    tracing::info!("primary node has now set synchronous_standby_names = '{names}'");
    let object = json!({"number-sync-standbys": number, "synchronous_standby_names": names});
    print(context, &number.to_string(), &object);
    Ok(())
}

fn print(context: &Context<'_>, text: &str, object: &Value) {
    if context.json {
        out::stdout(&json::pretty(object));
    } else {
        print_line(text);
    }
}

fn argument<'a>(context: &Context<'_>, parsed: &'a Parsed, what: &str) -> Result<&'a str, Failure> {
    parsed
        .arguments()
        .first()
        .copied()
        .ok_or_else(|| context.misuse(Failure::bad_args(format!("expected {what}"))))
}

fn name<'a>(target: &'a Target, parsed: &'a Parsed) -> Result<&'a str, Failure> {
    let own = || {
        target
            .keeper()
            .and_then(|local| local.config.text("pg_autoctl", "name"))
    };
    parsed.value("name").or_else(own).ok_or_else(|| {
        Failure::fatal(
            ExitCode::BadArgs,
            "Please use --name to target a specific node",
        )
    })
}

fn node(parsed: &Parsed) -> Result<(String, i64, bool), Failure> {
    let target = Target::resolve(parsed)?;
    let name = name(&target, parsed)?;
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let rows = client.query(NODE, &[Param::Text(name)]).await?;
        let row = rows.first().ok_or_else(|| {
            Failure::monitor(format!("the monitor knows no node \"{name}\""))
                .hint("`pg_autoctl show state` lists the nodes")
        })?;
        Ok((
            name.to_owned(),
            row.number(0).unwrap_or_default(),
            row.get(1) == Some("t"),
        ))
    })
}

/// A property to set on a node.
enum NodeProperty {
    Priority(i64),
    Quorum(bool),
}

fn set(parsed: &Parsed, property: &NodeProperty) -> Result<(), Failure> {
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let name = name(&target, parsed)?;
    let (text, value) = match property {
        NodeProperty::Priority(priority) => (SET_PRIORITY, Param::Int(*priority)),
        NodeProperty::Quorum(quorum) => (SET_QUORUM, Param::Bool(*quorum)),
    };
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        client
            .query(text, &[Param::Text(&formation), Param::Text(name), value])
            .await?;
        until_applied(&client, &formation).await
    })
}

/// Waits until every node of the formation has reached its goal and none applies settings.
async fn until_applied(client: &MonitorClient, formation: &str) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let nodes = show_state::fetch(client, formation, None).await?;
        let settled = nodes
            .iter()
            .all(|node| node.reported == node.goal && node.reported != "apply_settings");
        if settled {
            return Ok(());
        }
        if start.elapsed() >= APPLY_LIMIT {
            return Err(Failure::monitor(
                "the change is recorded, and the primary has not applied it in time",
            )
            .hint("`pg_autoctl show state` shows which node has not reached its goal"));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
