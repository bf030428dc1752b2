//! `pg_class` and `pg_attribute`: our three tables.

use super::super::error::SqlError;
use super::super::functions::Named;
use super::super::reads::Rows;
use super::super::types::PgType::{Bool, Char, Float8, Int2, Int4, Name, Oid, Text, TextArray};
use super::super::types::Value;
use super::{
    CATALOG_NAMESPACE, DEFAULT_COLLATION, FIRST_OID, HEAP, OWNER, PUBLIC_NAMESPACE, SCHEMA, Table,
    find,
};

/// Our tables, in the order of their OIDs.
pub(super) const OWN: &[Table] = &[Table::Formation, Table::Node, Table::Event];

pub(super) const CLASS: &[Named] = &[
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

pub(super) fn class_row(index: usize) -> Vec<Value> {
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

pub(super) fn table_oid(index: usize) -> Value {
    Value::Int(FIRST_OID + 1 + i64::try_from(index).unwrap_or(0))
}

pub(super) const ATTRIBUTE: &[Named] = &[
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

pub(super) fn attribute_rows() -> Rows {
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

/// The name of a relation's OID as `regclass` prints it.
pub(in crate::sql) fn relation_name(oid: i64) -> Option<String> {
    let index = usize::try_from(oid - FIRST_OID - 1).ok()?;
    OWN.get(index)
        .map(|table| format!("{SCHEMA}.{}", table.name()))
}

/// The name of a schema's OID as `regnamespace` prints it.
pub(in crate::sql) fn schema_name(oid: i64) -> Option<String> {
    Some(match oid {
        CATALOG_NAMESPACE => "pg_catalog".to_owned(),
        PUBLIC_NAMESPACE => "public".to_owned(),
        FIRST_OID => SCHEMA.to_owned(),
        other => other.to_string(),
    })
}

/// The OID of a relation of ours.
pub(in crate::sql) fn relation_oid(schema: Option<&str>, name: &str) -> Result<i64, SqlError> {
    let table = find(schema, name)?;
    let index = OWN.iter().position(|own| *own == table);
    Ok(index
        .and_then(|index| i64::try_from(index).ok())
        .map_or(0, |index| FIRST_OID + 1 + index))
}
