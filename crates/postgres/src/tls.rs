//! TLS as libpq and Postgres do it, on rustls.
//!
//! Owns the client's verification for each `sslmode` and the monitor's server configuration. It
//! must never weaken a `verify-*` mode.
//!
//! As libpq: a root certificate file that exists is used in every mode, so `require` with one acts
//! as `verify-ca`; without one, `prefer` and `require` verify nothing. Unlike rustls alone, an end
//! entity that is byte-equal to a configured root is accepted although it is marked as a CA: that
//! is what `openssl req -x509` makes, and so the old program's `--ssl-self-signed`.

mod name;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::conninfo::{Conninfo, SslMode};

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
    #[error("sslmode {0} needs a root certificate: no file `{1}`")]
    RootMissing(SslMode, PathBuf),
    /// rustls refuses the combination.
    #[error("cannot set up TLS")]
    Rustls(#[source] rustls::Error),
}

/// The client side for one host of a connection string.
///
/// # Errors
/// [`TlsConfigError`].
pub fn client_config(
    conninfo: &Conninfo,
    host: &str,
) -> Result<rustls::ClientConfig, TlsConfigError> {
    let mode = conninfo.sslmode();
    let root = conninfo.sslrootcert.clone().or_else(|| in_home("root.crt"));
    let root = root.filter(|path| path.exists());
    let verifies = match mode {
        SslMode::VerifyCa | SslMode::VerifyFull => true,
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => false,
    };
    let verifier = match root {
        Some(path) => {
            let roots = certificates(&path)?;
            let crl = conninfo.sslcrl.clone().or_else(|| in_home("root.crl"));
            let crls = match crl.filter(|path| path.exists()) {
                Some(path) => revocations(&path)?,
                None => Vec::new(),
            };
            let wanted = (mode == SslMode::VerifyFull).then(|| host.to_owned());
            verify::Verifier::with_roots(provider(), roots, crls, wanted)
                .map_err(|reason| TlsConfigError::Content { path, reason })?
        }
        None if verifies => {
            let path = conninfo.sslrootcert.clone().or_else(|| in_home("root.crt"));
            return Err(TlsConfigError::RootMissing(mode, path.unwrap_or_default()));
        }
        None => verify::Verifier::trusting(provider()),
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsConfigError::Rustls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let cert = conninfo
        .sslcert
        .clone()
        .or_else(|| in_home("postgresql.crt"));
    match cert.filter(|path| path.exists()) {
        Some(cert) => {
            let key = conninfo
                .sslkey
                .clone()
                .or_else(|| in_home("postgresql.key"));
            let key = key.unwrap_or_default();
            builder
                .with_client_auth_cert(certificates(&cert)?, private_key(&key)?)
                .map_err(TlsConfigError::Rustls)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The monitor's side; with `ca`, client certificates are asked for and verified when given, as
/// Postgres does with `ssl_ca_file`.
///
/// # Errors
/// [`TlsConfigError`].
pub fn server_config(
    cert: &Path,
    key: &Path,
    ca: Option<&Path>,
    crl: Option<&Path>,
) -> Result<Arc<rustls::ServerConfig>, TlsConfigError> {
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsConfigError::Rustls)?;
    let builder = match ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            let crls = crl.map(revocations).transpose()?.unwrap_or_default();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider(),
            )
            .with_crls(crls)
            .allow_unauthenticated()
            .build()
            .map_err(|e| content(path, format!("cannot verify clients: {e}")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates(cert)?, private_key(key)?)
        .map_err(TlsConfigError::Rustls)?;
    // What libpq 17 and newer offer; clients that offer nothing are served as well.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// libpq's default files, `~/.postgresql/NAME`.
fn in_home(name: &str) -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".postgresql").join(name))
}

fn content(path: &Path, reason: String) -> TlsConfigError {
    TlsConfigError::Content {
        path: path.to_owned(),
        reason,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    std::fs::read(path).map_err(|source| TlsConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(list) if list.is_empty() => Err(content(path, "holds no certificate (PEM)".to_owned())),
        Ok(list) => Ok(list),
        Err(e) => Err(content(
            path,
            format!("is not a certificate file (PEM): {e}"),
        )),
    }
}

fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsConfigError> {
    let found: Result<Vec<_>, _> =
        CertificateRevocationListDer::pem_slice_iter(&read(path)?).collect();
    found.map_err(|e| content(path, format!("is not a revocation list (PEM): {e}")))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
        let what = if encrypted {
            "is encrypted, which is not supported"
        } else {
            "holds no private key (PEM)"
        };
        content(path, what.to_owned())
    })
}
