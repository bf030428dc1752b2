//! Putting a complete new directory in the place of PGDATA.
//!
//! Owns the second directory, the swap and its marker. It must never delete the old copy before the
//! new one is whole and in place, and must be able to go on after a crash between any two steps.
//!
//! ```text
//!   PGDATA can be renamed                       PGDATA is a mount point (or its parent not ours)
//!   PARENT/NAME.pgaf-swap       marker          PGDATA/pgaf_swap       marker
//!   WANTED/pgaf_staging/data    new copy        PGDATA/pgaf_staging/data
//!   PARENT/NAME.pgaf-old-TAG    old copy        PGDATA/pgaf_outgoing/…
//!
//!   mark → old aside → new in place → delete old → unmark
//! ```

mod entries;
mod external;
mod rename;
mod staging;

use std::path::{Path, PathBuf};

pub(crate) use entries::remove_foreign;
pub(crate) use staging::carry;
pub use staging::{StageError, Staging};

use crate::durable::{DurableError, failed};

/// Why a swap did not complete; [`resume`] goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The new copy is not whole.
    #[error("`{path}` is not a complete data directory", path = .0.display())]
    Incomplete(PathBuf),
    /// The marker cannot be read, or says something else.
    #[error("cannot read the swap marker `{path}`", path = .0.display())]
    Marker(PathBuf),
    /// Neither the new copy nor the old one is where the marker says.
    #[error("neither `{new}` nor `{old}` is there", new = new.display(), old = old.display())]
    Lost {
        /// The new copy.
        new: PathBuf,
        /// The old one.
        old: PathBuf,
    },
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

/// Says of each step whether to stop before it: what a crash at that instant does. For tests.
pub type Failpoint<'a> = &'a mut dyn FnMut(&'static str) -> bool;

/// Asks the failpoint.
fn step(
    failpoint: &mut dyn FnMut(&'static str) -> bool,
    name: &'static str,
) -> Result<(), SwapError> {
    if failpoint(name) {
        Err(SwapError::Failpoint(name))
    } else {
        Ok(())
    }
}

/// The old copy, after the new one is in place. Dropped without [`delete`](Self::delete), it stays
/// until [`resume`].
#[must_use = "the old copy takes its space until it is deleted"]
#[derive(Debug)]
pub struct OldCopy {
    pgdata: PathBuf,
    inside: bool,
}

impl OldCopy {
    /// Deletes it, which may take long: nothing waits for it. Blocks.
    ///
    /// # Errors
    /// [`SwapError`]; [`resume`] goes on.
    pub fn delete(self) -> Result<(), SwapError> {
        self.delete_until(&mut |_| false)
    }

    /// As [`Self::delete`], with a failpoint.
    ///
    /// # Errors
    /// [`SwapError`].
    pub fn delete_until(self, failpoint: Failpoint<'_>) -> Result<(), SwapError> {
        if self.inside {
            entries::resume(&self.pgdata, failpoint)?;
        } else {
            rename::resume(&self.pgdata, failpoint)?;
        }
        Ok(())
    }
}

impl Staging {
    /// Makes the new copy PGDATA: 2 ms. The old one is to be deleted then, in one's own time.
    /// Postgres must be down, and the copy be durable. Blocks; after an error, or a crash,
    /// [`resume`] completes it.
    ///
    /// # Errors
    /// [`SwapError`].
    pub fn swap_in(self) -> Result<OldCopy, SwapError> {
        self.swap_in_until(&mut |_| false)
    }

    /// As [`Self::swap_in`], with a failpoint.
    ///
    /// # Errors
    /// [`SwapError`].
    pub fn swap_in_until(self, failpoint: Failpoint<'_>) -> Result<OldCopy, SwapError> {
        if !is_complete(self.path()) {
            return Err(SwapError::Incomplete(self.path().to_owned()));
        }
        let inside = self.is_inside();
        if inside {
            entries::swap(&self, failpoint)?;
        } else {
            rename::swap(&self, failpoint)?;
        }
        Ok(OldCopy {
            pgdata: self.pgdata().to_owned(),
            inside,
        })
    }
}

/// Finishes, or undoes, a swap that was under way, and deletes the old copy. Called at each start,
/// before anything looks at PGDATA. Blocks; costs two `stat`s when there is nothing to do.
///
/// # Errors
/// [`SwapError`].
pub fn resume(pgdata: &Path) -> Result<Resumed, SwapError> {
    resume_until(pgdata, &mut |_| false)
}

/// As [`resume`], but leaves the deletion of the old copy, which may take long, to the caller.
///
/// # Errors
/// [`SwapError`].
pub fn resume_in_place(pgdata: &Path) -> Result<(Resumed, Option<OldCopy>), SwapError> {
    let pgdata = resolve(pgdata);
    let mut inside = false;
    let mut resumed = rename::resume_in_place(&pgdata, &mut |_| false)?;
    if resumed == Resumed::Nothing {
        inside = true;
        resumed = entries::resume_in_place(&pgdata, &mut |_| false)?;
    }
    let old = (resumed != Resumed::Nothing).then_some(OldCopy { pgdata, inside });
    Ok((resumed, old))
}

/// As [`resume`], with a failpoint.
///
/// # Errors
/// [`SwapError`].
pub fn resume_until(pgdata: &Path, failpoint: Failpoint<'_>) -> Result<Resumed, SwapError> {
    let pgdata = resolve(pgdata);
    match rename::resume(&pgdata, failpoint)? {
        Resumed::Nothing => entries::resume(&pgdata, failpoint),
        done @ (Resumed::Finished | Resumed::Undone) => Ok(done),
    }
}

/// Whether nothing but what is ours (or `lost+found`) is in `pgdata`, or it does not exist.
pub(crate) fn is_vacant(pgdata: &Path) -> Result<bool, DurableError> {
    match std::fs::metadata(pgdata) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(failed("look at", pgdata)(e)),
        Ok(_) => Ok(names(pgdata)?.iter().all(|name| entries::is_ours(name))),
    }
}

/// A directory beside PGDATA for a new copy of it.
pub(crate) fn beside(pgdata: &Path) -> PathBuf {
    staging::sibling(&resolve(pgdata), ".pgaf-new")
}

/// Whether a directory holds what no cluster is without; says nothing of the rest.
fn is_complete(directory: &Path) -> bool {
    ["PG_VERSION", "global/pg_control"].iter().all(|name| {
        std::fs::metadata(directory.join(name)).is_ok_and(|m| m.is_file() && m.len() > 0)
    })
}

/// Follows PGDATA when it is a symbolic link, also while its target is away.
fn resolve(pgdata: &Path) -> PathBuf {
    let mut path = pgdata.to_owned();
    // As many links as the kernel follows (ELOOP).
    for _ in 0..40 {
        match std::fs::read_link(&path) {
            Ok(target) => path = crate::durable::parent(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

/// The names in a folder.
fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, DurableError> {
    let entries = std::fs::read_dir(directory).map_err(failed("list", directory))?;
    entries
        .map(|e| e.map(|e| e.file_name()).map_err(failed("list", directory)))
        .collect()
}

#[cfg(test)]
mod tests;
