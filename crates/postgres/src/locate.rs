//! Where the programs of Postgres are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::version::Version;

/// One installation of Postgres: a folder of programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The `pg_ctl` that stands for it: what the configuration file keeps.
    pub pg_ctl: PathBuf,
    /// The folder of `postgres`, `initdb` and the others.
    pub bindir: PathBuf,
    /// Its version.
    pub version: Version,
}

impl Installation {
    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }

    /// Takes the installation of a given `pg_ctl`.
    ///
    /// # Errors
    /// [`LocateError`] when it does not run, or is of a version that is not supported.
    pub async fn at(_pg_ctl: &Path) -> Result<Self, LocateError> {
        todo!()
    }
}

/// Where to look; the first of these that is there decides.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// `--pgctl`.
    pub pg_ctl: Option<PathBuf>,
    /// The environment variable `PG_CONFIG`: the full path of a `pg_config`.
    pub pg_config: Option<PathBuf>,
    /// The environment variable `PATH`.
    pub path: Option<OsString>,
    /// Where Debian keeps its installations, one folder per major version.
    pub debian: Option<PathBuf>,
}

impl Search {
    /// Takes `PG_CONFIG` and `PATH` from the environment, and Debian's folder.
    #[must_use]
    pub fn from_env(pg_ctl: Option<PathBuf>) -> Self {
        Self {
            pg_ctl,
            pg_config: std::env::var_os("PG_CONFIG").map(PathBuf::from),
            path: std::env::var_os("PATH"),
            debian: Some(PathBuf::from("/usr/lib/postgresql")),
        }
    }

    /// Finds the one installation: the given `pg_ctl`; else that of `PG_CONFIG`; else of the only
    /// `pg_config` in `PATH`; else the only `pg_ctl` in `PATH`; else Debian's only one.
    ///
    /// # Errors
    /// [`LocateError::Several`] when the first step that finds any finds several.
    pub async fn find(&self) -> Result<Installation, LocateError> {
        todo!()
    }
}

/// Why there is no installation to use.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// None anywhere.
    #[error("cannot find pg_ctl: not in PATH, not in `/usr/lib/postgresql`, PG_CONFIG is not set")]
    NotFound,
    /// More than one, and nothing says which.
    #[error("several installations of Postgres are found: {}", list(candidates))]
    Several {
        /// Their `pg_ctl`s.
        candidates: Vec<PathBuf>,
    },
    /// The program does not run, or prints no version.
    #[error("`{path}` is not a program of Postgres", path = path.display())]
    NotPostgres {
        /// The program.
        path: PathBuf,
        /// Why it does not run.
        #[source]
        source: Option<crate::command::CommandError>,
    },
    /// A version outside of [`crate::version::SUPPORTED`].
    #[error("Postgres {version} at `{path}` is not supported", path = path.display())]
    Unsupported {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let quoted: Vec<_> = paths.iter().map(|p| format!("`{}`", p.display())).collect();
    quoted.join(", ")
}
