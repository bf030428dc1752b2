//! The timeline of the WAL that a standby has, when no receiver is there to tell.
//!
//! The control file lags behind: `pg_control_checkpoint()` and `pg_control_recovery()` name the
//! timeline of the last restart point, minutes after the standby has followed a promotion. A
//! position with the old number and the new LSN would rank behind copies that hold less. Measured on
//! 15: both show 1 while everything up to the LSN on timeline 2 is received and replayed.

use std::path::Path;

use pgaf_protocol::{Lsn, TimelineId};

use crate::history;

/// The newest timeline that has a WAL segment with the byte before `lsn`: what was received last is
/// in it. `None` when there is no such segment. A timeline's first segment begins with its parent's
/// WAL, so up to the fork that WAL is the parent's, also when it stands in the newer file.
pub(super) fn of_wal(pgdata: &Path, lsn: Lsn) -> Option<TimelineId> {
    let newest = newest_with(pgdata, lsn)?;
    let Ok(Some(history)) = history::read(pgdata, newest) else {
        return Some(newest);
    };
    let parent = history.parents.iter().find(|fork| lsn <= fork.at);
    Some(parent.map_or(newest, |fork| fork.timeline))
}

fn newest_with(pgdata: &Path, lsn: Lsn) -> Option<TimelineId> {
    let before = lsn.0.checked_sub(1)?;
    let entries = std::fs::read_dir(pgdata.join("pg_wal")).ok()?;
    entries
        .flatten()
        .filter_map(|entry| {
            let (timeline, high, low) = numbers(entry.file_name().to_str()?)?;
            let bytes = entry.metadata().ok()?.len();
            let per_id = (1_u64 << 32).checked_div(bytes)?;
            (high * per_id + low == before / bytes).then_some(timeline)
        })
        .max()
}

/// What the 24 digits of a segment's name say.
fn numbers(name: &str) -> Option<(TimelineId, u64, u64)> {
    let digits = name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let part = |from: usize| u32::from_str_radix(name.get(from..from + 8)?, 16).ok();
    digits.then_some(())?;
    Some((TimelineId(part(0)?), part(8)?.into(), part(16)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_segment_that_holds_the_last_byte_tells() {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        let bytes = 1_u64 << 20;
        for name in [
            "000000010000000000000003",
            "000000010000000000000004",
            "000000020000000000000004",
            "00000002.history",
            "000000030000000100000000",
        ] {
            let file = std::fs::File::create(wal.join(name)).unwrap();
            file.set_len(bytes).unwrap();
        }
        let at = |lsn| of_wal(folder.path(), Lsn(lsn));
        assert_eq!(at(4 * bytes), Some(TimelineId(1)), "segment 3 ends there");
        assert_eq!(at(4 * bytes + 1), Some(TimelineId(2)));
        assert_eq!(at((1 << 32) + 7), Some(TimelineId(3)));
        assert_eq!(at(9 * bytes), None);
        let fork = format!("1\t0/{:X}\tno recovery target specified\n", 4 * bytes + 100);
        std::fs::write(wal.join("00000002.history"), fork).unwrap();
        assert_eq!(at(4 * bytes + 100), Some(TimelineId(1)), "up to the fork");
        assert_eq!(at(4 * bytes + 101), Some(TimelineId(2)));
    }
}
