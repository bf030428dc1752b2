//! Where the files of a node are: the old program's places, from PGDATA and the XDG variables.
//!
//! Owns names only: reading a path must never create it.

use std::path::{Component, Path, PathBuf};

use crate::error::{ExitCode, Failure};

/// The folder of ours below each XDG base directory.
const FOLDER: &str = "pg_autoctl";
/// Where run-time files go when `XDG_RUNTIME_DIR` is unset or missing. Source: the old program.
const RUNTIME_FALLBACK: &str = "/tmp";

/// The files of one node or monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// The data directory, absolute.
    pub(crate) pgdata: PathBuf,
    /// `pg_autoctl.cfg`
    pub(crate) config: PathBuf,
    /// `pg_autoctl.state`
    pub(crate) state: PathBuf,
    /// `pg_autoctl.init`
    pub(crate) init: PathBuf,
    /// `nodes.json`, written by the old program when there is no monitor.
    pub(crate) nodes: PathBuf,
    /// `pg_autoctl.pid`
    pub(crate) pid: PathBuf,
}

/// The base directories.
#[derive(Debug, Clone)]
pub(crate) struct Bases {
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
}

impl Bases {
    /// From the environment.
    ///
    /// # Errors
    /// Exit code 12 when `HOME` is needed and not set.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = |below: &str| {
            variable("HOME")
                .map(|home| home.join(below))
                .ok_or_else(|| {
                    Failure::fatal(
                        ExitCode::Internal,
                        "the environment variable HOME is not set",
                    )
                    .hint("set HOME, or XDG_CONFIG_HOME and XDG_DATA_HOME")
                })
        };
        Ok(Self {
            config: variable("XDG_CONFIG_HOME").map_or_else(|| home(".config"), Ok)?,
            data: variable("XDG_DATA_HOME").map_or_else(|| home(".local/share"), Ok)?,
            runtime: variable("XDG_RUNTIME_DIR")
                .filter(|path| path.is_dir())
                .unwrap_or_else(|| PathBuf::from(RUNTIME_FALLBACK)),
        })
    }

    /// The files of the node at `pgdata`, which is made absolute.
    ///
    /// # Errors
    /// When the current directory is gone.
    pub(crate) fn of(&self, pgdata: &Path) -> Result<Paths, Failure> {
        let pgdata = absolute(pgdata)?;
        let below: PathBuf = pgdata
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::Prefix(_)))
            .collect();
        let config = self.config.join(FOLDER).join(&below);
        let data = self.data.join(FOLDER).join(&below);
        let runtime = self.runtime.join(FOLDER).join(&below);
        Ok(Paths {
            config: config.join("pg_autoctl.cfg"),
            state: data.join("pg_autoctl.state"),
            init: data.join("pg_autoctl.init"),
            nodes: data.join("nodes.json"),
            pid: runtime.join("pg_autoctl.pid"),
            pgdata,
        })
    }
}

/// Absolute and without symbolic links when it exists; absolute and tidy otherwise.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if let Ok(real) = std::fs::canonicalize(path) {
        return Ok(real);
    }
    let absolute = std::path::absolute(path).map_err(|error| {
        Failure::bad_args(format!("cannot make `{}` absolute", path.display())).because(&error)
    })?;
    let mut tidy = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                tidy.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => tidy.push(part),
        }
    }
    Ok(tidy)
}

/// Whether a data directory is named at all.
pub(crate) fn names_pgdata(option: Option<&str>) -> bool {
    option.is_some() || std::env::var_os("PGDATA").is_some_and(|value| !value.is_empty())
}

/// The data directory: `--pgdata`, else `PGDATA`.
///
/// # Errors
/// Exit code 1 when there is neither.
pub(crate) fn pgdata(option: Option<&str>) -> Result<PathBuf, Failure> {
    let given = option.map(PathBuf::from).or_else(|| {
        std::env::var_os("PGDATA")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    });
    given.ok_or_else(|| {
        tracing::error!("Failed to get PGDATA from the environment: the variable is not set");
        Failure::fatal(
            ExitCode::BadArgs,
            "Failed to set PGDATA either from the environment or from --pgdata",
        )
        .hint("use --pgdata DIRECTORY, or set the environment variable PGDATA")
    })
}

/// The files of the node that the command is about.
///
/// # Errors
/// As [`pgdata`] and [`Bases::from_env`].
pub(crate) fn of_command(option: Option<&str>) -> Result<Paths, Failure> {
    Bases::from_env()?.of(&pgdata(option)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_mirror_the_absolute_data_directory() {
        let bases = Bases {
            config: "/c".into(),
            data: "/d".into(),
            runtime: "/r".into(),
        };
        let paths = bases
            .of(Path::new("/srv/absent/../absent/pg/./one"))
            .unwrap();
        assert_eq!(paths.pgdata, Path::new("/srv/absent/pg/one"));
        assert_eq!(
            paths.config,
            Path::new("/c/pg_autoctl/srv/absent/pg/one/pg_autoctl.cfg")
        );
        assert_eq!(
            paths.state,
            Path::new("/d/pg_autoctl/srv/absent/pg/one/pg_autoctl.state")
        );
        assert_eq!(
            paths.pid,
            Path::new("/r/pg_autoctl/srv/absent/pg/one/pg_autoctl.pid")
        );
    }
}
