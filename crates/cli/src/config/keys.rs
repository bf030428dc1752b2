//! The keys of the configuration files, in the order of the file.
//!
//! Source of names, order and defaults: the old program's files; where its `create` wrote 0 by
//! mistake, the documented default stands here, and a 0 in an old file reads as that default.

use super::{ConfigError, Role};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, stored unchecked.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// 0 or 1; booleans of Postgres are accepted.
    Switch,
    /// A number within bounds. `zero_is_default`: 0 stands for the default.
    Number {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// Whether 0 is read as the default.
        zero_is_default: bool,
    },
    /// A file that must run when asked for its version.
    Program,
    /// A directory that cannot be changed once the node is there.
    Fixed,
}

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its section.
    pub(crate) section: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// An older spelling that is accepted.
    pub(crate) alias: Option<&'static str>,
    /// What it holds.
    pub(crate) kind: Kind,
    /// What a new node has.
    pub(crate) default: Option<&'static str>,
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
) -> Key {
    Key {
        section,
        name,
        alias: None,
        kind,
        default,
    }
}

const PORT: Kind = Kind::Number {
    min: 0,
    max: 65535,
    zero_is_default: false,
};
const COUNT: Kind = Kind::Number {
    min: 0,
    max: i32::MAX as i64,
    zero_is_default: false,
};
const ID: Kind = Kind::Number {
    min: -1,
    max: i32::MAX as i64,
    zero_is_default: false,
};
/// Timeouts that the old program's `create` wrote as 0.
const LATER: Kind = Kind::Number {
    min: 0,
    max: i32::MAX as i64,
    zero_is_default: true,
};
const SSL_MODES: Kind = Kind::Word(&[
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
]);
const HBA_LEVELS: Kind = Kind::Word(&["skip", "minimal", "app"]);

const KEEPER: &[Key] = &[
    key("pg_autoctl", "role", Kind::Fixed, Some("keeper")),
    key("pg_autoctl", "monitor", Kind::Text, None),
    key("pg_autoctl", "formation", Kind::Text, Some("default")),
    key("pg_autoctl", "group", ID, Some("-1")),
    key("pg_autoctl", "name", Kind::Text, None),
    Key {
        alias: Some("nodename"),
        ..key("pg_autoctl", "hostname", Kind::Text, None)
    },
    key("pg_autoctl", "nodekind", Kind::Text, Some("standalone")),
    key("postgresql", "pgdata", Kind::Fixed, None),
    key("postgresql", "pg_ctl", Kind::Program, None),
    key("postgresql", "username", Kind::Text, None),
    key("postgresql", "dbname", Kind::Text, Some("postgres")),
    key("postgresql", "host", Kind::Text, None),
    key("postgresql", "port", PORT, Some("5432")),
    key("postgresql", "proxyport", PORT, Some("0")),
    key("postgresql", "listen_addresses", Kind::Text, Some("*")),
    key("postgresql", "auth_method", Kind::Text, Some("trust")),
    key("postgresql", "hba_level", HBA_LEVELS, Some("minimal")),
    key("ssl", "active", Kind::Switch, Some("0")),
    key("ssl", "sslmode", SSL_MODES, Some("prefer")),
    key("ssl", "ca_file", Kind::Text, None),
    key("ssl", "crl_file", Kind::Text, None),
    key("ssl", "cert_file", Kind::Text, None),
    key("ssl", "key_file", Kind::Text, None),
    key(
        "replication",
        "maximum_backup_rate",
        Kind::Text,
        Some("100M"),
    ),
    key("replication", "backup_directory", Kind::Text, None),
    key("replication", "password", Kind::Text, None),
    key("timeout", "network_partition_timeout", COUNT, Some("20")),
    key("timeout", "prepare_promotion_catchup", COUNT, Some("30")),
    key("timeout", "prepare_promotion_walreceiver", COUNT, Some("5")),
    key(
        "timeout",
        "postgresql_restart_failure_timeout",
        COUNT,
        Some("20"),
    ),
    key(
        "timeout",
        "postgresql_restart_failure_max_retries",
        COUNT,
        Some("3"),
    ),
    key("timeout", "listen_notifications_timeout", LATER, Some("60")),
    key(
        "timeout",
        "citus_master_update_node_lock_cooldown",
        LATER,
        Some("10000"),
    ),
    key(
        "timeout",
        "citus_coordinator_wait_max_retries",
        LATER,
        Some("100"),
    ),
    key(
        "timeout",
        "citus_coordinator_wait_timeout",
        LATER,
        Some("300"),
    ),
    key("citus", "role", Kind::Text, Some("primary")),
    key("citus", "cluster_name", Kind::Text, None),
];

const MONITOR: &[Key] = &[
    key("pg_autoctl", "role", Kind::Fixed, Some("monitor")),
    Key {
        alias: Some("nodename"),
        ..key("pg_autoctl", "hostname", Kind::Text, None)
    },
    key("postgresql", "pgdata", Kind::Fixed, None),
    key("postgresql", "pg_ctl", Kind::Program, None),
    key("postgresql", "username", Kind::Text, Some("autoctl_node")),
    key("postgresql", "dbname", Kind::Text, Some("pg_auto_failover")),
    key("postgresql", "host", Kind::Text, None),
    key("postgresql", "port", PORT, Some("5432")),
    key("postgresql", "listen_addresses", Kind::Text, Some("*")),
    key("postgresql", "auth_method", Kind::Text, Some("trust")),
    key("ssl", "sslmode", SSL_MODES, Some("prefer")),
    key("ssl", "active", Kind::Switch, Some("0")),
    key("ssl", "ca_file", Kind::Text, None),
    key("ssl", "crl_file", Kind::Text, None),
    key("ssl", "cert_file", Kind::Text, None),
    key("ssl", "key_file", Kind::Text, None),
];

/// The table of a role.
pub(crate) fn of(role: Role) -> &'static [Key] {
    match role {
        Role::Keeper => KEEPER,
        Role::Monitor => MONITOR,
    }
}

impl Key {
    /// Whether it is called so.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.alias == Some(name)
    }

    /// A value as it stands in a file; an old 0 becomes the default.
    pub(crate) fn as_read(&self, value: &str) -> Option<String> {
        match self.kind {
            Kind::Number {
                zero_is_default: true,
                ..
            } if value.trim() == "0" => self.default.map(str::to_owned),
            Kind::Number { .. }
            | Kind::Text
            | Kind::Word(_)
            | Kind::Switch
            | Kind::Program
            | Kind::Fixed => Some(value.to_owned()),
        }
    }

    /// Checks a value of `config set`; answers it as stored.
    pub(crate) fn check(&self, value: &str) -> Result<String, ConfigError> {
        let refuse = |why: &'static str| ConfigError::InvalidValue {
            key: format!("{}.{}", self.section, self.name),
            value: value.to_owned(),
            why,
        };
        match self.kind {
            Kind::Text | Kind::Program => {
                if value.contains(['\n', '\r', '\0']) {
                    return Err(refuse("a value is one line of text"));
                }
                Ok(value.to_owned())
            }
            Kind::Word(words) => words
                .contains(&value)
                .then(|| value.to_owned())
                .ok_or_else(|| refuse("not one of the known words")),
            Kind::Switch => crate::options::values::boolean(value)
                .map(|on| if on { "1" } else { "0" }.to_owned())
                .ok_or_else(|| refuse("expected 0 or 1")),
            Kind::Number { min, max, .. } => match value.trim().parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
                Ok(_) => Err(refuse("the number is out of bounds")),
                Err(_) => Err(refuse("expected a number")),
            },
            Kind::Fixed => Err(refuse("it cannot be changed after the node was created")),
        }
    }
}
