//! The Postgres configuration files that we write.
//!
//! Owns `postgresql-auto-failover.conf` (defaults, included first), `postgresql-auto-failover-enforced.conf`
//! (included last), their two include lines, and our settings in `postgresql.auto.conf`. It must
//! never change another byte of the user's files.

mod auto;
mod edit;
mod render;
mod scan;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgaf_protocol::{NodeId, SyncConfig};

use crate::conninfo::Conninfo;
use crate::durable::{self, DurableError};

pub use auto::{AutoEntry, auto_entries, remove_auto_entries};

/// Our defaults, which the user's settings override.
pub const DEFAULTS_FILE: &str = "postgresql-auto-failover.conf";

/// What we enforce, after everything else in `postgresql.conf`.
pub const ENFORCED_FILE: &str = "postgresql-auto-failover-enforced.conf";

/// The old program's snippet for standbys: emptied on adoption, never written by us.
pub const OLD_STANDBY_FILE: &str = "postgresql-auto-failover-standby.conf";

/// The name that nobody has: standbys run with it, so that no commit slips through in the first
/// moment after a promotion (`safety.md` §2.7).
pub const NOBODY: &str = "pgautofailover_nobody";

/// Settings that we own in `postgresql.auto.conf`: what the enforced file sets and what the old
/// program left there by `ALTER SYSTEM` (`default_transaction_read_only`).
pub const OWNED: [&str; 30] = [
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "wal_level",
    "wal_log_hints",
    "hot_standby",
    "hot_standby_feedback",
    "max_wal_senders",
    "max_replication_slots",
    "wal_retrieve_retry_interval",
    "wal_receiver_status_interval",
    "wal_receiver_timeout",
    "wal_sender_timeout",
    "synchronous_commit",
    "password_encryption",
    "ssl",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "synchronous_standby_names",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target_timeline",
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "default_transaction_read_only",
];

/// The value of `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandbyNames {
    /// `''`: asynchronous.
    Empty,
    /// A name nobody has: commits wait. What standbys run with.
    Nobody,
    /// `ANY number (names)`.
    Any {
        /// How many must have flushed.
        number: u32,
        /// `application_name`s.
        names: Vec<String>,
    },
}

impl From<&SyncConfig> for StandbyNames {
    fn from(config: &SyncConfig) -> Self {
        if config.is_asynchronous() {
            return Self::Empty;
        }
        let names = config
            .nodes()
            .into_iter()
            .map(NodeId::standby_name)
            .collect();
        Self::Any {
            number: config.number,
            names,
        }
    }
}

impl StandbyNames {
    /// The value of the setting.
    #[must_use]
    pub fn to_setting(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Nobody => NOBODY.to_owned(),
            Self::Any { number, names } => format!("ANY {number} ({})", names.join(", ")),
        }
    }
}

/// Upstream of a standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `primary_conninfo`; its `application_name` is set by us to the slot's name.
    pub conninfo: Conninfo,
    /// `primary_slot_name`.
    pub slot: String,
}

/// The part of replication that differs between roles.
#[expect(
    clippy::large_enum_variant,
    reason = "one value for each node, never in a list"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// A primary: no upstream.
    Primary,
    /// A standby that follows.
    Follow(Upstream),
    /// A standby that has promised: takes no WAL from anywhere (`safety.md` §4.2).
    Promise,
    /// A standby without an upstream for now; `restore_command` stays the user's.
    Detached,
}

/// TLS of the local Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SslFiles {
    /// `ssl_cert_file`.
    pub cert: Option<PathBuf>,
    /// `ssl_key_file`.
    pub key: Option<PathBuf>,
    /// `ssl_ca_file`.
    pub ca: Option<PathBuf>,
    /// `ssl_crl_file`.
    pub crl: Option<PathBuf>,
}

/// What a node of a Citus formation is set to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CitusSettings {
    /// `citus.node_conninfo`: how nodes reach each other, beyond host and port.
    pub node_conninfo: String,
    /// `citus.local_hostname`: how the node reaches itself.
    pub local_hostname: String,
    /// `citus.cluster_name` of a read replica, which then reads from its own cluster only.
    pub replica_of: Option<String>,
}

/// What we enforce, whole: the file is rebuilt from this each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// `listen_addresses`.
    pub listen_addresses: String,
    /// `port`.
    pub port: u16,
    /// `unix_socket_directories`, when it is not Postgres' own choice.
    pub socket_dir: Option<String>,
    /// TLS; `None` writes `ssl = off`.
    pub ssl: Option<SslFiles>,
    /// The `--auth` method, which decides `password_encryption`.
    pub auth_method: String,
    /// `synchronous_standby_names`.
    pub names: StandbyNames,
    /// Upstream.
    pub replication: Replication,
    /// `wal_receiver_timeout`: twice `unhealthy_timeout`.
    pub receiver_timeout: Duration,
    /// `wal_level = logical` (Citus); a user's own `logical` stays in any case.
    pub logical: bool,
    /// A node of a Citus formation.
    pub citus: Option<CitusSettings>,
    /// Major version of Postgres: which settings exist.
    pub major: u32,
}

/// What we merely suggest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Memory of the host, in bytes.
    pub memory_bytes: u64,
    /// CPUs of the host.
    pub cpus: u32,
    /// Size of the filesystem that holds the WAL, in bytes.
    pub disk_bytes: u64,
    /// Whether the library `pg_stat_statements` is installed.
    pub stat_statements: bool,
    /// Whether TLS is on: then the old program's list of ciphers is suggested.
    pub ssl: bool,
    /// Major version of Postgres.
    pub major: u32,
}

impl Defaults {
    /// Looks at this host. What cannot be found out is taken as small.
    #[must_use]
    pub fn of_host(pgdata: &Path, major: u32, stat_statements: bool, ssl: bool) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let disk = rustix::fs::statvfs(pgdata).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
        Self {
            memory_bytes: memory(),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            disk_bytes: disk,
            stat_statements,
            ssl,
            major,
        }
    }
}

/// The host's memory, or what the control group that we run in may use of it. 1 GiB when unknown.
fn memory() -> u64 {
    let number = |path: &str| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let host = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
    // Version 2, then version 1, of control groups, as a container sees its own.
    let group = number("/sys/fs/cgroup/memory.max")
        .or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let host = host.map_or(1 << 30, |kb| kb.saturating_mul(1024));
    group.map_or(host, |limit| limit.min(host))
}

/// Why a configuration file is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] DurableError),
    /// The configuration lives outside of the data directory (Debian's `/etc/postgresql`).
    #[error(
        "`{pgdata}` has no postgresql.conf: a configuration outside of the data directory is not supported"
    )]
    OutsideDataDirectory {
        /// The data directory.
        pgdata: PathBuf,
    },
}

/// Writes both files and the include lines, durably; answers whether anything changed.
///
/// The old program's standby snippet, if there is one, is emptied: what it held is enforced, and a
/// `recovery_target_lsn` in it must not survive.
///
/// # Errors
/// [`ConfError`].
pub fn install(pgdata: &Path, defaults: &Defaults, enforced: &Enforced) -> Result<bool, ConfError> {
    let main = main_file(pgdata)?;
    let mut changed = write_if_changed(&pgdata.join(DEFAULTS_FILE), &render::defaults(defaults))?;
    changed |= write_enforced(pgdata, enforced)?;
    let old = pgdata.join(OLD_STANDBY_FILE);
    if old.exists() {
        changed |= write_if_changed(&old, render::HEADER)?;
    }
    let text = latin1(&read_bytes(&main)?);
    if let Some(edited) = edit::with_includes(&text) {
        let bytes: Vec<u8> = edited
            .chars()
            .filter_map(|c| u8::try_from(c).ok())
            .collect();
        durable::write_file(&main, &bytes, mode(&main))?;
        changed = true;
    }
    Ok(changed)
}

/// Writes only the enforced file, durably; answers whether it changed.
///
/// # Errors
/// [`ConfError`].
pub fn write_enforced(pgdata: &Path, enforced: &Enforced) -> Result<bool, ConfError> {
    let users = scan::user_settings(pgdata)?;
    write_if_changed(
        &pgdata.join(ENFORCED_FILE),
        &render::enforced(enforced, &users),
    )
}

/// Creates or removes `standby.signal`, durably; answers whether that changed anything.
///
/// # Errors
/// [`ConfError`].
pub fn set_standby_signal(pgdata: &Path, present: bool) -> Result<bool, ConfError> {
    let path = pgdata.join("standby.signal");
    if path.exists() == present {
        return Ok(false);
    }
    if present {
        durable::write_file(&path, b"", 0o600)?;
    } else {
        durable::remove_file(&path)?;
    }
    Ok(true)
}

fn main_file(pgdata: &Path) -> Result<PathBuf, ConfError> {
    let main = pgdata.join("postgresql.conf");
    if !main.exists() {
        return Err(ConfError::OutsideDataDirectory {
            pgdata: pgdata.to_owned(),
        });
    }
    // A link to the real file stays a link.
    main.canonicalize()
        .map_err(|source| ConfError::Read { path: main, source })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfError> {
    std::fs::read(path).map_err(|source| ConfError::Read {
        path: path.to_owned(),
        source,
    })
}

/// For reading: a comment may be in any encoding.
fn read(path: &Path) -> Result<String, ConfError> {
    Ok(String::from_utf8_lossy(&read_bytes(path)?).into_owned())
}

/// For editing: each byte is a character, so that every byte survives.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).map_or(0o600, |m| m.permissions().mode() & 0o777)
}

/// The file may hold a password: nobody else reads it.
fn write_if_changed(path: &Path, text: &str) -> Result<bool, ConfError> {
    if std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(false);
    }
    durable::write_file(path, text.as_bytes(), 0o600)?;
    Ok(true)
}
