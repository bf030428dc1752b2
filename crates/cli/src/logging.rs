//! The log: everything that is not data goes to stderr, one line per event.
//!
//! Owns the line shape of the old program (`HH:MM:SS <pid> <LEVEL> <message>`, colours on a
//! terminal only) and JSON lines on request. Must never write to stdout.

use std::fmt;
use std::io::IsTerminal;

use jiff::Zoned;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Target of an event that is printed as `FATAL`: the process ends because of it.
pub(crate) const FATAL: &str = "pg_autoctl::fatal";
/// Target of an event that is printed as `HINT`: what the user can do.
pub(crate) const HINT: &str = "pg_autoctl::hint";

/// Selects JSON lines when its value is `json`.
pub(crate) const FORMAT_VARIABLE: &str = "PG_AUTOCTL_LOG_FORMAT";

/// How much is logged. Source: the old program's `-q`, `-v`, `-vv`, `-vvv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// `-q`: errors only.
    Quiet,
    /// Default, and `-v`.
    Info,
    /// `-vv`.
    Debug,
    /// `-vvv` and more.
    Trace,
}

impl Verbosity {
    /// The level that a count of `-v` and the presence of `-q` ask for; the louder wish of `-q`
    /// and `-v` loses, as the last option on the line cannot be told apart here.
    pub(crate) fn from_options(verbose: u8, quiet: bool) -> Self {
        match (quiet, verbose) {
            (true, 0) => Self::Quiet,
            (_, 0 | 1) => Self::Info,
            (_, 2) => Self::Debug,
            (_, 3..) => Self::Trace,
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Quiet => Level::ERROR,
            Self::Info => Level::INFO,
            Self::Debug => Level::DEBUG,
            Self::Trace => Level::TRACE,
        }
    }
}

/// Starts the log of this process. A second call changes nothing.
pub(crate) fn start(verbosity: Verbosity, json: bool) {
    let level = verbosity.level();
    // Libraries below us stay quiet unless the user asks for everything: their lines name no node.
    let others = if level == Level::TRACE {
        "info"
    } else {
        "error"
    };
    let directives = [
        "pg_autoctl",
        "pgaf_protocol",
        "pgaf_fsm",
        "pgaf_store",
        "pgaf_postgres",
        "pgaf_monitor",
        "pgaf_keeper",
    ]
    .iter()
    .fold(others.to_owned(), |list, name| {
        format!("{list},{name}={level}")
    });
    let filter = EnvFilter::new(directives);
    let json = json || std::env::var(FORMAT_VARIABLE).is_ok_and(|value| value == "json");
    let ansi = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let outcome = if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        builder
            .with_ansi(ansi)
            .event_format(Lines {
                pid: std::process::id(),
                ansi,
                places: level >= Level::DEBUG,
            })
            .try_init()
    };
    // Only a second call can fail, and the first one's log goes on.
    drop(outcome);
}

/// Formats events as the old program does.
struct Lines {
    pid: u32,
    ansi: bool,
    /// Whether lines carry the file and line they come from: at DEBUG and TRACE.
    places: bool,
}

impl Lines {
    fn label(metadata: &Metadata<'_>) -> &'static str {
        match metadata.target() {
            FATAL => return "FATAL",
            HINT => return "HINT ",
            _ => {}
        }
        match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN ",
            Level::INFO => "INFO ",
            Level::DEBUG => "DEBUG",
            Level::TRACE => "TRACE",
        }
    }

    /// The escape sequence of a label. Source: the old program's colours, by eye.
    fn colour(label: &str) -> &'static str {
        match label {
            "FATAL" => "\x1b[35m",
            "ERROR" => "\x1b[31m",
            "WARN " => "\x1b[33m",
            "INFO " | "HINT " => "\x1b[32m",
            "DEBUG" => "\x1b[36m",
            _ => "\x1b[94m",
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let now = Zoned::now().strftime("%H:%M:%S").to_string();
        let label = Self::label(metadata);
        if self.ansi {
            let colour = Self::colour(label);
            write!(writer, "{now} {} {colour}{label}\x1b[0m ", self.pid)?;
        } else {
            write!(writer, "{now} {} {label} ", self.pid)?;
        }
        if self.places {
            let file = metadata.file().unwrap_or("?");
            write!(writer, "{file}:{}: ", metadata.line().unwrap_or(0))?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_v_is_the_default_and_quiet_keeps_errors() {
        assert_eq!(Verbosity::from_options(0, false), Verbosity::Info);
        assert_eq!(Verbosity::from_options(1, false), Verbosity::Info);
        assert_eq!(Verbosity::from_options(2, false), Verbosity::Debug);
        assert_eq!(Verbosity::from_options(5, false), Verbosity::Trace);
        assert_eq!(Verbosity::from_options(0, true), Verbosity::Quiet);
    }
}
