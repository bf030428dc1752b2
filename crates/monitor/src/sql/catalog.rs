//! The relations that read-only SQL sees: the three tables of schema `pgautofailover`, and as much
//! of `pg_catalog` as `psql` needs for `\dt`, `\d`, `\df`, `\dn`, `\du`, `\l` and drivers for their
//! start-up questions.

use super::auth::{DATABASE, ROLE};
use super::error::{SqlError, codes};
use super::functions::{EVENT, FORMATION_TABLE, Function, NODE_TABLE, Named, Returns, all};
use super::reads::{Rows, event_row, formation_table_row, node_table_row};
use super::snapshot::{EventRow, Snapshot};
use super::types::PgType::{
    self, Bool, Char, Float8, Int2, Int4, IntArray, Name, Oid, Text, TextArray, TimestampTz,
};
use super::types::Value;

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

const EMPTY: &[(&str, &[Named])] = &[
    (
        "pg_attrdef",
        &[
            ("oid", Oid),
            ("adrelid", Oid),
            ("adnum", Int2),
            ("adbin", Text),
        ],
    ),
    (
        "pg_inherits",
        &[
            ("inhrelid", Oid),
            ("inhparent", Oid),
            ("inhseqno", Int4),
            ("inhdetachpending", Bool),
        ],
    ),
    (
        "pg_policy",
        &[
            ("polname", Name),
            ("polrelid", Oid),
            ("polcmd", Char),
            ("polpermissive", Bool),
            ("polroles", TextArray),
            ("polqual", Text),
            ("polwithcheck", Text),
        ],
    ),
    (
        "pg_statistic_ext",
        &[
            ("oid", Oid),
            ("stxrelid", Oid),
            ("stxname", Name),
            ("stxnamespace", Oid),
            ("stxowner", Oid),
            ("stxstattarget", Int4),
            ("stxkind", TextArray),
        ],
    ),
    (
        "pg_publication",
        &[("oid", Oid), ("pubname", Name), ("puballtables", Bool)],
    ),
    (
        "pg_publication_rel",
        &[
            ("oid", Oid),
            ("prpubid", Oid),
            ("prrelid", Oid),
            ("prqual", Text),
            ("prattrs", IntArray),
        ],
    ),
    (
        "pg_publication_namespace",
        &[("oid", Oid), ("pnpubid", Oid), ("pnnspid", Oid)],
    ),
    (
        "pg_index",
        &[
            ("indexrelid", Oid),
            ("indrelid", Oid),
            ("indisprimary", Bool),
            ("indisunique", Bool),
        ],
    ),
    (
        "pg_constraint",
        &[
            ("oid", Oid),
            ("conname", Name),
            ("conrelid", Oid),
            ("contype", Char),
            ("conindid", Oid),
        ],
    ),
    (
        "pg_trigger",
        &[
            ("oid", Oid),
            ("tgrelid", Oid),
            ("tgname", Name),
            ("tgisinternal", Bool),
        ],
    ),
    (
        "pg_auth_members",
        &[
            ("roleid", Oid),
            ("member", Oid),
            ("grantor", Oid),
            ("admin_option", Bool),
        ],
    ),
    (
        "pg_description",
        &[
            ("objoid", Oid),
            ("classoid", Oid),
            ("objsubid", Int4),
            ("description", Text),
        ],
    ),
    ("pg_tablespace", &[("oid", Oid), ("spcname", Name)]),
    (
        "pg_enum",
        &[
            ("oid", Oid),
            ("enumtypid", Oid),
            ("enumlabel", Name),
            ("enumsortorder", Float8),
        ],
    ),
    ("pg_range", &[("rngtypid", Oid), ("rngsubtype", Oid)]),
    (
        "pg_replication_slots",
        &[("slot_name", Name), ("slot_type", Text), ("active", Bool)],
    ),
];

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

/// Our tables, in the order of their OIDs.
const OWN: &[Table] = &[Table::Formation, Table::Node, Table::Event];

const CLASS: &[Named] = &[
    ("oid", Oid),
    ("relname", Name),
    ("relnamespace", Oid),
    ("reltype", Oid),
    ("reloftype", Oid),
    ("relowner", Oid),
    ("relam", Oid),
    ("relfilenode", Oid),
    ("reltablespace", Oid),
    ("relpages", Int4),
    ("reltuples", Float8),
    ("reltoastrelid", Oid),
    ("relhasindex", Bool),
    ("relisshared", Bool),
    ("relpersistence", Char),
    ("relkind", Char),
    ("relnatts", Int2),
    ("relchecks", Int2),
    ("relhasrules", Bool),
    ("relhastriggers", Bool),
    ("relrowsecurity", Bool),
    ("relforcerowsecurity", Bool),
    ("relreplident", Char),
    ("relispartition", Bool),
    ("relacl", TextArray),
    ("reloptions", TextArray),
    ("relpartbound", Text),
];

fn class_row(index: usize) -> Vec<Value> {
    let (no, zero) = (|| Value::from(false), || Value::Int(0));
    let columns = i64::try_from(OWN[index].columns().len()).unwrap_or(0);
    vec![
        table_oid(index),
        OWN[index].name().into(),
        FIRST_OID.into(),
        zero(),
        zero(),
        OWNER.into(),
        HEAP.into(),
        table_oid(index),
        zero(),
        zero(),
        Value::Real(-1.0),
        zero(),
        no(),
        no(),
        "p".into(),
        "r".into(),
        columns.into(),
        zero(),
        no(),
        no(),
        no(),
        no(),
        "d".into(),
        no(),
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}

fn table_oid(index: usize) -> Value {
    Value::Int(FIRST_OID + 1 + i64::try_from(index).unwrap_or(0))
}

const ATTRIBUTE: &[Named] = &[
    ("attrelid", Oid),
    ("attname", Name),
    ("atttypid", Oid),
    ("attstattarget", Int4),
    ("attlen", Int2),
    ("attnum", Int2),
    ("atttypmod", Int4),
    ("attnotnull", Bool),
    ("atthasdef", Bool),
    ("attidentity", Char),
    ("attgenerated", Char),
    ("attisdropped", Bool),
    ("attcollation", Oid),
    ("attstorage", Char),
    ("attcompression", Char),
];

fn attribute_rows() -> Rows {
    /// The columns that may be NULL; source: the old program's extension.
    const NULLABLE: &[&str] = &[
        "sysidentifier",
        "reportedpgisrunning",
        "reportedrepstate",
        "description",
    ];
    let mut rows = Vec::new();
    for (index, table) in OWN.iter().enumerate() {
        for (at, (name, ty)) in table.columns().iter().enumerate() {
            let collation = if *ty == Text { DEFAULT_COLLATION } else { 0 };
            rows.push(vec![
                table_oid(index),
                (*name).into(),
                i64::from(ty.oid()).into(),
                (-1).into(),
                i64::from(ty.size()).into(),
                Value::Int(i64::try_from(at + 1).unwrap_or(0)),
                (-1).into(),
                (!NULLABLE.contains(name)).into(),
                false.into(),
                "".into(),
                "".into(),
                false.into(),
                collation.into(),
                (if ty.size() < 0 { "x" } else { "p" }).into(),
                "".into(),
            ]);
        }
    }
    rows
}

/// The types of the catalogue.
const TYPES: &[PgType] = &[
    PgType::Bool,
    PgType::Char,
    PgType::Name,
    PgType::Int8,
    PgType::Int2,
    PgType::Int4,
    PgType::Text,
    PgType::Oid,
    PgType::Json,
    PgType::Float8,
    PgType::TextArray,
    PgType::TimestampTz,
    PgType::Interval,
    PgType::Numeric,
    PgType::Void,
    PgType::Lsn,
    PgType::Jsonb,
];

/// The name of a type's OID as `format_type` prints it.
pub(super) fn type_name(oid: i64) -> Option<&'static str> {
    TYPES
        .iter()
        .find(|ty| i64::from(ty.oid()) == oid)
        .map(|ty| ty.name())
}

/// The name of a relation's OID as `regclass` prints it.
pub(super) fn relation_name(oid: i64) -> Option<String> {
    let index = usize::try_from(oid - FIRST_OID - 1).ok()?;
    OWN.get(index)
        .map(|table| format!("{SCHEMA}.{}", table.name()))
}

/// The name of a schema's OID as `regnamespace` prints it.
pub(super) fn schema_name(oid: i64) -> Option<String> {
    Some(match oid {
        CATALOG_NAMESPACE => "pg_catalog".to_owned(),
        PUBLIC_NAMESPACE => "public".to_owned(),
        FIRST_OID => SCHEMA.to_owned(),
        other => other.to_string(),
    })
}

/// The OID of a relation of ours.
pub(super) fn relation_oid(schema: Option<&str>, name: &str) -> Result<i64, SqlError> {
    let table = find(schema, name)?;
    let index = OWN.iter().position(|own| *own == table);
    Ok(index
        .and_then(|index| i64::try_from(index).ok())
        .map_or(0, |index| FIRST_OID + 1 + index))
}

const TYPE: &[Named] = &[
    ("oid", Oid),
    ("typname", Name),
    ("typnamespace", Oid),
    ("typlen", Int2),
    ("typtype", Char),
    ("typcategory", Char),
    ("typrelid", Oid),
    ("typelem", Oid),
    ("typarray", Oid),
    ("typbasetype", Oid),
    ("typcollation", Oid),
    ("typnotnull", Bool),
    ("typdefault", Text),
];

fn type_row(ty: PgType) -> Vec<Value> {
    let internal = match ty {
        PgType::Bool => "bool",
        PgType::Char => "char",
        PgType::Int2 => "int2",
        PgType::Int4 => "int4",
        PgType::Int8 => "int8",
        PgType::Float8 => "float8",
        PgType::TextArray => "_text",
        PgType::TimestampTz => "timestamptz",
        PgType::Name
        | PgType::Oid
        | PgType::Numeric
        | PgType::Text
        | PgType::State
        | PgType::Lsn
        | PgType::IntArray
        | PgType::Interval
        | PgType::Json
        | PgType::Jsonb
        | PgType::Void
        | PgType::Unknown => ty.name(),
    };
    let collation = if ty == Text { DEFAULT_COLLATION } else { 0 };
    vec![
        i64::from(ty.oid()).into(),
        internal.into(),
        CATALOG_NAMESPACE.into(),
        i64::from(ty.size()).into(),
        "b".into(),
        "U".into(),
        0.into(),
        0.into(),
        0.into(),
        0.into(),
        collation.into(),
        false.into(),
        Value::Null,
    ]
}

const PROC: &[Named] = &[
    ("oid", Oid),
    ("proname", Name),
    ("pronamespace", Oid),
    ("proowner", Oid),
    ("prolang", Oid),
    ("prokind", Char),
    ("prosecdef", Bool),
    ("proisstrict", Bool),
    ("proretset", Bool),
    ("provolatile", Char),
    ("proparallel", Char),
    ("pronargs", Int2),
    ("prorettype", Oid),
    ("proacl", TextArray),
    ("prosrc", Text),
    // Ours: what pg_get_function_arguments and pg_get_function_result print.
    ("pgaf_arguments", Text),
    ("pgaf_result", Text),
];

/// OIDs of functions begin here.
const FIRST_FUNCTION: i64 = FIRST_OID + 100;

/// Result and arguments of a function's OID, as psql shows them.
pub(super) fn function_texts(oid: i64) -> Option<(String, String)> {
    let index = usize::try_from(oid - FIRST_FUNCTION).ok()?;
    all()
        .nth(index)
        .map(|function| (result_text(function), arguments_text(function)))
}

fn result_text(function: &Function) -> String {
    match function.returns {
        Returns::Scalar(ty) => ty.name().to_owned(),
        Returns::Row(_) => "record".to_owned(),
        Returns::Rows(_) => "SETOF record".to_owned(),
    }
}

fn arguments_text(function: &Function) -> String {
    use super::functions::Default;
    let mut parts: Vec<String> = Vec::new();
    for arg in function.args {
        let default = match arg.default {
            Default::Required => String::new(),
            Default::Null => format!(" DEFAULT NULL::{}", arg.ty.name()),
            Default::Int(number) if arg.ty == PgType::Lsn => {
                format!(" DEFAULT '{number:X}/0'::pg_lsn")
            }
            Default::Int(number) => format!(" DEFAULT {number}"),
            Default::Bool(value) => format!(" DEFAULT {value}"),
            Default::Text(text) => format!(" DEFAULT '{text}'::text"),
        };
        parts.push(format!("{} {}{default}", arg.name, arg.ty.name()));
    }
    if let Returns::Row(columns) | Returns::Rows(columns) = function.returns {
        parts.extend(
            columns
                .iter()
                .map(|(name, ty)| format!("OUT {name} {}", ty.name())),
        );
    }
    parts.join(", ")
}

fn proc_row(index: usize, function: &Function) -> Vec<Value> {
    let returns = match function.returns {
        Returns::Scalar(ty) => i64::from(ty.oid()),
        // Source: Postgres, `pg_type.dat`: record.
        Returns::Row(_) | Returns::Rows(_) => 2249,
    };
    vec![
        Value::Int(FIRST_FUNCTION + i64::try_from(index).unwrap_or(0)),
        function.name.into(),
        FIRST_OID.into(),
        OWNER.into(),
        14.into(),
        "f".into(),
        true.into(),
        function.strict.into(),
        matches!(function.returns, Returns::Rows(_)).into(),
        "v".into(),
        "u".into(),
        Value::Int(i64::try_from(function.args.len()).unwrap_or(0)),
        returns.into(),
        Value::Null,
        function.name.into(),
        arguments_text(function).into(),
        result_text(function).into(),
    ]
}

const DATABASE_COLUMNS: &[Named] = &[
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

fn database_row() -> Vec<Value> {
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

const ROLES: &[Named] = &[
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

fn role_row() -> Vec<Value> {
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
pub(super) fn role_name(oid: i64) -> String {
    match oid {
        OWNER => "autoctl".to_owned(),
        ROLE_OID => ROLE.to_owned(),
        other => format!("unknown (OID={other})"),
    }
}

/// Settings that `SHOW` and `current_setting` know, besides the monitor's own.
const FIXED_SETTINGS: &[(&str, &str)] = &[
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
pub(super) fn setting(source: &Source<'_>, name: &str) -> Option<String> {
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

fn setting_rows(source: &Source<'_>) -> Rows {
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
