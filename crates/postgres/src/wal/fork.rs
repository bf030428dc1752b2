//! A new timeline's first segment that was received in part, and hides its parent's whole one.
//!
//! A timeline's first segment repeats its parent's WAL up to the fork, and a standby that follows receives it from
//! the segment's start. Postgres reads the newest timeline's file of a segment and never falls back to the parent's
//! in the middle of it. So a standby that loses its upstream before it has received up to the fork again cannot
//! read the WAL that it has replayed: a promotion ends in a PANIC, and a start without upstream waits for ever.

use std::path::{Path, PathBuf};

use pgaf_protocol::Lsn;

use super::chain::Chain;
use super::reader::Reader;
use super::{WalError, blocking};
use crate::control::ControlData;
use crate::durable;

/// Removes such segments, and says which: the parent's has all that is in them, and reaches the fork. It must never
/// be asked while a WAL receiver runs.
///
/// # Errors
/// [`WalError`]: WAL cannot be read, or a file not removed.
pub async fn remove_partial_forks(
    pgdata: &Path,
    control: &ControlData,
) -> Result<Vec<PathBuf>, WalError> {
    blocking(pgdata, control, |pgdata, control| {
        let mut removed = Vec::new();
        while let Some(file) = partial(pgdata, control)? {
            durable::remove_file(&file).map_err(|error| WalError::Read {
                path: error.path,
                source: error.source,
            })?;
            removed.push(file);
        }
        Ok(removed)
    })
    .await
}

/// The newest branch's first segment, when its valid WAL ends before the fork and its parent's does not.
fn partial(pgdata: &Path, control: &ControlData) -> Result<Option<PathBuf>, WalError> {
    let chain = Chain::of(pgdata, control)?;
    let Some(fork) = chain.newest_fork() else {
        return Ok(None);
    };
    let hides = end_on(chain, control)? < fork.at && end_on(fork.parent, control)? >= fork.at;
    Ok(hides.then_some(fork.file))
}

/// Where valid WAL ends on a branch, from the last checkpoint on; the checkpoint itself when not even that is there.
fn end_on(chain: Chain, control: &ControlData) -> Result<Lsn, WalError> {
    let mut reader = Reader::new(chain, control);
    let (mut end, mut previous) = (control.checkpoint, None);
    while let Some(record) = reader.record(end, previous)? {
        (end, previous) = (record.end, Some(record.start));
    }
    Ok(end)
}
