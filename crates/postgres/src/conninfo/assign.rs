//! From keyword and value to a [`Conninfo`], refusing by name what is not supported.

use std::path::PathBuf;
use std::time::Duration;

use super::{Conninfo, ConninfoError, Endpoint, Secret};

/// The three lists that belong together, before they are zipped.
#[derive(Default)]
struct Lists {
    hosts: Option<String>,
    addresses: Option<String>,
    ports: Option<String>,
}

/// Builds from pairs; the last of equal keywords counts, an empty value is a missing one.
pub(super) fn conninfo(pairs: &[(String, String)]) -> Result<Conninfo, ConninfoError> {
    let mut out = Conninfo::default();
    let mut lists = Lists::default();
    for (keyword, value) in pairs {
        assign(&mut out, &mut lists, keyword, value)?;
    }
    out.endpoints = endpoints(&lists)?;
    Ok(out)
}

fn assign(
    out: &mut Conninfo,
    lists: &mut Lists,
    keyword: &str,
    value: &str,
) -> Result<(), ConninfoError> {
    let text = || (!value.is_empty()).then(|| value.to_owned());
    let path = || (!value.is_empty()).then(|| PathBuf::from(value));
    match keyword {
        "host" => lists.hosts = text(),
        "hostaddr" => lists.addresses = text(),
        "port" => lists.ports = text(),
        "user" => out.user = text(),
        "password" => out.password = text().map(Secret::new),
        "dbname" => out.dbname = text(),
        "passfile" => out.passfile = path(),
        "sslmode" => out.sslmode = text().map(|t| t.parse()).transpose()?,
        "sslrootcert" => out.sslrootcert = path(),
        "sslcrl" => out.sslcrl = path(),
        "sslcert" => out.sslcert = path(),
        "sslkey" => out.sslkey = path(),
        "application_name" => out.application_name = text(),
        "options" => out.options = text(),
        "connect_timeout" => out.connect_timeout = timeout(keyword, value)?,
        "target_session_attrs" => {
            out.target_session_attrs = text().map(|t| t.parse()).transpose()?;
        }
        _ => {
            check_passive(keyword, value)?;
            out.passive.retain(|(k, _)| k != keyword);
            if !value.is_empty() {
                out.passive.push((keyword.to_owned(), value.to_owned()));
            }
        }
    }
    Ok(())
}

/// libpq: whole seconds; zero and below mean no limit.
fn timeout(keyword: &str, value: &str) -> Result<Option<Duration>, ConninfoError> {
    if value.is_empty() {
        return Ok(None);
    }
    let seconds: i32 = value.trim().parse().map_err(|_| invalid(keyword, value))?;
    Ok(u64::try_from(seconds)
        .ok()
        .filter(|s| *s > 0)
        .map(Duration::from_secs))
}

fn invalid(keyword: &str, value: &str) -> ConninfoError {
    ConninfoError::InvalidValue {
        keyword: keyword.to_owned(),
        value: value.to_owned(),
    }
}

/// Accepts keywords that change nothing for us, with the values for which that is true.
fn check_passive(keyword: &str, value: &str) -> Result<(), ConninfoError> {
    let one_of = |values: &[&str]| {
        if value.is_empty() || values.contains(&value) {
            Ok(())
        } else {
            Err(invalid(keyword, value))
        }
    };
    // A value that libpq would act upon and we would not.
    let unsupported = || {
        Err(ConninfoError::UnsupportedKeyword(format!(
            "{keyword}={value}"
        )))
    };
    match keyword {
        "fallback_application_name" => Ok(()),
        "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "tcp_user_timeout" => value
            .trim()
            .parse::<i32>()
            .map(|_| ())
            .map_err(|_| invalid(keyword, value)),
        "channel_binding" => one_of(&["disable", "prefer", "require"]),
        "gssencmode" | "sslnegotiation" | "load_balance_hosts" | "sslcertmode"
            if ["require", "direct", "random"].contains(&value) =>
        {
            unsupported()
        }
        "gssencmode" => one_of(&["disable", "prefer"]),
        "sslnegotiation" => one_of(&["postgres"]),
        "load_balance_hosts" => one_of(&["disable"]),
        "sslcertmode" => one_of(&["allow"]),
        "sslcompression" | "sslsni" => one_of(&["0", "1"]),
        "ssl_min_protocol_version" if value == "TLSv1.3" => unsupported(),
        "ssl_min_protocol_version" => one_of(&["TLSv1", "TLSv1.1", "TLSv1.2"]),
        "ssl_max_protocol_version" if value.is_empty() || value == "TLSv1.3" => Ok(()),
        "client_encoding" => one_of(&["auto", "UTF8", "utf8", "UTF-8", "utf-8", "UNICODE"]),
        "service"
        | "servicefile"
        | "sslpassword"
        | "sslcrldir"
        | "requirepeer"
        | "krbsrvname"
        | "gsslib"
        | "gssdelegation"
        | "replication"
        | "require_auth"
        | "requiressl"
        | "ssl"
        | "ssl_max_protocol_version"
        | "min_protocol_version"
        | "max_protocol_version"
        | "scram_client_key"
        | "scram_server_key"
        | "sslkeylogfile"
        | "authtype"
        | "tty"
        | "oauth_issuer"
        | "oauth_client_id"
        | "oauth_client_secret"
        | "oauth_scope" => Err(ConninfoError::UnsupportedKeyword(keyword.to_owned())),
        _ => Err(ConninfoError::UnknownKeyword(keyword.to_owned())),
    }
}

fn split(list: Option<&String>) -> Vec<&str> {
    list.map(|l| l.split(',').map(str::trim).collect())
        .unwrap_or_default()
}

/// Zips hosts, addresses and ports as libpq does: a single port serves all hosts.
fn endpoints(lists: &Lists) -> Result<Vec<Endpoint>, ConninfoError> {
    let hosts = split(lists.hosts.as_ref());
    let addresses = split(lists.addresses.as_ref());
    let ports = split(lists.ports.as_ref());
    let count = match (hosts.len(), addresses.len()) {
        (0, 0) => usize::from(!ports.is_empty()),
        (h, 0) => h,
        (0, a) => a,
        (h, a) if h == a => h,
        (h, a) => {
            return Err(ConninfoError::Syntax(format!(
                "could not match {h} host names to {a} hostaddr values"
            )));
        }
    };
    if ports.len() > 1 && ports.len() != count {
        return Err(ConninfoError::Syntax(format!(
            "could not match {} port numbers to {count} hosts",
            ports.len()
        )));
    }
    (0..count)
        .map(|i| {
            let port = ports
                .get(i)
                .or_else(|| ports.first().filter(|_| ports.len() == 1));
            Ok(Endpoint {
                host: hosts
                    .get(i)
                    .filter(|h| !h.is_empty())
                    .map(|h| (*h).to_owned()),
                hostaddr: addresses
                    .get(i)
                    .filter(|a| !a.is_empty())
                    .map(|a| a.parse().map_err(|_| invalid("hostaddr", a)))
                    .transpose()?,
                port: port
                    .filter(|p| !p.is_empty())
                    .map(|p| parse_port(p))
                    .transpose()?,
            })
        })
        .collect()
}

fn parse_port(text: &str) -> Result<u16, ConninfoError> {
    text.parse()
        .ok()
        .filter(|p| *p != 0)
        .ok_or_else(|| invalid("port", text))
}

/// Fills what is missing from environment variables.
pub(super) fn fill(
    conninfo: Conninfo,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Conninfo, ConninfoError> {
    const VARIABLES: [(&str, &str); 16] = [
        ("PGHOST", "host"),
        ("PGHOSTADDR", "hostaddr"),
        ("PGPORT", "port"),
        ("PGUSER", "user"),
        ("PGDATABASE", "dbname"),
        ("PGPASSWORD", "password"),
        ("PGPASSFILE", "passfile"),
        ("PGSSLMODE", "sslmode"),
        ("PGSSLROOTCERT", "sslrootcert"),
        ("PGSSLCRL", "sslcrl"),
        ("PGSSLCERT", "sslcert"),
        ("PGSSLKEY", "sslkey"),
        ("PGAPPNAME", "application_name"),
        ("PGOPTIONS", "options"),
        ("PGCONNECT_TIMEOUT", "connect_timeout"),
        ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ];
    let mut pairs = Vec::new();
    for (variable, keyword) in VARIABLES {
        if let Some(value) = get(variable) {
            pairs.push((keyword.to_owned(), value));
        }
    }
    let env = self::conninfo(&pairs)?;
    let mut out = conninfo;
    if out.endpoints.is_empty() {
        out.endpoints = env.endpoints;
    } else if let Some(port) = env.endpoints.first().and_then(|e| e.port) {
        for endpoint in &mut out.endpoints {
            endpoint.port.get_or_insert(port);
        }
    }
    out.user = out.user.or(env.user);
    out.password = out.password.or(env.password);
    out.dbname = out.dbname.or(env.dbname);
    out.passfile = out.passfile.or(env.passfile);
    out.sslmode = out.sslmode.or(env.sslmode);
    out.sslrootcert = out.sslrootcert.or(env.sslrootcert);
    out.sslcrl = out.sslcrl.or(env.sslcrl);
    out.sslcert = out.sslcert.or(env.sslcert);
    out.sslkey = out.sslkey.or(env.sslkey);
    out.application_name = out.application_name.or(env.application_name);
    out.options = out.options.or(env.options);
    out.connect_timeout = out.connect_timeout.or(env.connect_timeout);
    out.target_session_attrs = out.target_session_attrs.or(env.target_session_attrs);
    Ok(out)
}
