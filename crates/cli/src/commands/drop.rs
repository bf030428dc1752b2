//! `drop node` and `drop monitor`.
//!
//! Nothing local is touched before the monitor has agreed: an unreachable monitor ends the command
//! with everything as it was.

use std::time::{Duration, Instant};

use super::perform::DEFAULT_WAIT;
use super::{Context, block_on, stop};
use crate::config::Role;
use crate::destroy;
use crate::error::{ExitCode, Failure};
use crate::local_state;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::target::{Local, MONITOR_VARIABLE, Target};
use nix::sys::signal::Signal;

const REMOVE_BY_NAME: &str = "SELECT nodeid, groupid, pgautofailover.remove_node(nodeid::int, $3) \
 FROM pgautofailover.node WHERE formationid = $1 and nodename = $2";
const REMOVE_BY_HOST: &str = "SELECT nodeid, groupid, pgautofailover.remove_node($1, $2, $3) \
 FROM pgautofailover.node WHERE nodehost = $1 and nodeport = $2";
const STILL_THERE: &str = "SELECT * FROM pgautofailover.get_nodes($1, $2) WHERE node_id = $3";
/// How long a service may take to end by itself, and again after a signal. Source: the old program.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often the monitor is asked whether the node is gone. Chosen: below what a person notices.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Which node, when it is not the one on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Name(String),
    Address(String, u16),
}

/// `drop node`.
pub(crate) fn node(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let named = named(parsed)?;
    let wait = parsed
        .value("wait")
        .map_or(Ok(DEFAULT_WAIT), |text| values::seconds("--wait", text))?;
    let from_afar =
        parsed.value("monitor").is_some() || std::env::var_os(MONITOR_VARIABLE).is_some();
    // PG_AUTOCTL_MONITOR is set in every container: a local node is still dropped as one.
    let local = if parsed.value("monitor").is_some() || (from_afar && named.is_some()) {
        None
    } else {
        Some(Local::open(parsed)?)
    };
    match local {
        Some(local) if local.config.role() == Role::Keeper => match named {
            Some(_) => Err(Failure::fatal(
                ExitCode::BadArgs,
                "Only dropping the local node is supported, without --name, --hostname and --pgport",
            )
            .hint("use `pg_autoctl drop node` on the monitor, or with --monitor, for other nodes")),
            None => drop_local(&local, parsed.flag("destroy"), parsed.flag("force")),
        },
        Some(_) | None => drop_named(parsed, named, wait),
    }
}

fn named(parsed: &Parsed) -> Result<Option<Named>, Failure> {
    let fatal = |text: &str| Failure::fatal(ExitCode::BadArgs, text);
    let port = parsed
        .value("pgport")
        .map(|text| values::port("--pgport", text))
        .transpose()?;
    match (parsed.value("name"), parsed.value("hostname"), port) {
        (None, None, None) => Ok(None),
        (Some(name), None, None) => Ok(Some(Named::Name(name.to_owned()))),
        (None, Some(host), Some(port)) => Ok(Some(Named::Address(host.to_owned(), port))),
        (None, _, _) => Err(fatal("Please use --hostname and --pgport together")),
        (Some(_), _, _) => Err(fatal(
            "Please use either --name or --hostname and --pgport, not both",
        )),
    }
}

/// Drops a node that the monitor knows, from anywhere.
fn drop_named(parsed: &Parsed, named: Option<Named>, wait: u64) -> Result<(), Failure> {
    let named = named.ok_or_else(|| {
        Failure::fatal(
            ExitCode::BadArgs,
            "Please use either --name or --hostname and --pgport to target a specific node",
        )
    })?;
    if parsed.flag("destroy") && matches!(named, Named::Address(..)) {
        return Err(
            Failure::bad_args("Destroying a node from a distance is not supported")
                .hint("run `pg_autoctl drop node --destroy` on the node itself"),
        );
    }
    let force = parsed.flag("force");
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        tracing::info!("Removing {} from the monitor", described(&named));
        let found = remove(&client, &formation, &named, force).await?;
        let Some((node, group)) = found else {
            return Err(Failure::monitor(format!(
                "Failed to find {} in formation \"{formation}\" on the monitor",
                described(&named)
            ))
            .hint("`pg_autoctl show state` lists the nodes"));
        };
        if wait == 0 {
            return Ok(());
        }
        tracing::info!(
            "Waiting until the node with id {node} in group {group} has been dropped from the monitor, or for {wait}s, whichever comes first"
        );
        let limit = Duration::from_secs(wait);
        if until_gone(&client, &formation, node, group, limit).await? {
            tracing::info!(
                "Node with id {node} in group {group} has been successfully dropped from the monitor"
            );
            return Ok(());
        }
        Err(Failure::error(
            ExitCode::Internal,
            format!("the node with id {node} has not acknowledged within {wait} s"),
        )
        .hint("if its machine is gone for good, repeat the command with --force"))
    })
}

fn described(named: &Named) -> String {
    match named {
        Named::Name(name) => format!("a node with name \"{name}\""),
        Named::Address(host, port) => format!("a node with hostname \"{host}\" and port {port}"),
    }
}

/// Asks the monitor to remove a node; answers its id and group, `None` when there is none.
async fn remove(
    client: &MonitorClient,
    formation: &str,
    named: &Named,
    force: bool,
) -> Result<Option<(i64, i64)>, Failure> {
    let rows = match named {
        Named::Name(name) => {
            let params = [
                Param::Text(formation),
                Param::Text(name),
                Param::Bool(force),
            ];
            client.query(REMOVE_BY_NAME, &params).await?
        }
        Named::Address(host, port) => {
            let params = [
                Param::Text(host),
                Param::Int((*port).into()),
                Param::Bool(force),
            ];
            client.query(REMOVE_BY_HOST, &params).await?
        }
    };
    Ok(rows
        .first()
        .and_then(|row| Some((row.number(0)?, row.number(1)?))))
}

async fn until_gone(
    client: &MonitorClient,
    formation: &str,
    node: i64,
    group: i64,
    limit: Duration,
) -> Result<bool, Failure> {
    let start = Instant::now();
    let params = [Param::Text(formation), Param::Int(group), Param::Int(node)];
    loop {
        if client.query(STILL_THERE, &params).await?.is_empty() {
            return Ok(true);
        }
        if start.elapsed() >= limit {
            return Ok(false);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Drops the node of this machine.
fn drop_local(local: &Local, destroy: bool, force: bool) -> Result<(), Failure> {
    if local.monitor_is_disabled() {
        if destroy {
            stop_service(local, Duration::ZERO)?;
            return destroy::everything(local);
        }
        return Err(Failure::fatal(
            ExitCode::BadArgs,
            "Without a monitor there is nothing to drop this node from",
        )
        .hint("use --destroy to remove it from this machine"));
    }
    let target = Target::of_local(local.clone(), None)?;
    let formation = target.formation();
    let name = local
        .config
        .text("pg_autoctl", "name")
        .unwrap_or_default()
        .to_owned();
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let named = Named::Name(name.clone());
        let runs = stop::running(&local.paths)?.is_some();
        tracing::info!("Removing {} from the monitor", described(&named));
        let Some((node, group)) = remove(&client, &formation, &named, force).await? else {
            tracing::info!(
                "The monitor does not know a node \"{name}\": it has been dropped before"
            );
            return stop_service(local, if force { Duration::ZERO } else { STOP_LIMIT });
        };
        if runs {
            stop_service(local, if force { Duration::ZERO } else { STOP_LIMIT })?;
        }
        destroy::stop_postgres(local).await?;
        if !until_gone(&client, &formation, node, group, Duration::ZERO).await? {
            // No keeper is left to acknowledge, and this machine's Postgres is down: that is what
            // an acknowledgement would say.
            remove(&client, &formation, &named, true).await?;
        }
        if !until_gone(&client, &formation, node, group, STOP_LIMIT).await? {
            return Err(Failure::monitor(format!(
                "Failed to ensure that the node with id {node} has been removed from the monitor"
            )));
        }
        tracing::info!(
            "This node with id {node} in formation \"{formation}\" and group {group} has been dropped from the monitor"
        );
        Ok(())
    })?;
    if !local_state::read(&local.paths.state).is_ok_and(|state| state.dropped) {
        // No keeper was there to note it: without its journal the next `create` is a new node.
        destroy::forget_state(local)?;
    }
    finish(local, destroy, "node")
}

/// Waits for the service to end by itself, then tells it to.
fn stop_service(local: &Local, patience: Duration) -> Result<(), Failure> {
    let Some(service) = stop::running(&local.paths)? else {
        return Ok(());
    };
    if service.wait_for_end(patience) {
        return Ok(());
    }
    tracing::info!("Stopping the pg_autoctl service with pid {}", service.pid);
    // It may end between the two: then the wait below sees it.
    let _ = service.signal(Signal::SIGQUIT);
    if service.wait_for_end(STOP_LIMIT) {
        return Ok(());
    }
    Err(Failure::fatal(
        ExitCode::Internal,
        format!(
            "Failed to stop the pg_autoctl process with pid {}",
            service.pid
        ),
    ))
}

fn finish(local: &Local, destroy: bool, what: &str) -> Result<(), Failure> {
    if destroy {
        return destroy::everything(local);
    }
    let paths = &local.paths;
    tracing::warn!(
        "Preserving configuration file: \"{}\"",
        paths.config.display()
    );
    tracing::warn!(
        "Preserving Postgres data directory: \"{}\"",
        paths.pgdata.display()
    );
    tracing::info!("The {what} has been dropped, its files are kept");
    tracing::info!(
        target: crate::logging::HINT,
        "to remove its files too: pg_autoctl drop {what} --pgdata \"{}\" --destroy",
        paths.pgdata.display()
    );
    Ok(())
}

/// `drop monitor`.
pub(crate) fn monitor(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    if local.config.role() != Role::Monitor {
        return Err(
            Failure::fatal(ExitCode::BadConfig, "Local node is not a monitor")
                .hint("`pg_autoctl drop node` drops a node"),
        );
    }
    stop_service(&local, Duration::ZERO)?;
    finish(&local, parsed.flag("destroy"), "monitor")
}
