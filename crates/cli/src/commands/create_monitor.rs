//! `create monitor`.

use std::fs;

use super::Context;
use crate::config::{Config, Role};
use crate::error::{ExitCode, Failure};
use crate::options::create::{self, SslChoice};
use crate::options::parse::Parsed;
use crate::paths::{self, Paths};
use crate::{hostname, service, services};

/// Creates a monitor and, with `--run`, serves it.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let ssl = SslChoice::of(parsed).map_err(|failure| context.misuse_of_choice(failure))?;
    let auth = create::auth(parsed).map_err(|failure| context.misuse_of_choice(failure))?;
    services::monitor_auth(&auth).map_err(|failure| failure.with_code(ExitCode::BadArgs))?;
    let port = create::port(parsed)?;
    let paths = paths::of_command(parsed.value("pgdata"))?;
    let mut config = existing(&paths, Role::Monitor)?;
    let claim = service::claim(&paths, Role::Monitor, ExitCode::BadState)?;
    match parsed.value("hostname") {
        Some(name) => config.put("pg_autoctl", "hostname", name),
        None if config.text("pg_autoctl", "hostname").is_none() => {
            config.put("pg_autoctl", "hostname", hostname::detect(None)?);
        }
        None => {}
    }
    ssl.warn();
    config.put("postgresql", "pgdata", paths.pgdata.display().to_string());
    config.put_some("postgresql", "pg_ctl", parsed.value("pgctl"));
    config.put_some("postgresql", "port", port.map(|port| port.to_string()));
    config.put_some("postgresql", "listen_addresses", parsed.value("listen"));
    config.put("postgresql", "auth_method", auth);
    ssl.store(&mut config, &paths.pgdata);
    let ours = services::monitor_config(&config, &paths)?;
    write(&config, &paths, || {
        pgaf_monitor::create(&ours).map_err(|error| services::create_failure(&error))
    })?;
    tracing::info!("Monitor has been successfully initialized.");
    let outcome = if parsed.flag("run") {
        service::monitor(ours, &paths)
    } else {
        Ok(())
    };
    drop(claim);
    outcome
}

/// The configuration of an earlier `create`, or a new one.
///
/// # Errors
/// Exit code 2 when the directory belongs to the other role.
pub(crate) fn existing(paths: &Paths, role: Role) -> Result<Config, Failure> {
    if !paths.config.exists() {
        return Ok(Config::new(role));
    }
    let config = crate::target::read_config(paths)?;
    if config.role() == role {
        return Ok(config);
    }
    Err(Failure::fatal(
        ExitCode::BadConfig,
        format!(
            "\"{}\" is the configuration of another kind of node",
            paths.config.display()
        ),
    )
    .hint("use another --pgdata, or drop that node first"))
}

/// Writes the configuration, then does the work that needs it; a new file goes again when the work
/// fails.
fn write<T>(
    config: &Config,
    paths: &Paths,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let new = !paths.config.exists();
    config.write(&paths.config).map_err(|error| {
        Failure::bad_config("the configuration cannot be stored").because(&error)
    })?;
    work().inspect_err(|_| {
        if new {
            drop(fs::remove_file(&paths.config));
        }
    })
}
