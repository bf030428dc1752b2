//! `pg_database`, `pg_roles` and settings: one of each, or few.

use super::super::auth::{DATABASE, ROLE};
use super::super::functions::Named;
use super::super::reads::Rows;
use super::super::types::PgType::{Bool, Char, Int4, Name, Oid, Text, TextArray, TimestampTz};
use super::super::types::Value;
use super::{FIRST_OID, OWNER, ROLE_OID, Source};

pub(super) const DATABASE_COLUMNS: &[Named] = &[
    ("oid", Oid),
    ("datname", Name),
    ("datdba", Oid),
    ("encoding", Int4),
    ("datlocprovider", Char),
    ("datistemplate", Bool),
    ("datallowconn", Bool),
    ("datconnlimit", Int4),
    ("dattablespace", Oid),
    ("datcollate", Text),
    ("datctype", Text),
    ("daticulocale", Text),
    ("datacl", TextArray),
];

pub(super) fn database_row() -> Vec<Value> {
    vec![
        (FIRST_OID + 2000).into(),
        DATABASE.into(),
        OWNER.into(),
        6.into(),
        "c".into(),
        false.into(),
        true.into(),
        (-1).into(),
        1663.into(),
        "C.UTF-8".into(),
        "C.UTF-8".into(),
        Value::Null,
        Value::Null,
    ]
}

pub(super) const ROLES: &[Named] = &[
    ("oid", Oid),
    ("rolname", Name),
    ("rolsuper", Bool),
    ("rolinherit", Bool),
    ("rolcreaterole", Bool),
    ("rolcreatedb", Bool),
    ("rolcanlogin", Bool),
    ("rolreplication", Bool),
    ("rolbypassrls", Bool),
    ("rolconnlimit", Int4),
    ("rolvaliduntil", TimestampTz),
];

pub(super) fn role_row() -> Vec<Value> {
    let (yes, no) = (|| Value::from(true), || Value::from(false));
    vec![
        ROLE_OID.into(),
        ROLE.into(),
        no(),
        yes(),
        no(),
        no(),
        yes(),
        no(),
        no(),
        (-1).into(),
        Value::Null,
    ]
}

/// The name of a role's OID.
pub(in crate::sql) fn role_name(oid: i64) -> String {
    match oid {
        OWNER => "autoctl".to_owned(),
        ROLE_OID => ROLE.to_owned(),
        other => format!("unknown (OID={other})"),
    }
}

/// Settings that `SHOW` and `current_setting` know, besides the monitor's own.
pub(super) const FIXED_SETTINGS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("max_identifier_length", "63"),
    ("password_encryption", "scram-sha-256"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version_num", "150000"),
    ("session_authorization", ROLE),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("timezone", "UTC"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

/// The value of a setting; `name` is folded.
pub(in crate::sql) fn setting(source: &Source<'_>, name: &str) -> Option<String> {
    if name == "server_version" {
        return Some(source.server_version.to_owned());
    }
    let fixed = FIXED_SETTINGS.iter().find(|(known, _)| *known == name);
    if let Some((_, value)) = fixed {
        return Some((*value).to_owned());
    }
    let own = name.strip_prefix("pgautofailover.")?;
    source
        .snapshot
        .settings
        .iter()
        .find(|(known, _)| known == own)
        .map(|(_, value)| value.clone())
}

pub(super) fn setting_rows(source: &Source<'_>) -> Rows {
    let row = |name: String, value: &str, category: &str| {
        vec![
            name.into(),
            value.into(),
            Value::Null,
            category.into(),
            "".into(),
            "sighup".into(),
            "string".into(),
            "default".into(),
        ]
    };
    let own = source.snapshot.settings.iter().map(|(name, value)| {
        row(
            format!("pgautofailover.{name}"),
            value,
            "Customized Options",
        )
    });
    let version = row(
        "server_version".to_owned(),
        source.server_version,
        "Preset Options",
    );
    FIXED_SETTINGS
        .iter()
        .map(|(name, value)| row((*name).to_owned(), value, "Preset Options"))
        .chain([version])
        .chain(own)
        .collect()
}
