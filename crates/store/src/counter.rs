//! Numbers that only rise, kept outside the database: the proof that it was not restored.
//!
//! The file is written in place (its space is taken when it is made, so that a full disk does not
//! stop it), in two slots in turn, each with a checksum: a write that is cut off leaves the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::lock::PRIVATE;

/// Bytes of one slot: about 600 groups. A longer text grows the slots, by a new file.
const SLOT_BYTES: usize = 32 * 1024;

/// Whether a store goes on from where this host last left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuation {
    /// The store was made by this call.
    New,
    /// Everything that was ever marked is in it.
    Proven,
    /// It is an older copy, or another store, or the counter is lost.
    Restored {
        /// What showed it, for people.
        why: String,
    },
}

/// What one slot says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// The random identity of the database it belongs to.
    pub(crate) identity: String,
    /// Rises with each write; the higher slot counts.
    pub(crate) serial: u64,
    /// The numbers.
    pub(crate) marks: BTreeMap<String, u64>,
}

/// The file, open.
#[derive(Debug)]
pub(crate) struct CounterFile {
    path: PathBuf,
    file: File,
    slot_bytes: usize,
    present: Marks,
}

/// FNV-1a: it tells a torn write from a whole one, nothing more.
fn checksum(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn encode(marks: &Marks, slot_bytes: usize) -> std::io::Result<Option<Vec<u8>>> {
    let json = serde_json::to_string(marks)?;
    let mut text = format!("{:016x} {}\n", checksum(json.as_bytes()), json).into_bytes();
    if text.len() > slot_bytes {
        return Ok(None);
    }
    text.resize(slot_bytes, b' ');
    Ok(Some(text))
}

fn decode(slot: &[u8]) -> Option<Marks> {
    let text = std::str::from_utf8(slot).ok()?.trim_end();
    let (sum, json) = text.split_once(' ')?;
    let sum = u64::from_str_radix(sum, 16).ok()?;
    (sum == checksum(json.as_bytes()))
        .then(|| serde_json::from_str(json).ok())
        .flatten()
}

impl CounterFile {
    /// Opens the file; `None` when there is none, or when no slot of it is whole.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, OpenError> {
        let failed = |source| OpenError::File {
            path: path.to_path_buf(),
            source,
        };
        let mut file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let slot_bytes = bytes.len() / 2;
        let present = bytes
            .chunks(slot_bytes.max(1))
            .filter_map(decode)
            .max_by_key(|m| m.serial);
        Ok(present.map(|present| Self {
            path: path.to_path_buf(),
            file,
            slot_bytes,
            present,
        }))
    }

    /// Makes the file anew, in place of what is there.
    pub(crate) fn create(path: &Path, marks: Marks) -> Result<Self, OpenError> {
        write_new(path, &marks)
            .map(|(file, slot_bytes)| Self {
                path: path.to_path_buf(),
                file,
                slot_bytes,
                present: marks,
            })
            .map_err(|source| OpenError::File {
                path: path.to_path_buf(),
                source,
            })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds.
    pub(crate) fn present(&self) -> &Marks {
        &self.present
    }

    /// Whether one of these numbers is above the file's.
    pub(crate) fn is_behind(&self, marks: &BTreeMap<String, u64>) -> bool {
        marks
            .iter()
            .any(|(name, value)| self.present.marks.get(name).is_none_or(|m| m < value))
    }

    /// Raises numbers, durably; numbers that would fall stay.
    pub(crate) fn raise(&mut self, marks: &BTreeMap<String, u64>) -> std::io::Result<()> {
        if !self.is_behind(marks) {
            return Ok(());
        }
        let mut next = self.present.clone();
        next.serial += 1;
        for (name, value) in marks {
            let mark = next.marks.entry(name.clone()).or_insert(*value);
            *mark = (*mark).max(*value);
        }
        match encode(&next, self.slot_bytes)? {
            Some(slot) => {
                let offset = if next.serial.is_multiple_of(2) {
                    0
                } else {
                    slot.len()
                };
                self.file.write_all_at(&slot, offset as u64)?;
                self.file.sync_data()?;
            }
            None => (self.file, self.slot_bytes) = write_new(&self.path, &next)?,
        }
        self.present = next;
        Ok(())
    }
}

/// Writes a new file with both slots taken, and puts it in place of the old one.
fn write_new(path: &Path, marks: &Marks) -> std::io::Result<(File, usize)> {
    let mut slot_bytes = SLOT_BYTES;
    let slot = loop {
        match encode(marks, slot_bytes)? {
            Some(slot) => break slot,
            None => slot_bytes *= 2,
        }
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .mode(PRIVATE)
        .open(&temporary)?;
    file.write_all(&slot)?;
    file.write_all(&slot)?;
    file.seek(SeekFrom::Start(0))?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok((file, slot_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect()
    }

    #[test]
    fn numbers_rise_and_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter");
        let mut file = CounterFile::create(&path, Marks::default()).unwrap();
        file.raise(&marks(&[("a", 3), ("b", 1)])).unwrap();
        file.raise(&marks(&[("a", 2), ("b", 5)])).unwrap();
        let again = CounterFile::open(&path).unwrap().unwrap();
        assert_eq!(again.present().marks, marks(&[("a", 3), ("b", 5)]));
        assert!(!again.is_behind(&marks(&[("a", 3)])));
        assert!(again.is_behind(&marks(&[("c", 0)])));
    }

    #[test]
    fn a_torn_write_leaves_the_slot_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter");
        let mut file = CounterFile::create(&path, Marks::default()).unwrap();
        file.raise(&marks(&[("a", 1)])).unwrap();
        file.raise(&marks(&[("a", 2)])).unwrap();
        file.file.write_all_at(b"torn", 0).unwrap();
        let again = CounterFile::open(&path).unwrap().unwrap();
        assert_eq!(again.present().marks, marks(&[("a", 1)]));
        std::fs::write(&path, b"garbage").unwrap();
        assert!(CounterFile::open(&path).unwrap().is_none());
    }

    #[test]
    fn more_marks_than_a_slot_holds_grow_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter");
        let mut file = CounterFile::create(&path, Marks::default()).unwrap();
        let many: BTreeMap<_, _> = (0..5000)
            .map(|n| (format!("term/default/{n}"), n))
            .collect();
        file.raise(&many).unwrap();
        file.raise(&marks(&[("term/default/7", 70)])).unwrap();
        let again = CounterFile::open(&path).unwrap().unwrap();
        assert_eq!(again.present().marks.len(), 5000);
        assert_eq!(again.present().marks["term/default/7"], 70);
    }
}
