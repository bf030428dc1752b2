//! Reads and writes INI text the way the old program does: no quotes, no escapes.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Mode of the file. Source: the old program leaves it readable; ours may hold a replication
/// password, so only the owner may read it.
const MODE: u32 = 0o600;

/// Why a text is no INI file.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct IniError {
    line: usize,
    reason: String,
}

/// Section, key, value of each line, in order.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String, String)>, IniError> {
    let options = ini::ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        ..Default::default()
    };
    let file = ini::Ini::load_from_str_opt(text, options).map_err(|error| IniError {
        line: error.line,
        reason: error.msg.to_string(),
    })?;
    let mut entries = Vec::new();
    for (section, properties) in &file {
        let section = section.unwrap_or_default();
        for (key, value) in properties {
            entries.push((section.to_owned(), key.to_owned(), value.to_owned()));
        }
    }
    Ok(entries)
}

/// The text of a file: entries of one section together, an empty line between sections.
pub(crate) fn render(entries: &[(String, String, String)]) -> String {
    let mut text = String::new();
    let mut current: Option<&str> = None;
    for (section, key, value) in entries {
        if current != Some(section.as_str()) {
            if current.is_some() {
                text.push('\n');
            }
            text.push_str(&format!("[{section}]\n"));
            current = Some(section);
        }
        text.push_str(&format!("{key} = {value}\n"));
    }
    text
}

/// Replaces a file by one of these contents, durably: a crash leaves the old or the new one.
pub(crate) fn replace(path: &Path, contents: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("cfg.new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(&beside)?;
    file.write_all(contents.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}
