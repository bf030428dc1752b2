//! `pg_proc`: the table of functions, as `\df` shows it.

use super::super::functions::{Default, Function, Named, Returns, all};
use super::super::types::PgType::{self, Bool, Char, Int2, Name, Oid, Text, TextArray};
use super::super::types::Value;
use super::{FIRST_OID, OWNER};

pub(super) const PROC: &[Named] = &[
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
pub(super) const FIRST_FUNCTION: i64 = FIRST_OID + 100;

/// Result and arguments of a function's OID, as psql shows them.
pub(in crate::sql) fn function_texts(oid: i64) -> Option<(String, String)> {
    let index = usize::try_from(oid - FIRST_FUNCTION).ok()?;
    all()
        .nth(index)
        .map(|function| (result_text(function), arguments_text(function)))
}

pub(super) fn result_text(function: &Function) -> String {
    match function.returns {
        Returns::Scalar(ty) => ty.name().to_owned(),
        Returns::Row(_) => "record".to_owned(),
        Returns::Rows(_) => "SETOF record".to_owned(),
    }
}

pub(super) fn arguments_text(function: &Function) -> String {
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

pub(super) fn proc_row(index: usize, function: &Function) -> Vec<Value> {
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
