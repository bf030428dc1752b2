//! `upgrade`: the running service takes over with the program that is installed now.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use super::{Context, stop};
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::paths::{self, Paths};
use crate::pidfile::PidFile;
use crate::render::out;
use crate::upgrade;

/// How long the new program may take to have the pid file, in seconds. Chosen: it takes well under
/// one; a rewind that goes on is waited for.
const WAIT_SECONDS: u64 = 60;
/// How often a wait looks again. Chosen, no evidence.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Signals the service, and waits until the new program serves. Postgres is not stopped.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let wait = match parsed.value("wait") {
        Some(text) => values::seconds("--wait", text)?,
        None => WAIT_SECONDS,
    };
    let paths = paths::of_command(parsed.value("pgdata"))?;
    let service = stop::running(&paths)?.ok_or_else(|| {
        Failure::fatal(
            ExitCode::Internal,
            "the service of this data directory does not run",
        )
        .coded("service-not-running")
        .hint("`pg_autoctl run` starts it, with the program that is installed now")
    })?;
    let refuse = |why: String| {
        Failure::error(ExitCode::BadState, "the service goes on as it is")
            .coded("upgrade-refused")
            .detail(why)
            .hint("install a program that runs on this host, then try again; nothing was changed")
    };
    let program = upgrade::program_of(service.pid)
        .ok_or_else(|| refuse(format!("pid {} does not tell its program", service.pid)))?;
    if let Some(why) = upgrade::refusal(&program) {
        return Err(refuse(why));
    }
    let asked = SystemTime::now();
    service.signal(Signal::SIGUSR2).map_err(|error| {
        Failure::error(
            ExitCode::Internal,
            format!("Failed to signal pid {}", service.pid),
        )
        .because(&error)
    })?;
    let start = Instant::now();
    while !serves(&service, &program, &paths, asked) {
        if start.elapsed() >= Duration::from_secs(wait) {
            return Err(Failure::error(
                ExitCode::Internal,
                format!("the service has not taken over within {wait} s"),
            )
            .hint(
                "its log says why; Postgres goes on either way, and `pg_autoctl run` adopts it",
            ));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    if context.json {
        let told = serde_json::json!({ "pid": service.pid, "program": program });
        out::stdout(&format!("{told}\n"));
    } else {
        tracing::info!(
            "pid {} serves with \"{}\" now; Postgres was not stopped",
            service.pid,
            program.display()
        );
    }
    Ok(())
}

/// Whether the same process executes the file that is there now, and has the pid file anew.
fn serves(before: &PidFile, program: &Path, paths: &Paths, asked: SystemTime) -> bool {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let executes = format!("/proc/{}/exe", before.pid);
    let same_file = id(program).is_some() && id(program) == id(Path::new(&executes));
    let written = std::fs::metadata(&paths.pid).and_then(|m| m.modified());
    let same_process = PidFile::running(&paths.pid)
        .ok()
        .flatten()
        .is_some_and(|now| now.pid == before.pid);
    same_file && same_process && written.is_ok_and(|at| at >= asked)
}
