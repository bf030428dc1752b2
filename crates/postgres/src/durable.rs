//! Files that are there after power is lost.
//!
//! Owns the order of write, fsync and rename. It must never leave a half-written file under its
//! final name, and never report success before the disk has it. All functions block: callers on a
//! runtime keep them to small files, or use `spawn_blocking`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A change that is not, or not certainly, on disk.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{path}`", path = path.display())]
pub struct DurableError {
    /// What was tried, as a verb.
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's reason.
    #[source]
    pub source: io::Error,
}

/// Wraps an I/O error with what was being done; for `map_err`.
pub(crate) fn failed<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DurableError + 'a {
    move |source| DurableError {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// The folder that holds `path`; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    }
}

/// Replaces `path` by a file that holds `bytes` with mode `mode`, all or nothing.
///
/// The temporary file beside it has a fixed name (`.NAME.pgaf-tmp`), so that a crash leaves one
/// file at most, which the next write overwrites: one writer per file.
///
/// # Errors
/// [`DurableError`]; the old contents are then still there, or the new ones are, in full.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".pgaf-tmp");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    // The mode above is subject to the umask, and ignored when the file was left by a crash.
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(failed("set the mode of", &temporary))?;
    file.write_all(bytes).map_err(failed("write", &temporary))?;
    file.sync_all().map_err(failed("sync", &temporary))?;
    drop(file);
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    fsync_dir(parent(path))
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// [`DurableError`].
pub fn fsync_dir(path: &Path) -> Result<(), DurableError> {
    let dir = File::open(path).map_err(failed("open", path))?;
    dir.sync_all().map_err(failed("sync", path))
}

/// Makes one file's contents durable.
///
/// # Errors
/// [`DurableError`].
pub fn fsync_file(path: &Path) -> Result<(), DurableError> {
    let file = File::open(path).map_err(failed("open", path))?;
    file.sync_all().map_err(failed("sync", path))
}

/// Makes the whole filesystem that holds `path` durable: one pass instead of an fsync for each of
/// the thousand files of a new data directory.
///
/// Measured on ext4: 25 ms for a new cluster of 39 MB, against 0.4 s for one fsync per file. Linux
/// reports write-back errors here since 5.8.
///
/// # Errors
/// [`DurableError`].
pub fn sync_filesystem(path: &Path) -> Result<(), DurableError> {
    let dir = File::open(path).map_err(failed("open", path))?;
    rustix::fs::syncfs(&dir).map_err(|e| failed("sync the filesystem of", path)(e.into()))
}

/// Removes one file durably; answers whether it was there.
///
/// # Errors
/// [`DurableError`].
pub fn remove_file(path: &Path) -> Result<bool, DurableError> {
    match fs::remove_file(path) {
        Ok(()) => fsync_dir(parent(path)).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("remove", path)(e)),
    }
}

/// Removes a folder with all that is in it, durably; answers whether it was there. Symbolic links
/// inside are removed, not followed.
///
/// # Errors
/// [`DurableError`].
pub fn remove_tree(path: &Path) -> Result<bool, DurableError> {
    match fs::remove_dir_all(path) {
        Ok(()) => fsync_dir(parent(path)).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("remove", path)(e)),
    }
}

/// Renames a file or folder durably.
///
/// # Errors
/// [`DurableError`], named after the target.
pub fn rename(from: &Path, to: &Path) -> Result<(), DurableError> {
    fs::rename(from, to).map_err(failed("rename to", to))?;
    fsync_dir(parent(to))?;
    if parent(from) != parent(to) {
        fsync_dir(parent(from))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_file(&path, b"one", 0o600).unwrap();
        write_file(&path, b"two", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_write_that_cannot_be_done_leaves_the_old_file_and_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing").join("state");
        let error = write_file(&path, b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(!remove_file(&path).unwrap());
        assert!(!remove_tree(&path).unwrap());
        fs::create_dir(&path).unwrap();
        fs::write(path.join("b"), "x").unwrap();
        assert!(remove_tree(&path).unwrap());
    }

    #[test]
    fn a_rename_between_folders_moves_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        rename(&dir.path().join("a"), &dir.path().join("to/b")).unwrap();
        assert_eq!(fs::read(dir.path().join("to/b")).unwrap(), b"x");
        sync_filesystem(dir.path()).unwrap();
    }
}
