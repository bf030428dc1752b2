//! Takes over with the program that is in the file now: the service executes it in place.
//!
//! The process stays the same, so Postgres stays its child and goes on; the new program adopts it
//! as after a crash of the keeper. Must never stop Postgres, and must never give up the running
//! program before the next one is known to be there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{ExitCode, Failure};

/// Options that say how much is logged: they are kept.
const LOUDNESS: [&str; 6] = ["-v", "-vv", "-vvv", "--verbose", "-q", "--quiet"];

/// The file that this process would execute: as it was called, so that a link is followed anew,
/// and the file that it was started from otherwise.
pub(crate) fn program() -> Option<PathBuf> {
    program_of(i32::try_from(std::process::id()).ok()?)
}

/// The same of another process.
pub(crate) fn program_of(pid: i32) -> Option<PathBuf> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let called = line.split(|byte| *byte == 0).next()?.to_vec();
    of_call(OsString::from_vec(called)).or_else(|| {
        let link = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let text = link.into_os_string().into_string().ok()?;
        // So the kernel marks a file that was replaced.
        Some(PathBuf::from(
            text.strip_suffix(" (deleted)").unwrap_or(&text),
        ))
    })
}

fn of_call(called: OsString) -> Option<PathBuf> {
    let called = PathBuf::from(called);
    called.is_absolute().then_some(called)
}

/// Why a file cannot be executed as the next program; asks it for its version, as whoever asks.
pub(crate) fn refusal(program: &Path) -> Option<String> {
    let answer = Command::new(program).arg("version").output();
    match answer {
        Ok(answer) if answer.status.success() => None,
        Ok(answer) => Some(format!(
            "\"{} version\" ends with {}",
            program.display(),
            answer.status
        )),
        Err(error) => Some(format!("cannot execute {}: {error}", program.display())),
    }
}

/// Executes the program in place of this one; comes back only when that fails.
pub(crate) fn take_over(program: &Path, pgdata: &Path) -> Failure {
    tracing::info!("executes \"{}\" in place", program.display());
    let loud = std::env::args().filter(|word| LOUDNESS.contains(&word.as_str()));
    let error = Command::new(program)
        .arg("run")
        .arg("--pgdata")
        .arg(pgdata)
        .args(loud)
        .exec();
    Failure::fatal(
        ExitCode::Internal,
        format!("cannot execute {} in place", program.display()),
    )
    .because(&error)
    .hint("Postgres goes on; `pg_autoctl run` starts the service again and adopts it")
}
