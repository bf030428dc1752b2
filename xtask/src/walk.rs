//! `cargo xtask walk`: the Citus quick start of `tutorial/`, every command of it, in its order.
//!
//! With a Docker engine on the machine the nodes are containers, made from the tutorial's own files;
//! otherwise they are local processes, one network namespace per node. Both walk the same story.

mod docker;
mod local;
mod story;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::Captured;
use crate::temp::Folder;
use crate::{console, machine, scenario};

pub(crate) use local::Formation;
pub(crate) use story::demo;

/// Where Citus says how it is installed.
pub(crate) const INSTALLATION: &str =
    "https://docs.citusdata.com/en/stable/installation/multi_node.html";

/// The Citus quick start, typed command by command: in containers, or as local processes
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Walk {
    /// A folder of installed Citus files: `lib/postgresql/N/lib` and `share/postgresql/N/extension` are
    /// looked for below it. Without it, Citus must be installed for the Postgres under test
    /// (also: the environment's PGAF_CITUS)
    #[arg(long, value_name = "DIR")]
    citus: Option<PathBuf>,
    /// Local processes, also where there is a Docker engine
    #[arg(long)]
    local: bool,
    /// Write every command and what it said to this file
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,
}

/// Citus' files, as an image needs them.
#[derive(Debug)]
pub(crate) struct Citus {
    /// The folder with `citus.so`.
    lib: PathBuf,
    /// The folder with `citus.control`.
    extension: PathBuf,
}

/// Where the quick start's nodes live.
trait Venue {
    /// Starts everything: with `scaled`, nodes without names; else by name, with an application.
    fn up(&mut self, scaled: bool) -> Result<()>;
    /// Runs a command in a service's container or on its host.
    fn exec(&mut self, service: &str, words: &[&str]) -> Result<Captured>;
    /// `psql` without any option in the application's place, fed a script.
    fn psql(&mut self, script: &str) -> Result<Captured>;
    /// Puts a file where the application can read it, and answers its path there.
    fn hand_over(&mut self, name: &str, text: &str) -> Result<String>;
    /// A screen of `pg_autoctl watch` on the monitor, until it shows `wanted`; `q` must end it cleanly.
    fn watch(&mut self, wanted: &str) -> Result<String>;
    /// What was typed, for the transcript.
    fn shown(&self, service: &str, words: &[&str]) -> String;
    /// What only this venue can be asked about.
    fn peculiar(&mut self) -> Result<()>;
    /// Ends everything, data included.
    fn down(&mut self) -> Result<()>;
    /// A node's data directory, as its own commands see it.
    fn pgdata(&self, service: &str) -> String;
    /// The host and port that a node is known by.
    fn address(&self, service: &str) -> String;
}

/// Walks the quick start.
///
/// # Errors
/// At the first command that does not do what the quick start says.
pub(crate) fn run(walk: &Walk) -> Result<()> {
    let start = Instant::now();
    let citus = find(walk.citus.as_deref())?;
    let Some(citus) = citus else {
        console::skipped("cargo xtask walk", &without());
        return Ok(());
    };
    let engine = if walk.local {
        Err("--local was asked for".to_owned())
    } else {
        docker::available()
    };
    let transcript = match engine {
        Ok(()) => {
            console::note("nodes are containers");
            let folder = Folder::new("walk")?;
            let mut venue = docker::Docker::build(folder.path(), &citus)?;
            walked(&mut venue)?
        }
        Err(reason) => {
            console::skipped(
                "containers",
                &format!("{reason}: the nodes are local processes, in network namespaces"),
            );
            if let Some(reason) = scenario::unavailable() {
                bail!("{reason}");
            }
            machine::install_missing(scenario::PROGRAMS)?;
            let (programs, _bin) = scenario::programs(None, false)?;
            require_server_side(&programs.postgres)?;
            let folder = Folder::new("walk")?;
            let result = walked(&mut Formation::isolated(folder.path(), &programs));
            if result.is_err() && !crate::interrupt::asked() {
                scenario::show_logs(folder.path());
            }
            result?
        }
    };
    if let Some(path) = &walk.transcript {
        std::fs::write(path, transcript)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    console::good(&format!(
        "the quick start was walked through in {}",
        console::human(start.elapsed())
    ));
    Ok(())
}

/// The story, and an end to it, however it went.
fn walked(venue: &mut dyn Venue) -> Result<String> {
    let told = story::Story::new(venue).tell();
    let ended = venue.down();
    let transcript = told?;
    ended?;
    Ok(transcript)
}

/// Why nothing can be shown without the extension.
pub(crate) fn without() -> String {
    format!(
        "the Citus extension is not installed for the Postgres under test; name a folder of its files \
         (--citus, PGAF_CITUS), or see {INSTALLATION}"
    )
}

/// The extension's files: below `top`, else those of the Postgres under test.
///
/// # Errors
/// When `top` is named and has none.
pub(crate) fn find(top: Option<&Path>) -> Result<Option<Citus>> {
    let named = std::env::var_os("PGAF_CITUS").map(PathBuf::from);
    if let Some(top) = top.or(named.as_deref()) {
        let found = |name: &str| beneath(top, name, 6);
        let (Some(lib), Some(extension)) = (found("citus.so"), found("citus.control")) else {
            bail!(
                "there are no files of Citus (citus.so, citus.control) below `{}`",
                top.display()
            );
        };
        return Ok(Some(Citus { lib, extension }));
    }
    let Some(bin) = machine::postgres_programs() else {
        return Ok(None);
    };
    Ok(installed(&bin))
}

fn installed(bin: &Path) -> Option<Citus> {
    let ask = |what: &str| {
        let mut config = std::process::Command::new(bin.join("pg_config"));
        let output = config.arg(what).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        Some(PathBuf::from(path.trim()))
    };
    let (lib, extension) = (ask("--pkglibdir")?, ask("--sharedir")?.join("extension"));
    let there = lib.join("citus.so").is_file() && extension.join("citus.control").is_file();
    there.then_some(Citus { lib, extension })
}

fn require_server_side(bin: &Path) -> Result<()> {
    if installed(bin).is_some() {
        return Ok(());
    }
    bail!(
        "local processes need Citus installed for the Postgres in `{}` (PGBIN names another one)",
        bin.display()
    )
}

/// The folder, at most `depth` below `top`, that holds a file of that name.
fn beneath(top: &Path, name: &str, depth: u8) -> Option<PathBuf> {
    if top.join(name).is_file() {
        return Some(top.to_owned());
    }
    let entries = std::fs::read_dir(top).ok()?.flatten();
    let mut folders: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    let deeper = depth.checked_sub(1)?;
    folders
        .iter()
        .find_map(|folder| beneath(folder, name, deeper))
}
