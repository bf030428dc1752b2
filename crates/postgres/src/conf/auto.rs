//! Our settings in `postgresql.auto.conf`, where `ALTER SYSTEM` writes and the old program did.

use std::path::Path;

use super::{ConfError, OWNED, durable, latin1, mode, read, read_bytes, scan};

/// An entry of `postgresql.auto.conf` (`ALTER SYSTEM`) for a setting that we own.
#[derive(Clone, PartialEq, Eq)]
pub struct AutoEntry {
    /// The setting.
    pub name: String,
    /// Its value as written; `primary_conninfo` may hold a password.
    pub value: String,
}

impl std::fmt::Debug for AutoEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.name == "primary_conninfo" {
            "****"
        } else {
            &self.value
        };
        write!(f, "{}={value:?}", self.name)
    }
}

fn owned(line: &str) -> Option<AutoEntry> {
    let (name, value) = scan::setting(line)?;
    OWNED.contains(&&*name).then_some(AutoEntry { name, value })
}

/// Finds our settings in `postgresql.auto.conf`.
///
/// # Errors
/// [`ConfError`].
pub fn auto_entries(pgdata: &Path) -> Result<Vec<AutoEntry>, ConfError> {
    let path = pgdata.join("postgresql.auto.conf");
    if !path.exists() {
        return Ok(Vec::new());
    }
    Ok(read(&path)?.lines().filter_map(owned).collect())
}

/// Removes our settings from `postgresql.auto.conf`; only while Postgres is down (it rewrites the
/// file under a lock of its own). Answers what was removed.
///
/// # Errors
/// [`ConfError`].
pub fn remove_auto_entries(pgdata: &Path) -> Result<Vec<AutoEntry>, ConfError> {
    let removed = auto_entries(pgdata)?;
    if !removed.is_empty() {
        let path = pgdata.join("postgresql.auto.conf");
        let text = latin1(&read_bytes(&path)?);
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| owned(line).is_none())
            .collect();
        let bytes: Vec<u8> = kept.chars().filter_map(|c| u8::try_from(c).ok()).collect();
        durable::write_file(&path, &bytes, mode(&path))?;
    }
    Ok(removed)
}
