//! Why there is no session, or no answer.

use std::time::Duration;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("connection to {server} refused")]
    Refused {
        /// Host and port.
        server: String,
    },
    /// No answer within the limit.
    #[error("no answer from {server} within {limit:?}")]
    TimedOut {
        /// Host and port.
        server: String,
        /// The limit.
        limit: Duration,
    },
    /// The name does not resolve, the network is unreachable, the socket file is missing, …
    #[error("cannot reach {server}")]
    Unreachable {
        /// Host and port.
        server: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// SQLSTATE 57P03: starting up, shutting down, in recovery without hot standby.
    #[error("{server} does not accept connections: {message}")]
    NotReady {
        /// Host and port.
        server: String,
        /// The server's words.
        message: String,
    },
    /// Wrong password, no matching HBA rule, no such role.
    #[error("{server} refused the login: {message}")]
    Auth {
        /// Host and port.
        server: String,
        /// The server's words.
        message: String,
    },
    /// SQLSTATE 3D000.
    #[error("{server}: {message}")]
    NoSuchDatabase {
        /// Host and port.
        server: String,
        /// The server's words.
        message: String,
    },
    /// The TLS handshake or its verification failed, or the server has no TLS.
    #[error("TLS with {server} failed: {reason}")]
    Tls {
        /// Host and port.
        server: String,
        /// Why.
        reason: String,
    },
    /// Servers answered, none is of the wanted kind.
    #[error("{server} is not {wanted}")]
    WrongRole {
        /// Host and port.
        server: String,
        /// The `target_session_attrs`.
        wanted: &'static str,
    },
    /// Another error of the server or of the protocol.
    #[error("{server}: {message}")]
    Failed {
        /// Host and port.
        server: String,
        /// SQLSTATE, when the server sent one.
        code: Option<String>,
        /// The reason.
        message: String,
    },
}

impl ConnectError {
    /// Whether the same attempt may work later without anybody changing a setting.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::Unreachable { .. }
            | Self::NotReady { .. }
            | Self::WrongRole { .. } => true,
            Self::Auth { .. } | Self::NoSuchDatabase { .. } | Self::Tls { .. } => false,
            Self::Failed { code, .. } => code
                .as_deref()
                .is_none_or(|c| c.starts_with("53") || c.starts_with("57")),
        }
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The deadline passed; the session is closed, since its state is unknown.
    #[error("no answer to a query within {0:?}")]
    TimedOut(Duration),
    /// The session is gone.
    #[error("the session is closed")]
    Closed,
    /// The server's error.
    #[error("{message}")]
    Server {
        /// SQLSTATE.
        code: String,
        /// Primary message.
        message: String,
        /// Detail.
        detail: Option<String>,
        /// Hint.
        hint: Option<String>,
    },
    /// A value of another type than expected, or a broken protocol.
    #[error("cannot read the answer: {0}")]
    Protocol(String),
}

impl ConnectError {
    /// How much it tells a person: of several hosts' errors, the one that tells most is reported.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => 0,
            Self::Refused { .. } => 1,
            Self::TimedOut { .. } => 2,
            Self::NotReady { .. } => 3,
            Self::WrongRole { .. } => 4,
            Self::Failed { .. } => 5,
            Self::Tls { .. } => 6,
            Self::NoSuchDatabase { .. } => 7,
            Self::Auth { .. } => 8,
        }
    }

    /// Reads what `tokio-postgres` says about the start-up of a session.
    pub(super) fn from_startup(server: String, error: &tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let message = db.message().to_owned();
            return match db.code().code() {
                "57P03" => Self::NotReady { server, message },
                code if code.starts_with("28") => Self::Auth { server, message },
                "3D000" => Self::NoSuchDatabase { server, message },
                code => Self::Failed {
                    server,
                    code: Some(code.to_owned()),
                    message,
                },
            };
        }
        let message = with_causes(error);
        // The kind is private: its fixed words are all there is.
        match error.to_string().as_str() {
            "error performing TLS handshake" => Self::Tls {
                server,
                reason: cause(error),
            },
            "invalid configuration" | "authentication error" => Self::Auth {
                server,
                message: cause(error),
            },
            _ => Self::Failed {
                server,
                code: None,
                message,
            },
        }
    }
}

impl QueryError {
    /// The SQLSTATE, when the server sent one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server { code, .. } => Some(code),
            Self::TimedOut(_) | Self::Closed | Self::Protocol(_) => None,
        }
    }

    /// Whether the session is of no more use.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Closed => true,
            // 57P01 to 57P05: the server ends the session; 08: connection exception.
            Self::Server { code, .. } => code.starts_with("57P") || code.starts_with("08"),
            Self::Protocol(_) => false,
        }
    }
}

impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::Server {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().map(str::to_owned),
                hint: db.hint().map(str::to_owned),
            };
        }
        let has_io = std::error::Error::source(&error).is_some_and(|e| e.is::<std::io::Error>());
        let is_io = has_io && error.to_string() == "error communicating with the server";
        if error.is_closed() || is_io {
            Self::Closed
        } else {
            Self::Protocol(with_causes(&error))
        }
    }
}

/// The innermost words.
fn cause(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The whole chain in one line.
pub(super) fn with_causes(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
