//! Running the programs of Postgres.
//!
//! Owns every child program but the postmaster. It must never use a shell, put a secret into an
//! argument, wait without a limit, or leave a program running when its caller has gone.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::Instant;

use crate::conninfo::Secret;
use crate::reaper;

/// Standard output kept of a program (chosen; the longest we read, `pg_controldata`, is 3 KiB).
const STDOUT_BYTES: usize = 1 << 20;
/// Lines of standard error kept of a program (chosen: enough for any of its explanations).
const STDERR_LINES: usize = 40;
/// A longer line is cut (chosen).
const LINE_BYTES: usize = 64 << 10;
/// How long the pipes of a program that has ended are read on (chosen).
const DRAIN: Duration = Duration::from_millis(200);
/// How long a killed program is waited for (chosen).
const KILL_WAIT: Duration = Duration::from_secs(5);

/// One run of a program, to be described and then [`run`](Self::run).
pub struct Invocation<'a> {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    secrets: Vec<(OsString, Secret)>,
    deadline: Option<Duration>,
    stall: Option<Duration>,
    keep_locale: bool,
    on_line: Option<Reader<'a>>,
}

/// Hears each line.
type Reader<'a> = Box<dyn FnMut(&str) -> Verdict + Send + 'a>;

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
    pub async fn run(mut self) -> Result<Finished, CommandError> {
        let mut running = self.spawn()?;
        let started = Instant::now();
        let deadline = self.deadline.map(|limit| started + limit);
        let mut moved = started;
        let mut exit = None;
        let mut drained_by = None;
        let mut stdout = Vec::new();
        let mut lines = Lines::default();
        while !(running.stdout.is_none() && running.stderr.is_none() && exit.is_some()) {
            let stalls = self.stall.map(|limit| moved + limit);
            let until = [deadline, stalls, drained_by].into_iter().flatten().min();
            let ended = exit.is_some();
            tokio::select! {
                read = fill(&mut running.stdout, &mut stdout) => {
                    read.map_err(|source| self.cannot_follow(source))?;
                    stdout.truncate(STDOUT_BYTES);
                }
                read = fill(&mut running.stderr, &mut lines.partial) => {
                    read.map_err(|source| self.cannot_follow(source))?;
                    match self.take_lines(&mut lines, running.stderr.is_none()) {
                        Verdict::Ordinary => {}
                        Verdict::Progress => moved = Instant::now(),
                        Verdict::Stop => {
                            running.kill().await;
                            return Err(CommandError::Stopped { program: self.program });
                        }
                    }
                }
                status = running.child.wait(), if !ended => {
                    exit = Some(status.map_err(|source| self.cannot_follow(source))?);
                    // A program that it started may hold the pipes open.
                    drained_by = Some(Instant::now() + DRAIN);
                }
                () = sleep_until(until) => {
                    if exit.is_some() {
                        break;
                    }
                    running.kill().await;
                    return Err(self.too_long(deadline.is_some_and(|d| d <= Instant::now())));
                }
            }
        }
        running.disarm();
        self.take_lines(&mut lines, true);
        let status = exit.expect("the loop ends with a status");
        tracing::debug!(program = %self.program.display(), %status, "ended");
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        Ok(Finished {
            status,
            stdout,
            stderr: lines.last.into(),
        })
    }

    fn spawn(&self) -> Result<Running, CommandError> {
        tracing::debug!(program = %self.program.display(), args = ?self.args, "starts");
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a signal from the terminal is for us, and what it starts
            // (pg_basebackup's receiver of WAL) is killed together with it.
            .process_group(0)
            .env_remove("PG_COLOR")
            .env_remove("PGAPPNAME")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(
                self.secrets
                    .iter()
                    .map(|(name, value)| (name, value.expose())),
            );
        if self.keep_locale {
            command.env("LC_MESSAGES", "C");
        } else {
            command.env("LANG", "C").env("LC_ALL", "C");
        }
        let mut child = reaper::spawn(&mut command).map_err(|source| CommandError::Start {
            program: self.program.clone(),
            source,
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Running {
            group: child.id().and_then(pid_of),
            child,
            stdout,
            stderr,
        })
    }

    /// Hands whole lines on; the strongest wish of the reader wins.
    fn take_lines(&mut self, lines: &mut Lines, all: bool) -> Verdict {
        let mut verdict = Verdict::Ordinary;
        while let Some(line) = lines.next(all) {
            tracing::debug!(program = %self.program.display(), "{line}");
            match self
                .on_line
                .as_mut()
                .map_or(Verdict::Ordinary, |reader| reader(&line))
            {
                Verdict::Ordinary => {}
                Verdict::Progress => verdict = Verdict::Progress,
                Verdict::Stop => return Verdict::Stop,
            }
        }
        verdict
    }

    fn cannot_follow(&self, source: std::io::Error) -> CommandError {
        CommandError::Follow {
            program: self.program.clone(),
            source,
        }
    }

    fn too_long(self, deadline: bool) -> CommandError {
        match (deadline, self.deadline, self.stall) {
            (true, Some(limit), _) | (_, Some(limit), None) => CommandError::Deadline {
                program: self.program,
                limit,
            },
            (_, _, stall) => CommandError::Stalled {
                program: self.program,
                limit: stall.unwrap_or_default(),
            },
        }
    }
}

/// A child with its group; dropping it kills both.
struct Running {
    /// The process group; `None` once the child was reaped.
    group: Option<Pid>,
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Running {
    /// Kills the group and reaps the child.
    async fn kill(&mut self) {
        self.kill_group();
        // SIGKILL cannot be refused; a process that the kernel holds (a dead NFS) is left to
        // itself after a while.
        let _ = tokio::time::timeout(KILL_WAIT, self.child.wait()).await;
        self.group = None;
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }

    fn disarm(&mut self) {
        self.group = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

pub(crate) fn pid_of(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Bytes that are not a line yet, and the last lines.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    /// The next whole line that is not blank; with `all` also what stands after the last line end.
    fn next(&mut self, all: bool) -> Option<String> {
        loop {
            let end = self.partial.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let (length, skip) = match end {
                Some(end) => (end, end + 1),
                None if (all && !self.partial.is_empty()) || self.partial.len() > LINE_BYTES => {
                    (self.partial.len(), self.partial.len())
                }
                None => return None,
            };
            let line = String::from_utf8_lossy(self.partial.get(..length)?)
                .trim_end()
                .to_owned();
            self.partial.drain(..skip);
            if line.is_empty() {
                continue;
            }
            if self.last.len() == STDERR_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line.clone());
            return Some(line);
        }
    }
}

/// Reads more of a pipe, and closes it at its end; waits for ever when it is closed.
async fn fill<R: AsyncRead + Unpin>(pipe: &mut Option<R>, into: &mut Vec<u8>) -> io::Result<()> {
    match pipe {
        Some(reader) => {
            if reader.read_buf(into).await? == 0 {
                *pipe = None;
            }
            Ok(())
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
