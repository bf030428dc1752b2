//! The name of a copy: the file `pgaf_copy` in a data directory (`safety.md` §1).
//!
//! Owns that one file. It must never be carried from one data directory into another: base backup
//! and rewind write a new one, and `write` is the only way to make it.

use std::path::{Path, PathBuf};

use pgaf_protocol::CopyId;

use crate::durable::{self, DurableError};

/// The file, inside PGDATA.
pub const FILE: &str = "pgaf_copy";

/// Why a copy's name is unknown.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file is there and cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] DurableError),
}

/// Draws a new name.
#[must_use]
pub fn draw() -> CopyId {
    CopyId(rand::random())
}

/// Reads the name of a copy. No file, and a file that holds something else, are both `None`: this
/// copy has no name yet, and gets a new one.
///
/// # Errors
/// [`CopyError::Read`].
pub fn read(pgdata: &Path) -> Result<Option<CopyId>, CopyError> {
    let path = pgdata.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) if source.kind() == std::io::ErrorKind::InvalidData => Ok(None),
        Err(source) => Err(CopyError::Read { path, source }),
    }
}

/// Gives a copy its name, durably.
///
/// # Errors
/// [`CopyError::Write`].
pub fn write(pgdata: &Path, copy: CopyId) -> Result<(), CopyError> {
    durable::write_file(&pgdata.join(FILE), format!("{copy}\n").as_bytes(), 0o600)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_name_and_garbage_is_no_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let copy = draw();
        write(dir.path(), copy).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(copy));
        std::fs::write(dir.path().join(FILE), b"\xff\xfe").unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        assert_ne!(draw(), draw());
    }
}
