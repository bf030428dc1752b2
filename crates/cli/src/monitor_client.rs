//! Talks to a monitor: ours, or the old program's. Same SQL texts, same simple shapes.
//!
//! Owns connecting with retries within the old budget, and the form in which a monitor's errors
//! are shown. Parameters are written into the text as literals, since the answers are wanted as
//! text, in the server's own format; [`sql`] is the only place that does so.

use std::fmt::Write;
use std::time::{Duration, Instant};

use pgaf_postgres::client::{self, Client, ConnectError, Options, QueryError};
use tokio_postgres::{Notification, SimpleQueryRow};

use crate::error::{ExitCode, Failure};
use crate::target::Target;

/// How long connecting is tried, in seconds, unless `PGCONNECT_TIMEOUT` says otherwise. Source:
/// the old program.
const CONNECT_BUDGET_SECONDS: u64 = 2;
/// First and longest wait between two attempts. Source: the old program.
const RETRY_BASE: Duration = Duration::from_millis(5);
const RETRY_CAP: Duration = Duration::from_secs(2);
/// A monitor answers from memory; one that needs longer than this is of no use to a person.
/// Chosen, no evidence.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Param<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Int(i64),
    /// A boolean.
    Bool(bool),
}

/// Writes `$1`, `$2`, … of `text` as literals.
pub(crate) fn sql(text: &str, params: &[Param<'_>]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut parts = text.split('$');
    result.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        let index = number
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(1));
        match index.and_then(|index| params.get(index)) {
            Some(Param::Text(text)) => result.push_str(&literal(text)),
            Some(Param::Int(number)) => _ = write!(result, "{number}"),
            Some(Param::Bool(value)) => _ = write!(result, "{value}"),
            None => {
                debug_assert!(false, "${number} has no value");
                result.push_str("NULL");
            }
        }
        result.push_str(rest);
    }
    result
}

/// A text literal: quotes doubled; backslashes only ever inside `E''`, so that they mean themselves
/// whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let quoted = text.replace('\0', "").replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A session with a monitor.
#[derive(Debug)]
pub(crate) struct MonitorClient {
    client: Client,
}

impl MonitorClient {
    /// Connects, trying again while that may help.
    ///
    /// # Errors
    /// Exit code 6.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Failure> {
        let conninfo = target.conninfo.clone().with_env().map_err(|error| {
            Failure::bad_args("a libpq variable of the environment cannot be used").because(&error)
        })?;
        let shown = conninfo.redacted();
        let budget = connect_budget();
        let start = Instant::now();
        let mut pause = RETRY_BASE;
        let mut attempts = 0_u32;
        loop {
            attempts += 1;
            let left = budget.saturating_sub(start.elapsed()).max(RETRY_BASE);
            let options = Options {
                connect_timeout: left,
                application_name: "pg_autoctl".to_owned(),
            };
            let error = match client::connect(&conninfo, &options).await {
                Ok(client) => return Ok(Self { client }),
                Err(error) => error,
            };
            let spent = start.elapsed() + pause >= budget;
            if !error.may_retry() || spent {
                return Err(unreachable(&shown, attempts, start.elapsed(), &error));
            }
            if attempts == 1 {
                tracing::warn!(
                    "Failed to connect to \"{shown}\", retrying until the server is ready: {error}"
                );
            }
            tokio::time::sleep(pause).await;
            pause = next_pause(pause);
        }
    }

    /// Runs a statement and answers its rows as text.
    ///
    /// # Errors
    /// Exit code 6, with the monitor's own words.
    pub(crate) async fn query(
        &self,
        text: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let rows = self
            .client
            .simple(&sql(text, params), ANSWER_LIMIT)
            .await
            .map_err(|error| refused(&error))?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// As [`Self::query`], where exactly one value is expected; `None` stands for NULL.
    ///
    /// # Errors
    /// Exit code 6, also when there is no row.
    pub(crate) async fn value(
        &self,
        text: &str,
        params: &[Param<'_>],
    ) -> Result<Option<String>, Failure> {
        match self.query(text, params).await?.first() {
            Some(row) => Ok(row.get(0).map(str::to_owned)),
            None => Err(Failure::monitor("the monitor answered without a row")),
        }
    }

    /// Starts to listen to state changes. The receiver can be taken once.
    ///
    /// # Errors
    /// Exit code 6.
    pub(crate) async fn listen(
        &mut self,
    ) -> Result<tokio::sync::mpsc::Receiver<Notification>, Failure> {
        self.query("LISTEN \"state\"", &[]).await?;
        self.client
            .notifications()
            .ok_or_else(|| Failure::monitor("Failed to listen to state changes from the monitor"))
    }
}

/// A row of an answer.
#[derive(Debug)]
pub(crate) struct Row(SimpleQueryRow);

impl Row {
    /// A column; `None` for NULL and for a column that is not there.
    pub(crate) fn get(&self, index: usize) -> Option<&str> {
        self.0.try_get(index).ok().flatten()
    }

    /// A column that is shown as it is; NULL is empty.
    pub(crate) fn text(&self, index: usize) -> String {
        self.get(index).unwrap_or_default().to_owned()
    }

    /// A column of numbers.
    pub(crate) fn number(&self, index: usize) -> Option<i64> {
        self.get(index)?.parse().ok()
    }
}

/// The budget for connecting.
pub(crate) fn connect_budget() -> Duration {
    let seconds = std::env::var("PGCONNECT_TIMEOUT")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(
        seconds
            .filter(|seconds| *seconds > 0)
            .unwrap_or(CONNECT_BUDGET_SECONDS),
    )
}

/// Decorrelated jitter. Source: the old program.
fn next_pause(pause: Duration) -> Duration {
    let low = u64::try_from(RETRY_BASE.as_millis()).unwrap_or(5);
    let high = u64::try_from(pause.as_millis())
        .unwrap_or(low)
        .saturating_mul(3)
        .max(low + 1);
    Duration::from_millis(rand::random_range(low..=high)).min(RETRY_CAP)
}

fn unreachable(shown: &str, attempts: u32, spent: Duration, error: &ConnectError) -> Failure {
    let failure = Failure::monitor(format!(
        "Failed to connect to the monitor at \"{shown}\", after {attempts} attempts in {} ms",
        spent.as_millis()
    ))
    .coded("monitor-unreachable")
    .because(error);
    match error {
        ConnectError::Auth { .. } => failure.hint(
            "check user, password (PGPASSWORD, ~/.pgpass) and the --auth that the monitor was created with",
        ),
        ConnectError::Tls { .. } => {
            failure.hint("check sslmode and sslrootcert in the connection string of the monitor")
        }
        ConnectError::NoSuchDatabase { .. } => {
            failure.hint("this server is no monitor: its database is named pg_auto_failover")
        }
        ConnectError::Refused { .. }
        | ConnectError::TimedOut { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::NotReady { .. }
        | ConnectError::WrongRole { .. }
        | ConnectError::Failed { .. } => {
            failure.hint("check that the monitor runs, and host and port of its connection string")
        }
    }
}

/// The monitor's words, as the old program shows them.
pub(crate) fn refused(error: &QueryError) -> Failure {
    match error {
        QueryError::Server {
            message,
            detail,
            hint,
            ..
        } => {
            let mut failure =
                Failure::error(ExitCode::Monitor, format!("Monitor ERROR:  {message}"));
            if let Some(detail) = detail {
                failure = failure.detail(format!("Monitor DETAIL:  {detail}"));
            }
            if let Some(hint) = hint {
                failure = failure.detail(format!("Monitor HINT:  {hint}"));
            }
            failure
        }
        QueryError::TimedOut(_) | QueryError::Closed | QueryError::Protocol(_) => {
            Failure::monitor("the monitor did not answer").because(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_literals_that_cannot_break_out() {
        assert_eq!(
            sql(
                "f($1, $2, count => $3)",
                &[Param::Text("it's"), Param::Int(-1), Param::Bool(true)]
            ),
            "f('it''s', -1, count => true)"
        );
        assert_eq!(
            sql("f($1)", &[Param::Text("a\\'; drop")]),
            "f(E'a\\\\''; drop')"
        );
        assert_eq!(sql("f($1)", &[Param::Text("costs $2")]), "f('costs $2')");
        assert_eq!(sql("f($10)", &vec![Param::Int(3); 10]), "f(3)");
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        let mut pause = RETRY_BASE;
        for _ in 0..100 {
            pause = next_pause(pause);
            assert!(pause >= RETRY_BASE && pause <= RETRY_CAP);
        }
    }
}
