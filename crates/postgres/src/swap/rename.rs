//! The swap of a PGDATA that can be renamed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::external::External;
use super::staging::{self, Staging, sibling};
use super::{Failpoint, Resumed, SwapError, step};
use crate::durable;

/// What a swap that is under way is about. Its place says for which PGDATA.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// The new copy.
    new: PathBuf,
    /// The folder around it, removed at the end.
    folder: PathBuf,
    /// Where the old copy waits until it is deleted.
    old: PathBuf,
    /// What of it is elsewhere.
    external: External,
}

fn marker_path(pgdata: &Path) -> PathBuf {
    sibling(pgdata, ".pgaf-swap")
}

pub(super) fn swap(staging: &Staging, failpoint: Failpoint<'_>) -> Result<(), SwapError> {
    let pgdata = staging.pgdata();
    step(failpoint, "mark")?;
    let marker = Marker {
        new: staging.path().to_owned(),
        folder: staging.folder().to_owned(),
        // Never the name of something that is there.
        old: sibling(pgdata, &format!(".pgaf-old-{}", staging.tag())),
        external: External::of(pgdata, staging.path()),
    };
    let text = serde_json::to_vec(&marker).map_err(|_| SwapError::Marker(marker_path(pgdata)))?;
    durable::write_file(&marker_path(pgdata), &text, 0o600)?;
    put_in_place(pgdata, &marker, failpoint).map(|_| ())
}

/// Finishes or undoes the swap itself; the old copy, if any, stays.
pub(super) fn resume_in_place(
    pgdata: &Path,
    failpoint: Failpoint<'_>,
) -> Result<Resumed, SwapError> {
    match read_marker(pgdata)? {
        Some(marker) => put_in_place(pgdata, &marker, failpoint),
        None => Ok(Resumed::Nothing),
    }
}

pub(super) fn resume(pgdata: &Path, failpoint: Failpoint<'_>) -> Result<Resumed, SwapError> {
    let Some(marker) = read_marker(pgdata)? else {
        return Ok(Resumed::Nothing);
    };
    let outcome = put_in_place(pgdata, &marker, failpoint)?;
    clean_up(pgdata, &marker, outcome, failpoint)?;
    Ok(outcome)
}

fn read_marker(pgdata: &Path) -> Result<Option<Marker>, SwapError> {
    let path = marker_path(pgdata);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| SwapError::Marker(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(_) => Err(SwapError::Marker(path)),
    }
}

/// Does what is left to do of the swap itself; what is where says what that is.
fn put_in_place(
    pgdata: &Path,
    marker: &Marker,
    failpoint: Failpoint<'_>,
) -> Result<Resumed, SwapError> {
    let there = |path: &Path| path.symlink_metadata().is_ok();
    if there(&marker.new) {
        if there(pgdata) {
            step(failpoint, "old aside")?;
            durable::rename(pgdata, &marker.old)?;
        }
        step(failpoint, "new in place")?;
        durable::rename(&marker.new, pgdata)?;
        return Ok(Resumed::Finished);
    }
    if there(pgdata) {
        return Ok(Resumed::Finished);
    }
    // Somebody removed the new copy while we were away.
    if !there(&marker.old) {
        return Err(SwapError::Lost {
            new: marker.new.clone(),
            old: marker.old.clone(),
        });
    }
    step(failpoint, "old back")?;
    durable::rename(&marker.old, pgdata)?;
    Ok(Resumed::Undone)
}

fn clean_up(
    pgdata: &Path,
    marker: &Marker,
    outcome: Resumed,
    failpoint: Failpoint<'_>,
) -> Result<(), SwapError> {
    if outcome == Resumed::Finished {
        step(failpoint, "delete old")?;
        durable::remove_tree(&marker.old)?;
        step(failpoint, "delete external")?;
        marker.external.remove()?;
    }
    step(failpoint, "delete folder")?;
    staging::remove_folder(&marker.folder, false)?;
    step(failpoint, "unmark")?;
    durable::remove_file(&marker_path(pgdata))?;
    Ok(())
}
