//! The swap of a PGDATA that cannot be renamed: entry by entry, within it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::external::External;
use super::staging::{FOLDER, Staging};
use super::{Failpoint, Resumed, SwapError, names, step};
use crate::durable::{self, DurableError, failed};

const MARKER: &str = "pgaf_swap";
const OUTGOING: &str = "pgaf_outgoing";
/// Holds `pg_control`: without it Postgres does not start. So it leaves first and comes last, and
/// a half-swapped PGDATA is never taken for a cluster.
const FIRST_OUT_LAST_IN: &str = "global";

/// What a swap that is under way is about, and how far it is.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    phase: Phase,
    external: External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// The old copy's entries go out.
    Out,
    /// The new copy's come in.
    In,
    /// The new copy is in place.
    Clean,
}

/// Whether an entry of PGDATA is not part of the copy.
pub(super) fn is_ours(name: &OsStr) -> bool {
    [
        MARKER,
        OUTGOING,
        FOLDER,
        "lost+found",
        ".pgaf_swap.pgaf-tmp",
    ]
    .iter()
    .any(|own| name == *own)
}

pub(super) fn swap(staging: &Staging, failpoint: Failpoint<'_>) -> Result<(), SwapError> {
    let pgdata = staging.pgdata();
    step(failpoint, "mark")?;
    let external = External::of(pgdata, staging.path());
    let mut marker = Marker {
        phase: Phase::Out,
        external,
    };
    write(pgdata, &marker)?;
    put_in_place(pgdata, &mut marker, failpoint)
}

/// Finishes the swap itself; the old copy stays.
pub(super) fn resume_in_place(
    pgdata: &Path,
    failpoint: Failpoint<'_>,
) -> Result<Resumed, SwapError> {
    let Some(mut marker) = read_marker(pgdata)? else {
        return Ok(Resumed::Nothing);
    };
    put_in_place(pgdata, &mut marker, failpoint)?;
    Ok(Resumed::Finished)
}

pub(super) fn resume(pgdata: &Path, failpoint: Failpoint<'_>) -> Result<Resumed, SwapError> {
    let Some(mut marker) = read_marker(pgdata)? else {
        return Ok(Resumed::Nothing);
    };
    put_in_place(pgdata, &mut marker, failpoint)?;
    clean_up(pgdata, &marker, failpoint)?;
    Ok(Resumed::Finished)
}

/// Removes from a new copy what its source had of a swap of its own: it would be taken for ours.
pub(crate) fn remove_foreign(copy: &Path) -> Result<(), DurableError> {
    durable::remove_file(&copy.join(MARKER))?;
    durable::remove_tree(&copy.join(OUTGOING))?;
    durable::remove_tree(&copy.join(FOLDER))?;
    Ok(())
}

fn read_marker(pgdata: &Path) -> Result<Option<Marker>, SwapError> {
    let path = pgdata.join(MARKER);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| SwapError::Marker(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(_) => Err(SwapError::Marker(path)),
    }
}

fn write(pgdata: &Path, marker: &Marker) -> Result<(), SwapError> {
    let path = pgdata.join(MARKER);
    let text = serde_json::to_vec(marker).map_err(|_| SwapError::Marker(path.clone()))?;
    Ok(durable::write_file(&path, &text, 0o600)?)
}

fn put_in_place(
    pgdata: &Path,
    marker: &mut Marker,
    failpoint: Failpoint<'_>,
) -> Result<(), SwapError> {
    let incoming = pgdata.join(FOLDER).join("data");
    let outgoing = pgdata.join(OUTGOING);
    if marker.phase == Phase::Out {
        make_dir(&outgoing)?;
        let mut entries = names(pgdata)?;
        entries.retain(|name| !is_ours(name));
        entries.sort_by_key(|name| name != FIRST_OUT_LAST_IN);
        move_all(&entries, pgdata, &outgoing, "old entry out", failpoint)?;
        step(failpoint, "old is out")?;
        marker.phase = Phase::In;
        write(pgdata, marker)?;
    }
    if marker.phase == Phase::In {
        let mut entries = names(&incoming)?;
        entries.sort_by_key(|name| name == FIRST_OUT_LAST_IN);
        move_all(&entries, &incoming, pgdata, "new entry in", failpoint)?;
        allow_start(pgdata)?;
        step(failpoint, "new is in")?;
        marker.phase = Phase::Clean;
        write(pgdata, marker)?;
    }
    Ok(())
}

fn clean_up(pgdata: &Path, marker: &Marker, failpoint: Failpoint<'_>) -> Result<(), SwapError> {
    step(failpoint, "delete old")?;
    durable::remove_tree(&pgdata.join(OUTGOING))?;
    step(failpoint, "delete external")?;
    marker.external.remove()?;
    step(failpoint, "delete folder")?;
    durable::remove_tree(&pgdata.join(FOLDER))?;
    step(failpoint, "unmark")?;
    durable::remove_file(&pgdata.join(MARKER))?;
    Ok(())
}

fn make_dir(path: &PathBuf) -> Result<(), DurableError> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("create", path)(e)),
        Ok(()) | Err(_) => durable::fsync_dir(durable::parent(path)),
    }
}

fn move_all(
    entries: &[OsString],
    from: &Path,
    to: &Path,
    name: &'static str,
    failpoint: Failpoint<'_>,
) -> Result<(), SwapError> {
    let last = entries.len().saturating_sub(1);
    for (i, entry) in entries.iter().enumerate() {
        step(failpoint, name)?;
        let target = to.join(entry);
        fs::rename(from.join(entry), &target).map_err(failed("rename to", &target))?;
        // `global` is apart from the rest on disk too: alone at first, and alone at last.
        if i == 0 || i + 1 >= last {
            durable::fsync_dir(to)?;
            durable::fsync_dir(from)?;
        }
    }
    Ok(())
}

/// Postgres starts on a data directory of mode 0700 or 0750 only; that of a volume is often wider.
fn allow_start(pgdata: &Path) -> Result<(), DurableError> {
    let meta = fs::metadata(pgdata).map_err(failed("look at", pgdata))?;
    if meta.permissions().mode() & 0o027 != 0 {
        fs::set_permissions(pgdata, fs::Permissions::from_mode(0o700))
            .map_err(failed("set the mode of", pgdata))?;
    }
    Ok(())
}
