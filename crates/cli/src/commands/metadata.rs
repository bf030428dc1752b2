//! `set node metadata`: name, host and port of a node that keeps its id.

use super::{Context, block_on, stop};
use crate::config::Role;
use crate::error::{ExitCode, Failure};
use crate::local_state;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::render::{json, out};
use crate::target::{Local, Target};

const UPDATE: &str = "SELECT * FROM pgautofailover.update_node_metadata($1, $2, $3, $4)";

/// Changes the file and tells the monitor; works with the service stopped.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let change = Change::of(parsed)?.ok_or_else(|| {
        context.misuse(Failure::bad_args(
            "Please use at least one of --name, --hostname and --pgport",
        ))
    })?;
    let mut local = Local::open(parsed)?;
    if local.config.role() == Role::Monitor {
        return Err(Failure::bad_config("a monitor has no node metadata"));
    }
    change.apply(&mut local)?;
    stop::signal_reload(&local.paths)?;
    if context.json {
        out::stdout(&json::pretty(&local.config.to_json()));
    }
    Ok(())
}

/// What is to change.
#[derive(Debug)]
pub(crate) struct Change {
    name: Option<String>,
    hostname: Option<String>,
    port: Option<u16>,
}

impl Change {
    /// From the options of a command; `None` when none was given.
    ///
    /// # Errors
    /// Exit code 1 for a port that is none.
    pub(crate) fn of(parsed: &Parsed) -> Result<Option<Self>, Failure> {
        let change = Self {
            name: parsed.value("name").map(str::to_owned),
            hostname: parsed.value("hostname").map(str::to_owned),
            port: parsed
                .value("pgport")
                .map(|text| values::port("--pgport", text))
                .transpose()?,
        };
        let nothing = change.name.is_none() && change.hostname.is_none() && change.port.is_none();
        Ok((!nothing).then_some(change))
    }

    /// Tells the monitor first: it refuses a name or address that another node has. Then the file.
    ///
    /// # Errors
    /// Exit code 6 when the monitor cannot be reached or refuses, 2 when the file is not written.
    pub(crate) fn apply(&self, local: &mut Local) -> Result<(), Failure> {
        let config = &mut local.config;
        let old = |config: &crate::config::Config, key: &str| {
            config
                .text("pg_autoctl", key)
                .unwrap_or_default()
                .to_owned()
        };
        let (old_name, old_host, old_port) = (
            old(config, "name"),
            old(config, "hostname"),
            config.port().unwrap_or_default(),
        );
        config.put_some("pg_autoctl", "name", self.name.as_deref());
        config.put_some("pg_autoctl", "hostname", self.hostname.as_deref());
        config.put_some("postgresql", "port", self.port.map(|port| port.to_string()));
        let (name, host, port) = (
            old(config, "name"),
            old(config, "hostname"),
            config.port().unwrap_or_default(),
        );
        if (&name, &host, port) == (&old_name, &old_host, old_port) {
            return Ok(());
        }
        let registered = local_state::read(&local.paths.state)
            .ok()
            .filter(|state| state.node > 0);
        if let Some(state) = registered.filter(|_| !local.monitor_is_disabled()) {
            let target = Target::of_local(local.clone(), None)?;
            let params = [
                Param::Int(state.node),
                Param::Text(&name),
                Param::Text(&host),
                Param::Int(port.into()),
            ];
            block_on(async {
                let client = MonitorClient::connect(&target).await?;
                client.value(UPDATE, &params).await
            })?;
        }
        local.config.write(&local.paths.config).map_err(|error| {
            Failure::error(ExitCode::BadConfig, "the configuration was not changed").because(&error)
        })?;
        for (what, new, old) in [
            ("name", &name, &old_name),
            ("hostname", &host, &old_host),
            ("port", &port.to_string(), &old_port.to_string()),
        ] {
            if new != old {
                tracing::info!("Node {what} is now \"{new}\", used to be \"{old}\"");
            }
        }
        Ok(())
    }
}
