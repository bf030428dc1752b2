//! The names that Postgres gives to result columns.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use sqlparser::ast;

use super::super::types::PgType;
use super::casts::cast_type;
use super::scope::{fold, split_name};

/// The name that Postgres gives to a result column.
pub(super) fn column_name(expr: &ast::Expr) -> String {
    match expr {
        ast::Expr::Identifier(ident) => fold(ident),
        ast::Expr::CompoundIdentifier(idents) => idents.last().map_or_else(unnamed, fold),
        ast::Expr::Function(function) => match split_name(&function.name) {
            Ok((_, name)) => name,
            Err(_) => unnamed(),
        },
        ast::Expr::Nested(inner) | ast::Expr::Collate { expr: inner, .. } => column_name(inner),
        ast::Expr::Cast {
            expr, data_type, ..
        } => match column_name(expr) {
            name if name == "?column?" => cast_type(data_type).map_or(name, short_name),
            name => name,
        },
        ast::Expr::Extract { .. } => "extract".to_owned(),
        ast::Expr::Case { else_result, .. } => match else_result.as_deref().map(column_name) {
            Some(name) if name != "?column?" => name,
            Some(_) | None => "case".to_owned(),
        },
        ast::Expr::Exists { .. } => "exists".to_owned(),
        ast::Expr::Subquery(query) => match query.body.as_ref() {
            ast::SetExpr::Select(select) => match select.projection.first() {
                Some(ast::SelectItem::UnnamedExpr(expr)) => column_name(expr),
                Some(ast::SelectItem::ExprWithAlias { alias, .. }) => fold(alias),
                _ => unnamed(),
            },
            _ => unnamed(),
        },
        ast::Expr::Value(value) if matches!(value.value, ast::Value::Boolean(_)) => {
            "bool".to_owned()
        }
        ast::Expr::Substring { .. } => "substring".to_owned(),
        ast::Expr::Trim { .. } => "btrim".to_owned(),
        ast::Expr::Ceil { .. } => "ceil".to_owned(),
        ast::Expr::Floor { .. } => "floor".to_owned(),
        _ => unnamed(),
    }
}

fn unnamed() -> String {
    "?column?".to_owned()
}

fn short_name(ty: PgType) -> String {
    match ty {
        PgType::Bool => "bool",
        PgType::Int2 => "int2",
        PgType::Int4 => "int4",
        PgType::Int8 => "int8",
        PgType::Float8 => "float8",
        PgType::TimestampTz => "timestamptz",
        PgType::State => "replication_state",
        PgType::Char => "char",
        PgType::Name
        | PgType::Oid
        | PgType::Numeric
        | PgType::Text
        | PgType::TextArray
        | PgType::IntArray
        | PgType::Lsn
        | PgType::Interval
        | PgType::Json
        | PgType::Jsonb
        | PgType::Void
        | PgType::Unknown => ty.name(),
    }
    .to_owned()
}
