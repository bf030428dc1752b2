//! Sockets and certificates of the endpoint.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pgaf_postgres::{certs, tls};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::{MonitorConfig, Tls};
use crate::sql::{Listeners, TlsConfig};

/// Why the endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program listens there.
    #[error("`{address}` is in use by another program")]
    InUse {
        /// Address and port, or the socket's path.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// Address and port, or the socket's path.
        address: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The self-signed certificate cannot be made.
    #[error("cannot make the monitor's certificate")]
    Certificate(#[source] certs::CertificateError),
    /// Certificate files cannot be used.
    #[error("cannot use the monitor's certificate")]
    Tls(#[source] tls::TlsConfigError),
}

fn failed(address: &str, source: std::io::Error) -> ListenError {
    let address = address.to_owned();
    if source.kind() == std::io::ErrorKind::AddrInUse {
        ListenError::InUse { address }
    } else {
        ListenError::Bind { address, source }
    }
}

/// Binds every socket of the configuration; answers them with their TCP addresses.
pub(crate) async fn bind(
    config: &MonitorConfig,
) -> Result<(Listeners, Vec<SocketAddr>), ListenError> {
    let mut listeners = Listeners::default();
    let mut addresses = Vec::new();
    let mut port = config.port;
    let names = config.listen_addresses.split(',').map(str::trim);
    for name in names.filter(|n| !n.is_empty()) {
        let listener = if name == "*" {
            everywhere(port).await?
        } else {
            let address = format!("{name}:{port}");
            let bound = TcpListener::bind((name, port)).await;
            bound.map_err(|source| failed(&address, source))?
        };
        if let Ok(address) = listener.local_addr() {
            // With port 0 all addresses share the port that the first one was given.
            port = address.port();
            addresses.push(address);
        }
        listeners.tcp.push(listener);
    }
    if let Some(folder) = &config.socket_directory {
        listeners
            .unix
            .push(unix(&folder.join(format!(".s.PGSQL.{port}"))).await?);
    }
    Ok((listeners, addresses))
}

/// All addresses: IPv6 sockets take IPv4 as well, where there is IPv6.
async fn everywhere(port: u16) -> Result<TcpListener, ListenError> {
    match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(failed(&format!("*:{port}"), error))
        }
        Err(_) => TcpListener::bind(("0.0.0.0", port))
            .await
            .map_err(|source| failed(&format!("*:{port}"), source)),
    }
}

/// A Unix socket; a file that nobody listens on any more is replaced.
async fn unix(path: &Path) -> Result<UnixListener, ListenError> {
    let address = path.display().to_string();
    if path.exists() && UnixStream::connect(path).await.is_err() {
        let _ = std::fs::remove_file(path);
    }
    UnixListener::bind(path).map_err(|source| failed(&address, source))
}

/// The endpoint's TLS.
pub(crate) fn tls(config: &MonitorConfig) -> Result<Option<TlsConfig>, ListenError> {
    let (cert, key, ca, crl): (PathBuf, PathBuf, Option<&Path>, Option<&Path>) = match &config.tls {
        Tls::Off => return Ok(None),
        Tls::SelfSigned => {
            let made = certs::ensure_self_signed(&config.pgdata, &config.hostname)
                .map_err(ListenError::Certificate)?;
            (made.cert, made.key, None, None)
        }
        Tls::Files { cert, key, ca, crl } => {
            (cert.clone(), key.clone(), ca.as_deref(), crl.as_deref())
        }
    };
    let rustls = tls::server_config(&cert, &key, ca, crl).map_err(ListenError::Tls)?;
    let certificate = CertificateDer::from_pem_file(&cert).ok();
    Ok(Some(TlsConfig {
        rustls,
        certificate: certificate.map(|der| der.as_ref().to_vec()),
    }))
}
