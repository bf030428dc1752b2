//! Making a monitor's directory: repeating it on a half-made one goes on where it stopped.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pgaf_postgres::certs;
use pgaf_store::{OpenError, SqliteStore};

use crate::config::{MonitorConfig, STORE_FILE, Tls};

/// What `create` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The monitor is new.
    New,
    /// There was one already; nothing of it was changed.
    Existing,
}

/// Why a monitor cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The directory cannot be made or read.
    #[error("cannot create the monitor's directory `{path}`", path = .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Something else lives there: a Postgres data directory, or files that are not ours.
    #[error("`{path}` is not empty and not a monitor's directory: it contains `{found}`", path = .path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// A name found there.
        found: String,
    },
    /// The store cannot be made; [`OpenError::InUse`] means that the monitor runs.
    #[error("cannot create the monitor's store")]
    Store(#[source] OpenError),
    /// The self-signed certificate cannot be made.
    #[error("cannot make the monitor's certificate")]
    Certificate(#[source] certs::CertificateError),
}

/// Makes the directory, the store and, for [`crate::Tls::SelfSigned`], the certificate.
///
/// # Errors
/// [`CreateError`]; what was made stays, and the next call goes on.
pub fn create(config: &MonitorConfig) -> Result<Created, CreateError> {
    let failed = |source| CreateError::Directory {
        path: config.pgdata.clone(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.pgdata)
        .map_err(failed)?;
    if let Some(found) = stranger(&config.pgdata).map_err(failed)? {
        return Err(CreateError::Occupied {
            path: config.pgdata.clone(),
            found,
        });
    }
    let store = config.store_file();
    let created = if store.exists() {
        Created::Existing
    } else {
        Created::New
    };
    let identity = format!("{:016x}", rand::random::<u64>());
    match SqliteStore::open(&store, Some(&identity)) {
        Ok(_) => {}
        // It runs: there is nothing to make.
        Err(OpenError::InUse { .. }) if created == Created::Existing => {}
        Err(error) => return Err(CreateError::Store(error)),
    }
    if config.tls == Tls::SelfSigned {
        certs::ensure_self_signed(&config.pgdata, &config.hostname)
            .map_err(CreateError::Certificate)?;
    }
    Ok(created)
}

/// A name in the directory that a monitor did not make, unless the store is there already.
fn stranger(folder: &Path) -> std::io::Result<Option<String>> {
    let mut stranger = None;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == STORE_FILE {
            return Ok(None);
        }
        let ours = name.starts_with(STORE_FILE)
            || name.starts_with("server.")
            || name.starts_with("pg_autoctl")
            || name == "lost+found";
        if !ours {
            // A data directory is named by what everybody knows it by.
            if stranger.is_none() || name == "PG_VERSION" {
                stranger = Some(name);
            }
        }
    }
    Ok(stranger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creating_twice_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let config = MonitorConfig::new(folder.path().join("a/monitor"), "localhost", 0);
        assert_eq!(create(&config).unwrap(), Created::New);
        assert_eq!(create(&config).unwrap(), Created::Existing);
    }

    #[test]
    fn a_data_directory_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base"), "").unwrap();
        std::fs::write(folder.path().join("PG_VERSION"), "15").unwrap();
        let config = MonitorConfig::new(folder.path(), "localhost", 0);
        match create(&config) {
            Err(CreateError::Occupied { found, .. }) => assert_eq!(found, "PG_VERSION"),
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
