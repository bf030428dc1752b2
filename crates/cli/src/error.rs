//! What a command ends with when it does not end well: one message chain, one hint, one exit code.
//!
//! Owns the exit codes (the old program's, so that scripts keep working) and the one place that
//! prints an error. Must never print twice, and must never be handed a secret: whoever builds a
//! [`Failure`] builds its text.

use std::error::Error;
use std::fmt::{self, Display};

use crate::logging;

/// Exit codes of the process. Source: the old program's `defaults.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// Success, help, version.
    Quit = 0,
    /// Wrong options or arguments, no data directory, no configuration file.
    BadArgs = 1,
    /// The configuration cannot be read, or refuses what was asked.
    BadConfig = 2,
    /// The state of the node or formation does not allow the command; `status`: not running.
    BadState = 3,
    /// Postgres is not ready (`do pgsetup ready`).
    Pgsql = 4,
    /// `config check`, `status`: Postgres is not usable.
    PgCtl = 5,
    /// The monitor cannot be reached, or refuses.
    Monitor = 6,
    /// The Citus coordinator refused, or does not answer.
    Coordinator = 7,
    /// Waited too long, no pid file, or a service refuses to start.
    Internal = 12,
    /// An extension that the node needs is not installed.
    ExtensionMissing = 13,
}

/// How loud the first line of a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Printed as `ERROR`.
    Error,
    /// Printed as `FATAL`.
    Fatal,
    /// Nothing is printed: the command has already said why (usage text, a result).
    Silent,
}

/// Why a command stopped, ready to be printed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: ExitCode,
    severity: Severity,
    message: String,
    causes: Vec<String>,
    details: Vec<String>,
    hint: Option<String>,
    /// The id of a [`pgaf_protocol::Code`].
    id: &'static str,
}

impl ExitCode {
    /// The stable code of what ends so and has none of its own.
    fn id(self) -> &'static str {
        match self {
            Self::Quit => "",
            Self::BadArgs => "bad-arguments",
            Self::BadConfig => "bad-configuration",
            Self::BadState => "wrong-state",
            Self::Pgsql | Self::PgCtl => "postgres-unusable",
            Self::Monitor => "monitor-refused",
            Self::Coordinator => "coordinator-refused",
            Self::Internal => "service-failed",
            Self::ExtensionMissing => "extension-missing",
        }
    }
}

impl Failure {
    fn new(code: ExitCode, severity: Severity, message: impl Display) -> Self {
        Self {
            code,
            severity,
            message: message.to_string(),
            causes: Vec::new(),
            details: Vec::new(),
            hint: None,
            id: code.id(),
        }
    }

    /// An `ERROR` line and `code`.
    pub(crate) fn error(code: ExitCode, message: impl Display) -> Self {
        Self::new(code, Severity::Error, message)
    }

    /// A `FATAL` line and `code`.
    pub(crate) fn fatal(code: ExitCode, message: impl Display) -> Self {
        Self::new(code, Severity::Fatal, message)
    }

    /// Wrong options or arguments.
    pub(crate) fn bad_args(message: impl Display) -> Self {
        Self::error(ExitCode::BadArgs, message)
    }

    /// A configuration that cannot be used.
    pub(crate) fn bad_config(message: impl Display) -> Self {
        Self::error(ExitCode::BadConfig, message)
    }

    /// A monitor that cannot be reached or refuses.
    pub(crate) fn monitor(message: impl Display) -> Self {
        Self::error(ExitCode::Monitor, message)
    }

    /// Ends with `code` and prints nothing more.
    pub(crate) fn silent(code: ExitCode) -> Self {
        Self::new(code, Severity::Silent, "")
    }

    /// Adds the whole source chain of `error`, each cause once.
    #[must_use]
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// Adds a line of its own below the message (`Monitor DETAIL:` and friends).
    #[must_use]
    pub(crate) fn detail(mut self, line: impl Display) -> Self {
        self.details.push(line.to_string());
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Names it more closely than its exit code does: the id of a [`pgaf_protocol::Code`].
    #[must_use]
    pub(crate) fn coded(mut self, id: &'static str) -> Self {
        debug_assert!(pgaf_protocol::Code::find(id).is_some(), "no code {id}");
        self.id = id;
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: ExitCode) -> Self {
        if self.id == self.code.id() {
            self.id = code.id();
        }
        self.code = code;
        self
    }

    /// Whether it says what to do.
    pub(crate) fn has_hint(&self) -> bool {
        self.hint.is_some()
    }

    /// Whether it has lines of its own below the message.
    pub(crate) fn has_details(&self) -> bool {
        !self.details.is_empty()
    }

    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        self.code
    }

    /// Prints the failure to the log, once.
    pub(crate) fn report(&self) {
        // `pg_autoctl inspect error ID` explains it.
        let text = format!("{self} [{}]", self.id);
        match self.severity {
            Severity::Silent => return,
            Severity::Error => tracing::error!("{text}"),
            Severity::Fatal => tracing::error!(target: logging::FATAL, "{text}"),
        }
        for line in &self.details {
            tracing::error!("{line}");
        }
        if let Some(hint) = &self.hint {
            tracing::error!(target: logging::HINT, "{hint}");
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_prints_its_whole_chain_once() {
        let error = Outer(std::io::Error::other("inner"));
        let failure = Failure::bad_config("cannot do it").because(&error);
        assert_eq!(failure.to_string(), "cannot do it: outer: inner");
        assert_eq!(failure.code() as u8, 2);
        assert_eq!(failure.id, "bad-configuration");
        let other = failure.with_code(ExitCode::Monitor);
        assert_eq!(other.id, "monitor-refused");
        assert_eq!(
            other.coded("port-taken").with_code(ExitCode::Internal).id,
            "port-taken"
        );
    }
}
