//! The certificate of `--ssl-self-signed`.
//!
//! Owns making `server.crt` and `server.key`; it must never overwrite a pair that is there.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::durable::{self, DurableError};

/// Chosen: nobody renews it and, in `sslmode=require`, nobody checks it; the old program's 365
/// days end in refused connections for those who do check.
const VALIDITY: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Chosen: clocks of the hosts of one formation may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// X.520's upper bound for a common name.
const LONGEST_COMMON_NAME: usize = 64;

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
    #[error(transparent)]
    Write(#[from] DurableError),
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
/// The certificate is no CA and carries the host as common name and as subject alternative name
/// (a DNS name or an address), so that libpq and rustls both accept it as its own root.
///
/// # Errors
/// [`CertificateError`].
pub fn ensure_self_signed(
    dir: &Path,
    hostname: &str,
) -> Result<CertificateFiles, CertificateError> {
    let files = CertificateFiles {
        cert: dir.join("server.crt"),
        key: dir.join("server.key"),
    };
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    let (cert, key) =
        generate(hostname, SystemTime::now()).map_err(|source| CertificateError::Generate {
            hostname: hostname.to_owned(),
            source,
        })?;
    durable::write_file(&files.key, key.as_bytes(), 0o600)?;
    durable::write_file(&files.cert, cert.as_bytes(), 0o644)?;
    Ok(files)
}

fn generate(hostname: &str, now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(vec![hostname.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common_name: String = hostname.chars().take(LONGEST_COMMON_NAME).collect();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, common_name);
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + VALIDITY).into();
    let key = rcgen::KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use x509_parser::prelude::FromDer as _;

    #[test]
    fn a_self_signed_pair_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = ensure_self_signed(dir.path(), "node1.example.org").unwrap();
        let mode = std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let first = std::fs::read(&files.cert).unwrap();
        ensure_self_signed(dir.path(), "other").unwrap();
        assert_eq!(std::fs::read(&files.cert).unwrap(), first);
    }

    #[test]
    fn the_certificate_is_no_ca_and_names_the_host() {
        for host in ["node1", "10.0.0.7", "::1"] {
            let (pem, _) = generate(host, SystemTime::now()).unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let (_, cert) =
                x509_parser::certificate::X509Certificate::from_der(&pem.contents).unwrap();
            assert!(!cert.is_ca());
            assert!(cert.validity().is_valid());
            let san = cert.subject_alternative_name().unwrap().unwrap();
            assert_eq!(san.value.general_names.len(), 1, "{host}");
        }
    }
}
