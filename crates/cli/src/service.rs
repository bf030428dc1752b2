//! Runs a monitor or a keeper in this process: one process per node.
//!
//! Owns the pid file, signals and reloads around the libraries. SIGTERM and SIGINT stop, SIGQUIT
//! stops at once, SIGHUP reads the configuration again, SIGUSR2 executes the installed program in place.

use std::path::PathBuf;

use pgaf_keeper::{Ended, KeeperConfig, Shutdown, Until};
use pgaf_monitor::MonitorConfig;
use pgaf_protocol::API_VERSION;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::commands::{block_on, version};
use crate::config::{Config, Role};
use crate::error::{ExitCode, Failure};
use crate::paths::Paths;
use crate::pidfile::{Claim, ClaimError, PidFile};
use crate::{joining, services, target, upgrade};

/// Reloads that may wait: each is a whole configuration, and the last one counts.
const RELOAD_QUEUE: usize = 8;

/// Takes the pid file of a data directory.
///
/// # Errors
/// `running` when another service has it; exit code 12 when it cannot be written.
pub(crate) fn claim(paths: &Paths, role: Role, running: ExitCode) -> Result<Claim, Failure> {
    let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let parts: &[&str] = match role {
        Role::Keeper => &["postgres", "node-active"],
        Role::Monitor => &["listener"],
    };
    let contents = PidFile {
        pid,
        pgdata: paths.pgdata.display().to_string(),
        version: version::VERSION.to_owned(),
        extension: API_VERSION.to_owned(),
        semaphore: 0,
        services: parts.iter().map(|name| (pid, (*name).to_owned())).collect(),
    };
    Claim::take(&paths.pid, &contents).map_err(|error| match error {
        ClaimError::Running(_) => Failure::fatal(running, &error)
            .coded("service-running")
            .hint(format!(
                "`pg_autoctl stop --pgdata {}` stops it",
                paths.pgdata.display()
            )),
        ClaimError::Write { .. } => {
            Failure::fatal(ExitCode::Internal, "Failed to create the pid file").because(&error)
        }
    })
}

/// The signals of a service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    upgrade: Signal,
}

/// What a signal asks for.
enum Asked {
    Stop(Shutdown),
    Reload,
    Upgrade,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::fatal(ExitCode::Internal, "cannot listen to signals").because(&error)
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            hangup: listen(SignalKind::hangup())?,
            upgrade: listen(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop(Shutdown::Fast),
            _ = self.interrupt.recv() => Asked::Stop(Shutdown::Fast),
            _ = self.quit.recv() => Asked::Stop(Shutdown::Immediate),
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.upgrade.recv() => Asked::Upgrade,
        }
    }
}

/// The program that is to take over, when it can be executed; otherwise the service goes on.
fn next_program() -> Option<PathBuf> {
    let Some(program) = upgrade::program() else {
        tracing::error!("cannot tell which program to execute: going on as it was");
        return None;
    };
    match upgrade::refusal(&program) {
        None => Some(program),
        Some(why) => {
            tracing::error!("going on with the program as it was: {why}");
            None
        }
    }
}

/// Reads the configuration again after SIGHUP; a broken one changes nothing.
fn reread<T>(paths: &Paths, read: impl Fn(&Config, &Paths) -> Result<T, Failure>) -> Option<T> {
    tracing::info!(
        "Reloading configuration from \"{}\"",
        paths.config.display()
    );
    match target::read_config(paths).and_then(|config| read(&config, paths)) {
        Ok(config) => Some(config),
        Err(failure) => {
            failure.report();
            tracing::warn!("going on with the configuration as it was");
            None
        }
    }
}

/// Serves a monitor until it is told to stop.
///
/// # Errors
/// What the monitor cannot go on with, as an exit code.
pub(crate) fn monitor(config: MonitorConfig, paths: &Paths) -> Result<(), Failure> {
    let next = serve_monitor(config, paths)?;
    next.map_or(Ok(()), |program| {
        Err(upgrade::take_over(&program, &paths.pgdata))
    })
}

/// Answers which program takes over, if one does.
fn serve_monitor(config: MonitorConfig, paths: &Paths) -> Result<Option<PathBuf>, Failure> {
    block_on(async {
        let mut signals = Signals::new()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (reload, reloads) = mpsc::channel(RELOAD_QUEUE);
        let shutdown = async move { drop(stopped.await) };
        let serving = pgaf_monitor::run(config, shutdown, reloads);
        tokio::pin!(serving);
        let mut stop = Some(stop);
        let mut next = None;
        loop {
            tokio::select! {
                ended = &mut serving => {
                    ended.map_err(|error| services::monitor_failure(&error))?;
                    tracing::info!("Stop pg_autoctl");
                    return Ok(next);
                }
                asked = signals.next() => match asked {
                    Asked::Stop(_) => {
                        next = None;
                        drop(stop.take());
                    }
                    Asked::Upgrade => {
                        next = next_program();
                        if next.is_some() {
                            drop(stop.take());
                        }
                    }
                    Asked::Reload => {
                        if let Some(config) = reread(paths, services::monitor_config) {
                            drop(reload.try_send(config));
                        }
                    }
                },
            }
        }
    })
}

/// Registers a keeper's node when that is not done yet, then runs it.
///
/// # Errors
/// What the keeper cannot go on with, as an exit code.
pub(crate) fn keeper(config: Config, paths: &Paths, until: Until) -> Result<(), Failure> {
    let next = serve_keeper(config, paths, until)?;
    next.map_or(Ok(()), |program| {
        Err(upgrade::take_over(&program, &paths.pgdata))
    })
}

/// Answers which program takes over, if one does.
fn serve_keeper(
    mut config: Config,
    paths: &Paths,
    until: Until,
) -> Result<Option<PathBuf>, Failure> {
    block_on(async {
        let signals = Signals::new()?;
        let (stop, stopped) = watch::channel(Shutdown::No);
        let (reload, reloads) = mpsc::channel(RELOAD_QUEUE);
        let work = async {
            let joining = joining::read(&paths.init)?;
            let registered = pgaf_keeper::create(
                &services::keeper_config(&config, paths)?,
                &joining,
                stopped.clone(),
            )
            .await
            .map_err(|error| services::keeper_failure(&error))?;
            config.put("pg_autoctl", "name", registered.name.as_str());
            config.put("pg_autoctl", "group", registered.group.to_string());
            config.write(&paths.config).map_err(|error| {
                Failure::bad_config("the node's name and group were not stored").because(&error)
            })?;
            joining::forget(&paths.init);
            let config = services::keeper_config(&config, paths)?;
            pgaf_keeper::run(config, until, stopped.clone(), reloads)
                .await
                .map_err(|error| services::keeper_failure(&error))
        };
        let mut next = None;
        let ended = beside(work, signals, &stop, &reload, (paths, &mut next)).await?;
        match ended {
            Ended::HandedOver => return Ok(next),
            Ended::Stopped => tracing::info!("Stop pg_autoctl"),
            Ended::Initialized => {
                tracing::info!("keeper has been successfully initialized.");
                tracing::info!("Stop pg_autoctl");
            }
            Ended::Dropped => {
                tracing::info!("This node has been dropped from the monitor, stop pg_autoctl");
            }
        }
        Ok(None)
    })
}

/// Runs a keeper's work, and passes signals on to it.
async fn beside(
    work: impl Future<Output = Result<Ended, Failure>>,
    mut signals: Signals,
    stop: &watch::Sender<Shutdown>,
    reload: &mpsc::Sender<KeeperConfig>,
    (paths, next): (&Paths, &mut Option<PathBuf>),
) -> Result<Ended, Failure> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            ended = &mut work => return ended,
            asked = signals.next() => match asked {
                Asked::Stop(how) => {
                    // A second, more urgent wish replaces the first.
                    stop.send_replace(how);
                }
                Asked::Upgrade => {
                    *next = next_program();
                    if next.is_some() {
                        stop.send_if_modified(|now| {
                            let first = *now == Shutdown::No;
                            if first {
                                *now = Shutdown::HandOver;
                            }
                            first
                        });
                    }
                }
                Asked::Reload => {
                    if let Some(config) = reread(paths, services::keeper_config)
                        && reload.try_send(config).is_err()
                    {
                        tracing::warn!("the keeper is busy: send SIGHUP again");
                    }
                }
            },
        }
    }
}
