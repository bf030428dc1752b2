//! Writing both forms.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Conninfo;

/// Everything but endpoints, user, password and database, in a fixed order.
fn parameters(conninfo: &Conninfo) -> Vec<(&str, String)> {
    let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.to_string_lossy().into_owned());
    let known = [
        ("sslmode", conninfo.sslmode.map(|m| m.to_string())),
        ("sslrootcert", path(&conninfo.sslrootcert)),
        ("sslcrl", path(&conninfo.sslcrl)),
        ("sslcert", path(&conninfo.sslcert)),
        ("sslkey", path(&conninfo.sslkey)),
        ("passfile", path(&conninfo.passfile)),
        ("application_name", conninfo.application_name.clone()),
        ("options", conninfo.options.clone()),
        (
            "connect_timeout",
            conninfo.connect_timeout.map(|t| t.as_secs().to_string()),
        ),
        (
            "target_session_attrs",
            conninfo.target_session_attrs.map(|t| t.to_string()),
        ),
    ];
    let known = known.into_iter().filter_map(|(k, v)| v.map(|v| (k, v)));
    let passive = conninfo
        .passive
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()));
    known.chain(passive).collect()
}

/// One comma list, or `None` when no endpoint has that part.
fn list(parts: impl Iterator<Item = Option<String>>) -> Option<String> {
    let parts: Vec<Option<String>> = parts.collect();
    parts.iter().any(Option::is_some).then(|| {
        parts
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect::<Vec<_>>()
            .join(",")
    })
}

fn addresses(conninfo: &Conninfo) -> Option<String> {
    list(
        conninfo
            .endpoints
            .iter()
            .map(|e| e.hostaddr.map(|a| a.to_string())),
    )
}

pub(super) fn keywords(conninfo: &Conninfo, password: Option<&str>) -> String {
    let mut out = String::new();
    let mut push = |keyword: &str, value: Option<&str>| {
        if let Some(value) = value {
            let space = if out.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = write!(out, "{space}{keyword}={}", quote(value));
        }
    };
    push(
        "host",
        list(conninfo.endpoints.iter().map(|e| e.host.clone())).as_deref(),
    );
    push("hostaddr", addresses(conninfo).as_deref());
    push(
        "port",
        list(
            conninfo
                .endpoints
                .iter()
                .map(|e| e.port.map(|p| p.to_string())),
        )
        .as_deref(),
    );
    push("user", conninfo.user.as_deref());
    push("password", password);
    push("dbname", conninfo.dbname.as_deref());
    for (keyword, value) in parameters(conninfo) {
        push(keyword, Some(&value));
    }
    out
}

/// Quotes where libpq needs it.
fn quote(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '\'' && c != '\\';
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

pub(super) fn uri(conninfo: &Conninfo, password: Option<&str>) -> String {
    let mut out = String::from("postgres://");
    if conninfo.user.is_some() || password.is_some() {
        out.push_str(&encode(conninfo.user.as_deref().unwrap_or_default(), ""));
        if let Some(password) = password {
            out.push(':');
            // The mask of a redacted password stays readable.
            out.push_str(&encode(password, if password == "****" { "*" } else { "" }));
        }
        out.push('@');
    }
    let hosts: Vec<String> = conninfo
        .endpoints
        .iter()
        .map(|e| {
            let host = e.host.as_deref().unwrap_or_default();
            let host = if host.contains(':') {
                format!("[{}]", encode(host, ":"))
            } else {
                encode(host, "")
            };
            match e.port {
                Some(port) => format!("{host}:{port}"),
                None => host,
            }
        })
        .collect();
    out.push_str(&hosts.join(","));
    if let Some(dbname) = &conninfo.dbname {
        out.push('/');
        out.push_str(&encode(dbname, ""));
    }
    let mut parameters = parameters(conninfo);
    if let Some(addresses) = addresses(conninfo) {
        parameters.insert(0, ("hostaddr", addresses));
    }
    let mut separator = '?';
    for (keyword, value) in parameters {
        // Writing to a string cannot fail.
        let _ = write!(out, "{separator}{keyword}={}", encode(&value, "/:,"));
        separator = '&';
    }
    out
}

/// Percent-encodes all but RFC 3986's unreserved characters and `also`.
fn encode(text: &str, also: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || (c.is_ascii() && also.contains(c)) {
            out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
