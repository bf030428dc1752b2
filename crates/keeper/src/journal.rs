//! The journal's file.
//!
//! Owns reading and writing it, whole and durably. It must never be written by two processes, and
//! never be read half: a file of another version, or of the old program, is refused by name.

use std::path::{Path, PathBuf};

use pgaf_fsm::node::Journal;
use pgaf_postgres::durable::{self, DurableError};
use serde::{Deserialize, Serialize};

use crate::KeeperError;

/// Version of the file; raised when a field appears whose absence matters.
const VERSION: u32 = 1;
/// What the file says it is.
const FORMAT: &str = "pgaf-keeper";
/// Only the owner reads it. Source: the old program's mode for its state file.
const MODE: u32 = 0o600;

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    journal: Journal,
}

/// The journal on disk.
#[derive(Debug, Clone)]
pub(crate) struct JournalFile {
    path: PathBuf,
}

impl JournalFile {
    /// The journal at `path`, which need not be there.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// [`KeeperError::Journal`].
    pub(crate) fn load(&self) -> Result<Option<Journal>, KeeperError> {
        let refuse = |reason: String| KeeperError::Journal {
            path: self.path.clone(),
            reason,
        };
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refuse(error.to_string())),
        };
        if bytes.first() != Some(&b'{') {
            return Err(refuse(
                "it is not a journal of this program (the old program's state file?)".into(),
            ));
        }
        let file: File =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        if file.format != FORMAT || file.version != VERSION {
            return Err(refuse(format!(
                "it is {} version {}, this program knows {FORMAT} version {VERSION}",
                file.format, file.version
            )));
        }
        Ok(Some(file.journal))
    }

    /// Writes it, with its folder.
    ///
    /// # Errors
    /// [`DurableError`]; the old contents are then still valid.
    pub(crate) fn store(&self, journal: &Journal) -> Result<(), DurableError> {
        let file = File {
            format: FORMAT.into(),
            version: VERSION,
            journal: journal.clone(),
        };
        let bytes = serde_json::to_vec(&file).map_err(|error| DurableError {
            doing: "write",
            path: self.path.clone(),
            source: std::io::Error::other(error),
        })?;
        if let Some(folder) = self.path.parent()
            && !folder.exists()
        {
            std::fs::create_dir_all(folder).map_err(|source| DurableError {
                doing: "create",
                path: folder.to_owned(),
                source,
            })?;
        }
        durable::write_file(&self.path, &bytes, MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = JournalFile::at(&dir.path().join("deep/er/pg_autoctl.state"));
        assert!(file.load().unwrap().is_none());
        let journal = Journal::new("t0ken".into(), "default".into());
        file.store(&journal).unwrap();
        assert_eq!(file.load().unwrap(), Some(journal));
    }

    #[test]
    fn a_state_file_of_the_old_program_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_autoctl.state");
        std::fs::write(&path, [1, 0, 0, 0]).unwrap();
        let error = JournalFile::at(&path).load().unwrap_err();
        assert!(error.to_string().contains("old program"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), [1, 0, 0, 0]);
    }
}
