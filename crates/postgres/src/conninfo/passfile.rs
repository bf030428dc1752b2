//! The password file, `~/.pgpass` (Postgres manual, "The Password File").

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::{Conninfo, DEFAULT_SOCKET_DIR, Endpoint, Secret};

/// The first matching line's password.
pub(super) fn lookup(conninfo: &Conninfo, endpoint: &Endpoint) -> Option<Secret> {
    let path = match &conninfo.passfile {
        Some(path) => path.clone(),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".pgpass"),
    };
    let metadata = std::fs::metadata(&path).ok()?;
    if !metadata.is_file() {
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "password file is readable by others: passed over");
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    let user = conninfo.user.as_deref()?;
    let dbname = conninfo.dbname.as_deref().unwrap_or(user);
    find(
        &text,
        host_in_file(endpoint),
        &endpoint.port().to_string(),
        dbname,
        user,
    )
}

/// libpq writes the default socket directory as `localhost`.
fn host_in_file(endpoint: &Endpoint) -> &str {
    match (&endpoint.host, endpoint.socket_dir()) {
        (_, Some(dir)) if dir == DEFAULT_SOCKET_DIR => "localhost",
        (Some(host), _) => host,
        (None, _) => "localhost",
    }
}

/// Finds the password for four fields in the text of a password file.
pub(super) fn find(text: &str, host: &str, port: &str, db: &str, user: &str) -> Option<Secret> {
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut rest = line;
        let matches = [host, port, db, user].into_iter().all(|wanted| {
            let (field, after) = field(rest);
            rest = after.unwrap_or_default();
            after.is_some() && (field == "*" || unescape(field) == wanted)
        });
        if matches {
            return Some(Secret::new(unescape(field(rest).0)));
        }
    }
    None
}

/// Up to the first unescaped colon, and what follows it.
fn field(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            ':' if !escaped => return (&text[..at], Some(&text[at + 1..])),
            _ => escaped = false,
        }
    }
    (text, None)
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            out.extend(chars.next())
        } else {
            out.push(c)
        }
    }
    out
}
