//! `pg_type`.

use super::super::functions::Named;
use super::super::types::PgType::{self, Bool, Char, Int2, Name, Oid, Text};
use super::super::types::Value;
use super::{CATALOG_NAMESPACE, DEFAULT_COLLATION};

/// The types of the catalogue.
pub(super) const TYPES: &[PgType] = &[
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
pub(in crate::sql) fn type_name(oid: i64) -> Option<&'static str> {
    TYPES
        .iter()
        .find(|ty| i64::from(ty.oid()) == oid)
        .map(|ty| ty.name())
}

pub(super) const TYPE: &[Named] = &[
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

pub(super) fn type_row(ty: PgType) -> Vec<Value> {
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
