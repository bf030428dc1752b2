//! Running other programs: argument vectors only, every run with a limit or under the interrupt.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::{console, interrupt, process};

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);

/// How long a program that runs at an interrupt may take to clean up behind itself, as the bench does.
const CLEAN_UP: Duration = Duration::from_secs(20);

/// A program's end, with all it said.
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Captured {
    /// Standard output, when the program succeeded.
    ///
    /// # Errors
    /// Quotes the end of standard error when it did not.
    pub(crate) fn success(self, what: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        bail!("{what}: {}: {}", self.status, tail(text, 8))
    }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A command as one would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a program to its end, and keeps what it says.
///
/// # Errors
/// When it cannot be started, does not end within `limit` (it is then killed), or at an interrupt.
pub(crate) fn capture(command: &mut Command, limit: Duration) -> Result<Captured> {
    let what = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{what}`"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = finish(&mut child, &what, Some(limit))?;
    // A grandchild may hold the pipes open: what was said by now is enough.
    let grace = Duration::from_secs(2);
    Ok(Captured {
        status,
        stdout: stdout.recv_timeout(grace).unwrap_or_default(),
        stderr: stderr.recv_timeout(grace).unwrap_or_default(),
    })
}

/// Runs a program whose output goes to the terminal.
///
/// # Errors
/// When it cannot be started, does not succeed, or at an interrupt.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let what = shown(command);
    console::note(&format!("$ {what}"));
    let status = status(command)?;
    if !status.success() {
        bail!("`{what}`: {status}");
    }
    Ok(())
}

/// Runs a program whose output goes to the terminal, and says how it ended.
///
/// # Errors
/// When it cannot be started, or at an interrupt.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let what = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{what}`"))?;
    finish(&mut child, &what, None)
}

/// Runs a program, shows each of its lines as it comes, and returns them all. Standard error is
/// where cargo and its tools report; standard output goes to the terminal as it is.
///
/// # Errors
/// When it cannot be started, or at an interrupt.
pub(crate) fn tee(command: &mut Command) -> Result<(ExitStatus, String)> {
    use std::io::{BufRead, BufReader};
    let what = shown(command);
    console::note(&format!("$ {what}"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{what}`"))?;
    process::own(child.id());
    let (sender, lines) = channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child
            .stdout
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
    }
    drop(sender);
    let mut all = String::new();
    for line in lines {
        console::say(&line);
        all.push_str(&line);
        all.push('\n');
    }
    Ok((finish(&mut child, &what, None)?, all))
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What arrived before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn finish(child: &mut Child, what: &str, limit: Option<Duration>) -> Result<ExitStatus> {
    process::own(child.id());
    let ended = finish_owned(child, what, limit);
    process::disown(child.id());
    ended
}

fn finish_owned(child: &mut Child, what: &str, limit: Option<Duration>) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("cannot wait for `{what}`"))?
        {
            return Ok(status);
        }
        if limit.is_some_and(|limit| start.elapsed() > limit) {
            end(child, Duration::ZERO);
            bail!(
                "`{what}` did not end within {}",
                console::human(start.elapsed())
            );
        }
        if interrupt::asked() {
            end(child, CLEAN_UP);
            interrupt::check()?;
        }
        std::thread::sleep(POLL);
    }
}

/// Asks a program to end, and makes it do so when it has not after `patience`. It may have ended by itself
/// meanwhile; either way it is collected.
fn end(child: &mut Child, patience: Duration) {
    let start = Instant::now();
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = process::send(&process::Pids::from([pid]), Signal::SIGTERM);
    }
    while start.elapsed() < patience && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
