//! `config check`: does what the file says hold here?

use std::fmt::Write;

use pgaf_postgres::control::ClusterState;
use serde_json::json;

use super::{Context, block_on, config};
use crate::config::{Config, Role};
use crate::error::{ExitCode, Failure};
use crate::local_state::{self, Setup};
use crate::monitor_client::MonitorClient;
use crate::options::parse::Parsed;
use crate::render::{json, out};
use crate::services;
use crate::target::{Local, Target};

const VERSIONS: &str = "SELECT default_version, installed_version \
 FROM pg_available_extensions WHERE name = $1";
const EXTENSION: &str = "pgautofailover";

/// Checks the configuration.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let config = config::discovered(&local);
    let setup = block_on(async {
        let setup = local_state::setup(&config, &local.paths.pgdata).await;
        match config.role() {
            Role::Monitor => check_monitor(&local)?,
            Role::Keeper => check_keeper(&local, &setup).await?,
        }
        Ok(setup)
    })?;
    if context.json {
        out::stdout(&json::pretty(&json!({
            "postgres": setup.to_json(true),
            "config": config.to_json(),
        })));
    } else {
        out::stdout(&text(&setup, &config));
    }
    Ok(())
}

fn check_monitor(local: &Local) -> Result<(), Failure> {
    let config = services::monitor_config(&local.config, &local.paths)?;
    if !config.store_file().exists() {
        return Err(Failure::fatal(
            ExitCode::PgCtl,
            format!(
                "\"{}\" is not a monitor's directory",
                local.paths.pgdata.display()
            ),
        )
        .hint("run `pg_autoctl create monitor` again: it goes on where it stopped"));
    }
    tracing::info!(
        "Monitor setup for PGDATA \"{}\" is ok",
        local.paths.pgdata.display()
    );
    Ok(())
}

async fn check_keeper(local: &Local, setup: &Setup) -> Result<(), Failure> {
    services::keeper_config(&local.config, &local.paths)?;
    if setup.version.is_empty() {
        return Err(Failure::fatal(
            ExitCode::PgCtl,
            format!("postgresql.pg_ctl \"{}\" cannot be used", setup.pg_ctl),
        )
        .hint("`pg_autoctl config set postgresql.pg_ctl` takes the path of another one"));
    }
    if setup.control.is_none() {
        return Err(Failure::fatal(
            ExitCode::PgCtl,
            format!("PGDATA \"{}\" is not a usable data directory", setup.pgdata),
        ));
    }
    match setup.pid {
        Some(pid) => tracing::info!(
            "Postgres setup for PGDATA \"{}\" is ok, running with PID {pid} and port {}",
            setup.pgdata,
            setup.port
        ),
        None => tracing::info!(
            "Postgres setup for PGDATA \"{}\" is ok, not running",
            setup.pgdata
        ),
    }
    if local.monitor_is_disabled() {
        return Ok(());
    }
    let target = Target::of_local(local.clone(), None)?;
    let client = MonitorClient::connect(&target).await?;
    tracing::info!(
        "Connection to monitor ok, using \"{}\"",
        target.conninfo.redacted()
    );
    let rows = client
        .query(VERSIONS, &[crate::monitor_client::Param::Text(EXTENSION)])
        .await?;
    let version = rows.first().map(|row| row.text(1)).unwrap_or_default();
    if version == pgaf_protocol::API_VERSION {
        tracing::info!("Monitor is running version \"{version}\", as expected");
    } else {
        tracing::warn!(
            "Monitor is running version \"{version}\", this program expects \"{}\"",
            pgaf_protocol::API_VERSION
        );
    }
    Ok(())
}

/// The table of the old program.
pub(super) fn text(setup: &Setup, config: &Config) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let label = format!("{label}:");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:22} {value}");
    };
    line("pgdata", setup.pgdata.clone());
    if config.role() == Role::Keeper || setup.control.is_some() {
        line("pg_ctl", setup.pg_ctl.clone());
        line(
            "pg_version",
            format!("\"{}\" ({})", setup.version, setup.version.replace('.', "")),
        );
    }
    line("pghost", setup.host.clone());
    line("pgport", setup.port.to_string());
    line("proxyport", setup.proxyport.to_string());
    line("pid", setup.pid.unwrap_or(0).to_string());
    line(
        "is in recovery",
        if setup.in_recovery { "yes" } else { "no" }.to_owned(),
    );
    if let Some(control) = &setup.control {
        line(
            "Control cluster state",
            cluster_state(control.state).to_owned(),
        );
        line("Control Version", control.control_version.to_string());
        line("Catalog Version", control.catalog_version.to_string());
        line("System Identifier", control.system_identifier.to_string());
        line("Latest checkpoint LSN", control.checkpoint.to_string());
    }
    line("Postmaster status", setup.status.to_owned());
    text
}

/// The words of `pg_controldata`.
fn cluster_state(state: ClusterState) -> &'static str {
    match state {
        ClusterState::StartingUp => "starting up",
        ClusterState::ShutDown => "shut down",
        ClusterState::ShutDownInRecovery => "shut down in recovery",
        ClusterState::ShuttingDown => "shutting down",
        ClusterState::InCrashRecovery => "in crash recovery",
        ClusterState::InArchiveRecovery => "in archive recovery",
        ClusterState::InProduction => "in production",
    }
}
