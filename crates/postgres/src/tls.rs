//! TLS as libpq and Postgres do it, on rustls.
//!
//! Owns the client's verification for each `sslmode` and the monitor's server configuration. It
//! must never weaken a `verify-*` mode.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::conninfo::Conninfo;

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else than wanted.
    #[error("`{path}` {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// verify-ca or verify-full without a root certificate.
    #[error("sslmode {0} needs a root certificate (sslrootcert)")]
    RootMissing(&'static str),
    /// rustls refuses the combination.
    #[error("cannot set up TLS")]
    Rustls(#[source] rustls::Error),
}

/// The client side for one host of a connection string.
///
/// # Errors
/// [`TlsConfigError`].
pub fn client_config(
    _conninfo: &Conninfo,
    _host: &str,
) -> Result<Arc<rustls::ClientConfig>, TlsConfigError> {
    todo!()
}

/// The monitor's side; with `ca`, client certificates are asked for and verified when given.
///
/// # Errors
/// [`TlsConfigError`].
pub fn server_config(
    _cert: &Path,
    _key: &Path,
    _ca: Option<&Path>,
    _crl: Option<&Path>,
) -> Result<Arc<rustls::ServerConfig>, TlsConfigError> {
    todo!()
}
