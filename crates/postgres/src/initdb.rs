//! Making a new cluster.
//!
//! Owns `initdb`. It must never leave a directory that looks complete and is not: the cluster is
//! made aside and put in place when it is whole and on disk.

use std::path::{Path, PathBuf};

use pgaf_protocol::CopyId;

use crate::command::CommandError;
use crate::locate::Installation;

/// What may be chosen.
#[derive(Debug, Clone, Default)]
pub struct InitdbOptions {
    /// Name of the superuser; the account's own when missing.
    pub username: Option<String>,
    /// More arguments for `initdb`.
    pub extra: Vec<String>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum InitdbError {
    /// The directory holds something already.
    #[error("`{pgdata}` exists and is not empty", pgdata = pgdata.display())]
    NotEmpty {
        /// The data directory.
        pgdata: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb fails for `{pgdata}`: {reason}", pgdata = pgdata.display())]
    Failed {
        /// The data directory.
        pgdata: PathBuf,
        /// The last lines it said.
        reason: String,
    },
    /// `initdb` did not run to its end.
    #[error("cannot run initdb for `{pgdata}`", pgdata = pgdata.display())]
    Run {
        /// The data directory.
        pgdata: PathBuf,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// The place for it cannot be prepared.
    #[error(transparent)]
    Stage(#[from] crate::swap::StageError),
    /// It cannot be put in place.
    #[error(transparent)]
    Swap(#[from] crate::swap::SwapError),
}

/// Makes a cluster at `pgdata`, which does not exist or is empty (a mount point with `lost+found`
/// counts as empty), with data checksums, `trust`, and `copy` as the name of the copy.
///
/// # Errors
/// [`InitdbError`]; `pgdata` is then as it was.
pub async fn initdb(
    _postgres: &Installation,
    _pgdata: &Path,
    _copy: CopyId,
    _options: &InitdbOptions,
) -> Result<(), InitdbError> {
    todo!()
}
