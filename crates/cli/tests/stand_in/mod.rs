//! A Postgres with a stand-in for Citus, beside the system's: a copy of its programs, links to the rest.
//! Its programs find their library and share folders from where they are, so that no file of the system
//! changes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What is preloaded under Citus' name: a library that does nothing until it is told to.
const LIBRARY: &str = "auto_explain.so";

/// Lays the copy of the Postgres in `bin` out below `top`; answers its programs' folder. `None`, and said
/// loudly, where Postgres is not installed as Debian does it.
pub(crate) fn lay_out(bin: &Path, top: &Path) -> Option<PathBuf> {
    let version = bin.parent()?;
    let prefix = version.parent()?.parent()?.parent()?;
    let major = version.file_name()?;
    let share = prefix.join("share/postgresql").join(major);
    let lib = version.join("lib");
    if !share.join("extension").is_dir() || !lib.join(LIBRARY).is_file() {
        eprintln!(
            "SKIPPED: {} is not laid out as Debian's, the stand-in for Citus cannot be put beside it",
            bin.display()
        );
        return None;
    }
    let here = |folder: &str| {
        let path = top.join(folder).join("postgresql").join(major);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (new_lib, new_share) = (here("lib"), here("share"));
    let programs = new_lib.join("bin");
    fs::create_dir(&programs).unwrap();
    for entry in fs::read_dir(bin).unwrap().flatten() {
        fs::copy(entry.path(), programs.join(entry.file_name())).unwrap();
    }
    links(&lib, &new_lib.join("lib"));
    links(&share, &new_share);
    let extension = new_share.join("extension");
    remove_link(&extension);
    links(&share.join("extension"), &extension);
    let library = new_lib.join("lib/citus.so");
    remove_link(&library);
    symlink(lib.join(LIBRARY), library).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stand-in");
    for name in ["citus.control", "citus--0.sql"] {
        let to = extension.join(name);
        remove_link(&to);
        fs::copy(data.join(name), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
    }
    Some(programs)
}

/// A machine with the real one has it under this name.
fn remove_link(path: &Path) {
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
}

/// A folder with a link to each entry of another one.
fn links(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        symlink(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
