//! What this machine says about its node without asking anybody: the keeper's state file, the
//! control file, `postmaster.pid`.
//!
//! Owns reading; must never change a file.

use std::path::Path;

use pgaf_postgres::control::{self, Control, ControlData};
use pgaf_postgres::locate::Installation;
use pgaf_postgres::postmaster::{self, Phase};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{ExitCode, Failure};
use crate::services;
use crate::target::{DEFAULT_PORT, Local};

pub(crate) use services::LocalState;

/// Reads the state file of a node.
///
/// # Errors
/// Exit code 3 when it is absent or cannot be used.
pub(crate) fn read(path: &Path) -> Result<LocalState, Failure> {
    services::read_state(path)?.ok_or_else(|| {
        Failure::error(
            ExitCode::BadState,
            format!(
                "Failed to read the state file \"{}\": it does not exist",
                path.display()
            ),
        )
        .hint("the node has not been created, or was dropped")
    })
}

/// Timeline and LSN of the local copy, from its control file; zeros when that is not known.
pub(crate) async fn position(node: &Local) -> (u32, String) {
    match setup(&node.config, &node.paths.pgdata).await.control {
        Some(control) => (control.timeline.0, control.checkpoint.to_string()),
        None => (0, "0/0".to_owned()),
    }
}

/// The local Postgres, as far as files show it.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The data directory.
    pub(crate) pgdata: String,
    /// `pg_ctl`, and its version as `15.18`.
    pub(crate) pg_ctl: String,
    /// Empty when the program does not run.
    pub(crate) version: String,
    /// Socket directory or host of local connections.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// Port of the proxy, 0 for none.
    pub(crate) proxyport: i64,
    /// The postmaster, when it lives.
    pub(crate) pid: Option<i32>,
    /// `standby.signal` or `recovery.signal` is there.
    pub(crate) in_recovery: bool,
    /// The control file.
    pub(crate) control: Option<ControlData>,
    /// Last line of `postmaster.pid`.
    pub(crate) status: &'static str,
}

/// Looks at the local Postgres.
pub(crate) async fn setup(config: &Config, pgdata: &Path) -> Setup {
    let pg_ctl = config
        .text("postgresql", "pg_ctl")
        .unwrap_or_default()
        .to_owned();
    let installation = match pg_ctl.as_str() {
        "" => None,
        path => Installation::at(Path::new(path)).await.ok(),
    };
    let running = postmaster::PidFile::read(pgdata)
        .ok()
        .flatten()
        .filter(|file| alive(file.pid));
    let control = match &installation {
        Some(postgres) => control::read(postgres, pgdata)
            .await
            .ok()
            .and_then(Control::present),
        None => None,
    };
    let socket = running
        .as_ref()
        .and_then(|file| file.socket_directory.as_deref());
    let host = config.text("postgresql", "host").map(str::to_owned);
    Setup {
        pgdata: pgdata.display().to_string(),
        version: installation
            .map(|found| found.version.to_string())
            .unwrap_or_default(),
        pg_ctl,
        host: host
            .or_else(|| socket.map(|path| path.display().to_string()))
            .unwrap_or_default(),
        port: running
            .as_ref()
            .map(|file| file.port)
            .or(config.port())
            .unwrap_or(DEFAULT_PORT),
        proxyport: proxy_port(config),
        pid: running.as_ref().map(|file| file.pid),
        in_recovery: pgdata.join("standby.signal").exists()
            || pgdata.join("recovery.signal").exists(),
        control,
        status: running
            .and_then(|file| file.phase)
            .map_or("unknown", phase_name),
    }
}

fn proxy_port(config: &Config) -> i64 {
    match config.role() {
        crate::config::Role::Keeper => config.number("postgresql", "proxyport").unwrap_or(0),
        crate::config::Role::Monitor => 0,
    }
}

fn alive(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Stopping => "stopping",
        Phase::Ready => "ready",
        Phase::Standby => "standby",
    }
}

impl Setup {
    /// Whether Postgres answers.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.status, "ready" | "standby")
    }

    /// The object of the old program; `with_control` as its `config check`, else zeros as its
    /// `status`.
    pub(crate) fn to_json(&self, with_control: bool) -> Value {
        let control = self.control.as_ref().filter(|_| with_control);
        json!({
            "pgdata": self.pgdata,
            "pg_ctl": self.pg_ctl,
            "version": self.version,
            "host": self.host,
            "port": self.port,
            "proxyport": self.proxyport,
            "pid": self.pid.unwrap_or(0),
            "in_recovery": self.in_recovery,
            "control": {
                "version": control.map_or(0, |control| control.control_version),
                "catalog_version": control.map_or(0, |control| control.catalog_version),
                "system_identifier":
                    control.map_or(0, |control| control.system_identifier).to_string(),
            },
            "postmaster": { "status": self.status },
        })
    }
}
