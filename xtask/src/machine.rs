//! The machine underneath: Postgres' programs, the user to run them as, packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid};

use crate::{command, console};

/// Where Debian's packages put the server programs of each major version.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// A drop-in that keeps Debian's Postgres package from creating and starting a server of its own.
const NO_MAIN_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/pgaf-xtask.conf";

/// How long another run of apt is waited for, in seconds: one that installs a few packages takes less (chosen).
const APT_LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=120";

/// Who runs Postgres. It refuses to run as root.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// The login name, which is also the name of the Postgres superuser that initdb makes.
    pub(crate) name: String,
    uid: u32,
    gid: u32,
    /// Whether a command has to change to this user first.
    switch: bool,
}

impl Account {
    /// The user to run Postgres as: the caller, or for root `postgres`, else `nobody`.
    ///
    /// # Errors
    /// When there is no such user.
    pub(crate) fn find() -> Result<Self> {
        let switch = is_root();
        let user = if switch {
            let known = ["postgres", "nobody"].iter();
            known
                .filter_map(|name| User::from_name(name).ok().flatten())
                .next()
        } else {
            User::from_uid(geteuid()).context("cannot look up the current user")?
        };
        let user = user.context("there is no user to run Postgres as")?;
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            switch,
        })
    }

    /// The words to put before a command so that this user runs it.
    pub(crate) fn prefix(&self) -> Vec<String> {
        if !self.switch {
            return Vec::new();
        }
        [
            "setpriv",
            "--reuid",
            &self.uid.to_string(),
            "--regid",
            &self.gid.to_string(),
            "--init-groups",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Makes a folder that belongs to this user.
    ///
    /// # Errors
    /// When it cannot be made or given away.
    pub(crate) fn make_dir(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make `{}`", path.display()))?;
        if self.switch {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give `{}` to {}", path.display(), self.name))?;
        }
        Ok(())
    }
}

/// Whether xtask runs as root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The folder with Postgres' server programs: `PGBIN`, the newest of Debian's, or that of `PATH`.
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PGBIN") {
        return Some(PathBuf::from(named));
    }
    let versions = std::fs::read_dir(DEBIAN_VERSIONS)
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path(),
            ))
        })
        .map(|(version, path)| (version, path.join("bin")))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .max_by_key(|(version, _)| *version);
    newest
        .map(|(_, bin)| bin)
        .or_else(|| find_program("initdb").and_then(|path| path.parent().map(Path::to_path_buf)))
}

/// A program in `PATH` or in the folders of system programs that `PATH` of a user may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Installs what is missing of Postgres and of the named (program, package) pairs. Servers that are
/// already on the machine are not touched, and none is created.
///
/// # Errors
/// When something is missing and this is not a Debian where the caller may install packages.
pub(crate) fn install_missing(programs: &[(&str, &str)]) -> Result<()> {
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    let postgres_missing = postgres_programs().is_none();
    if postgres_missing {
        packages.push("postgresql");
    }
    if packages.is_empty() {
        return Ok(());
    }
    console::note(&format!("missing on this machine: {}", packages.join(", ")));
    if find_program("apt-get").is_none() {
        bail!(
            "please install {} by hand: there is no apt-get here",
            packages.join(", ")
        );
    }
    apt_get(&["update", "-qq"])?;
    if postgres_missing {
        apt_get(&[
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "postgresql-common",
        ])?;
        as_root(&[
            "sh",
            "-c",
            &format!(
                "mkdir -p {} && echo 'create_main_cluster = false' > {NO_MAIN_CLUSTER}",
                Path::new(NO_MAIN_CLUSTER)
                    .parent()
                    .unwrap_or(Path::new("/"))
                    .display()
            ),
        ])?;
    }
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(packages);
    let installed = apt_get(&install);
    if postgres_missing {
        as_root(&["rm", "-f", NO_MAIN_CLUSTER])?;
    }
    installed
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut words = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    words.extend(["-o", APT_LOCK_TIMEOUT]);
    words.extend(args);
    as_root(&words)
}

fn as_root(words: &[&str]) -> Result<()> {
    let mut all = words.to_vec();
    if !is_root() {
        if find_program("sudo").is_none() {
            bail!(
                "run as root, or install sudo: `{}` needs it",
                words.join(" ")
            );
        }
        all.insert(0, "sudo");
    }
    let mut command = Command::new(all[0]);
    command.args(&all[1..]);
    command::run(&mut command)
}
