//! Reading settings from configuration files, as far as we need them.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ConfError, DEFAULTS_FILE, ENFORCED_FILE, OLD_STANDBY_FILE};

/// Name and value; the last of equal names counts, as in Postgres.
pub(super) type Settings = BTreeMap<String, String>;

/// Postgres' own limit for nested includes (`guc-file.l`, `CONF_FILE_MAX_DEPTH`).
const MAX_DEPTH: usize = 10;

/// What the user set, in `postgresql.conf` and what it includes; our own files are left out.
pub(super) fn user_settings(pgdata: &Path) -> Result<Settings, ConfError> {
    let mut settings = Settings::new();
    let main = pgdata.join("postgresql.conf");
    if main.exists() {
        collect(&main, 0, &mut settings)?;
    }
    Ok(settings)
}

fn collect(path: &Path, depth: usize, out: &mut Settings) -> Result<(), ConfError> {
    let text = super::read(path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    for (name, value) in text.lines().filter_map(setting) {
        if depth >= MAX_DEPTH {
            continue;
        }
        match name.as_str() {
            "include" | "include_if_exists" => {
                let ours = [DEFAULTS_FILE, ENFORCED_FILE, OLD_STANDBY_FILE].contains(&&*value);
                let file = dir.join(&value);
                // Postgres reports a missing file; that is not for us to do.
                if !ours && file.is_file() {
                    collect(&file, depth + 1, out)?;
                }
            }
            "include_dir" => {
                for file in files_in(&dir.join(&value)) {
                    collect(&file, depth + 1, out)?;
                }
            }
            _ => {
                out.insert(name, value);
            }
        }
    }
    Ok(())
}

/// `*.conf` in the order of their names, without hidden ones.
fn files_in(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.is_file() && p.extension().is_some_and(|e| e == "conf"))
        .filter(|p| {
            !p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with('.'))
        })
        .collect();
    files.sort();
    files
}

/// One line: `name = value # comment`, the equals sign optional, the value perhaps quoted.
pub(super) fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted),
        None => rest
            .split(|c: char| c.is_whitespace() || c == '#')
            .next()?
            .to_owned(),
    };
    Some((name.to_ascii_lowercase(), value))
}

/// Up to the closing quote; `''` and backslash escapes undone (the simple ones).
fn unquote(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_some() => out.push('\''),
            '\'' => break,
            '\\' => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}
