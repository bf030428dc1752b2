//! Who may connect: the authentication policy, and SCRAM verifiers as Postgres stores them.
//!
//! A password never leaves this module's functions: it is turned into a verifier at once. Nothing
//! here prints a secret.

use std::fmt;
use std::num::NonZeroU32;

use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, gen_salted_password};

use super::base64;

/// The only role of the monitor; source: the old program's `defaults.h`.
pub const ROLE: &str = "autoctl_node";
/// The only database of the monitor; source: the old program's `defaults.h`.
pub const DATABASE: &str = "pg_auto_failover";

/// Length of a verifier's salt in bytes; source: Postgres, `SCRAM_DEFAULT_SALT_LEN`.
const SALT_BYTES: usize = 16;
/// Length of SHA-256 keys in bytes.
const KEY_BYTES: usize = 32;
/// More iterations than this in a stored verifier are refused: they cost the client, and nobody
/// sets them on purpose. Chosen, no evidence.
const MAX_ITERATIONS: u32 = 10_000_000;

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Nobody is asked.
    Trust,
    /// SCRAM-SHA-256, with channel binding over TLS.
    Scram,
}

/// An authentication method that the monitor does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthMethodError {
    /// `md5` and `password` would send or store weaker secrets.
    #[error("authentication method `{0}` is not supported, use `scram-sha-256` instead")]
    UseScram(String),
    /// Anything else.
    #[error("unknown authentication method `{0}`, use `trust` or `scram-sha-256`")]
    Unknown(String),
}

impl AuthMethod {
    /// Reads the value of the option `--auth`.
    ///
    /// # Errors
    /// For every word but `trust` and `scram-sha-256`. The words `md5` and `password` have an error
    /// of their own: a caller that must go on treats it as [`AuthMethod::Scram`] and says so.
    pub fn parse(word: &str) -> Result<AuthMethod, AuthMethodError> {
        match word.trim().to_ascii_lowercase().as_str() {
            "trust" => Ok(AuthMethod::Trust),
            "scram-sha-256" | "scram" => Ok(AuthMethod::Scram),
            "md5" | "password" => Err(AuthMethodError::UseScram(word.to_owned())),
            _ => Err(AuthMethodError::Unknown(word.to_owned())),
        }
    }
}

/// A SCRAM verifier in Postgres' own text form,
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(<redacted>)")
    }
}

impl ScramVerifier {
    /// Derives a verifier with a fresh salt. Takes some milliseconds of CPU.
    pub fn from_password(password: &str) -> Option<ScramVerifier> {
        let salt: [u8; SALT_BYTES] = rand::random();
        let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        let secret =
            ScramSecret::verifier_from_salted_password(salt.to_vec(), salted, SCRAM_ITERATIONS);
        match secret {
            ScramSecret::Verifier {
                salt,
                iterations,
                stored_key,
                server_key,
            } => Some(ScramVerifier {
                iterations: u32::try_from(iterations).ok()?,
                salt,
                stored_key: stored_key.try_into().ok()?,
                server_key: server_key.try_into().ok()?,
            }),
            ScramSecret::SaltedPassword { .. } => None,
        }
    }

    /// Reads the text form; `None` when it is not one.
    pub fn parse(text: &str) -> Option<ScramVerifier> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (iterations_and_salt, keys) = rest.split_once('$')?;
        let (iterations, salt) = iterations_and_salt.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations: NonZeroU32 = iterations.parse().ok()?;
        if iterations.get() > MAX_ITERATIONS {
            return None;
        }
        Some(ScramVerifier {
            iterations: iterations.get(),
            salt: base64::decode(salt).filter(|salt| !salt.is_empty())?,
            stored_key: base64::decode(stored_key)?.try_into().ok()?,
            server_key: base64::decode(server_key)?.try_into().ok()?,
        })
    }

    /// The text form, to be stored. It is a secret.
    pub fn to_text(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            base64::encode(&self.salt),
            base64::encode(&self.stored_key),
            base64::encode(&self.server_key),
        )
    }

    pub(super) fn to_secret(&self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt.clone(),
            iterations: self.iterations as usize,
            stored_key: self.stored_key.to_vec(),
            server_key: self.server_key.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_survives_its_text_form_and_hides_itself() {
        let verifier = ScramVerifier::from_password("s3cret").unwrap();
        let text = verifier.to_text();
        assert_eq!(ScramVerifier::parse(&text), Some(verifier.clone()));
        assert_eq!(format!("{verifier:?}"), "ScramVerifier(<redacted>)");
        assert_eq!(ScramVerifier::parse("md5abcdef"), None);
        assert_eq!(ScramVerifier::parse("SCRAM-SHA-256$0:AA==$AA==:AA=="), None);
    }

    #[test]
    fn weak_methods_are_refused_by_name() {
        assert_eq!(AuthMethod::parse("trust"), Ok(AuthMethod::Trust));
        assert_eq!(AuthMethod::parse("scram-sha-256"), Ok(AuthMethod::Scram));
        assert_eq!(
            AuthMethod::parse("md5"),
            Err(AuthMethodError::UseScram("md5".into()))
        );
        assert_eq!(
            AuthMethod::parse("peer"),
            Err(AuthMethodError::Unknown("peer".into()))
        );
    }
}
