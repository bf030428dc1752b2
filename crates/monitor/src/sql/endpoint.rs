//! Listening: accepts connections, counts them, and starts a session for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::AuthMethod;
use super::backend::{Backend, Peer, SessionId, SessionInfo};
use super::connection::{Connection, Stream};
use super::engine::Engine;
use super::error::{SqlError, codes};
use super::limits::Limits;
use super::notify::SessionHandle;
use super::session::{Session, Shared, shutting_down};
use super::startup::{Admitted, NoSession, authenticate, negotiate};
use super::wire;

/// What `server_version` says: drivers parse the number, people read the rest.
const SERVER_VERSION: &str = concat!("15.0 (pgaf ", env!("CARGO_PKG_VERSION"), ")");
/// Clients beyond the limit that are told so at once; the others are just closed. Chosen.
const REFUSALS: usize = 64;
/// Time to tell a client that there is no room. Chosen.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// One warning about too many connections in this time: strangers must not fill the log. Chosen.
const COMPLAINT_SECONDS: u64 = 10;
/// Pause after a failed accept (no descriptors left, as a rule). Chosen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that sessions have to end at a shutdown: a client that does not read must not hold it up.
/// Chosen.
const SHUTDOWN_TIME: Duration = Duration::from_secs(3);

/// TLS of the endpoint.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Certificates and key, as rustls wants them.
    pub rustls: Arc<rustls::ServerConfig>,
    /// The server's own certificate (DER), for SCRAM channel binding; `None` turns the binding off.
    pub certificate: Option<Vec<u8>>,
}

/// What the endpoint needs to know.
#[derive(Clone, Debug)]
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
#[derive(Debug, Default)]
pub struct Listeners {
    /// TCP sockets, already bound.
    pub tcp: Vec<TcpListener>,
    /// Unix sockets, already bound.
    pub unix: Vec<UnixListener>,
}

struct Endpoint {
    config: EndpointConfig,
    shared: Arc<Shared>,
    next_session: AtomicU64,
    connections: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    started: Instant,
    /// Seconds after the start, and some, of the last warning about too many connections.
    complained: AtomicU64,
    tasks: TaskTracker,
}

/// Serves until `shutdown` is cancelled; then tells every client (57P01) and returns when all
/// sessions are over, or have had three seconds.
pub async fn serve(
    listeners: Listeners,
    config: EndpointConfig,
    backend: Arc<dyn Backend>,
    shutdown: CancellationToken,
) {
    let limits = config.limits.clone();
    let version = &config.extension_version;
    let engine = Engine::new(
        Arc::clone(&backend),
        limits.clone(),
        version,
        SERVER_VERSION,
    );
    let shared = Shared {
        backend,
        engine,
        limits: limits.clone(),
        shutdown: shutdown.clone(),
    };
    let endpoint = Arc::new(Endpoint {
        config,
        shared: Arc::new(shared),
        next_session: AtomicU64::new(1),
        connections: Arc::new(Semaphore::new(limits.connections)),
        unauthenticated: Arc::new(Semaphore::new(limits.unauthenticated_connections)),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
        started: Instant::now(),
        complained: AtomicU64::new(0),
        tasks: TaskTracker::new(),
    });
    let accepting = TaskTracker::new();
    for listener in listeners.tcp {
        accepting.spawn(accept_tcp(Arc::clone(&endpoint), listener));
    }
    for listener in listeners.unix {
        accepting.spawn(accept_unix(Arc::clone(&endpoint), listener));
    }
    shutdown.cancelled().await;
    accepting.close();
    accepting.wait().await;
    endpoint.tasks.close();
    if timeout(SHUTDOWN_TIME, endpoint.tasks.wait()).await.is_err() {
        tracing::warn!(
            sessions = endpoint.tasks.len(),
            "sessions did not end in time"
        );
    }
}

async fn accept_tcp(endpoint: Arc<Endpoint>, listener: TcpListener) {
    let shutdown = endpoint.shared.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                // Small messages each way: waiting to fill packets costs a failover.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                if let Err(error) = keep_alive(&stream, &endpoint.config.limits) {
                    tracing::debug!(%error, "cannot set TCP keepalive");
                }
                endpoint.admit(Box::new(stream), Peer::Tcp(address));
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

/// Without it, the connection of a host that vanished would stay for ever.
fn keep_alive(stream: &TcpStream, limits: &Limits) -> std::io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(limits.keepalive_idle)
        .with_interval(limits.keepalive_interval)
        .with_retries(limits.keepalive_probes);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn accept_unix(endpoint: Arc<Endpoint>, listener: UnixListener) {
    let shutdown = endpoint.shared.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let own = rustix::process::geteuid().as_raw();
                let owner = stream
                    .peer_cred()
                    .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
                endpoint.admit(Box::new(stream), Peer::Unix { owner });
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

impl Endpoint {
    /// Starts a task for a new connection, or refuses it.
    fn admit(self: &Arc<Self>, stream: Box<dyn Stream>, peer: Peer) {
        let room = Arc::clone(&self.connections)
            .try_acquire_owned()
            .and_then(|all| Ok((all, Arc::clone(&self.unauthenticated).try_acquire_owned()?)));
        let endpoint = Arc::clone(self);
        match room {
            Ok((all, early)) => {
                self.tasks
                    .spawn(endpoint.connection(stream, peer, all, early));
            }
            Err(_) => {
                if self.may_complain() {
                    tracing::warn!(%peer, "too many connections");
                }
                if let Ok(slot) = Arc::clone(&self.refusals).try_acquire_owned() {
                    self.tasks.spawn(endpoint.refuse(stream, slot));
                }
            }
        }
    }

    /// Whether the last complaint is long enough ago.
    fn may_complain(&self) -> bool {
        let now = self.started.elapsed().as_secs() + COMPLAINT_SECONDS;
        let last = self.complained.load(Ordering::Relaxed);
        now - last.min(now) >= COMPLAINT_SECONDS && {
            self.complained.store(now, Ordering::Relaxed);
            true
        }
    }

    /// Tells a client that there is no room, when it tells who it is soon.
    async fn refuse(self: Arc<Self>, stream: Box<dyn Stream>, _slot: OwnedSemaphorePermit) {
        let mut connection = Connection::new(stream, REFUSAL_TIME);
        if let Ok(Ok(_)) = timeout(REFUSAL_TIME, negotiate(&mut connection, &self.config)).await {
            let message = "sorry, too many clients already";
            let error = SqlError::fatal(codes::TOO_MANY_CONNECTIONS, message);
            connection.close_with(&error).await;
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: Box<dyn Stream>,
        peer: Peer,
        all: OwnedSemaphorePermit,
        early: OwnedSemaphorePermit,
    ) {
        let mut connection = Connection::new(stream, self.config.limits.send_time);
        // Boxed: an established session does not carry the state of this.
        let admitted = Box::pin(self.begin(&mut connection, peer)).await;
        drop(early);
        match admitted {
            Ok(admitted) => {
                let session = self.session(connection, peer, &admitted);
                drop(admitted);
                session.run().await;
            }
            Err(NoSession::Silent) => {}
            Err(NoSession::Refused(error)) => {
                tracing::debug!(%peer, %error, "connection refused");
                connection.close_with(&error).await;
            }
        }
        drop(all);
    }

    /// Everything up to authentication, within its time.
    async fn begin(&self, connection: &mut Connection, peer: Peer) -> Result<Admitted, NoSession> {
        let work = async {
            let admitted = negotiate(connection, &self.config).await?;
            let backend = self.shared.backend.as_ref();
            authenticate(connection, &admitted, peer, &self.config, backend).await?;
            Ok(admitted)
        };
        let time = self.config.limits.authentication_time;
        tokio::select! {
            outcome = timeout(time, work) => outcome.unwrap_or(Err(NoSession::Silent)),
            () = self.shared.shutdown.cancelled() => Err(shutting_down().into()),
        }
    }

    fn session(&self, mut connection: Connection, peer: Peer, admitted: &Admitted) -> Session {
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        // Process ids of Postgres are positive; the number wraps long before it matters.
        let pid = i32::try_from(number % 0x7fff_ffff).unwrap_or(0) + 1;
        let application_name = admitted.startup.application_name.clone();
        greet(&mut connection, pid, &application_name);
        let (handle, pushes) = SessionHandle::new(self.config.limits.push_queue);
        let info = SessionInfo {
            id: SessionId(number),
            peer,
            application_name,
            encrypted: admitted.encrypted,
            handle,
        };
        Session::new(Arc::clone(&self.shared), info, pid, connection, pushes)
    }
}

/// AuthenticationOk, the parameters that drivers want, and ReadyForQuery.
fn greet(connection: &mut Connection, pid: i32, application_name: &str) {
    let out = &mut connection.output;
    wire::put_authentication(out, 0, &[]);
    let parameters = [
        ("application_name", application_name),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("default_transaction_read_only", "off"),
        ("in_hot_standby", "off"),
        ("integer_datetimes", "on"),
        ("IntervalStyle", "postgres"),
        ("is_superuser", "off"),
        ("server_encoding", "UTF8"),
        ("server_version", SERVER_VERSION),
        ("session_authorization", super::auth::ROLE),
        ("standard_conforming_strings", "on"),
        ("TimeZone", "UTC"),
    ];
    for (name, value) in parameters {
        wire::put_parameter_status(out, name, value);
    }
    // The key only has to exist: cancel requests are accepted and ignored.
    wire::put_key_data(out, pid, rand::random());
    wire::put_ready(out, b'I');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_asks_after_a_silent_client_and_gives_up_in_a_minute() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (accepted, _) = listener.accept().await.unwrap();
        let limits = Limits::default();
        keep_alive(&accepted, &limits).unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        let time = socket.tcp_keepalive_time().unwrap();
        let interval = socket.tcp_keepalive_interval().unwrap();
        let probes = socket.tcp_keepalive_retries().unwrap();
        assert_eq!(time, limits.keepalive_idle);
        assert_eq!(time + interval * probes, Duration::from_secs(60));
        drop(client);
    }
}
