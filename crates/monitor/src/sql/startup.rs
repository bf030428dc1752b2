//! From the first byte to an authenticated session: TLS, start-up message, password.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio_rustls::TlsAcceptor;

use super::auth::{AuthMethod, DATABASE, ROLE};
use super::backend::{Backend, Peer};
use super::connection::{Connection, End, Stream};
use super::endpoint::EndpointConfig;
use super::error::{SqlError, codes};
use super::scram;
use super::wire;

/// Codes of the first message; source: Postgres' manual, "Message Formats".
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
/// Most SSL and GSS requests before the start-up message: one of each.
const MAX_NEGOTIATIONS: usize = 2;

/// What the start-up message says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Startup {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) application_name: String,
    /// Asked for by `replication`.
    pub(super) replication: bool,
    /// Whether a newer minor version was asked for.
    pub(super) newer_minor: bool,
    /// Protocol options, none of which is known here.
    pub(super) protocol_options: Vec<String>,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum NoSession {
    /// The client is gone, or only asked to cancel something: nothing to say.
    Silent,
    /// To be told to the client.
    Refused(SqlError),
}

impl From<SqlError> for NoSession {
    fn from(error: SqlError) -> Self {
        NoSession::Refused(SqlError {
            fatal: true,
            ..error
        })
    }
}

impl From<End> for NoSession {
    fn from(_: End) -> Self {
        NoSession::Silent
    }
}

impl From<std::io::Error> for NoSession {
    fn from(_: std::io::Error) -> Self {
        NoSession::Silent
    }
}

/// A client that is allowed in.
pub(super) struct Admitted {
    pub(super) startup: Startup,
    pub(super) encrypted: bool,
}

/// Reads the start-up message, answering requests for encryption on the way. Replaces the
/// connection's stream when TLS is wanted.
pub(super) async fn negotiate(
    connection: &mut Connection,
    config: &EndpointConfig,
) -> Result<Admitted, NoSession> {
    let mut encrypted = false;
    for _ in 0..=MAX_NEGOTIATIONS {
        let (code, body) = first_message(connection, config.limits.message_before_auth).await?;
        match code {
            CANCEL_REQUEST => return Err(NoSession::Silent),
            SSL_REQUEST if encrypted => break,
            SSL_REQUEST => match &config.tls {
                None => answer(connection, b'N').await?,
                Some(tls) => {
                    if connection.has_input() {
                        // Plain bytes after the request would be read as if they were encrypted.
                        return Err(violation("received unencrypted data after SSL request"));
                    }
                    answer(connection, b'S').await?;
                    encrypt(connection, Arc::clone(&tls.rustls), config).await?;
                    encrypted = true;
                }
            },
            GSS_REQUEST => answer(connection, b'N').await?,
            version if version >> 16 == 3 => {
                let startup = read_startup(version, body)?;
                return Ok(Admitted { startup, encrypted });
            }
            version => {
                let (major, minor) = (version >> 16, version & 0xffff);
                return Err(NoSession::from(SqlError::new(
                    codes::FEATURE_NOT_SUPPORTED,
                    format!(
                        "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"
                    ),
                )));
            }
        }
    }
    Err(violation("too many negotiation requests"))
}

fn violation(message: &str) -> NoSession {
    NoSession::from(SqlError::new(codes::PROTOCOL_VIOLATION, message))
}

async fn answer(connection: &mut Connection, byte: u8) -> Result<(), NoSession> {
    connection.output.extend_from_slice(&[byte]);
    Ok(connection.flush().await?)
}

/// A message without a type byte: code and rest.
async fn first_message(
    connection: &mut Connection,
    limit: usize,
) -> Result<(u32, BytesMut), NoSession> {
    loop {
        let input = connection.input();
        if let [a, b, c, d, ..] = input[..] {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if !(8..=limit).contains(&length) {
                return Err(violation("invalid length of startup packet"));
            }
            if input.len() >= length {
                input.advance(4);
                let mut body = input.split_to(length - 4);
                let code = body.get_u32();
                return Ok((code, body));
            }
        }
        connection.read_more().await?;
    }
}

async fn encrypt(
    connection: &mut Connection,
    tls: Arc<rustls::ServerConfig>,
    config: &EndpointConfig,
) -> Result<(), NoSession> {
    let send_time = config.limits.send_time;
    let placeholder: Box<dyn Stream> = Box::new(tokio::io::empty());
    let plain =
        std::mem::replace(connection, Connection::new(placeholder, send_time)).into_stream();
    let stream = TlsAcceptor::from(tls).accept(plain).await?;
    *connection = Connection::new(Box::new(stream), send_time);
    Ok(())
}

/// Name and value pairs, each ended by a zero byte, the list by an empty name.
fn read_startup(version: u32, mut body: BytesMut) -> Result<Startup, NoSession> {
    let mut startup = Startup {
        newer_minor: version & 0xffff != 0,
        ..Startup::default()
    };
    let mut next = || -> Result<String, NoSession> {
        let end = body.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| violation("invalid startup packet layout"))?;
        let text = body.split_to(end + 1);
        String::from_utf8(text[..end].to_vec())
            .map_err(|_| violation("invalid byte sequence in startup packet"))
    };
    loop {
        let name = next()?;
        if name.is_empty() {
            break;
        }
        let value = next()?;
        match name.as_str() {
            "user" => startup.user = value,
            "database" => startup.database = value,
            "application_name" => startup.application_name = value.chars().take(63).collect(),
            "replication" => {
                startup.replication = !matches!(value.as_str(), "false" | "off" | "no" | "0");
            }
            name if name.starts_with("_pq_.") => startup.protocol_options.push(name.to_owned()),
            _ => {}
        }
    }
    if startup.database.is_empty() {
        startup.database.clone_from(&startup.user);
    }
    Ok(startup)
}

/// Checks who the client is, and asks for the password.
pub(super) async fn authenticate(
    connection: &mut Connection,
    admitted: &Admitted,
    peer: Peer,
    config: &EndpointConfig,
    backend: &dyn Backend,
) -> Result<(), NoSession> {
    let startup = &admitted.startup;
    if startup.newer_minor || !startup.protocol_options.is_empty() {
        wire::put_negotiate(&mut connection.output, &startup.protocol_options);
    }
    if startup.user.is_empty() {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(SqlError::new(codes::INVALID_AUTHORIZATION, message).into());
    }
    if config.require_tls && !admitted.encrypted && matches!(peer, Peer::Tcp(_)) {
        return Err(SqlError::new(
            codes::INVALID_AUTHORIZATION,
            "the monitor accepts encrypted connections only",
        )
        .with_hint("Connect with sslmode=require or stronger.")
        .into());
    }
    if startup.user != ROLE {
        return Err(SqlError::new(
            codes::INVALID_AUTHORIZATION,
            format!("role \"{}\" does not exist", startup.user),
        )
        .with_hint(format!("The monitor has one role: {ROLE}."))
        .into());
    }
    match config.auth {
        AuthMethod::Trust => {}
        AuthMethod::Scram if matches!(peer, Peer::Unix { owner: true }) => {}
        AuthMethod::Scram => {
            let binding = config
                .tls
                .as_ref()
                .and_then(|tls| tls.certificate.as_deref());
            let binding = binding.filter(|_| admitted.encrypted);
            let verifier = backend.password_verifier().await?;
            let limit = config.limits.message_before_auth;
            scram::exchange(connection, verifier.as_ref(), binding, limit).await?;
        }
    }
    if startup.replication {
        return Err(SqlError::unsupported("the monitor has no replication connections").into());
    }
    if startup.database != DATABASE {
        return Err(SqlError::new(
            codes::INVALID_CATALOG_NAME,
            format!("database \"{}\" does not exist", startup.database),
        )
        .with_hint(format!("The monitor has one database: {DATABASE}."))
        .into());
    }
    Ok(())
}
