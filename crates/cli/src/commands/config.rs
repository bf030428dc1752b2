//! `config get` and `config set`.

use std::path::Path;

use super::{Context, block_on, print_line, stop};
use crate::config::{Config, ConfigError};
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::render::{json, out};
use crate::target::Local;

/// `config get [section.option]`.
pub(crate) fn get(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let config = discovered(&local);
    match parsed.arguments().first() {
        None if context.json => out::stdout(&json::pretty(&config.to_json())),
        None => print_line(&config.to_ini()),
        Some(path) => {
            let value = config.get(path).map_err(|error| {
                tracing::error!("{error}");
                Failure::bad_args(format!("Failed to lookup option {path}"))
                    .hint("`pg_autoctl config get` without an option lists all that are set")
            })?;
            print_line(&value);
        }
    }
    Ok(())
}

/// The configuration, with the socket directory of a running Postgres where the file names none.
pub(crate) fn discovered(local: &Local) -> Config {
    let mut config = local.config.clone();
    if config.text("postgresql", "host").is_none() {
        let running = pgaf_postgres::postmaster::PidFile::read(&local.paths.pgdata)
            .ok()
            .flatten();
        let socket = running.and_then(|file| file.socket_directory);
        config.put_some(
            "postgresql",
            "host",
            socket.as_deref().map(Path::to_string_lossy),
        );
    }
    config
}

/// `config set section.option value`.
pub(crate) fn set(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let arguments = parsed.arguments();
    let &[path, value] = arguments.as_slice() else {
        return Err(context.misuse(Failure::bad_args(
            "config set takes two arguments: section.option and its value",
        )));
    };
    let mut local = Local::open(parsed)?;
    let stored = local
        .config
        .set(path, value)
        .map_err(|error| refuse(path, &error))?;
    if path == "postgresql.pg_ctl" {
        check_program(value)?;
    }
    local.config.write(&local.paths.config).map_err(|error| {
        Failure::bad_config("the configuration was not changed").because(&error)
    })?;
    print_line(&stored);
    stop::signal_reload(&local.paths)
}

fn refuse(path: &str, error: &ConfigError) -> Failure {
    Failure::bad_config(format!("Failed to set option {path}")).because(error).hint(
        "the configuration file is unchanged; `pg_autoctl config get` lists the options that are set",
    )
}

fn check_program(pg_ctl: &str) -> Result<(), Failure> {
    block_on(async {
        pgaf_postgres::locate::Installation::at(Path::new(pg_ctl))
            .await
            .map_err(|error| {
                Failure::error(
                    ExitCode::BadConfig,
                    "Failed to set option postgresql.pg_ctl",
                )
                .because(&error)
                .hint("the configuration file is unchanged")
            })
    })
    .map(drop)
}
