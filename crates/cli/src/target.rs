//! Which monitor, formation, group and node a command is about.
//!
//! Owns the order of precedence: `--monitor`, then `PG_AUTOCTL_MONITOR`, then the configuration
//! file of the node or monitor at PGDATA. Never connects.

use std::path::Path;

use pgaf_postgres::conninfo::{Conninfo, SslMode};

use crate::config::{Config, MONITOR_DISABLED, Role};
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::paths::{self, Paths};
use crate::services;

/// Names the monitor for commands that are not run on a node.
pub(crate) const MONITOR_VARIABLE: &str = "PG_AUTOCTL_MONITOR";
/// The formation when none is named.
pub(crate) const DEFAULT_FORMATION: &str = "default";
/// Role and database of monitor connections. Source: the old program.
const MONITOR_USER: &str = "autoctl_node";
const MONITOR_DATABASE: &str = "pg_auto_failover";

/// A node or monitor on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// Its files.
    pub(crate) paths: Paths,
    /// Its configuration.
    pub(crate) config: Config,
}

impl Local {
    /// Reads the configuration of the node that the command is about.
    ///
    /// # Errors
    /// Exit code 1 without data directory or file, 2 when the file cannot be used.
    pub(crate) fn open(parsed: &Parsed) -> Result<Self, Failure> {
        let paths = paths::of_command(parsed.value("pgdata"))?;
        let config = read_config(&paths)?;
        Ok(Self { paths, config })
    }

    /// Whether this is a node that runs without a monitor.
    pub(crate) fn monitor_is_disabled(&self) -> bool {
        self.config.role() == Role::Keeper
            && self.config.text("pg_autoctl", "monitor") == Some(MONITOR_DISABLED)
    }

    /// The connection string of its monitor, as written or made.
    fn monitor_uri(&self) -> Result<String, Failure> {
        match self.config.role() {
            Role::Monitor => Ok(own_uri(&self.config)),
            Role::Keeper if self.monitor_is_disabled() => Err(Failure::bad_config(
                "Monitor is disabled in the configuration",
            )),
            Role::Keeper => self
                .config
                .text("pg_autoctl", "monitor")
                .map(str::to_owned)
                .ok_or_else(|| {
                    Failure::bad_config("the configuration names no monitor in pg_autoctl.monitor")
                }),
        }
    }
}

/// Reads a configuration file that must exist.
///
/// # Errors
/// Exit code 1 when it is absent, 2 when it cannot be used.
pub(crate) fn read_config(paths: &Paths) -> Result<Config, Failure> {
    if !paths.config.exists() {
        if !paths.pgdata.exists() {
            tracing::warn!(
                "The directory \"{}\" does not exist: is PGDATA right?",
                paths.pgdata.display()
            );
        }
        return Err(Failure::fatal(
            ExitCode::BadArgs,
            format!(
                "Expected configuration file does not exist: \"{}\"",
                paths.config.display()
            ),
        )
        .hint("give the data directory of a node or monitor with --pgdata, or create it first"));
    }
    Config::read(&paths.config)
        .map_err(|error| Failure::bad_config("the configuration cannot be used").because(&error))
}

/// The connection string of the monitor that this configuration describes.
pub(crate) fn own_uri(config: &Config) -> String {
    let host = config.text("pg_autoctl", "hostname").unwrap_or("localhost");
    let port = config.port().unwrap_or(DEFAULT_PORT);
    let mut uri = format!("postgres://{MONITOR_USER}@{host}:{port}/{MONITOR_DATABASE}");
    uri.push_str(&Ssl::of_config(config).query('?'));
    uri
}

/// A monitor on this machine is best asked through its Unix socket: no name, route, certificate
/// or firewall is in the way.
fn own_socket(local: &Local) -> Option<Conninfo> {
    if local.config.role() != Role::Monitor {
        return None;
    }
    let folder = services::socket_directory(&local.config, &local.paths)?;
    let port = local.config.port().unwrap_or(DEFAULT_PORT);
    let there = services::monitor_socket(&folder, port).exists();
    there.then(|| {
        let folder = folder.display().to_string();
        Conninfo::single(folder, port, MONITOR_USER, MONITOR_DATABASE)
    })
}

/// Postgres' port when none is configured.
pub(crate) const DEFAULT_PORT: u16 = 5432;

/// The part of a connection string that is about encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ssl {
    /// libpq's `sslmode`.
    pub(crate) mode: String,
    /// Root certificates, where the mode verifies.
    pub(crate) root: String,
    /// Revocation list, where the mode verifies.
    pub(crate) crl: String,
}

impl Ssl {
    fn of_config(config: &Config) -> Self {
        let text = |key| config.text("ssl", key).unwrap_or_default().to_owned();
        Self {
            mode: text("sslmode"),
            root: text("ca_file"),
            crl: text("crl_file"),
        }
    }

    fn of_uri(uri: &Conninfo) -> Self {
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_deref()
                .map(Path::to_string_lossy)
                .unwrap_or_default()
                .into_owned()
        };
        Self {
            mode: mode_name(uri.sslmode()).to_owned(),
            root: path(&uri.sslrootcert),
            crl: path(&uri.sslcrl),
        }
    }

    /// As a piece of a URI that starts with `first`; only modes that matter are written.
    fn query(&self, first: char) -> String {
        let mut text = String::new();
        if !self.mode.is_empty() {
            text.push_str(&format!("{first}sslmode={}", self.mode));
            if self.mode.starts_with("verify") {
                for (key, value) in [("sslrootcert", &self.root), ("sslcrl", &self.crl)] {
                    if !value.is_empty() {
                        text.push_str(&format!("&{key}={value}"));
                    }
                }
            }
        }
        text
    }
}

fn mode_name(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

/// The monitor of a command.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its connection string, as given; it may hold a password: for stdout of `show uri` and for
    /// connecting only.
    pub(crate) uri: String,
    /// The same, parsed.
    pub(crate) conninfo: Conninfo,
    /// The encryption that connection strings of formations get.
    pub(crate) ssl: Ssl,
    /// The node or monitor on this machine, when it named the monitor.
    pub(crate) local: Option<Local>,
    formation: Option<String>,
}

impl Target {
    /// Resolves the monitor.
    ///
    /// # Errors
    /// Exit code 1 when nothing names one, 2 when it is disabled.
    pub(crate) fn resolve(parsed: &Parsed) -> Result<Self, Failure> {
        let formation = parsed.value("formation").map(str::to_owned);
        let variable = std::env::var(MONITOR_VARIABLE)
            .ok()
            .filter(|uri| !uri.is_empty());
        if let Some(uri) = parsed.value("monitor").map(str::to_owned).or(variable) {
            let conninfo = parse_uri(&uri)?;
            if parsed.value("pgdata").is_some() {
                tracing::warn!("Given --monitor URI, the --pgdata option is ignored");
                tracing::info!("Connecting to monitor at \"{}\"", conninfo.redacted());
            }
            let ssl = Ssl::of_uri(&conninfo);
            return Ok(Self {
                uri,
                conninfo,
                ssl,
                local: None,
                formation,
            });
        }
        if !paths::names_pgdata(parsed.value("pgdata")) {
            tracing::error!(
                "Failed to get PG_AUTOCTL_MONITOR from the environment: the variable is not set"
            );
        }
        Self::of_local(Local::open(parsed)?, formation)
    }

    /// The monitor of a node on this machine.
    ///
    /// # Errors
    /// Exit code 2 when it is disabled or its connection string is wrong.
    pub(crate) fn of_local(local: Local, formation: Option<String>) -> Result<Self, Failure> {
        let uri = local.monitor_uri()?;
        let given = Conninfo::parse(&uri).map_err(|error| {
            Failure::bad_config("pg_autoctl.monitor in the configuration cannot be used")
                .because(&error)
        })?;
        let conninfo = own_socket(&local).unwrap_or(given);
        let ssl = Ssl::of_config(&local.config);
        Ok(Self {
            uri,
            conninfo,
            ssl,
            local: Some(local),
            formation,
        })
    }

    /// The node on this machine, when the command is about one.
    pub(crate) fn keeper(&self) -> Option<&Local> {
        self.local
            .as_ref()
            .filter(|local| local.config.role() == Role::Keeper)
    }

    /// `--formation`, else the node's own, else `default`.
    pub(crate) fn formation(&self) -> String {
        let own = || {
            self.keeper()
                .and_then(|local| local.config.text("pg_autoctl", "formation"))
        };
        self.formation
            .as_deref()
            .or_else(own)
            .unwrap_or(DEFAULT_FORMATION)
            .to_owned()
    }

    /// Whether `--formation` was given.
    pub(crate) fn named_formation(&self) -> Option<&str> {
        self.formation.as_deref()
    }
}

/// Reads a connection string that the user gave.
///
/// # Errors
/// Exit code 1.
pub(crate) fn parse_uri(uri: &str) -> Result<Conninfo, Failure> {
    Conninfo::parse(uri).map_err(|error| {
        Failure::fatal(
            ExitCode::BadArgs,
            "Failed to parse the --monitor connection string",
        )
        .because(&error)
        .hint("it looks like postgres://autoctl_node@host:5432/pg_auto_failover")
    })
}
