//! Errors and notices as they go to the client: severity, SQLSTATE, message, detail, hint.

use std::borrow::Cow;
use std::fmt;

/// An error with a SQLSTATE, as Postgres would report it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SqlError {
    /// Five characters, see Postgres' manual, appendix A.
    pub code: Cow<'static, str>,
    /// Primary message: lower case, no full stop.
    pub message: String,
    /// Detail: a full sentence.
    pub detail: Option<String>,
    /// Hint: a full sentence.
    pub hint: Option<String>,
    /// Whether the session ends with it.
    pub fatal: bool,
    /// Position in the statement's text, in characters from 1.
    pub position: Option<u32>,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl SqlError {
    /// An ordinary error.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        SqlError {
            code: code.into(),
            message: message.into(),
            detail: None,
            hint: None,
            fatal: false,
            position: None,
        }
    }

    /// An error that ends the session.
    pub fn fatal(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        SqlError {
            fatal: true,
            ..SqlError::new(code, message)
        }
    }

    /// A statement or feature that the monitor does not have (0A000).
    pub fn unsupported(message: impl Into<String>) -> Self {
        SqlError::new(codes::FEATURE_NOT_SUPPORTED, message)
    }

    /// Adds a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Severity of a [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeLevel {
    /// NOTICE
    Notice,
    /// WARNING
    Warning,
}

/// A message that is not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// NOTICE or WARNING.
    pub level: NoticeLevel,
    /// SQLSTATE.
    pub code: Cow<'static, str>,
    /// The message.
    pub message: String,
    /// Detail, a full sentence.
    pub detail: Option<String>,
    /// Hint, a full sentence.
    pub hint: Option<String>,
}

/// The SQLSTATEs that the endpoint itself raises; source: Postgres' manual, appendix A.
pub mod codes {
    /// A feature that is not there.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// The client broke the protocol.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// Wrong user.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// Wrong password.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// Unknown database.
    pub const INVALID_CATALOG_NAME: &str = "3D000";
    /// Bad text representation of a value.
    pub const INVALID_TEXT: &str = "22P02";
    /// Bad binary representation of a value.
    pub const INVALID_BINARY: &str = "22P03";
    /// Number out of range.
    pub const OUT_OF_RANGE: &str = "22003";
    /// Text that is not valid in the client's encoding.
    pub const NOT_IN_REPERTOIRE: &str = "22021";
    /// A bad value of a parameter.
    pub const INVALID_PARAMETER: &str = "22023";
    /// Commands ignored until the end of the aborted transaction.
    pub const IN_FAILED_TRANSACTION: &str = "25P02";
    /// A transaction is already open.
    pub const ACTIVE_TRANSACTION: &str = "25001";
    /// No transaction is open.
    pub const NO_ACTIVE_TRANSACTION: &str = "25P01";
    /// Unknown prepared statement.
    pub const INVALID_STATEMENT_NAME: &str = "26000";
    /// Unknown cursor or portal.
    pub const INVALID_CURSOR_NAME: &str = "34000";
    /// Not allowed.
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// Syntax error.
    pub const SYNTAX_ERROR: &str = "42601";
    /// Unknown column.
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// Unknown table or alias.
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// Unknown function.
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// Unknown parameter number.
    pub const UNDEFINED_PARAMETER: &str = "42P02";
    /// Unknown object.
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// Ambiguous column.
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    /// Ambiguous function.
    pub const AMBIGUOUS_FUNCTION: &str = "42725";
    /// Types do not fit.
    pub const DATATYPE_MISMATCH: &str = "42804";
    /// The name is taken.
    pub const DUPLICATE_STATEMENT: &str = "42P05";
    /// Unknown schema.
    pub const INVALID_SCHEMA_NAME: &str = "3F000";
    /// Too many connections.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// A limit of the endpoint.
    pub const LIMIT_EXCEEDED: &str = "54000";
    /// The statement was cancelled or took too long.
    pub const QUERY_CANCELED: &str = "57014";
    /// The monitor shuts down.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// The session was idle in the middle of something.
    pub const IDLE_TIMEOUT: &str = "57P05";
    /// The endpoint's own fault.
    pub const INTERNAL: &str = "XX000";
}
