//! `run`: the service of a data directory, in the foreground.

use pgaf_keeper::Until;

use super::{Context, metadata};
use crate::config::Role;
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::target::Local;
use crate::{service, services};

/// Runs the service that the configuration file describes.
pub(crate) fn run(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let change = metadata::Change::of(parsed)?;
    let mut local = Local::open(parsed)?;
    let role = local.config.role();
    let claim = service::claim(&local.paths, role, ExitCode::Internal)?;
    tracing::info!(
        "Started pg_autoctl for \"{}\"",
        local.paths.pgdata.display()
    );
    let outcome = match role {
        Role::Monitor => {
            let mut config = services::monitor_config(&local.config, &local.paths)?;
            config.restored = parsed.flag("restored");
            service::monitor(config, &local.paths)
        }
        Role::Keeper => {
            refuse_root()?;
            if let Some(change) = change {
                change.apply(&mut local)?;
            }
            can_run(&local)?;
            service::keeper(local.config, &local.paths, Until::Stopped)
        }
    };
    drop(claim);
    outcome
}

/// A node that was dropped, or never created, does not become one by running.
fn can_run(local: &Local) -> Result<(), Failure> {
    let failure = |text: &str| {
        Failure::fatal(ExitCode::BadState, text)
            .coded("node-dropped")
            .hint("`pg_autoctl create postgres` makes it a node of its formation")
    };
    match services::read_state(&local.paths.state)? {
        Some(state) if state.dropped => Err(failure("This node has been dropped from the monitor")),
        Some(_) => Ok(()),
        None if local.paths.init.exists() => Ok(()),
        None => Err(failure(
            "This node has not been created, or has been dropped",
        )),
    }
}

/// Postgres refuses to run as root: better said before anything is started.
///
/// # Errors
/// Exit code 1.
pub(crate) fn refuse_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Err(
            Failure::fatal(ExitCode::BadArgs, "Postgres does not run as root")
                .coded("run-as-root")
                .hint("run pg_autoctl as an unprivileged user, mostly `postgres`"),
        );
    }
    Ok(())
}
