//! Reading both forms into a list of keyword and value.

use super::ConninfoError;

/// Keyword and value, in the order of the text.
pub(super) type Pairs = Vec<(String, String)>;

/// Splits `keyword = value` text: values may be quoted with `'`, a backslash escapes the next
/// character (libpq, `conninfo_parse`).
pub(super) fn keywords(text: &str) -> Result<Pairs, ConninfoError> {
    let mut pairs = Pairs::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut keyword = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            keyword.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next_if_eq(&'=').is_none() {
            return Err(ConninfoError::Syntax(format!(
                "missing \"=\" after {}",
                quote_for_message(&keyword)
            )));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let value = value(&mut chars)?;
        pairs.push((keyword, value));
    }
}

/// A word that may be (part of) a password is not repeated: only plain keywords are.
fn quote_for_message(word: &str) -> String {
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        format!("\"{word}\"")
    } else {
        "a word in the connection string".to_owned()
    }
}

fn value(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, ConninfoError> {
    let mut value = String::new();
    if chars.next_if_eq(&'\'').is_some() {
        loop {
            match chars.next() {
                Some('\'') => return Ok(value),
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
                None => {
                    return Err(ConninfoError::Syntax(
                        "unterminated quoted string".to_owned(),
                    ));
                }
            }
        }
    }
    while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
        if c == '\\' {
            value.extend(chars.next());
        } else {
            value.push(c);
        }
    }
    Ok(value)
}

/// The part of a URI after its scheme, or `None` when the text is no URI.
pub(super) fn after_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
}

/// Splits a URI, given what follows its scheme (libpq, `conninfo_uri_parse_options`).
pub(super) fn uri(rest: &str) -> Result<Pairs, ConninfoError> {
    let mut pairs = Pairs::new();
    // libpq looks for the login up to the first `@` or `/`, whatever else comes before it.
    let after_login = match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => {
            let login = &rest[..at];
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            push_decoded(&mut pairs, "user", user)?;
            if let Some(password) = password {
                push_decoded(&mut pairs, "password", password)?;
            }
            &rest[at + 1..]
        }
        Some(_) | None => rest,
    };
    let (hosts, tail) = after_login.split_at(hosts_end(after_login)?);
    let (host, port) = hosts_and_ports(hosts)?;
    push_decoded(&mut pairs, "host", &host)?;
    push_decoded(&mut pairs, "port", &port)?;
    let (path, query) = match tail.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (tail, None),
    };
    push_decoded(&mut pairs, "dbname", path.strip_prefix('/').unwrap_or(path))?;
    if let Some(query) = query {
        parameters(query, &mut pairs)?;
    }
    Ok(pairs)
}

/// Where the host part ends. A `/` inside `[…]` belongs to the host.
fn hosts_end(rest: &str) -> Result<usize, ConninfoError> {
    let mut in_brackets = false;
    for (at, c) in rest.char_indices() {
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            '/' | '?' if !in_brackets => return Ok(at),
            _ => {}
        }
    }
    if in_brackets {
        return Err(ConninfoError::Syntax("missing \"]\" in the URI".to_owned()));
    }
    Ok(rest.len())
}

/// `h1:p1,h2,[::1]:p3` as two comma lists of equal length, still percent-encoded.
fn hosts_and_ports(text: &str) -> Result<(String, String), ConninfoError> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for part in text.split(',') {
        if let Some(inner) = part.strip_prefix('[') {
            let (host, after) = inner
                .split_once(']')
                .ok_or_else(|| ConninfoError::Syntax("missing \"]\" in the URI".to_owned()))?;
            if host.is_empty() {
                return Err(ConninfoError::Syntax(
                    "empty IPv6 address in the URI".to_owned(),
                ));
            }
            let port = match after.strip_prefix(':') {
                Some(port) => port,
                None if after.is_empty() => "",
                None => {
                    return Err(ConninfoError::Syntax(
                        "unexpected text after \"]\" in the URI".to_owned(),
                    ));
                }
            };
            hosts.push(host);
            ports.push(port);
        } else {
            let (host, port) = part.split_once(':').unwrap_or((part, ""));
            hosts.push(host);
            ports.push(port);
        }
    }
    let ports = if ports.iter().all(|p| p.is_empty()) {
        String::new()
    } else {
        ports.join(",")
    };
    Ok((hosts.join(","), ports))
}

fn parameters(query: &str, pairs: &mut Pairs) -> Result<(), ConninfoError> {
    for part in query.split('&') {
        let (keyword, value) = part.split_once('=').ok_or_else(|| {
            ConninfoError::Syntax("missing \"=\" in a URI query parameter".to_owned())
        })?;
        if value.contains('=') {
            return Err(ConninfoError::Syntax(
                "extra \"=\" in a URI query parameter".to_owned(),
            ));
        }
        let keyword = decode(keyword)?;
        let value = decode(value)?;
        // libpq keeps this alias for JDBC.
        if keyword == "ssl" && value == "true" {
            pairs.push(("sslmode".to_owned(), "require".to_owned()));
        } else {
            pairs.push((keyword, value));
        }
    }
    Ok(())
}

fn push_decoded(pairs: &mut Pairs, keyword: &str, encoded: &str) -> Result<(), ConninfoError> {
    if !encoded.is_empty() {
        pairs.push((keyword.to_owned(), decode(encoded)?));
    }
    Ok(())
}

/// Undoes percent-encoding; `%00` and broken sequences are refused.
fn decode(text: &str) -> Result<String, ConninfoError> {
    let broken = || ConninfoError::Syntax("invalid percent-encoding in the URI".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).ok_or_else(broken)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(broken());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| broken())?;
        if byte == 0 {
            return Err(ConninfoError::Syntax(
                "forbidden value %00 in the URI".to_owned(),
            ));
        }
        bytes.push(byte);
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| broken())
}
