//! One monitor per store: a lock file beside the database, held while the store is open.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;

/// Mode of our files: the store holds the verifier of a password.
pub(crate) const PRIVATE: u32 = 0o600;

/// A held lock; ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

/// The path of a file beside the database.
pub(crate) fn beside(database: &Path, extension: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

impl StoreLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, "lock");
        let failed = |source| OpenError::File {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(PRIVATE)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let holder = file
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse::<u32>().ok());
                return Err(OpenError::InUse {
                    path: database.to_path_buf(),
                    holder: holder.map_or_else(|| "unknown".into(), |pid| pid.to_string()),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        // Only for the message above: a failure here, on a full disk say, changes nothing.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
