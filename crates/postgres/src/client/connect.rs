//! From a connection string to a session: hosts in turn, TLS as `sslmode` says.

use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_postgres::config::{ChannelBinding, SslMode as WireSslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Client, ConnectError, Options};
use crate::conninfo::{Conninfo, Endpoint, SslMode, TargetSessionAttrs};
use crate::tls;

/// Connects to the first server of `conninfo` that will do.
///
/// Each host gets an equal share of what is left of the limit, and at most the connection
/// string's own `connect_timeout`, so that one dead host does not use it all up.
///
/// # Errors
/// [`ConnectError`]: of the servers' errors, the one that tells most.
pub async fn connect(conninfo: &Conninfo, options: &Options) -> Result<Client, ConnectError> {
    let wanted = conninfo.target_session_attrs.unwrap_or_default();
    let passes: &[TargetSessionAttrs] = match wanted {
        TargetSessionAttrs::PreferStandby => {
            &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any]
        }
        TargetSessionAttrs::Any
        | TargetSessionAttrs::ReadWrite
        | TargetSessionAttrs::ReadOnly
        | TargetSessionAttrs::Primary
        | TargetSessionAttrs::Standby => &[wanted],
    };
    let targets = conninfo.targets();
    let end = Instant::now() + options.connect_timeout;
    let mut attempts = targets.len() * passes.len();
    let mut worst: Option<ConnectError> = None;
    for pass in passes {
        for endpoint in &targets {
            let share = share(end, attempts, conninfo.connect_timeout);
            attempts -= 1;
            let attempt = Attempt {
                conninfo,
                endpoint,
                options,
                limit: share,
            };
            let limited = tokio::time::timeout(share, attempt.run(*pass)).await;
            let error = match limited {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => error,
                Err(_) => attempt.timed_out(),
            };
            if worst.as_ref().is_none_or(|w| error.weight() >= w.weight()) {
                worst = Some(error);
            }
        }
    }
    // There is always a target, and each one that does not return leaves an error.
    Err(worst.unwrap_or_else(|| ConnectError::Failed {
        server: conninfo.redacted(),
        code: None,
        message: "no server to connect to".to_owned(),
    }))
}

/// What one of `attempts` may use of the time that is left.
fn share(end: Instant, attempts: usize, own: Option<Duration>) -> Duration {
    let left = end.saturating_duration_since(Instant::now());
    let share = left / u32::try_from(attempts.max(1)).unwrap_or(u32::MAX);
    own.map_or(share, |own| share.min(own))
}

/// One host.
struct Attempt<'a> {
    conninfo: &'a Conninfo,
    endpoint: &'a Endpoint,
    options: &'a Options,
    limit: Duration,
}

impl Attempt<'_> {
    fn server(&self) -> String {
        self.endpoint.to_string()
    }

    fn timed_out(&self) -> ConnectError {
        ConnectError::TimedOut {
            server: self.server(),
            limit: self.limit,
        }
    }

    async fn run(&self, wanted: TargetSessionAttrs) -> Result<Client, ConnectError> {
        let client = match self.endpoint.socket_dir() {
            Some(dir) => self.over_socket(dir).await?,
            None => self.over_tcp().await?,
        };
        self.check_role(&client, wanted).await?;
        Ok(client)
    }

    fn config(&self, mode: WireSslMode) -> Config {
        let mut config = Config::new();
        if let Some(user) = &self.conninfo.user {
            config.user(user);
        }
        if let Some(dbname) = &self.conninfo.dbname {
            config.dbname(dbname);
        }
        if let Some(password) = self.conninfo.password_for(self.endpoint) {
            config.password(password.expose());
        }
        if let Some(options) = &self.conninfo.options {
            config.options(options);
        }
        let name = self.conninfo.application_name.as_deref();
        let fallback = self.conninfo.passive("fallback_application_name");
        config.application_name(name.or(fallback).unwrap_or(&self.options.application_name));
        config.channel_binding(match self.conninfo.passive("channel_binding") {
            Some("require") => ChannelBinding::Require,
            Some("disable") => ChannelBinding::Disable,
            Some(_) | None => ChannelBinding::Prefer,
        });
        config.ssl_mode(mode);
        config
    }

    /// TLS is never used over a Unix socket, whatever `sslmode` says (libpq).
    async fn over_socket(&self, dir: &str) -> Result<Client, ConnectError> {
        let path = format!("{dir}/.s.PGSQL.{}", self.endpoint.port());
        let stream = UnixStream::connect(&path)
            .await
            .map_err(|e| self.unreachable(e, true))?;
        let (client, connection) = self
            .config(WireSslMode::Disable)
            .connect_raw(stream, NoTls)
            .await
            .map_err(|e| ConnectError::from_startup(self.server(), &e))?;
        Ok(Client::start(client, connection, self.server()))
    }

    async fn over_tcp(&self) -> Result<Client, ConnectError> {
        match self.conninfo.sslmode() {
            SslMode::Disable => self.plain().await,
            // What the server refuses without TLS (an HBA rule) is tried with it, and the other
            // way round for `prefer` (libpq, "SSL Mode Descriptions").
            SslMode::Allow => match self.plain().await {
                Err(e @ ConnectError::Auth { .. }) => {
                    self.secured(WireSslMode::Require).await.map_err(|_| e)
                }
                other => other,
            },
            SslMode::Prefer => match self.secured(WireSslMode::Prefer).await {
                Err(ConnectError::Tls { .. }) => self.plain().await,
                Err(e @ ConnectError::Auth { .. }) => self.plain().await.map_err(|_| e),
                other => other,
            },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                self.secured(WireSslMode::Require).await
            }
        }
    }

    async fn plain(&self) -> Result<Client, ConnectError> {
        let stream = self.dial().await?;
        let (client, connection) = self
            .config(WireSslMode::Disable)
            .connect_raw(stream, NoTls)
            .await
            .map_err(|e| ConnectError::from_startup(self.server(), &e))?;
        Ok(Client::start(client, connection, self.server()))
    }

    async fn secured(&self, mode: WireSslMode) -> Result<Client, ConnectError> {
        let tls_error = |reason: String| ConnectError::Tls {
            server: self.server(),
            reason,
        };
        let address = self.endpoint.hostaddr.map(|a| a.to_string());
        let host = self.endpoint.host.clone().or(address).unwrap_or_default();
        let config = tls::client_config(self.conninfo, &host).map_err(|e| tls_error(chain(&e)))?;
        // The verifier holds the host itself; rustls needs a well-formed name for SNI.
        let name_is_fine = rustls::pki_types::ServerName::try_from(host.as_str()).is_ok();
        let sni = if name_is_fine {
            host.as_str()
        } else {
            "postgres.invalid"
        };
        let mut make = MakeRustlsConnect::new(config);
        let Ok(connector) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut make, sni);
        let stream = self.dial().await?;
        let (client, connection) = self
            .config(mode)
            .connect_raw(stream, connector)
            .await
            .map_err(|e| ConnectError::from_startup(self.server(), &e))?;
        Ok(Client::start(client, connection, self.server()))
    }

    /// The first address that answers.
    async fn dial(&self) -> Result<TcpStream, ConnectError> {
        let port = self.endpoint.port();
        let addresses: Vec<std::net::SocketAddr> =
            match (self.endpoint.hostaddr, &self.endpoint.host) {
                (Some(address), _) => vec![(address, port).into()],
                (None, host) => {
                    let host = host.as_deref().unwrap_or("localhost");
                    let found = tokio::net::lookup_host((host, port)).await;
                    found.map_err(|e| self.unreachable(e, false))?.collect()
                }
            };
        let end = Instant::now() + self.limit;
        let mut error = None;
        let count = addresses.len();
        for (i, address) in addresses.into_iter().enumerate() {
            let share = share(end, count - i, None);
            error = Some(
                match tokio::time::timeout(share, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => {
                        // Small messages, each awaited: Nagle's algorithm would only delay them.
                        stream
                            .set_nodelay(true)
                            .map_err(|e| self.unreachable(e, false))?;
                        return Ok(stream);
                    }
                    Ok(Err(e)) => self.unreachable(e, false),
                    Err(_) => self.timed_out(),
                },
            );
        }
        Err(error.unwrap_or_else(|| {
            self.unreachable(std::io::Error::other("the name has no address"), false)
        }))
    }

    fn unreachable(&self, source: std::io::Error, socket: bool) -> ConnectError {
        let server = self.server();
        let kind = source.kind();
        // No socket file: nobody listens there.
        let no_file = socket && kind == std::io::ErrorKind::NotFound;
        if no_file || kind == std::io::ErrorKind::ConnectionRefused {
            ConnectError::Refused { server }
        } else if kind == std::io::ErrorKind::TimedOut {
            self.timed_out()
        } else {
            ConnectError::Unreachable { server, source }
        }
    }

    /// From version 14 on the server says at start-up what it is; older ones are asked.
    async fn check_role(
        &self,
        client: &Client,
        wanted: TargetSessionAttrs,
    ) -> Result<(), ConnectError> {
        let ask = |sql| async move {
            let rows = client
                .simple(sql, self.limit)
                .await
                .map_err(|e| ConnectError::Failed {
                    server: self.server(),
                    code: e.code().map(str::to_owned),
                    message: e.to_string(),
                })?;
            let value = rows.first().and_then(|row| row.get(0).map(str::to_owned));
            Ok::<bool, ConnectError>(matches!(value.as_deref(), Some("on" | "t")))
        };
        let facts = &client.facts;
        let in_recovery = || async {
            match facts.in_hot_standby {
                Some(known) => Ok(known),
                None => ask("SELECT pg_catalog.pg_is_in_recovery()").await,
            }
        };
        let read_only = || async {
            match (facts.in_hot_standby, facts.default_read_only) {
                (Some(standby), Some(default)) => Ok(standby || default),
                _ => ask("SHOW transaction_read_only").await,
            }
        };
        let fits = match wanted {
            TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => true,
            TargetSessionAttrs::ReadWrite => !read_only().await?,
            TargetSessionAttrs::ReadOnly => read_only().await?,
            TargetSessionAttrs::Primary => !in_recovery().await?,
            TargetSessionAttrs::Standby => in_recovery().await?,
        };
        if fits {
            Ok(())
        } else {
            Err(ConnectError::WrongRole {
                server: self.server(),
                wanted: wanted.as_str(),
            })
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        next = cause.source();
    }
    out
}
