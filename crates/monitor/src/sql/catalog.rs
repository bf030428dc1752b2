//! The relations that read-only SQL sees: the three tables of schema `pgautofailover`, and as much
//! of `pg_catalog` as `psql` needs for `\dt`, `\d`, `\df`, `\dn`, `\du`, `\l` and drivers for their
//! start-up questions.

mod cluster;
mod empty;
mod procs;
mod relations;
mod types;

use super::error::{SqlError, codes};
use super::functions::{EVENT, FORMATION_TABLE, NODE_TABLE, Named, all};
use super::reads::{Rows, event_row, formation_table_row, node_table_row};
use super::snapshot::{EventRow, Snapshot};
use super::types::PgType::{Char, Name, Oid, Text, TextArray};
use super::types::Value;
use cluster::{DATABASE_COLUMNS, ROLES, database_row, role_row, setting_rows};
use empty::EMPTY;
use procs::{PROC, proc_row};
use relations::{ATTRIBUTE, CLASS, OWN, attribute_rows, class_row};
use types::{TYPE, TYPES, type_row};

pub(super) use cluster::{role_name, setting};
pub(super) use procs::function_texts;
pub(super) use relations::{relation_name, relation_oid, schema_name};
pub(super) use types::type_name;

/// The schema of the API.
pub(super) const SCHEMA: &str = "pgautofailover";

/// OIDs of ours start here; source: Postgres, `FirstNormalObjectId`.
const FIRST_OID: i64 = 16_384;
/// Source: Postgres, `pg_namespace.dat`.
const CATALOG_NAMESPACE: i64 = 11;
/// Source: Postgres, `pg_namespace.dat`.
const PUBLIC_NAMESPACE: i64 = 2200;
/// Source: Postgres, `pg_authid.dat`: the bootstrap superuser, owner of everything here.
const OWNER: i64 = 10;
/// The role of every client.
const ROLE_OID: i64 = FIRST_OID + 1000;
/// The heap access method; source: Postgres, `pg_am.dat`.
const HEAP: i64 = 2;
/// The default collation; source: Postgres, `pg_collation.dat`.
const DEFAULT_COLLATION: i64 = 100;

/// A relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Formation,
    Node,
    Event,
    AvailableExtensions,
    Extension,
    Namespace,
    Class,
    Attribute,
    Type,
    Proc,
    Language,
    Database,
    Roles,
    Settings,
    Am,
    Collation,
    /// A catalogue that has no rows here.
    Empty(&'static str, &'static [Named]),
}

const TABLES: &[(&str, Table)] = &[
    ("pg_available_extensions", Table::AvailableExtensions),
    ("pg_extension", Table::Extension),
    ("pg_namespace", Table::Namespace),
    ("pg_class", Table::Class),
    ("pg_attribute", Table::Attribute),
    ("pg_type", Table::Type),
    ("pg_proc", Table::Proc),
    ("pg_language", Table::Language),
    ("pg_database", Table::Database),
    ("pg_roles", Table::Roles),
    ("pg_settings", Table::Settings),
    ("pg_am", Table::Am),
    ("pg_collation", Table::Collation),
];

/// Finds a relation by (folded) schema and name.
///
/// # Errors
/// 3F000 for an unknown schema, 42P01 for an unknown relation.
pub(super) fn find(schema: Option<&str>, name: &str) -> Result<Table, SqlError> {
    let own = || {
        Some(match name {
            "formation" => Table::Formation,
            "node" => Table::Node,
            "event" => Table::Event,
            _ => return None,
        })
    };
    let system = || {
        let empty = EMPTY.iter().find(|(table, _)| *table == name);
        let known = TABLES.iter().find(|(table, _)| *table == name);
        known
            .map(|(_, table)| *table)
            .or_else(|| empty.map(|(table, columns)| Table::Empty(table, columns)))
    };
    let undefined = |shown: String| {
        SqlError::new(
            codes::UNDEFINED_TABLE,
            format!("relation \"{shown}\" does not exist"),
        )
    };
    match schema {
        Some(SCHEMA) => own().ok_or_else(|| {
            undefined(format!("{SCHEMA}.{name}")).with_hint(
                "The tables of the monitor are pgautofailover.node, pgautofailover.formation \
                 and pgautofailover.event.",
            )
        }),
        Some("pg_catalog") => system().ok_or_else(|| {
            undefined(format!("pg_catalog.{name}")).with_hint(
                "The monitor is not a Postgres server: it has only the catalogues that psql \
                 needs to describe schema pgautofailover.",
            )
        }),
        Some("public" | "information_schema") => {
            Err(undefined(format!("{}.{name}", schema.unwrap_or_default())))
        }
        Some(other) => Err(SqlError::new(
            codes::INVALID_SCHEMA_NAME,
            format!("schema \"{other}\" does not exist"),
        )),
        None => system().ok_or_else(|| {
            let error = undefined(name.to_owned());
            match own() {
                Some(_) => error.with_hint(format!("Use {SCHEMA}.{name}.")),
                None => error,
            }
        }),
    }
}

/// What the rows of a relation are made of.
pub(super) struct Source<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) events: &'a [EventRow],
    pub(super) extension_version: &'a str,
    pub(super) server_version: &'a str,
}

impl Table {
    /// Name without schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Formation => "formation",
            Table::Node => "node",
            Table::Event => "event",
            Table::Empty(name, _) => name,
            Table::AvailableExtensions
            | Table::Extension
            | Table::Namespace
            | Table::Class
            | Table::Attribute
            | Table::Type
            | Table::Proc
            | Table::Language
            | Table::Database
            | Table::Roles
            | Table::Settings
            | Table::Am
            | Table::Collation => TABLES
                .iter()
                .find(|(_, table)| *table == self)
                .map_or("", |(name, _)| *name),
        }
    }

    /// Its columns.
    pub(super) fn columns(self) -> &'static [Named] {
        match self {
            Table::Formation => FORMATION_TABLE,
            Table::Node => NODE_TABLE,
            Table::Event => EVENT,
            Table::AvailableExtensions => &[
                ("name", Name),
                ("default_version", Text),
                ("installed_version", Text),
                ("comment", Text),
            ],
            Table::Extension => &[
                ("oid", Oid),
                ("extname", Name),
                ("extowner", Oid),
                ("extnamespace", Oid),
                ("extversion", Text),
            ],
            Table::Namespace => &[
                ("oid", Oid),
                ("nspname", Name),
                ("nspowner", Oid),
                ("nspacl", TextArray),
            ],
            Table::Class => CLASS,
            Table::Attribute => ATTRIBUTE,
            Table::Type => TYPE,
            Table::Proc => PROC,
            Table::Language => &[("oid", Oid), ("lanname", Name)],
            Table::Database => DATABASE_COLUMNS,
            Table::Roles => ROLES,
            Table::Settings => &[
                ("name", Text),
                ("setting", Text),
                ("unit", Text),
                ("category", Text),
                ("short_desc", Text),
                ("context", Text),
                ("vartype", Text),
                ("source", Text),
            ],
            Table::Am => &[("oid", Oid), ("amname", Name), ("amtype", Char)],
            Table::Collation => &[("oid", Oid), ("collname", Name), ("collnamespace", Oid)],
            Table::Empty(_, columns) => columns,
        }
    }

    /// Its rows.
    pub(super) fn rows(self, source: &Source<'_>) -> Rows {
        let version = source.extension_version;
        match self {
            Table::Formation => source
                .snapshot
                .formations
                .iter()
                .map(formation_table_row)
                .collect(),
            Table::Node => source
                .snapshot
                .nodes
                .iter()
                .map(|row| node_table_row(row))
                .collect(),
            Table::Event => source.events.iter().map(event_row).collect(),
            Table::AvailableExtensions => vec![vec![
                SCHEMA.into(),
                version.into(),
                version.into(),
                "pg_auto_failover".into(),
            ]],
            Table::Extension => vec![vec![
                (FIRST_OID + 900).into(),
                SCHEMA.into(),
                OWNER.into(),
                FIRST_OID.into(),
                version.into(),
            ]],
            Table::Namespace => vec![
                vec![
                    CATALOG_NAMESPACE.into(),
                    "pg_catalog".into(),
                    OWNER.into(),
                    Value::Null,
                ],
                vec![
                    PUBLIC_NAMESPACE.into(),
                    "public".into(),
                    OWNER.into(),
                    Value::Null,
                ],
                vec![FIRST_OID.into(), SCHEMA.into(), OWNER.into(), Value::Null],
            ],
            Table::Class => (0..OWN.len()).map(class_row).collect(),
            Table::Attribute => attribute_rows(),
            Table::Type => TYPES.iter().map(|ty| type_row(*ty)).collect(),
            Table::Proc => all()
                .enumerate()
                .map(|(at, function)| proc_row(at, function))
                .collect(),
            Table::Language => {
                vec![vec![14.into(), "sql".into()], vec![13.into(), "c".into()]]
            }
            Table::Database => vec![database_row()],
            Table::Roles => vec![role_row()],
            Table::Settings => setting_rows(source),
            Table::Am => vec![vec![HEAP.into(), "heap".into(), "t".into()]],
            Table::Collation => vec![vec![
                DEFAULT_COLLATION.into(),
                "default".into(),
                CATALOG_NAMESPACE.into(),
            ]],
            Table::Empty(..) => Vec::new(),
        }
    }
}
