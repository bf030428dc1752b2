//! Temporary folders that go away with their owner, however that ends, unless they are kept.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::console;

/// A folder below the system's temporary one, which others may enter.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// Makes a new folder with `what` in its name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new(what: &str) -> Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!(
            "pgaf-{what}-{}-{:x}",
            std::process::id(),
            now.subsec_nanos()
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
        let folder = Self { path, kept: false };
        std::fs::set_permissions(&folder.path, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot open `{}` to others", folder.path.display()))?;
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay, and says where.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            console::bad(&format!("cannot remove `{}`: {error}", self.path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_owner_unless_kept() {
        let folder = Folder::new("test").unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
        let kept = Folder::new("test").unwrap().keep();
        assert!(kept.exists());
        std::fs::remove_dir(kept).unwrap();
    }
}
