//! `stop` and `reload`: a signal to the service.

use nix::sys::signal::Signal;

use super::Context;
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::paths::{self, Paths};
use crate::pidfile::PidFile;

/// `stop`: signals the service and returns at once.
pub(crate) fn run(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let signal = stop_signal(parsed)?;
    let paths = paths::of_command(parsed.value("pgdata"))?;
    let service = running(&paths)?.ok_or_else(|| {
        Failure::fatal(
            ExitCode::Internal,
            format!(
                "Failed to read a running service in the pid file \"{}\"",
                paths.pid.display()
            ),
        )
        .coded("service-not-running")
        .hint("the service of this data directory does not run")
    })?;
    service.signal(signal).map_err(|error| {
        Failure::error(
            ExitCode::Internal,
            format!("Failed to send {signal} to pid {}", service.pid),
        )
        .because(&error)
    })?;
    tracing::debug!("sent {signal} to pid {}", service.pid);
    Ok(())
}

fn stop_signal(parsed: &Parsed) -> Result<Signal, Failure> {
    let fatal = |text| Failure::fatal(ExitCode::BadArgs, text);
    match (
        parsed.flag("fast"),
        parsed.flag("immediate"),
        parsed.flag("sigkill"),
    ) {
        (true, true, _) => Err(fatal("Please use either --fast or --immediate, not both")),
        (_, _, true) if std::env::var_os("PG_AUTOCTL_DEBUG").is_none() => Err(fatal(
            "--sigkill needs the environment variable PG_AUTOCTL_DEBUG",
        )),
        (_, _, true) => Ok(Signal::SIGKILL),
        (true, false, false) => Ok(Signal::SIGINT),
        (false, true, false) => Ok(Signal::SIGQUIT),
        (false, false, false) => Ok(Signal::SIGTERM),
    }
}

/// `reload`: signals the service, if there is one.
pub(crate) fn reload(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let paths = paths::of_command(parsed.value("pgdata"))?;
    signal_reload(&paths)
}

/// Tells a running service that its configuration changed; nothing happens without one.
///
/// # Errors
/// Exit code 12 when the pid file cannot be read.
pub(crate) fn signal_reload(paths: &Paths) -> Result<(), Failure> {
    if let Some(service) = running(paths)? {
        // It may have ended since: then there is nothing to tell.
        let _ = service.signal(Signal::SIGHUP);
    }
    Ok(())
}

/// The service of these paths, when it runs.
///
/// # Errors
/// Exit code 12 when the pid file cannot be read.
pub(crate) fn running(paths: &Paths) -> Result<Option<PidFile>, Failure> {
    PidFile::running(&paths.pid).map_err(|error| {
        Failure::error(
            ExitCode::Internal,
            format!("cannot read the pid file \"{}\"", paths.pid.display()),
        )
        .because(&error)
    })
}
