//! `activate`: a Citus node is activated on its formation's coordinator.
//!
//! The coordinator's keeper does that by itself; this is for a row that somebody has disabled.

use std::time::Duration;

use pgaf_postgres::client::{self, Options};
use pgaf_postgres::conninfo::Conninfo;

use super::{Context, block_on};
use crate::error::{ExitCode, Failure};
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::services;
use crate::target::{DEFAULT_PORT, Local, Target};

const COORDINATOR: &str = "SELECT node_host, node_port FROM pgautofailover.get_coordinator($1)";
const ACTIVATE: &str = "SELECT pg_catalog.citus_activate_node($1, $2)";
/// For the coordinator to answer: activating copies reference tables.
const LIMIT: Duration = Duration::from_secs(60);

/// Activates the local node.
pub(crate) fn run(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let keeper = services::keeper_config(&local.config, &local.paths)?;
    if keeper.kind == pgaf_protocol::NodeKind::Standalone {
        return Err(Failure::bad_config("this node is not of a Citus formation")
            .hint("`pg_autoctl create worker` makes one"));
    }
    let target = Target::resolve(parsed)?;
    let formation = keeper.formation.0.clone();
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let rows = client
            .query(COORDINATOR, &[Param::Text(&formation)])
            .await?;
        let Some(row) = rows.first().filter(|row| row.get(0).is_some()) else {
            return Err(failure(format!(
                "formation \"{formation}\" has no coordinator ready yet"
            ))
            .hint("see it with: pg_autoctl show state"));
        };
        let host = row.text(0);
        let port = row.number(1).and_then(|port| u16::try_from(port).ok());
        let port = port.unwrap_or(DEFAULT_PORT);
        let user = keeper.username.clone().unwrap_or_else(account);
        let mut conninfo = Conninfo::single(host.clone(), port, &user, &keeper.dbname);
        conninfo.sslmode = Some(keeper.sslmode);
        let options = Options {
            connect_timeout: LIMIT,
            application_name: "pg_autoctl activate".into(),
        };
        let refused = |error: &dyn std::error::Error| {
            failure(format!(
                "Failed to activate node {}:{}",
                keeper.host, keeper.port
            ))
            .because(error)
            .hint("check pg_hba.conf of the coordinator, and that its keeper runs")
        };
        let client = client::connect(&conninfo, &options)
            .await
            .map_err(|error| refused(&error))?;
        let own = i32::from(keeper.port);
        client
            .query(ACTIVATE, &[&keeper.host, &own], LIMIT)
            .await
            .map_err(|error| refused(&error))?;
        tracing::info!(
            "Activated node {}:{} in formation \"{formation}\" coordinator {host}:{port}",
            keeper.host,
            keeper.port
        );
        Ok(())
    })
}

fn failure(text: String) -> Failure {
    Failure::error(ExitCode::Coordinator, text)
}

fn account() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(|| "postgres".into(), |user| user.name)
}
