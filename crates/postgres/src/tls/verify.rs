//! The verifier of server certificates.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::FromDer as _;

use super::name;

/// Verifies as libpq does: nothing, the chain, or the chain and the host.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
}

#[derive(Debug)]
enum Trust {
    Anybody,
    Roots {
        /// As configured, for the byte-equal case.
        roots: Vec<CertificateDer<'static>>,
        /// The chain's verifier; `None` when no root can be an anchor for rustls.
        chain: Option<Arc<WebPkiServerVerifier>>,
        /// verify-full: the host.
        host: Option<String>,
    },
}

impl Verifier {
    /// Accepts every certificate; the handshake's signature is checked all the same.
    pub(super) fn trusting(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            trust: Trust::Anybody,
        }
    }

    /// Accepts what a root has signed, or a root itself; with `host`, only for that host.
    pub(super) fn with_roots(
        provider: Arc<CryptoProvider>,
        roots: Vec<CertificateDer<'static>>,
        crls: Vec<CertificateRevocationListDer<'static>>,
        host: Option<String>,
    ) -> Result<Self, String> {
        let mut store = rustls::RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let chain = if store.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
            Some(
                builder
                    .with_crls(crls)
                    .build()
                    .map_err(|e| format!("cannot verify: {e}"))?,
            )
        };
        Ok(Self {
            provider,
            trust: Trust::Roots { roots, chain, host },
        })
    }
}

fn refused(reason: CertificateError) -> Error {
    Error::InvalidCertificate(reason)
}

/// The two checks that a trusted end entity still has to pass.
fn check_entity(
    end_entity: &CertificateDer<'_>,
    host: Option<&str>,
    check_dates: Option<UnixTime>,
) -> Result<(), Error> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(end_entity)
        .map_err(|_| refused(CertificateError::BadEncoding))?;
    if let Some(now) = check_dates {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > parsed.validity().not_after.timestamp() {
            return Err(refused(CertificateError::Expired));
        }
        if now < parsed.validity().not_before.timestamp() {
            return Err(refused(CertificateError::NotValidYet));
        }
    }
    match host {
        Some(host) if !name::matches(&parsed, host) => {
            Err(refused(CertificateError::NotValidForName))
        }
        Some(_) | None => Ok(()),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (roots, chain, host) = match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Roots { roots, chain, host } => (roots, chain, host.as_deref()),
        };
        if roots
            .iter()
            .any(|root| root.as_ref() == end_entity.as_ref())
        {
            check_entity(end_entity, host, Some(now))?;
            return Ok(ServerCertVerified::assertion());
        }
        let Some(chain) = chain else {
            return Err(refused(CertificateError::UnknownIssuer));
        };
        // rustls looks at the name last, after chain, dates and revocation: an error about the
        // name says that those hold. The name is judged by libpq's rules instead.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(e) => return Err(e),
        }
        check_entity(end_entity, host, None)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
