//! The border to the libraries that do the work: monitor and keeper.
//!
//! Owns the translation of a configuration file into theirs, and of their errors into exit codes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgaf_fsm::node::Journal;
use pgaf_keeper::{HbaLevel, KeeperConfig, KeeperError};
use pgaf_monitor::sql::{AuthMethod, AuthMethodError};
use pgaf_monitor::{CreateError, ListenError, MonitorConfig, StartError, Tls};
use pgaf_postgres::conf::SslFiles;
use pgaf_postgres::conninfo::{Conninfo, Secret, SslMode};
use pgaf_protocol::{FormationId, NodeKind, NodeState};
use serde::Deserialize;

use crate::config::{Config, MONITOR_DISABLED};
use crate::error::{ExitCode, Failure};
use crate::hostname;
use crate::paths::Paths;
use crate::target::{DEFAULT_FORMATION, DEFAULT_PORT};

/// How long a fast stop of Postgres may take before it becomes an immediate one. Chosen: `pg_ctl`
/// waits 60 s, container runtimes kill after 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Failed starts in a row when the configuration says nothing. Source: the old program.
const FAILED_STARTS: u32 = 3;

/// The keeper's journal file, read only: the keeper owns its form.
#[derive(Deserialize)]
struct StateFile {
    journal: Journal,
}

/// What the state file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalState {
    /// The node's id; 0 before it is registered.
    pub(crate) node: i64,
    /// Its group.
    pub(crate) group: i64,
    /// What it reports.
    pub(crate) current: String,
    /// What it was told.
    pub(crate) assigned: String,
    /// It was dropped: only `create` makes it a node again.
    pub(crate) dropped: bool,
}

/// Reads a state file; `None` when there is none.
///
/// # Errors
/// Exit code 3 when it cannot be read.
pub(crate) fn read_state(path: &Path) -> Result<Option<LocalState>, Failure> {
    let failure = || {
        Failure::error(
            ExitCode::BadState,
            format!("Failed to read the state file \"{}\"", path.display()),
        )
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure().because(&error)),
    };
    if text.first() != Some(&b'{') {
        return Err(failure().hint("a state file of the old program is not read by this one"));
    }
    let StateFile { journal } =
        serde_json::from_slice(&text).map_err(|error| failure().because(&error))?;
    let told = journal
        .goal
        .as_ref()
        .map_or(journal.state, |goal| goal.state);
    Ok(Some(LocalState {
        node: journal.node.0,
        group: i64::from(journal.group.0),
        current: if journal.dropped {
            NodeState::Dropped
        } else {
            journal.state
        }
        .label()
        .to_owned(),
        assigned: if journal.dropped {
            NodeState::Dropped
        } else {
            told
        }
        .label()
        .to_owned(),
        dropped: journal.dropped,
    }))
}

fn ssl_path(config: &Config, key: &str) -> Option<PathBuf> {
    config.text("ssl", key).map(PathBuf::from)
}

fn ssl_mode(config: &Config) -> SslMode {
    match config.text("ssl", "sslmode") {
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(_) | None => SslMode::Prefer,
    }
}

/// The monitor's configuration, as its library wants it.
///
/// # Errors
/// Exit code 2.
pub(crate) fn monitor_config(config: &Config, paths: &Paths) -> Result<MonitorConfig, Failure> {
    let hostname = config.text("pg_autoctl", "hostname").ok_or_else(|| {
        Failure::bad_config("the configuration names no host in pg_autoctl.hostname")
    })?;
    let port = config.port().unwrap_or(DEFAULT_PORT);
    let mut result = MonitorConfig::new(&paths.pgdata, hostname, port);
    if let Some(addresses) = config.text("postgresql", "listen_addresses") {
        addresses.clone_into(&mut result.listen_addresses);
    }
    result.socket_directory = socket_directory(config, paths);
    result.auth = monitor_auth(config.text("postgresql", "auth_method").unwrap_or("trust"))?;
    result.tls = monitor_tls(config, paths);
    result.require_tls = config.switch("ssl", "active") && ssl_mode(config) >= SslMode::Require;
    result.settings = config.settings();
    Ok(result)
}

/// The longest path of a Unix socket. Source: unix(7), `sun_path` without its final zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// The Unix socket of a monitor, named as Postgres names it.
pub(crate) fn monitor_socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

/// Where a monitor's Unix socket is: `postgresql.host` when it is a directory, else the monitor's
/// own directory, which only its owner can enter. None when the path is too long for a socket.
pub(crate) fn socket_directory(config: &Config, paths: &Paths) -> Option<PathBuf> {
    let named = config
        .text("postgresql", "host")
        .filter(|host| host.starts_with('/'));
    let folder = named.map_or_else(|| paths.pgdata.clone(), PathBuf::from);
    let socket = monitor_socket(&folder, config.port().unwrap_or(DEFAULT_PORT));
    (socket.as_os_str().len() <= SOCKET_PATH_LIMIT).then_some(folder)
}

/// `--auth` of a monitor. `skip` leaves the rules to the operator: our monitor has none to skip,
/// and admits as `trust` does.
///
/// # Errors
/// Exit code 2 for a method that the monitor does not have.
pub(crate) fn monitor_auth(method: &str) -> Result<AuthMethod, Failure> {
    if method == "skip" {
        return Ok(AuthMethod::Trust);
    }
    match AuthMethod::parse(method) {
        Ok(auth) => Ok(auth),
        Err(error @ AuthMethodError::UseScram(_)) => {
            tracing::warn!("{error}: going on with scram-sha-256");
            Ok(AuthMethod::Scram)
        }
        Err(error @ AuthMethodError::Unknown(_)) => {
            Err(Failure::bad_config("this --auth is not for a monitor").because(&error))
        }
    }
}

fn monitor_tls(config: &Config, paths: &Paths) -> Tls {
    if !config.switch("ssl", "active") {
        return Tls::Off;
    }
    let own = (
        paths.pgdata.join("server.crt"),
        paths.pgdata.join("server.key"),
    );
    match (ssl_path(config, "cert_file"), ssl_path(config, "key_file")) {
        (Some(cert), Some(key)) if (cert.as_path(), key.as_path()) != (&own.0, &own.1) => {
            Tls::Files {
                cert,
                key,
                ca: ssl_path(config, "ca_file"),
                crl: ssl_path(config, "crl_file"),
            }
        }
        (_, _) => Tls::SelfSigned,
    }
}

/// A keeper's configuration, as its library wants it.
///
/// # Errors
/// Exit code 2.
pub(crate) fn keeper_config(config: &Config, paths: &Paths) -> Result<KeeperConfig, Failure> {
    let text = |section, key| config.text(section, key).map(str::to_owned);
    let missing = |key| Failure::bad_config(format!("the configuration has no {key}"));
    let monitor = match config.text("pg_autoctl", "monitor") {
        Some(MONITOR_DISABLED) | None => None,
        Some(uri) => Some(Conninfo::parse(uri).map_err(|error| {
            Failure::bad_config("pg_autoctl.monitor in the configuration cannot be used")
                .because(&error)
        })?),
    };
    let kind = match config.text("pg_autoctl", "nodekind") {
        Some("coordinator") => NodeKind::Coordinator,
        Some("worker") => NodeKind::Worker,
        Some(_) | None => NodeKind::Standalone,
    };
    let ssl = config.switch("ssl", "active").then(|| SslFiles {
        cert: ssl_path(config, "cert_file"),
        key: ssl_path(config, "key_file"),
        ca: ssl_path(config, "ca_file"),
        crl: ssl_path(config, "crl_file"),
    });
    let auth = text("postgresql", "auth_method").unwrap_or_else(|| "trust".to_owned());
    Ok(KeeperConfig {
        pgdata: paths.pgdata.clone(),
        journal: paths.state.clone(),
        monitor,
        formation: FormationId::from(
            config
                .text("pg_autoctl", "formation")
                .unwrap_or(DEFAULT_FORMATION),
        ),
        name: text("pg_autoctl", "name").unwrap_or_default(),
        host: text("pg_autoctl", "hostname").ok_or_else(|| missing("pg_autoctl.hostname"))?,
        kind,
        cluster: text("citus", "cluster_name").unwrap_or_else(|| "default".to_owned()),
        pg_ctl: text("postgresql", "pg_ctl")
            .map(PathBuf::from)
            .ok_or_else(|| missing("postgresql.pg_ctl"))?,
        socket_dir: text("postgresql", "host")
            .filter(|host| host.starts_with('/'))
            .map(PathBuf::from),
        port: config.port().unwrap_or(DEFAULT_PORT),
        listen_addresses: text("postgresql", "listen_addresses").unwrap_or_else(|| "*".to_owned()),
        username: text("postgresql", "username"),
        dbname: text("postgresql", "dbname").unwrap_or_else(|| "postgres".to_owned()),
        hba_level: hba_level(config, &auth),
        auth_method: auth,
        lan: lan(config),
        sslmode: ssl_mode(config),
        ssl,
        replication_password: text("replication", "password").map(Secret::new),
        maximum_backup_rate: text("replication", "maximum_backup_rate"),
        backup_directory: text("replication", "backup_directory").map(PathBuf::from),
        max_failed_starts: config
            .number("timeout", "postgresql_restart_failure_max_retries")
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(FAILED_STARTS),
        stop_limit: STOP_LIMIT,
        fencer: fencer_command(&paths.pgdata),
    })
}

/// This very program, also after its file was replaced: it guards the data directory.
fn fencer_command(pgdata: &Path) -> Vec<String> {
    let words = ["/proc/self/exe", "do", "fencer", "--pgdata"];
    let mut command: Vec<String> = words.into_iter().map(str::to_owned).collect();
    command.push(pgdata.display().to_string());
    command
}

/// The local network, where it is admitted: by the user's choice, and in a Citus formation, whose nodes
/// reach each other across their groups.
fn lan(config: &Config) -> Option<String> {
    let chosen = config.text("postgresql", "hba_level") == Some("app");
    let kind = config.text("pg_autoctl", "nodekind");
    if !chosen && kind.is_none_or(|kind| kind == NodeKind::Standalone.label()) {
        return None;
    }
    let conninfo = Conninfo::parse(config.text("pg_autoctl", "monitor")?).ok()?;
    let server = conninfo.endpoints.first()?;
    let port = server.port.unwrap_or(DEFAULT_PORT);
    let address = hostname::address_towards(server.host.as_deref()?, port)?;
    hostname::network_of(address)
}

fn hba_level(config: &Config, auth: &str) -> HbaLevel {
    match config.text("postgresql", "hba_level") {
        _ if auth == "skip" => HbaLevel::Skip,
        Some("skip") => HbaLevel::Skip,
        Some("app") => HbaLevel::App,
        Some(_) | None => HbaLevel::Minimal,
    }
}

/// What a keeper's end means for the user.
pub(crate) fn keeper_failure(error: &KeeperError) -> Failure {
    let failure = |code, hint: &str| {
        let failure = Failure::fatal(code, "the keeper cannot go on").because(error);
        if hint.is_empty() {
            failure
        } else {
            failure.hint(hint)
        }
    };
    match error {
        KeeperError::Journal { .. } => failure(
            ExitCode::BadState,
            "the state file belongs to this data directory; a backup of another one is of no use",
        ),
        KeeperError::NotCreated { .. } => {
            failure(ExitCode::BadState, "run `pg_autoctl create postgres` first")
        }
        KeeperError::Installation { .. } => failure(
            ExitCode::PgCtl,
            "set PG_CONFIG, use --pgctl, or `pg_autoctl config set postgresql.pg_ctl`",
        ),
        KeeperError::DataDirectory { .. } => failure(ExitCode::PgCtl, ""),
        KeeperError::Refused { hint, .. } => {
            failure(ExitCode::Monitor, hint.as_deref().unwrap_or_default())
        }
        KeeperError::Monitor(_) => failure(
            ExitCode::Monitor,
            "check the connection string in pg_autoctl.monitor, and the password in PGPASSWORD or ~/.pgpass",
        ),
        KeeperError::NoMonitor => failure(
            ExitCode::BadConfig,
            "use --monitor, or set PG_AUTOCTL_MONITOR; nodes without a monitor are not built yet",
        ),
        KeeperError::Interrupted => Failure::silent(ExitCode::Quit),
        KeeperError::System { .. } => failure(ExitCode::Internal, ""),
    }
}

/// What a failed creation of a monitor means for the user.
pub(crate) fn create_failure(error: &CreateError) -> Failure {
    let failure = |code| Failure::fatal(code, "Failed to create the monitor").because(error);
    match error {
        CreateError::Directory { .. } => failure(ExitCode::BadConfig)
            .hint("check owner and permissions of the directory above, and free space"),
        CreateError::Occupied { .. } => failure(ExitCode::BadConfig)
            .hint("a monitor needs an empty directory of its own: it runs no Postgres"),
        CreateError::Store(_) => {
            failure(ExitCode::Internal).hint("check free space and permissions of the directory")
        }
        CreateError::Certificate(_) => failure(ExitCode::BadConfig)
            .hint("use --hostname with a name that a certificate can carry"),
    }
}

/// Why a monitor does not serve, for the user.
pub(crate) fn monitor_failure(error: &StartError) -> Failure {
    let failure = |code| Failure::fatal(code, "the monitor cannot run").because(error);
    match error {
        StartError::NotAMonitor(_) => {
            failure(ExitCode::BadConfig).hint("run `pg_autoctl create monitor` first")
        }
        StartError::Store(_) | StartError::Contents(_) => failure(ExitCode::Internal)
            .hint("check that no other monitor uses this directory, and its permissions"),
        StartError::Write(_) => failure(ExitCode::Internal)
            .hint("check free space, and that the file system is not read-only"),
        StartError::Listen(error) => listen_failure(error),
        StartError::Ended(_) => failure(ExitCode::Internal),
    }
}

fn listen_failure(error: &ListenError) -> Failure {
    let failure = Failure::fatal(ExitCode::Internal, "the monitor cannot listen").because(error);
    match error {
        ListenError::InUse { .. } => failure.coded("port-taken").hint(
            "stop that program, or choose another port with `pg_autoctl config set postgresql.port`",
        ),
        ListenError::Bind { .. } => failure.hint("check postgresql.listen_addresses and port"),
        ListenError::Certificate(_) | ListenError::Tls(_) => {
            failure.hint("check ssl.cert_file and ssl.key_file, and who may read them")
        }
    }
}
