//! The tables, their version, and what is read of them when the store opens.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::error::OpenError;

/// Version of the tables; in `PRAGMA user_version`. Bumped with every change of them.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// `PRAGMA application_id`: "pgaf" in ASCII, so that `file` and people recognise the database.
const APPLICATION_ID: i64 = 0x7067_6166;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE value (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL)
    WITHOUT ROWID, STRICT;
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, formation TEXT NOT NULL,
    grp INTEGER NOT NULL, record TEXT NOT NULL) STRICT;
";

/// Opens the database as the store needs it.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        // Exclusive before WAL: then the index of the WAL is in memory, not in a shared file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // KiB when negative; the values are loaded once, the cache only serves writes.
        connection.pragma_update(None, "cache_size", -256)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // Checkpoints are the worker's: in quiet moments, never in the way of a failover.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(connection)
    };
    open().map_err(|source| OpenError::Database {
        path: path.to_path_buf(),
        source,
    })
}

/// Makes the tables when there are none; answers whether it did.
pub(super) fn prepare(
    connection: &Connection,
    path: &Path,
    identity: Option<&str>,
) -> Result<bool, OpenError> {
    let failed = |source| OpenError::Database {
        path: path.to_path_buf(),
        source,
    };
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::TooNew {
            path: path.to_path_buf(),
            found,
            known: SCHEMA_VERSION,
        });
    }
    if found == SCHEMA_VERSION {
        return Ok(false);
    }
    let Some(identity) = identity else {
        return Err(OpenError::Missing(path.to_path_buf()));
    };
    let make = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO meta VALUES ('identity', ?1), ('revision', '0')",
            [identity],
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    };
    make().map_err(failed)?;
    Ok(true)
}

/// A row of table `meta`.
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
            row.get(0)
        })
        .optional()
}

/// The random identity of this database.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<String> {
    Ok(meta(connection, "identity")?.unwrap_or_default())
}

/// The numbers that only rise, as the database knows them.
pub(super) fn marks(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    connection
        .prepare("SELECT name, value FROM mark")?
        .query_map([], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })?
        .collect()
}
