//! `cargo xtask scenario`: a story from `scenarios/`, run on real Postgres, one network namespace per node.

mod run;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pgaf_sim::script::Script;

use crate::host::Programs;
use crate::machine::{self, Account};
use crate::tally::Tally;
use crate::temp::Folder;
use crate::{command, console, workspace};

/// What a scenario needs beside Postgres: (program, Debian package).
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
];

/// How many lines of each log a failure shows.
const TAIL: usize = 12;

/// Runs one scenario, or `all`.
///
/// # Errors
/// When one fails, or cannot be run here.
pub(crate) fn command(name: &str, bin: Option<&Path>, keep: bool) -> Result<()> {
    if let Some(reason) = unavailable() {
        bail!("{reason}");
    }
    machine::install_missing(PROGRAMS)?;
    let names = if name == "all" {
        names()?
    } else {
        vec![name.to_owned()]
    };
    let scripts = names
        .iter()
        .map(|name| read(name))
        .collect::<Result<Vec<_>>>()?;
    let (programs, _folder) = programs(bin, false)?;
    let mut tally = Tally::default();
    for (name, script) in names.iter().zip(&scripts) {
        run_one(name, script, &programs, keep, &mut tally);
        crate::interrupt::check()?;
    }
    console::say(&tally.to_string());
    if tally.failed > 0 {
        bail!("{} of {} scenarios failed", tally.failed, names.len());
    }
    Ok(())
}

/// Why scenarios cannot run here, if they cannot.
pub(crate) fn unavailable() -> Option<&'static str> {
    (!machine::is_root()).then_some("network namespaces need root")
}

/// Runs every scenario as part of the tests.
///
/// # Errors
/// When the programs cannot be built or copied; a failing scenario is counted instead.
pub(crate) fn run_all(long: bool, tally: &mut Tally) -> Result<()> {
    let names = names()?;
    if let Some(reason) = unavailable() {
        tally.skip(names.len(), "the scenarios", reason);
        return Ok(());
    }
    let (programs, _folder) = programs(None, false)?;
    let version = Command::new(programs.autoctl.join("pg_autoctl"))
        .arg("version")
        .output();
    if !version.is_ok_and(|output| output.stdout.starts_with(b"pg_autoctl version")) {
        tally.skip(
            names.len(),
            "the scenarios",
            "pg_autoctl has no commands yet",
        );
        return Ok(());
    }
    let mut left_out = 0;
    for name in &names {
        crate::interrupt::check()?;
        match read(name) {
            Ok(script) if !long && takes_long(name, &script) => left_out += 1,
            Ok(script) => run_one(name, &script, &programs, false, tally),
            Err(error) => tally.record(name, Duration::ZERO, &Err(error)),
        }
    }
    if left_out > 0 {
        tally.skip(
            left_out,
            "scenarios of four nodes, maintenance of three, and the old program's faults",
            "they take longer: `cargo xtask test --long`; the simulator has played them",
        );
    }
    Ok(())
}

/// Whether a story is left to `--long`: all of them would not fit in a quarter of an hour.
fn takes_long(name: &str, script: &Script) -> bool {
    script.nodes > 3
        || name.starts_with("old-")
        || (script.nodes > 2 && name.starts_with("maintenance-"))
}

fn run_one(name: &str, script: &Script, programs: &Arc<Programs>, keep: bool, tally: &mut Tally) {
    console::heading(&format!("scenario {name}"));
    for line in script.story.lines() {
        console::note(line);
    }
    let start = Instant::now();
    let result = Folder::new(&format!("scenario-{name}"))
        .and_then(|folder| in_folder(script, folder, programs, keep));
    tally.record(&format!("scenario {name}"), start.elapsed(), &result);
}

/// Runs the script in a folder that stays when it fails.
fn in_folder(script: &Script, folder: Folder, programs: &Arc<Programs>, keep: bool) -> Result<()> {
    let result = play(script, folder.path(), programs, keep);
    if result.is_err() && !crate::interrupt::asked() {
        show_logs(folder.path());
        let kept = folder.keep();
        return result.with_context(|| format!("logs in {}", kept.display()));
    }
    result
}

fn play(script: &Script, folder: &Path, programs: &Arc<Programs>, keep: bool) -> Result<()> {
    let mut run = run::Run::start(script, folder, programs).context("no cluster")?;
    let result = run.play(script);
    if result.is_err() && !crate::interrupt::asked() {
        run.show_state();
    }
    if keep {
        console::note(&format!("kept until Ctrl-C: {}", folder.display()));
        run.show_ways_in();
        while !crate::interrupt::asked() {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    result
}

/// Shows the end of every log in a folder.
pub(crate) fn show_logs(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    for log in logs {
        console::note(&format!("the end of {}:", log.display()));
        let bytes = std::fs::read(&log).unwrap_or_default();
        console::quote(&command::tail(&String::from_utf8_lossy(&bytes), TAIL));
    }
}

/// The names of all scenarios, in order.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn names() -> Result<Vec<String>> {
    let folder = workspace::root().join("scenarios");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read `{}`", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut names: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Reads a scenario by name.
///
/// # Errors
/// When there is none of that name, or it is not understood.
pub(crate) fn read(name: &str) -> Result<Script> {
    let path = workspace::root()
        .join("scenarios")
        .join(format!("{name}.txt"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        bail!(
            "there is no scenario `{name}`; there are {}",
            names()?.join(", ")
        );
    };
    Script::parse(&text).with_context(|| format!("scenarios/{name}.txt"))
}

/// The programs to run, and the folder that they were copied to, where an unprivileged user can read
/// them. Without `bin`, ours is built.
///
/// # Errors
/// When they are missing or do not build.
pub(crate) fn programs(bin: Option<&Path>, release: bool) -> Result<(Arc<Programs>, Folder)> {
    let postgres = machine::postgres_programs().context("there are no Postgres server programs")?;
    let program = match bin {
        Some(folder) => folder.join("pg_autoctl"),
        None => workspace::build_pg_autoctl(release)?,
    };
    let folder = Folder::new("bin")?;
    std::fs::copy(&program, folder.path().join("pg_autoctl"))
        .with_context(|| format!("cannot copy `{}`", program.display()))?;
    let programs = Programs {
        autoctl: folder.path().to_owned(),
        postgres,
        account: Account::find()?,
    };
    Ok((Arc::new(programs), folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_folder_is_understood() {
        let names = names().unwrap();
        assert!(!names.is_empty());
        for name in names {
            read(&name).unwrap();
        }
    }
}
