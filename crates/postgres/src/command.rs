//! Running the programs of Postgres.
//!
//! Owns every child program but the postmaster. It must never use a shell, put a secret into an
//! argument, wait without a limit, or leave a program running when its caller has gone.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::conninfo::Secret;

/// One run of a program, to be described and then [`run`](Self::run).
pub struct Invocation<'a> {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) secrets: Vec<(OsString, Secret)>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) stall: Option<Duration>,
    pub(crate) keep_locale: bool,
    pub(crate) on_line: Option<Box<dyn FnMut(&str) -> Verdict + Send + 'a>>,
}

/// What a reader of lines wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; the line was ordinary.
    Ordinary,
    /// Go on; the line showed progress, which resets [`Invocation::stall`].
    Progress,
    /// Kill the program.
    Stop,
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, up to 1 MiB.
    pub stdout: String,
    /// The last 40 lines of its standard error.
    pub stderr: Vec<String>,
}

impl Finished {
    /// The last lines of standard error as one text, for messages.
    #[must_use]
    pub fn reason(&self) -> String {
        self.stderr
            .iter()
            .rev()
            .take(4)
            .rev()
            .cloned()
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be started.
    #[error("cannot start `{program}`", program = program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Its output cannot be read, or it cannot be waited for.
    #[error("cannot follow `{program}`", program = program.display())]
    Follow {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It was killed at its deadline.
    #[error("`{program}` has not ended within {} ms", limit.as_millis(), program = program.display())]
    Deadline {
        /// The program.
        program: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// It was killed because it showed no progress.
    #[error("`{program}` has made no progress for {} ms", limit.as_millis(), program = program.display())]
    Stalled {
        /// The program.
        program: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// It was killed because the reader of its lines said so.
    #[error("`{program}` was stopped", program = program.display())]
    Stopped {
        /// The program.
        program: PathBuf,
    },
}

impl<'a> Invocation<'a> {
    /// Describes a run of `program` with `LANG=C`, an empty standard input, and no limit yet.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            deadline: None,
            stall: None,
            keep_locale: false,
            on_line: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable that is never logged.
    #[must_use]
    pub fn secret_env(mut self, name: &str, value: &Secret) -> Self {
        self.secrets.push((name.into(), value.clone()));
        self
    }

    /// Kills it when it has not ended after this long.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Kills it when it shows no [`Verdict::Progress`] for this long.
    #[must_use]
    pub fn stall(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// Keeps the caller's locale, for programs that write it into a cluster.
    #[must_use]
    pub fn keep_locale(mut self) -> Self {
        self.keep_locale = true;
        self
    }

    /// Hands each line of standard error to `reader` as it comes.
    #[must_use]
    pub fn on_line(mut self, reader: impl FnMut(&str) -> Verdict + Send + 'a) -> Self {
        self.on_line = Some(Box::new(reader));
        self
    }

    /// Runs it to its end. Dropping the future kills it, and what it started.
    ///
    /// # Errors
    /// [`CommandError`]; an exit status other than 0 is no error.
    pub async fn run(self) -> Result<Finished, CommandError> {
        todo!()
    }
}
