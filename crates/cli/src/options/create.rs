//! The choices of `create`: authentication, encryption, and the node's wishes.
//!
//! Owns their rules. Everything here is checked before anything is written.

use std::path::{Path, PathBuf};

use super::parse::Parsed;
use super::values;
use crate::config::Config;
use crate::error::{ExitCode, Failure};

/// The value of `auth_method` when `pg_hba.conf` is the operator's. Source: the old program.
pub(crate) const SKIP: &str = "skip";
/// What [`values::boolean`] understands, for messages.
const BOOLEANS: &str = "true or false";

/// An environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn boolean_variable(name: &str) -> Result<Option<bool>, Failure> {
    let Some(text) = variable(name) else {
        return Ok(None);
    };
    match values::boolean(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(Failure::fatal(
            ExitCode::BadArgs,
            format!("{name} is set to \"{text}\", expected {BOOLEANS}"),
        )),
    }
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SslChoice {
    /// libpq's `sslmode`.
    pub(crate) mode: String,
    /// Where the certificate comes from.
    pub(crate) source: SslSource,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SslSource {
    /// No encryption.
    Off,
    /// Made here.
    SelfSigned,
    /// Given.
    Files {
        /// Certificate.
        cert: PathBuf,
        /// Key.
        key: PathBuf,
        /// Certificate authority.
        ca: Option<PathBuf>,
        /// Revocation list.
        crl: Option<PathBuf>,
    },
}

impl SslChoice {
    /// Reads the one choice that must be made.
    ///
    /// # Errors
    /// Exit code 1. `Err(failure)` of two choices wants the usage text too.
    pub(crate) fn of(parsed: &Parsed) -> Result<Self, Failure> {
        let file = |option: &str| parsed.value(option).map(PathBuf::from);
        let (cert, key) = (file("server-cert"), file("server-key"));
        let (ca, crl) = (file("ssl-ca-file"), file("ssl-crl-file"));
        let files = cert.is_some() || key.is_some() || ca.is_some() || crl.is_some();
        let choice = (parsed.flag("ssl-self-signed"), parsed.flag("no-ssl"), files);
        let choice = match choice {
            (false, false, false) => (
                boolean_variable("PG_AUTOCTL_SSL_SELF_SIGNED")?.unwrap_or(false),
                false,
                false,
            ),
            given => given,
        };
        let (source, default_mode) = match choice {
            (true, false, false) => (SslSource::SelfSigned, "require"),
            (false, true, false) => (SslSource::Off, "prefer"),
            (false, false, true) => (given_files(cert, key, ca, crl)?, "verify-full"),
            (false, false, false) => {
                return Err(Failure::fatal(
                    ExitCode::BadArgs,
                    "Explicit SSL choice is required: use --ssl-self-signed, --no-ssl, or --server-cert and --server-key",
                )
                .hint("--ssl-self-signed encrypts without any preparation"));
            }
            (true, true, _) => {
                return Err(Failure::bad_args(
                    "Please use either --ssl-self-signed or --no-ssl, not both",
                ));
            }
            (_, _, true) => {
                return Err(Failure::bad_args(
                    "Using either --no-ssl or --ssl-self-signed with user-provided SSL certificates is not supported",
                ));
            }
        };
        let mode = parsed.value("ssl-mode").unwrap_or(default_mode);
        check_mode(mode, &source)?;
        Ok(Self {
            mode: mode.to_owned(),
            source,
        })
    }

    /// Says what the choice means for security, as the old program does.
    pub(crate) fn warn(&self) {
        match self.source {
            SslSource::Off => {
                tracing::warn!(
                    "No encryption is used for network traffic! This allows an attacker on the network to read all replication data."
                );
                tracing::warn!(
                    "Using --ssl-self-signed instead of --no-ssl is recommended to achieve more security with the same ease of deployment."
                );
                tracing::warn!(
                    "See https://www.postgresql.org/docs/current/libpq-ssl.html for details"
                );
            }
            SslSource::SelfSigned => {
                tracing::info!("Using default --ssl-mode \"{}\"", self.mode);
                tracing::warn!(
                    "Self-signed certificates provide protection against eavesdropping; this setup does NOT protect against Man-In-The-Middle attacks nor Impersonation attacks."
                );
                tracing::warn!(
                    "See https://www.postgresql.org/docs/current/libpq-ssl.html for details"
                );
            }
            SslSource::Files { .. } => {}
        }
    }

    /// Writes the choice to a configuration.
    pub(crate) fn store(&self, config: &mut Config, pgdata: &Path) {
        let text = |path: &Path| path.display().to_string();
        config.put("ssl", "sslmode", self.mode.as_str());
        config.put(
            "ssl",
            "active",
            if self.source == SslSource::Off {
                "0"
            } else {
                "1"
            },
        );
        let (cert, key, ca, crl) = match &self.source {
            SslSource::Off => (None, None, None, None),
            SslSource::SelfSigned => (
                Some(pgdata.join("server.crt")),
                Some(pgdata.join("server.key")),
                None,
                None,
            ),
            SslSource::Files { cert, key, ca, crl } => (
                Some(cert.clone()),
                Some(key.clone()),
                ca.clone(),
                crl.clone(),
            ),
        };
        for (name, path) in [
            ("cert_file", cert),
            ("key_file", key),
            ("ca_file", ca),
            ("crl_file", crl),
        ] {
            config.put("ssl", name, path.as_deref().map(text).unwrap_or_default());
        }
    }
}

fn given_files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    crl: Option<PathBuf>,
) -> Result<SslSource, Failure> {
    let (Some(cert), Some(key)) = (cert, key) else {
        return Err(Failure::bad_args(
            "Failed to setup SSL with user-provided certificates: both --server-cert and --server-key are needed",
        ));
    };
    let absolute = |path: PathBuf| {
        std::path::absolute(&path)
            .ok()
            .filter(|path| std::fs::File::open(path).is_ok())
            .ok_or_else(|| {
                Failure::bad_args(format!("the file \"{}\" cannot be read", path.display()))
            })
    };
    Ok(SslSource::Files {
        cert: absolute(cert)?,
        key: absolute(key)?,
        ca: ca.map(absolute).transpose()?,
        crl: crl.map(absolute).transpose()?,
    })
}

fn check_mode(mode: &str, source: &SslSource) -> Result<(), Failure> {
    let known = [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ];
    if !known.contains(&mode) {
        return Err(
            Failure::fatal(ExitCode::BadArgs, format!("Invalid ssl mode \"{mode}\""))
                .hint(format!("use one of {}", known.join(", "))),
        );
    }
    match source {
        SslSource::SelfSigned if mode.starts_with("verify") => Err(Failure::bad_args(format!(
            "--ssl-mode \"{mode}\" is not compatible with self-signed certificates"
        ))
        .hint("verify-ca and verify-full need --ssl-ca-file, --server-cert and --server-key")),
        SslSource::Off if matches!(mode, "require" | "verify-ca" | "verify-full") => Err(
            Failure::bad_args(format!("--ssl-mode \"{mode}\" contradicts --no-ssl")),
        ),
        SslSource::Off | SslSource::SelfSigned | SslSource::Files { .. } => Ok(()),
    }
}

/// `--auth` or `--skip-pg-hba`: `auth_method` of the configuration.
///
/// # Errors
/// Exit code 1 when both or none are given.
pub(crate) fn auth(parsed: &Parsed) -> Result<String, Failure> {
    let method = parsed.value("auth");
    if parsed.flag("skip-pg-hba") {
        return match method {
            Some(_) => Err(Failure::bad_args(
                "Please use either --auth or --skip-pg-hba",
            )),
            None => Ok(SKIP.to_owned()),
        };
    }
    method
        .map(str::to_owned)
        .or_else(|| variable("PG_AUTOCTL_AUTH_METHOD"))
        .ok_or_else(|| {
            Failure::fatal(
                ExitCode::BadArgs,
                "Please use either --auth trust|md5|scram-sha-256|... or --skip-pg-hba",
            )
            .hint("scram-sha-256 with passwords is the safe choice, trust the one without any")
        })
}

/// `hba_level` of the configuration.
///
/// # Errors
/// Exit code 1 for a variable that is no boolean.
pub(crate) fn hba_level(parsed: &Parsed, auth: &str) -> Result<&'static str, Failure> {
    // The old program reads the first name and documents the second; both count here.
    let by_variable = boolean_variable("PG_AUTOCTL_PG_HBA_LAN")?
        .or(boolean_variable("PG_AUTOCTL_HBA_LAN")?)
        .unwrap_or(false);
    Ok(match auth {
        SKIP => "skip",
        _ if parsed.flag("pg-hba-lan") || by_variable => "app",
        _ => "minimal",
    })
}

/// `--pgport`, else `PGPORT`.
///
/// # Errors
/// Exit code 1 for what is no port.
pub(crate) fn port(parsed: &Parsed) -> Result<Option<u16>, Failure> {
    match (parsed.value("pgport"), variable("PGPORT")) {
        (Some(text), _) => values::port("--pgport", text).map(Some),
        (None, Some(text)) => values::port("PGPORT", &text).map(Some),
        (None, None) => Ok(None),
    }
}

/// `--candidate-priority`.
///
/// # Errors
/// Exit code 1 outside of 0 to 100.
pub(crate) fn candidate_priority(parsed: &Parsed) -> Result<Option<u32>, Failure> {
    let given = parsed
        .value("candidate-priority")
        .map(str::to_owned)
        .or_else(|| variable("PG_AUTOCTL_CANDIDATE_PRIORITY"));
    let Some(text) = given else { return Ok(None) };
    let number = values::integer("--candidate-priority", &text, 0, 100)?;
    Ok(u32::try_from(number).ok())
}

/// `--replication-quorum`.
///
/// # Errors
/// Exit code 1 for what is no boolean.
pub(crate) fn replication_quorum(parsed: &Parsed) -> Result<Option<bool>, Failure> {
    match parsed.value("replication-quorum") {
        None => boolean_variable("PG_AUTOCTL_REPLICATION_QUORUM"),
        Some(text) => values::boolean(text).map(Some).ok_or_else(|| {
            Failure::fatal(
                ExitCode::BadArgs,
                format!(
                    "--replication-quorum argument is not valid: \"{text}\", expected {BOOLEANS}"
                ),
            )
        }),
    }
}

/// `--citus-secondary` and `--citus-cluster`: a read replica, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replica {
    secondary: bool,
    cluster: Option<String>,
}

impl Replica {
    /// Whether the node is a read replica.
    pub(crate) fn is_replica(&self) -> bool {
        self.secondary
    }

    /// Writes the choice to a configuration.
    pub(crate) fn store(&self, config: &mut Config) {
        let role = if self.secondary {
            "secondary"
        } else {
            "primary"
        };
        config.put("citus", "role", role);
        config.put_some("citus", "cluster_name", self.cluster.as_deref());
    }
}

/// Reads the choice of a read replica.
///
/// # Errors
/// Exit code 1 for one without the other, or with a candidate priority.
pub(crate) fn replica(parsed: &Parsed) -> Result<Replica, Failure> {
    let replica = Replica {
        secondary: parsed.flag("citus-secondary"),
        cluster: parsed.value("citus-cluster").map(str::to_owned),
    };
    let named = replica.cluster.as_deref().is_some_and(|c| c != "default");
    let refuse = |text: &str| Err(Failure::fatal(ExitCode::BadArgs, text));
    if replica.secondary && !named {
        return refuse("When using --citus-secondary, please also use --citus-cluster");
    }
    if named && !replica.secondary {
        return refuse("When using --citus-cluster, please also use --citus-secondary");
    }
    if replica.secondary && candidate_priority(parsed)?.is_some_and(|p| p != 0) {
        return refuse("When using --citus-secondary, --candidate-priority must be 0");
    }
    Ok(replica)
}

/// `--group` of a worker.
///
/// # Errors
/// Exit code 1 for what is no number, and for 0, which is the coordinator's.
pub(crate) fn group(parsed: &Parsed) -> Result<Option<i32>, Failure> {
    let Some(text) = parsed.value("group") else {
        return Ok(None);
    };
    let number = values::integer("--group", text, 1, i64::from(i32::MAX))?;
    Ok(i32::try_from(number).ok())
}
