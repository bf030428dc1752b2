//! The SASL exchange of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS; the arithmetic is pgwire's.

use bytes::{Buf, Bytes};
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::error::PgWireError;

use super::auth::{ROLE, ScramVerifier};
use super::base64;
use super::connection::Connection;
use super::error::{SqlError, codes};
use super::startup::NoSession;
use super::wire;

const PLAIN: &str = "SCRAM-SHA-256";
const BOUND: &str = "SCRAM-SHA-256-PLUS";

/// Codes of authentication messages; source: Postgres' manual, "Message Formats".
const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;

fn wrong_password() -> NoSession {
    SqlError::new(
        codes::INVALID_PASSWORD,
        format!("password authentication failed for user \"{ROLE}\""),
    )
    .into()
}

fn scram_error(error: PgWireError) -> NoSession {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum; the rest is malformed input"
    )]
    match error {
        PgWireError::InvalidPassword(_) => wrong_password(),
        _ => malformed(),
    }
}

fn malformed() -> NoSession {
    SqlError::new(codes::PROTOCOL_VIOLATION, "malformed SCRAM message").into()
}

/// Asks for the password and checks it. `certificate` (DER) offers channel binding.
pub(super) async fn exchange(
    connection: &mut Connection,
    verifier: Option<&ScramVerifier>,
    certificate: Option<&[u8]>,
    limit: usize,
) -> Result<(), NoSession> {
    let mut server = ScramServerAuth::new();
    let bound = certificate.is_some_and(|der| server.configure_certificate(&pem(der)).is_ok());
    let mut methods = Vec::new();
    for method in [Some(BOUND).filter(|_| bound), Some(PLAIN)]
        .into_iter()
        .flatten()
    {
        methods.extend_from_slice(method.as_bytes());
        methods.push(0);
    }
    methods.push(0);
    wire::put_authentication(&mut connection.output, SASL, &methods);
    connection.flush().await?;

    let (method, first) = initial_response(password_message(connection, limit).await?)?;
    let known = method == PLAIN || (method == BOUND && bound);
    // With "p=" the client binds the channel; that belongs to the other mechanism only.
    if !known || (method == BOUND) != first.starts_with(b"p=") {
        let message = "client selected an invalid SASL authentication mechanism";
        return Err(SqlError::new(codes::PROTOCOL_VIOLATION, message).into());
    }
    let Some(verifier) = verifier else {
        static TOLD: std::sync::Once = std::sync::Once::new();
        TOLD.call_once(|| {
            tracing::warn!("clients are refused: no password is set for `{ROLE}`");
        });
        return Err(wrong_password());
    };
    let (challenge, waiting) = server
        .on_client_first_message_with_secret(&first, verifier.to_secret())
        .map_err(scram_error)?;
    wire::put_authentication(&mut connection.output, SASL_CONTINUE, challenge.as_bytes());
    connection.flush().await?;

    let last = password_message(connection, limit).await?;
    let outcome = waiting
        .on_client_final_message(&last)
        .map_err(scram_error)?;
    wire::put_authentication(&mut connection.output, SASL_FINAL, outcome.as_bytes());
    Ok(())
}

async fn password_message(connection: &mut Connection, limit: usize) -> Result<Bytes, NoSession> {
    loop {
        match connection.take_message(limit)? {
            Some((b'p', body)) => return Ok(body),
            Some((b'X', _)) => return Err(NoSession::Silent),
            Some((other, _)) => {
                return Err(SqlError::new(
                    codes::PROTOCOL_VIOLATION,
                    format!("expected SASL response, got message type {other}"),
                )
                .into());
            }
            None => connection.read_more().await?,
        }
    }
}

/// Mechanism and data of SASLInitialResponse.
fn initial_response(mut body: Bytes) -> Result<(String, Bytes), NoSession> {
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .ok_or_else(malformed)?;
    let method = body.split_to(end);
    body.advance(1);
    let length = body.try_get_i32().map_err(|_| malformed())?;
    if usize::try_from(length).ok() != Some(body.len()) {
        return Err(malformed());
    }
    Ok((String::from_utf8_lossy(&method).into_owned(), body))
}

/// pgwire reads certificates as PEM only.
fn pem(der: &[u8]) -> Vec<u8> {
    /// Source: RFC 7468.
    const LINE: usize = 64;
    let text = base64::encode(der);
    let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in text.as_bytes().chunks(LINE) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    pem
}
