//! Where the programs of Postgres are.
//!
//! Owns the search. It must never choose between two installations by itself.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Invocation;
use crate::version::Version;

/// How long a program may take to print its version (chosen; it takes 3 ms).
const ASK: Duration = Duration::from_secs(10);

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
    pub async fn at(pg_ctl: &Path) -> Result<Self, LocateError> {
        let path = pg_ctl.to_owned();
        let run = Invocation::new(pg_ctl)
            .arg("--version")
            .deadline(ASK)
            .run()
            .await;
        let said = match run {
            Ok(done) if done.status.success() => done.stdout,
            Ok(_) => return Err(LocateError::NotPostgres { path, source: None }),
            Err(e) => {
                return Err(LocateError::NotPostgres {
                    path,
                    source: Some(e),
                });
            }
        };
        if !said.contains("(PostgreSQL)") {
            return Err(LocateError::NotPostgres { path, source: None });
        }
        let Some(version) = Version::parse(&said) else {
            return Err(LocateError::NotPostgres { path, source: None });
        };
        if !version.is_supported() {
            return Err(LocateError::Unsupported { path, version });
        }
        Ok(Self {
            bindir: bindir(pg_ctl).await,
            pg_ctl: path,
            version,
        })
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
        if let Some(pg_ctl) = &self.pg_ctl {
            return Installation::at(pg_ctl).await;
        }
        if let Some(pg_config) = &self.pg_config {
            return Installation::at(&by_pg_config(pg_config).await?).await;
        }
        let mut named = Vec::new();
        for pg_config in self.in_path("pg_config") {
            named.push(by_pg_config(&pg_config).await?);
        }
        // Client packages have a pg_config too, whose folder may hold no server; and Debian's
        // wrapper names the same folder as the one it wraps.
        if let Some(pg_ctl) = only(distinct(named.into_iter()))? {
            return Installation::at(&pg_ctl).await;
        }
        let pg_ctl = match only(self.in_path("pg_ctl"))? {
            Some(pg_ctl) => Some(pg_ctl),
            None => only(self.in_debian())?,
        };
        Installation::at(&pg_ctl.ok_or(LocateError::NotFound)?).await
    }

    fn in_path(&self, name: &str) -> Vec<PathBuf> {
        let folders = self.path.iter().flat_map(std::env::split_paths);
        distinct(
            folders
                .filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(name)),
        )
    }

    fn in_debian(&self) -> Vec<PathBuf> {
        let versions = self
            .debian
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok());
        let mut found: Vec<_> = versions
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin/pg_ctl")))
            .collect();
        found.sort();
        distinct(found.into_iter())
    }
}

/// Files that are there, each once however many links lead to it, under the first name seen.
fn distinct(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    paths
        .filter(|path| path.is_file())
        .filter(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())))
        .collect()
}

/// The only one, or none.
fn only(mut found: Vec<PathBuf>) -> Result<Option<PathBuf>, LocateError> {
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(LocateError::Several { candidates: found }),
    }
}

/// The `pg_ctl` in the folder that a `pg_config` names.
async fn by_pg_config(pg_config: &Path) -> Result<PathBuf, LocateError> {
    let not = |source| LocateError::NotPostgres {
        path: pg_config.to_owned(),
        source,
    };
    let run = Invocation::new(pg_config)
        .arg("--bindir")
        .deadline(ASK)
        .run()
        .await;
    let done = run.map_err(|e| not(Some(e)))?;
    let folder = done.stdout.trim();
    if !done.status.success() || folder.is_empty() {
        return Err(not(None));
    }
    Ok(Path::new(folder).join("pg_ctl"))
}

/// The folder of the other programs: that of `pg_ctl` itself, else that of what it links to, else
/// (for a wrapper script) the one that a `pg_config` beside it names.
async fn bindir(pg_ctl: &Path) -> PathBuf {
    let beside = pg_ctl.parent().unwrap_or(Path::new("/")).to_owned();
    let linked = pg_ctl.canonicalize().ok();
    let linked = linked.as_deref().and_then(Path::parent).map(Path::to_owned);
    let mut folders = vec![beside.clone()];
    folders.extend(linked);
    if let Some(found) = folders
        .into_iter()
        .find(|dir| dir.join("postgres").is_file())
    {
        return found;
    }
    match by_pg_config(&beside.join("pg_config")).await {
        Ok(path) => path.parent().map_or(beside, Path::to_owned),
        Err(_) => beside,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn fake(dir: &Path, name: &str, says: &str) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn search(path: &[&Path]) -> Search {
        Search {
            path: Some(std::env::join_paths(path).unwrap()),
            ..Search::default()
        }
    }

    #[tokio::test]
    async fn a_given_pg_ctl_decides_alone() {
        let dir = tempfile::tempdir().unwrap();
        let given = fake(&dir.path().join("a"), "pg_ctl", "pg_ctl (PostgreSQL) 16.3");
        fake(&dir.path().join("b"), "pg_ctl", "pg_ctl (PostgreSQL) 15.1");
        let mut search = search(&[&dir.path().join("b")]);
        search.pg_ctl = Some(given.clone());
        let found = search.find().await.unwrap();
        assert_eq!(
            (found.pg_ctl, found.version),
            (
                given,
                Version {
                    major: 16,
                    minor: 3
                }
            )
        );
    }

    #[tokio::test]
    async fn several_in_path_are_listed_and_none_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fake(&a, "pg_ctl", "pg_ctl (PostgreSQL) 16.3");
        fake(&b, "pg_ctl", "pg_ctl (PostgreSQL) 15.1");
        let error = search(&[&a, &b]).find().await.unwrap_err();
        assert!(matches!(&error, LocateError::Several { candidates } if candidates.len() == 2));
        assert!(error.to_string().contains("/b/pg_ctl"), "{error}");
    }

    #[tokio::test]
    async fn two_names_of_one_file_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fake(&a, "pg_ctl", "pg_ctl (PostgreSQL) 16.3");
        fake(&a, "postgres", "");
        std::fs::create_dir(&b).unwrap();
        symlink(a.join("pg_ctl"), b.join("pg_ctl")).unwrap();
        let found = search(&[&b, &a]).find().await.unwrap();
        assert_eq!(found.pg_ctl, b.join("pg_ctl"));
        assert_eq!(found.program("postgres"), a.join("postgres"));
    }

    #[tokio::test]
    async fn pg_config_comes_before_pg_ctl() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fake(&a, "pg_ctl", "pg_ctl (PostgreSQL) 14.9");
        fake(&b, "pg_config", &a.display().to_string());
        fake(&b, "pg_ctl", "pg_ctl (PostgreSQL) 15.1");
        assert_eq!(search(&[&b]).find().await.unwrap().version.major, 14);
    }

    #[tokio::test]
    async fn what_is_not_postgres_or_too_old_or_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let other = fake(dir.path(), "other", "hello 15.1");
        let old = fake(dir.path(), "old", "pg_ctl (PostgreSQL) 12.20");
        let at = async |path: &Path| Installation::at(path).await.unwrap_err();
        assert!(matches!(
            at(&other).await,
            LocateError::NotPostgres { source: None, .. }
        ));
        assert!(matches!(at(&old).await, LocateError::Unsupported { .. }));
        let missing = at(Path::new("/nonexistent")).await;
        assert!(matches!(
            missing,
            LocateError::NotPostgres {
                source: Some(_),
                ..
            }
        ));
        assert!(matches!(
            search(&[]).find().await,
            Err(LocateError::NotFound)
        ));
    }
}
