//! What a monitor must be told to start: values only, nothing is read from disk here.

use std::path::PathBuf;

use crate::sql::AuthMethod;

/// The configuration of one monitor, as the command line read it from its file and options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    /// The monitor's own directory (the old program's PGDATA); holds the store and certificates.
    pub pgdata: PathBuf,
    /// The name by which nodes reach this host; also the name in a self-signed certificate.
    pub hostname: String,
    /// Addresses to listen on: `*` for all, names or addresses separated by commas; empty: none.
    pub listen_addresses: String,
    /// TCP port; 0 takes a free one (tests).
    pub port: u16,
    /// Directory for a Unix socket `.s.PGSQL.<port>`; `None`: no Unix socket.
    pub socket_directory: Option<PathBuf>,
    /// How clients prove who they are.
    pub auth: AuthMethod,
    /// Encryption.
    pub tls: Tls,
    /// Whether unencrypted TCP clients are refused.
    pub require_tls: bool,
    /// Settings of the configuration file, by name (new or old) and value. They stand above what
    /// `set_setting` stored, which is refused for a name that is given here.
    pub settings: Vec<(String, String)>,
    /// This start follows a restore of the store from an older copy (`--restored`).
    pub restored: bool,
}

/// Encryption of the monitor's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None: clients that ask for it are told no.
    Off,
    /// `server.crt` and `server.key` in the monitor's directory, made when missing.
    SelfSigned,
    /// Files of the operator.
    Files {
        /// Server certificate.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
        /// Root certificate for client certificates.
        ca: Option<PathBuf>,
        /// Revocation list.
        crl: Option<PathBuf>,
    },
}

/// The store's file name in the monitor's directory.
pub(crate) const STORE_FILE: &str = "pgaf_monitor.db";

impl MonitorConfig {
    /// A configuration with the defaults of `create monitor`: all addresses, trust, no TLS.
    pub fn new(pgdata: impl Into<PathBuf>, hostname: impl Into<String>, port: u16) -> Self {
        Self {
            pgdata: pgdata.into(),
            hostname: hostname.into(),
            listen_addresses: "*".into(),
            port,
            socket_directory: None,
            auth: AuthMethod::Trust,
            tls: Tls::Off,
            require_tls: false,
            settings: Vec::new(),
            restored: false,
        }
    }

    /// Where the store is. A directory without it is not a monitor's.
    pub fn store_file(&self) -> PathBuf {
        self.pgdata.join(STORE_FILE)
    }
}
