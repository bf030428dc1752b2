//! Words with a fixed set of values.

use std::fmt;
use std::str::FromStr;

use super::ConninfoError;

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server wants it.
    Allow,
    /// TLS when the server can.
    Prefer,
    /// TLS, unverified unless a root certificate is given.
    Require,
    /// TLS, signed by the root certificate.
    VerifyCa,
    /// TLS, signed by the root certificate, for this host name.
    VerifyFull,
}

/// libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetSessionAttrs {
    /// The first server that answers.
    #[default]
    Any,
    /// A session that accepts writes.
    ReadWrite,
    /// A session that refuses writes.
    ReadOnly,
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
    /// In recovery if there is one, otherwise any.
    PreferStandby,
}

impl SslMode {
    /// All modes, weakest first.
    pub const ALL: [Self; 6] = [
        Self::Disable,
        Self::Allow,
        Self::Prefer,
        Self::Require,
        Self::VerifyCa,
        Self::VerifyFull,
    ];

    /// libpq's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl TargetSessionAttrs {
    /// All values.
    pub const ALL: [Self; 6] = [
        Self::Any,
        Self::ReadWrite,
        Self::ReadOnly,
        Self::Primary,
        Self::Standby,
        Self::PreferStandby,
    ];

    /// libpq's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

macro_rules! word {
    ($type:ty, $keyword:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = ConninfoError;

            fn from_str(text: &str) -> Result<Self, ConninfoError> {
                Self::ALL
                    .into_iter()
                    .find(|w| w.as_str() == text)
                    .ok_or_else(|| ConninfoError::InvalidValue {
                        keyword: $keyword.to_owned(),
                        value: text.to_owned(),
                    })
            }
        }
    };
}

word!(SslMode, "sslmode");
word!(TargetSessionAttrs, "target_session_attrs");
