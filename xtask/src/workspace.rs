//! Where things are: the checkout, cargo, what cargo built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// The checkout's top folder: that of `cargo run`, which is not where this program was compiled when
/// several checkouts share a target folder.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let xtask = told.filter(|path| path.ends_with("xtask"));
        let xtask = xtask.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        xtask.parent().map_or(xtask.clone(), Path::to_path_buf)
    })
}

/// A cargo command in the checkout.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // What `cargo run` tells xtask about its own package is wrong for the packages that it builds.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// What cargo knows about the workspace, its dependencies included.
///
/// # Errors
/// When cargo fails, for instance because `Cargo.lock` is out of date.
pub(crate) fn metadata() -> Result<Value> {
    let mut cargo = cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    let text = command::capture(&mut cargo, Duration::from_secs(300))?.success("cargo metadata")?;
    serde_json::from_str(&text).context("cargo metadata is no JSON")
}

/// Builds `pg_autoctl` and says where it is.
///
/// # Errors
/// When it does not build.
pub(crate) fn build_pg_autoctl(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "pgaf-cli", "--bin", "pg_autoctl"]);
    if release {
        build.arg("--release");
    }
    command::run(&mut build)?;
    let target = metadata()?["target_directory"].as_str().map(PathBuf::from);
    let target = target.context("cargo metadata names no target_directory")?;
    Ok(target
        .join(if release { "release" } else { "debug" })
        .join("pg_autoctl"))
}

/// Where cargo puts what it builds.
///
/// # Errors
/// When cargo does not say.
pub(crate) fn target() -> Result<PathBuf> {
    let target = metadata()?["target_directory"].as_str().map(PathBuf::from);
    target.context("cargo metadata names no target_directory")
}

/// The tracked files of the checkout, relative to its top. A fresh clone holds exactly these.
///
/// # Errors
/// When git fails.
pub(crate) fn tracked_files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "-z"]);
    let text = command::capture(&mut git, Duration::from_secs(30))?.success("git ls-files")?;
    let files = text
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    // A file that was deleted but not yet committed is listed too.
    Ok(files.filter(|name| root().join(name).is_file()).collect())
}
