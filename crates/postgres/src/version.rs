//! Versions of Postgres: of programs, of servers, of data directories.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Major versions that we run (`design.md` of pg_auto_failover 2.2 names 13 to 16; 17 and 18 are
/// covered by reading their sources).
pub const SUPPORTED: RangeInclusive<u32> = 13..=18;

/// A version such as 15.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 15
    pub major: u32,
    /// 12; 0 for a development version.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// Reads what `pg_ctl --version` and its siblings print:
    /// `pg_ctl (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)`, `18beta1`, `17devel`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let after = text
            .split_once("(PostgreSQL)")
            .map_or(text, |(_, rest)| rest);
        let word = after.split_whitespace().next()?;
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let (major, rest) = word.split_at_checked(digits)?;
        let minor = rest.strip_prefix('.').map_or("", |r| {
            let digits = r.bytes().take_while(u8::is_ascii_digit).count();
            r.get(..digits).unwrap_or_default()
        });
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().unwrap_or(0),
        })
    }

    /// Reads the number of `SHOW server_version_num`: 150012.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self {
            major: number / 10_000,
            minor: number % 10_000,
        }
    }

    /// Whether we run it.
    #[must_use]
    pub fn is_supported(self) -> bool {
        SUPPORTED.contains(&self.major)
    }

    /// Whether a commit just after start-up may miss its wait for synchronous replication
    /// (`safety.md` §2.7): there, clients are kept out until the configuration is confirmed.
    ///
    /// Source: Postgres release notes 13.21, 14.18, 15.13, 16.9, 17.5.
    #[must_use]
    pub const fn may_miss_first_wait(self) -> bool {
        match self.major {
            0..=12 => true,
            13 => self.minor < 21,
            14 => self.minor < 18,
            15 => self.minor < 13,
            16 => self.minor < 9,
            17 => self.minor < 5,
            18.. => false,
        }
    }

    /// Whether `restore_command` follows a reload.
    ///
    /// Source: Postgres 14 release notes.
    #[must_use]
    pub const fn reloads_restore_command(self) -> bool {
        self.major >= 14
    }
}

/// Why the version of a data directory is unknown.
#[derive(Debug, thiserror::Error)]
pub enum DataVersionError {
    /// There is no `PG_VERSION`, or it cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("`{path}` holds no version of Postgres", path = path.display())]
    Garbage {
        /// The file.
        path: PathBuf,
    },
}

/// The major version that a data directory belongs to, from its `PG_VERSION`.
///
/// # Errors
/// [`DataVersionError`]; a directory without the file is not a data directory.
pub fn of_data_directory(pgdata: &Path) -> Result<u32, DataVersionError> {
    let path = pgdata.join("PG_VERSION");
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| DataVersionError::Garbage { path }),
        Err(source) => Err(DataVersionError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        let version = |text| Version::parse(text).map(|v| (v.major, v.minor));
        assert_eq!(
            version("pg_ctl (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)\n"),
            Some((15, 12))
        );
        assert_eq!(version("postgres (PostgreSQL) 18beta1"), Some((18, 0)));
        assert_eq!(version("pg_ctl (PostgreSQL) 17devel"), Some((17, 0)));
        assert_eq!(version("16.9"), Some((16, 9)));
        assert_eq!(version("pg_ctl (PostgreSQL)"), None);
        assert_eq!(version("bash: not found"), None);
        assert_eq!(Version::from_number(150_012).to_string(), "15.12");
    }

    #[test]
    fn only_old_minors_may_miss_the_first_wait() {
        for (major, fixed) in [(13, 21), (14, 18), (15, 13), (16, 9), (17, 5)] {
            assert!(
                Version {
                    major,
                    minor: fixed - 1
                }
                .may_miss_first_wait()
            );
            assert!(
                !Version {
                    major,
                    minor: fixed
                }
                .may_miss_first_wait()
            );
        }
        assert!(
            !Version {
                major: 18,
                minor: 0
            }
            .may_miss_first_wait()
        );
        assert!(
            Version {
                major: 18,
                minor: 0
            }
            .is_supported()
        );
        assert!(
            !Version {
                major: 12,
                minor: 22
            }
            .is_supported()
        );
    }
}
