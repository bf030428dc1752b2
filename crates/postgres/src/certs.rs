//! The certificate of `--ssl-self-signed`.
//!
//! Owns making it; must never overwrite one that is there.

use std::path::{Path, PathBuf};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The generator refuses, for example a host name that no certificate can carry.
    #[error("cannot make a certificate for `{hostname}`")]
    Generate {
        /// The host name.
        hostname: String,
        /// The generator's reason.
        #[source]
        source: rcgen::Error,
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
}

/// The two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `server.crt`.
    pub cert: PathBuf,
    /// `server.key`, mode 0600.
    pub key: PathBuf,
}

/// Makes `server.crt` and `server.key` in `dir` for `hostname`, unless both are there.
///
/// # Errors
/// [`CertificateError`].
pub fn ensure_self_signed(
    _dir: &Path,
    _hostname: &str,
) -> Result<CertificateFiles, CertificateError> {
    todo!()
}
