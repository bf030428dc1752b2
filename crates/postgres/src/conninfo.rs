//! Connection strings as libpq reads them: keyword/value text and `postgres://` URIs.
//!
//! Owns parsing, rendering, secrets and the password file. It must never open a connection, and
//! never print a password: [`Secret`] shows as `****` everywhere but in [`Secret::expose`].

mod assign;
mod parse;
mod passfile;
mod render;
#[cfg(test)]
mod tests;
mod words;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use words::{SslMode, TargetSessionAttrs};

/// libpq's port when none is given.
pub const DEFAULT_PORT: u16 = 5432;

/// Where Debian's libpq looks for the socket when no host is given.
pub const DEFAULT_SOCKET_DIR: &str = "/var/run/postgresql";

/// A password: printable only by name, through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for the wire and for files of mode 0600 only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("****")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("****")
    }
}

/// One server of a multi-host connection string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// Host name, address, or the directory of a Unix socket (starts with `/` or `@`).
    pub host: Option<String>,
    /// Address to dial instead of resolving `host`.
    pub hostaddr: Option<IpAddr>,
    /// Port; 5432 when missing.
    pub port: Option<u16>,
}

/// A parsed connection string. A missing keyword stays missing: no default is filled in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conninfo {
    /// Servers in the order they are tried; empty means the default Unix socket directory.
    pub endpoints: Vec<Endpoint>,
    /// Role.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Database.
    pub dbname: Option<String>,
    /// Password file instead of `~/.pgpass`.
    pub passfile: Option<PathBuf>,
    /// TLS mode; `prefer` when missing.
    pub sslmode: Option<SslMode>,
    /// Root certificates (PEM).
    pub sslrootcert: Option<PathBuf>,
    /// Certificate revocation list (PEM).
    pub sslcrl: Option<PathBuf>,
    /// Client certificate (PEM).
    pub sslcert: Option<PathBuf>,
    /// Key of the client certificate (PEM).
    pub sslkey: Option<PathBuf>,
    /// `application_name`.
    pub application_name: Option<String>,
    /// Server options, `-c name=value`.
    pub options: Option<String>,
    /// Limit for one attempt.
    pub connect_timeout: Option<Duration>,
    /// Which kind of server will do.
    pub target_session_attrs: Option<TargetSessionAttrs>,
    /// Keywords that libpq knows and that only libpq acts upon (keepalives, gssencmode, …), kept
    /// for rendering, in order.
    pub passive: Vec<(String, String)>,
}

/// Why a connection string is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    /// A keyword that libpq does not know.
    #[error("invalid connection option `{0}`")]
    UnknownKeyword(String),
    /// A keyword that libpq knows and that we do not support.
    #[error("connection option `{0}` is not supported")]
    UnsupportedKeyword(String),
    /// A value that its keyword does not take.
    #[error("invalid value `{value}` for connection option `{keyword}`")]
    InvalidValue {
        /// The keyword.
        keyword: String,
        /// Its value; never a password.
        value: String,
    },
    /// Text that is neither form.
    #[error("invalid connection string: {0}")]
    Syntax(String),
}

impl Endpoint {
    /// Port to dial.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// Directory of the Unix socket, when this endpoint is one.
    #[must_use]
    pub fn socket_dir(&self) -> Option<&str> {
        match (&self.host, self.hostaddr) {
            (_, Some(_)) => None,
            (Some(host), None) => host.starts_with(['/', '@']).then_some(host.as_str()),
            (None, None) => Some(DEFAULT_SOCKET_DIR),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.host, self.hostaddr) {
            (Some(host), _) if host.contains(':') => write!(f, "[{host}]:{}", self.port()),
            (Some(host), _) => write!(f, "{host}:{}", self.port()),
            (None, Some(address)) => write!(f, "{address}:{}", self.port()),
            (None, None) => write!(f, "{DEFAULT_SOCKET_DIR}:{}", self.port()),
        }
    }
}

impl Conninfo {
    /// Parses either form. A string that starts with `postgres://` or `postgresql://` is a URI.
    ///
    /// # Errors
    /// [`ConninfoError`], which never contains a password.
    pub fn parse(text: &str) -> Result<Self, ConninfoError> {
        let pairs = match parse::after_scheme(text.trim()) {
            Some(rest) => parse::uri(rest)?,
            None => parse::keywords(text)?,
        };
        assign::conninfo(&pairs)
    }

    /// A connection to one server.
    #[must_use]
    pub fn single(host: impl Into<String>, port: u16, user: &str, dbname: &str) -> Self {
        Self {
            endpoints: vec![Endpoint {
                host: Some(host.into()),
                hostaddr: None,
                port: Some(port),
            }],
            user: Some(user.to_owned()),
            dbname: Some(dbname.to_owned()),
            ..Self::default()
        }
    }

    /// Fills what is missing from PGHOST, PGHOSTADDR, PGPORT, PGUSER, PGDATABASE, PGPASSWORD,
    /// PGPASSFILE, PGSSLMODE, PGSSLROOTCERT, PGSSLCRL, PGSSLCERT, PGSSLKEY, PGAPPNAME, PGOPTIONS,
    /// PGCONNECT_TIMEOUT and PGTARGETSESSIONATTRS.
    ///
    /// # Errors
    /// When a variable's value does not parse.
    pub fn with_env(self) -> Result<Self, ConninfoError> {
        self.with_variables(|name| std::env::var(name).ok())
    }

    /// As [`Conninfo::with_env`], from any source of variables.
    ///
    /// # Errors
    /// When a variable's value does not parse.
    pub fn with_variables(
        self,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConninfoError> {
        assign::fill(self, get)
    }

    /// As a URI, password included.
    #[must_use]
    pub fn to_uri(&self) -> String {
        render::uri(self, self.password.as_ref().map(Secret::expose))
    }

    /// As `keyword=value` text, password included.
    #[must_use]
    pub fn to_keywords(&self) -> String {
        render::keywords(self, self.password.as_ref().map(Secret::expose))
    }

    /// As a URI, with `****` for the password: the form for logs and messages.
    #[must_use]
    pub fn redacted(&self) -> String {
        render::uri(self, self.password.as_ref().map(|_| "****"))
    }

    /// As `keyword=value` text with `password=****`.
    #[must_use]
    pub fn redacted_keywords(&self) -> String {
        render::keywords(self, self.password.as_ref().map(|_| "****"))
    }

    /// The password for one endpoint: the given one, else from the password file (the `passfile`
    /// keyword, else `~/.pgpass`; a file that others may read is passed over with a warning).
    #[must_use]
    pub fn password_for(&self, endpoint: &Endpoint) -> Option<Secret> {
        self.password
            .clone()
            .or_else(|| passfile::lookup(self, endpoint))
    }

    /// The TLS mode that applies: `prefer` when none was given.
    #[must_use]
    pub fn sslmode(&self) -> SslMode {
        self.sslmode.unwrap_or(SslMode::Prefer)
    }

    /// The endpoints to try: the default Unix socket when none was given.
    #[must_use]
    pub fn targets(&self) -> Vec<Endpoint> {
        if self.endpoints.is_empty() {
            vec![Endpoint::default()]
        } else {
            self.endpoints.clone()
        }
    }

    /// The value of a keyword in [`Conninfo::passive`].
    #[must_use]
    pub fn passive(&self, keyword: &str) -> Option<&str> {
        self.passive
            .iter()
            .find(|(k, _)| k == keyword)
            .map(|(_, v)| v.as_str())
    }
}
