//! The Postgres configuration files that we write.
//!
//! Owns `postgresql-auto-failover.conf` (defaults, included first), `postgresql-auto-failover-enforced.conf`
//! (included last), their two include lines, and our settings in `postgresql.auto.conf`. It must
//! never change another byte of the user's files.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgaf_protocol::SyncConfig;

use crate::conninfo::Conninfo;

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
    fn from(_config: &SyncConfig) -> Self {
        todo!()
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
    /// Whether the library `pg_stat_statements` is installed.
    pub stat_statements: bool,
    /// Major version of Postgres.
    pub major: u32,
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
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The configuration lives outside of the data directory (Debian's `/etc/postgresql`).
    #[error(
        "`{pgdata}` has no postgresql.conf: a configuration outside of the data directory is not supported"
    )]
    OutsideDataDirectory {
        /// The data directory.
        pgdata: PathBuf,
    },
}

/// An entry of `postgresql.auto.conf` (`ALTER SYSTEM`) for a setting that we own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoEntry {
    /// The setting.
    pub name: String,
    /// Its value as written.
    pub value: String,
}

/// Writes both files and the include lines, durably; answers whether anything changed.
///
/// # Errors
/// [`ConfError`].
pub fn install(
    _pgdata: &Path,
    _defaults: &Defaults,
    _enforced: &Enforced,
) -> Result<bool, ConfError> {
    todo!()
}

/// Writes only the enforced file, durably; answers whether it changed.
///
/// # Errors
/// [`ConfError`].
pub fn write_enforced(_pgdata: &Path, _enforced: &Enforced) -> Result<bool, ConfError> {
    todo!()
}

/// Finds our settings in `postgresql.auto.conf`.
///
/// # Errors
/// [`ConfError`].
pub fn auto_entries(_pgdata: &Path) -> Result<Vec<AutoEntry>, ConfError> {
    todo!()
}

/// Removes our settings from `postgresql.auto.conf`; only while Postgres is down.
///
/// # Errors
/// [`ConfError`].
pub fn remove_auto_entries(_pgdata: &Path) -> Result<Vec<AutoEntry>, ConfError> {
    todo!()
}

/// Creates or removes `standby.signal`, durably.
///
/// # Errors
/// [`ConfError`].
pub fn set_standby_signal(_pgdata: &Path, _present: bool) -> Result<bool, ConfError> {
    todo!()
}

/// The address to listen on for one host, for tests and tools.
#[must_use]
pub fn is_address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}
