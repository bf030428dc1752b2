//! The second directory: where a new copy is made.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags};

use super::{external, resolve};
use crate::durable::{self, DurableError, failed, parent};

/// The folder of ours, inside the directory that was asked for, or inside PGDATA.
pub(super) const FOLDER: &str = "pgaf_staging";

/// The second directory, in which a new copy is made: empty, and on PGDATA's filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    /// Resolved: no link itself.
    pgdata: PathBuf,
    /// Ours alone; holds the list of external folders, and `data`.
    folder: PathBuf,
    path: PathBuf,
    inside: bool,
    /// Where the new copy's WAL goes, when the old one's is elsewhere than in PGDATA.
    wal: Option<PathBuf>,
    /// Tells this copy's external folders from those of the last one.
    tag: String,
}

/// Why there is no second directory.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The last swap cannot be completed.
    #[error("an earlier swap of the data directory cannot be completed")]
    Unfinished(#[source] Box<super::SwapError>),
    /// It cannot be made, or cleaned of an interrupted attempt.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

impl Staging {
    /// Prepares the second directory for `pgdata`, empty: what an interrupted attempt left there is
    /// removed. `wanted` (the setting `replication.backup_directory`) is used when PGDATA can be
    /// renamed; when PGDATA is a mount point, or its parent is not ours to write, the directory is
    /// made inside PGDATA instead, and when `wanted` is on another filesystem, beside PGDATA. Only
    /// a folder of its own in it is used, so that what else it holds stays. A swap that is not
    /// complete is completed first.
    ///
    /// # Errors
    /// [`StageError`].
    pub fn prepare(pgdata: &Path, wanted: &Path) -> Result<Self, StageError> {
        super::resume(pgdata).map_err(|error| StageError::Unfinished(Box::new(error)))?;
        let pgdata = resolve(pgdata);
        fs::create_dir_all(parent(&pgdata)).map_err(failed("create", parent(&pgdata)))?;
        let inside = pgdata.exists() && !can_be_renamed(&pgdata);
        let folder = if inside {
            pgdata.join(FOLDER)
        } else if same_mount(&pgdata, wanted) {
            wanted.join(FOLDER)
        } else {
            let beside = sibling(&pgdata, ".pgaf-backup");
            tracing::warn!(
                wanted = %wanted.display(), used = %beside.display(),
                "the backup directory is on another filesystem than PGDATA, from where nothing \
                 can be moved in: using a directory beside PGDATA"
            );
            beside.join(FOLDER)
        };
        external::remove_listed(&folder)?;
        durable::remove_tree(&folder)?;
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        durable::fsync_dir(parent(&folder))?;
        let tag = format!("{:08x}", rand::random::<u32>());
        let wal = external::wal_target(&pgdata).map(|target| external::beside(&target, &tag));
        Ok(Self {
            path: folder.join("data"),
            pgdata,
            folder,
            inside,
            wal,
            tag,
        })
    }

    /// Where the new copy is made: does not exist yet.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory it is for; when that is a symbolic link, its target.
    #[must_use]
    pub fn pgdata(&self) -> &Path {
        &self.pgdata
    }

    /// Where the new copy's WAL goes, when PGDATA's `pg_wal` is a symbolic link.
    #[must_use]
    pub fn wal_directory(&self) -> Option<&Path> {
        self.wal.as_deref()
    }

    /// Where the new copy's part of a tablespace goes: beside `location`, for each copy another.
    #[must_use]
    pub fn tablespace_directory(&self, location: &Path) -> PathBuf {
        external::beside(location, &self.tag)
    }

    /// Notes the folders outside of [`Self::path`] that are about to be made, so that an
    /// interrupted attempt can be cleaned up.
    ///
    /// # Errors
    /// [`DurableError`].
    pub fn note_external(&self, tablespaces: &[PathBuf]) -> Result<(), DurableError> {
        let wal = self.wal.clone().into_iter();
        let spaces = tablespaces
            .iter()
            .map(|location| self.tablespace_directory(location));
        external::list(&self.folder, &wal.chain(spaces).collect::<Vec<_>>())
    }

    /// The folders that [`Self::note_external`] noted and that are there.
    pub(crate) fn external_directories(&self) -> Result<Vec<PathBuf>, DurableError> {
        Ok(external::listed(&self.folder)
            .into_iter()
            .filter(|path| path.is_dir())
            .collect())
    }

    /// Copies files or folders of the old copy (relative paths) over the new one's: what belongs to
    /// the node and not to the data, such as `server.key`. Those that the old copy lacks are
    /// removed from the new one.
    ///
    /// # Errors
    /// [`DurableError`].
    pub fn carry_over(&self, names: &[&str]) -> Result<(), DurableError> {
        carry(&self.pgdata, &self.path, names)
    }

    /// Removes the second directory and all that is in it.
    ///
    /// # Errors
    /// [`DurableError`].
    pub fn discard(self) -> Result<(), DurableError> {
        external::remove_listed(&self.folder)?;
        self.remove_folder()
    }

    /// Removes the second directory, but not external folders; its parent too, when that is empty.
    pub(super) fn remove_folder(&self) -> Result<(), DurableError> {
        remove_folder(&self.folder, self.inside)
    }

    /// Whether it is made inside PGDATA.
    pub(super) const fn is_inside(&self) -> bool {
        self.inside
    }

    /// As on a mount point, which a test cannot make.
    #[cfg(test)]
    pub(super) fn force_inside(&mut self) {
        self.inside = true;
        self.folder = self.pgdata.join(FOLDER);
        self.path = self.folder.join("data");
        fs::create_dir(&self.folder).expect("a test may panic");
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn tag(&self) -> &str {
        &self.tag
    }
}

pub(super) fn remove_folder(folder: &Path, inside: bool) -> Result<(), DurableError> {
    durable::remove_tree(folder)?;
    if !inside {
        // Not empty: the user's own, and it stays.
        let _ = fs::remove_dir(parent(folder));
    }
    Ok(())
}

/// `path` with something after its name.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Copies the named files and folders from one directory over another's, and removes those there
/// that the first lacks.
pub(crate) fn carry(from: &Path, to: &Path, names: &[&str]) -> Result<(), DurableError> {
    for name in names {
        let (from, to) = (from.join(name), to.join(name));
        match to.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&to).map_err(failed("remove", &to))?,
            Ok(_) => fs::remove_file(&to).map_err(failed("remove", &to))?,
            Err(_) => {}
        }
        if from.symlink_metadata().is_ok() {
            fs::create_dir_all(parent(&to)).map_err(failed("create", parent(&to)))?;
            copy_tree(&from, &to)?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), DurableError> {
    let meta = from.symlink_metadata().map_err(failed("look at", from))?;
    if meta.is_dir() {
        fs::create_dir(to).map_err(failed("create", to))?;
        fs::set_permissions(to, meta.permissions()).map_err(failed("set the mode of", to))?;
        for name in super::names(from)? {
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
        durable::fsync_dir(to)
    } else if meta.is_symlink() {
        let target = fs::read_link(from).map_err(failed("read", from))?;
        std::os::unix::fs::symlink(target, to).map_err(failed("create", to))?;
        durable::fsync_dir(parent(to))
    } else {
        fs::copy(from, to).map_err(failed("copy to", to))?;
        durable::fsync_file(to)?;
        durable::fsync_dir(parent(to))
    }
}

/// Whether `pgdata`, which exists, can be renamed: not the root of a mount, in a folder of ours.
fn can_be_renamed(pgdata: &Path) -> bool {
    let writable = Access::WRITE_OK | Access::EXEC_OK;
    !is_mount_point(pgdata) && rustix::fs::access(parent(pgdata), writable).is_ok()
}

fn is_mount_point(path: &Path) -> bool {
    let attributes = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
    match attributes {
        Ok(x) if x.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            x.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        }
        // Kernels before 5.8: a bind mount of one filesystem within itself is not seen.
        Ok(_) | Err(_) => {
            let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
            device(path) != device(parent(path))
        }
    }
}

/// Whether something made in `wanted` can be renamed to `pgdata`: one filesystem, one mount.
fn same_mount(pgdata: &Path, wanted: &Path) -> bool {
    mount_of(parent(pgdata)) == mount_of(wanted)
}

/// Device and mount of a path, or of the nearest folder above that exists.
fn mount_of(path: &Path) -> Option<(u32, u32, u64)> {
    let exists = path.ancestors().find(|p| p.symlink_metadata().is_ok());
    let exists = exists.unwrap_or(Path::new("."));
    let flags = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let x = rustix::fs::statx(CWD, exists, AtFlags::empty(), flags).ok()?;
    Some((x.stx_dev_major, x.stx_dev_minor, x.stx_mnt_id))
}
