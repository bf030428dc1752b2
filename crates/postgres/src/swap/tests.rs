use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// Makes something like a data directory.
fn make(path: &Path, name: &str) {
    fs::create_dir_all(path.join("global")).unwrap();
    fs::create_dir_all(path.join("base/1")).unwrap();
    fs::write(path.join("PG_VERSION"), "15\n").unwrap();
    fs::write(path.join("global/pg_control"), name).unwrap();
    fs::write(path.join("base/1/1259"), name).unwrap();
    fs::write(path.join(format!("only-{name}")), name).unwrap();
}

fn is_whole(path: &Path, name: &str) -> bool {
    ["global/pg_control", "base/1/1259", &format!("only-{name}")]
        .iter()
        .all(|file| fs::read_to_string(path.join(file)).is_ok_and(|text| text == name))
}

/// A folder whose PGDATA is swapped by renaming, or entry by entry.
struct Place {
    dir: tempfile::TempDir,
    inside: bool,
}

impl Place {
    fn new(inside: bool) -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            inside,
        };
        make(&place.pgdata(), "old");
        place
    }

    fn pgdata(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("data")
    }

    fn staged(&self) -> Staging {
        let mut staging =
            Staging::prepare(&self.pgdata(), &self.dir.path().join("backup/node_1")).unwrap();
        if self.inside {
            staging.remove_folder().unwrap();
            staging.force_inside();
        }
        make(staging.path(), "new");
        staging
    }

    /// Everything in the folder, but for what a swap may leave: nothing.
    fn leftovers(&self) -> Vec<String> {
        let mut names: Vec<_> = names(self.dir.path()).unwrap();
        names.extend(super::names(&self.pgdata()).unwrap());
        names.extend(super::names(&self.dir.path().join("backup")).unwrap_or_default());
        let names = names.into_iter().filter_map(|n| n.into_string().ok());
        names
            .filter(|n| n.contains("pgaf") || n == "only-old")
            .collect()
    }
}

#[test]
fn the_new_copy_takes_the_place_of_the_old_one() {
    for inside in [false, true] {
        let place = Place::new(inside);
        place.staged().swap_in().unwrap().delete().unwrap();
        assert!(is_whole(&place.pgdata(), "new"));
        assert_eq!(place.leftovers(), Vec::<String>::new());
        assert_eq!(resume(&place.pgdata()).unwrap(), Resumed::Nothing);
    }
}

#[test]
fn a_crash_before_any_step_is_resumed_and_a_copy_is_whole_at_each_instant() {
    for inside in [false, true] {
        let mut crashes = 0;
        loop {
            let place = Place::new(inside);
            let mut left = crashes;
            let failpoint = &mut |_| {
                left -= 1;
                left < 0
            };
            let swapped = place.staged().swap_in_until(failpoint);
            let result = swapped.and_then(|old| old.delete_until(failpoint));
            if result.is_ok() {
                break;
            }
            let pgdata = place.pgdata();
            // At any instant one of the two copies is complete somewhere, and PGDATA is a whole
            // copy, or not one that starts.
            assert!(
                !is_complete(&pgdata) || is_whole(&pgdata, "old") || is_whole(&pgdata, "new"),
                "half a copy after {crashes} steps, inside {inside}"
            );
            let marked = left == -1 && crashes > 0;
            let expected = if marked {
                Resumed::Finished
            } else {
                Resumed::Nothing
            };
            assert_eq!(resume(&pgdata).unwrap(), expected, "{crashes}");
            assert!(is_whole(&pgdata, if marked { "new" } else { "old" }));
            if marked {
                assert_eq!(place.leftovers(), Vec::<String>::new());
            }
            crashes += 1;
        }
        assert!(crashes >= 6, "{crashes}");
    }
}

#[test]
fn crashes_of_the_resumption_itself_are_resumed() {
    for inside in [false, true] {
        let place = Place::new(inside);
        let mut steps = 0;
        let crash_at = |steps: &mut i32| {
            *steps += 1;
            // The end of a swap is four steps that are done again by each resumption.
            *steps % 5 == 0
        };
        let _ = place.staged().swap_in_until(&mut |_| crash_at(&mut steps));
        // One step further each time, at least.
        while resume_until(&place.pgdata(), &mut |_| crash_at(&mut steps)).is_err() {
            assert!(steps < 1000);
        }
        assert!(is_whole(&place.pgdata(), "new"));
        assert_eq!(place.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_new_copy_that_is_gone_brings_the_old_one_back() {
    let place = Place::new(false);
    let staging = place.staged();
    let new = staging.path().to_owned();
    let _ = staging.swap_in_until(&mut |step| step == "new in place");
    fs::remove_dir_all(new).unwrap();
    assert_eq!(resume(&place.pgdata()).unwrap(), Resumed::Undone);
    assert!(is_whole(&place.pgdata(), "old"));
}

#[test]
fn an_incomplete_copy_is_not_swapped_in() {
    let place = Place::new(false);
    let staging = place.staged();
    fs::remove_file(staging.path().join("global/pg_control")).unwrap();
    assert!(matches!(staging.swap_in(), Err(SwapError::Incomplete(_))));
    assert!(is_whole(&place.pgdata(), "old"));
}

#[test]
fn what_an_interrupted_attempt_left_is_removed_and_the_users_files_stay() {
    let place = Place::new(false);
    let backup = place.dir.path().join("backup/node_1");
    fs::create_dir_all(&backup).unwrap();
    fs::write(backup.join("mine"), "x").unwrap();
    let staging = place.staged();
    let outside = place.dir.path().join("space");
    staging
        .note_external(std::slice::from_ref(&outside))
        .unwrap();
    let outside = staging.tablespace_directory(&outside);
    fs::create_dir(&outside).unwrap();
    drop(staging);
    let staging = Staging::prepare(&place.pgdata(), &backup).unwrap();
    assert!(!staging.path().exists() && !outside.exists());
    staging.discard().unwrap();
    assert_eq!(names(&backup).unwrap(), ["mine"]);
}

#[test]
fn wal_behind_a_link_and_tablespaces_go_with_their_copy() {
    let place = Place::new(false);
    let root = place.dir.path();
    let (wal, space) = (root.join("wal"), root.join("space"));
    fs::create_dir_all(wal.join("archive_status")).unwrap();
    fs::write(wal.join("000000010000000000000001"), "x").unwrap();
    fs::create_dir_all(space.join("PG_15_202209061/5")).unwrap();
    fs::write(space.join("users-own"), "x").unwrap();
    symlink(&wal, place.pgdata().join("pg_wal")).unwrap();
    fs::create_dir(place.pgdata().join("pg_tblspc")).unwrap();
    symlink(&space, place.pgdata().join("pg_tblspc/16384")).unwrap();

    let staging = place.staged();
    let new_wal = staging.wal_directory().unwrap().to_owned();
    assert_eq!(new_wal.parent(), Some(place.pgdata().parent().unwrap()));
    fs::create_dir(&new_wal).unwrap();
    symlink(&new_wal, staging.path().join("pg_wal")).unwrap();
    staging.swap_in().unwrap().delete().unwrap();

    assert!(!wal.exists() && new_wal.exists());
    assert_eq!(names(&space).unwrap(), ["users-own"]);
    assert_eq!(
        fs::read_link(place.pgdata().join("pg_wal")).unwrap(),
        new_wal
    );
}

#[test]
fn the_nodes_own_files_are_carried_over_and_the_sources_are_not() {
    let place = Place::new(false);
    fs::write(place.pgdata().join("server.key"), "mine").unwrap();
    fs::create_dir(place.pgdata().join("log")).unwrap();
    fs::write(place.pgdata().join("log/a"), "mine").unwrap();
    let staging = place.staged();
    fs::write(staging.path().join("server.key"), "theirs").unwrap();
    fs::write(staging.path().join("server.crt"), "theirs").unwrap();
    fs::create_dir(staging.path().join("log")).unwrap();
    fs::write(staging.path().join("log/b"), "theirs").unwrap();
    staging
        .carry_over(&["server.key", "server.crt", "log", "missing"])
        .unwrap();
    assert_eq!(
        fs::read_to_string(staging.path().join("server.key")).unwrap(),
        "mine"
    );
    assert!(!staging.path().join("server.crt").exists());
    assert_eq!(names(&staging.path().join("log")).unwrap(), ["a"]);
}

#[test]
fn a_data_directory_behind_a_link_keeps_its_link() {
    let place = Place::new(false);
    let link = place.dir.path().join("link");
    symlink("data", &link).unwrap();
    let staging = Staging::prepare(&link, &place.dir.path().join("backup")).unwrap();
    make(staging.path(), "new");
    let _ = staging.swap_in_until(&mut |step| step == "new in place");
    assert_eq!(resume(&link).unwrap(), Resumed::Finished);
    assert!(is_whole(&link, "new"));
    assert!(link.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn the_old_copy_may_be_left_for_later_when_a_swap_is_resumed() {
    for inside in [false, true] {
        let place = Place::new(inside);
        let crash = if inside { "new is in" } else { "new in place" };
        assert!(
            place
                .staged()
                .swap_in_until(&mut |step| step == crash)
                .is_err()
        );
        let (resumed, old) = resume_in_place(&place.pgdata()).unwrap();
        assert_eq!(resumed, Resumed::Finished);
        assert!(is_whole(&place.pgdata(), "new") && !place.leftovers().is_empty());
        old.unwrap().delete().unwrap();
        assert_eq!(place.leftovers(), Vec::<String>::new());
        assert!(resume_in_place(&place.pgdata()).unwrap().1.is_none());
    }
}

#[test]
fn a_marker_that_came_with_a_copy_of_another_node_is_not_ours() {
    let place = Place::new(false);
    let staging = place.staged();
    fs::write(staging.path().join("pgaf_swap"), r#"{"phase":"Clean"}"#).unwrap();
    fs::create_dir(staging.path().join("pgaf_outgoing")).unwrap();
    remove_foreign(staging.path()).unwrap();
    staging.swap_in().unwrap().delete().unwrap();
    assert_eq!(place.leftovers(), Vec::<String>::new());
}
