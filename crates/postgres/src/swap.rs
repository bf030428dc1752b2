//! Putting a complete new directory in the place of PGDATA.
//!
//! Owns the second directory, the swap and its marker. It must never delete the old copy before the
//! new one is whole and in place, and must be able to go on after a crash between any two steps.

use std::path::{Path, PathBuf};

use crate::durable::DurableError;

/// The second directory, in which a new copy is made: empty, and on PGDATA's filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    pgdata: PathBuf,
    path: PathBuf,
}

/// Why there is no second directory.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It is on another filesystem than PGDATA, from where nothing can be swapped in.
    #[error("`{directory}` is on another filesystem than `{pgdata}`", directory = directory.display(), pgdata = pgdata.display())]
    OtherFilesystem {
        /// The directory asked for.
        directory: PathBuf,
        /// The data directory.
        pgdata: PathBuf,
    },
    /// It holds something that is not ours.
    #[error("`{directory}` is not empty, and not a copy of ours", directory = directory.display())]
    Foreign {
        /// The directory.
        directory: PathBuf,
    },
    /// It cannot be made.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// Why a swap did not complete; [`resume`] goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The new copy is not whole.
    #[error("`{path}` is not a complete data directory", path = .0.display())]
    Incomplete(PathBuf),
    /// The marker cannot be read, or says something else.
    #[error("cannot read the swap marker `{path}`", path = .0.display())]
    Marker(PathBuf),
    /// A step cannot be made.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A test's failpoint said stop here.
    #[error("stopped by a failpoint before `{0}`")]
    Failpoint(&'static str),
}

/// What was found at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// No swap was under way.
    Nothing,
    /// One was, and is complete: PGDATA is the new copy.
    Finished,
    /// One was, its new copy is gone: PGDATA is the old copy.
    Undone,
}

impl Staging {
    /// Prepares the second directory for `pgdata`, empty: what an interrupted attempt left there is
    /// removed. `wanted` (the setting `replication.backup_directory`) is used when PGDATA can be
    /// renamed; when PGDATA is a mount point, or its parent is not ours to write, the directory is
    /// made inside PGDATA instead.
    ///
    /// # Errors
    /// [`StageError`].
    pub fn prepare(_pgdata: &Path, _wanted: &Path) -> Result<Self, StageError> {
        todo!()
    }

    /// Where the new copy is made.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory it is for.
    #[must_use]
    pub fn pgdata(&self) -> &Path {
        &self.pgdata
    }

    /// Copies files or folders of the old copy (relative paths) over the new one's: what belongs to
    /// the node and not to the data, such as `server.key`. Those that the old copy lacks are
    /// removed from the new one.
    ///
    /// # Errors
    /// [`DurableError`].
    pub fn carry_over(&self, _names: &[&str]) -> Result<(), DurableError> {
        todo!()
    }

    /// Removes the second directory and all that is in it.
    ///
    /// # Errors
    /// [`DurableError`].
    pub fn discard(self) -> Result<(), DurableError> {
        todo!()
    }

    /// Makes the new copy PGDATA and deletes the old one. Postgres must be down, and the copy be
    /// durable. Blocks; after an error, or a crash, [`resume`] completes it.
    ///
    /// # Errors
    /// [`SwapError`].
    pub fn swap_in(self) -> Result<(), SwapError> {
        todo!()
    }
}

/// Finishes, or undoes, a swap that was under way. Called at each start, before anything looks at
/// PGDATA. Blocks; costs two `stat`s when there is nothing to do.
///
/// # Errors
/// [`SwapError`].
pub fn resume(_pgdata: &Path) -> Result<Resumed, SwapError> {
    todo!()
}
