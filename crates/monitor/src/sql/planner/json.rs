//! The JSON functions, by SQLite's.

use sqlparser::ast;

use super::super::error::{SqlError, codes};
use super::super::types::{Family, PgType};
use super::scope::fold;
use super::{Kind, Planner, Typed, unsupported};

/// An expression as SQLite's JSON value, with the JSON type that Postgres would choose.
fn json_value(typed: &Typed) -> String {
    let sql = &typed.sql;
    match typed.ty.family() {
        Family::Bool => format!("json(CASE {sql} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END)"),
        Family::Json => format!("json({sql})"),
        Family::Lsn | Family::Interval => format!("pgaf_text({sql}, {})", typed.ty.oid()),
        Family::Time => format!("pgaf_time_json({sql})"),
        Family::Number | Family::Text | Family::Void | Family::Unknown => sql.clone(),
    }
}

impl Planner {
    /// A JSON function; `None` when the name is not that of one.
    pub(super) fn json_function(
        &mut self,
        name: &str,
        args: &[&ast::Expr],
    ) -> Result<Option<Typed>, SqlError> {
        let (json, jsonb) = (PgType::Json, PgType::Jsonb);
        Ok(Some(match (name, args) {
            ("row_to_json", [arg]) => {
                let sql = self.row(arg)?.ok_or_else(|| {
                    SqlError::new(
                        codes::UNDEFINED_FUNCTION,
                        format!("row_to_json({arg}) needs a row"),
                    )
                })?;
                Typed::plain(sql, json)
            }
            ("to_json" | "to_jsonb", [arg]) => {
                let ty = if name == "to_json" { json } else { jsonb };
                Typed::plain(format!("pgaf_json_quote({})", self.json_of(arg)?), ty)
            }
            ("jsonb_pretty", [arg]) => {
                let value = self.expr(arg)?;
                let value = self.coerce(value, jsonb)?;
                Typed::plain(format!("pgaf_jsonb_pretty({})", value.sql), PgType::Text)
            }
            ("jsonb_build_object" | "json_build_object", args) if args.len() % 2 == 0 => {
                let mut parts = Vec::new();
                for pair in args.chunks(2) {
                    let key = self.expr(pair[0])?;
                    parts.push(self.text_of(key)?.sql);
                    parts.push(self.json_of(pair[1])?);
                }
                let ty = if name == "jsonb_build_object" {
                    jsonb
                } else {
                    json
                };
                Typed::plain(format!("json_object({})", parts.join(", ")), ty)
            }
            ("jsonb_build_array" | "json_build_array", args) => {
                let mut parts = Vec::new();
                for arg in args {
                    parts.push(self.json_of(arg)?);
                }
                let ty = if name == "jsonb_build_array" {
                    jsonb
                } else {
                    json
                };
                Typed::plain(format!("json_array({})", parts.join(", ")), ty)
            }
            _ => return Ok(None),
        }))
    }

    /// Any expression, or a whole row by its FROM item's name, as SQLite's JSON value.
    pub(super) fn json_of(&mut self, arg: &ast::Expr) -> Result<String, SqlError> {
        if let Some(row) = self.row(arg)? {
            return Ok(row);
        }
        let typed = self.expr(arg)?;
        if matches!(typed.kind, Kind::Literal(_) | Kind::Param(_)) {
            let typed = self.coerce(typed, PgType::Text)?;
            return Ok(json_value(&typed));
        }
        Ok(json_value(&typed))
    }

    /// `json_object(…)` of a FROM item, when the expression is the name of one.
    fn row(&mut self, arg: &ast::Expr) -> Result<Option<String>, SqlError> {
        let ast::Expr::Identifier(ident) = arg else {
            return Ok(None);
        };
        let name = fold(ident);
        let Some(source) = self.source(&name) else {
            return Ok(None);
        };
        // A column of that name comes first, as in Postgres.
        if source.columns.iter().any(|column| column.name == name) {
            return Ok(None);
        }
        let columns = source.columns.clone();
        if columns.len() > 60 {
            return Err(unsupported("a row of more than 60 columns as JSON"));
        }
        let mut parts = Vec::new();
        for column in &columns {
            if self.aggregate_depth == 0
                && let Some(scope) = self.scopes.last_mut()
            {
                scope.bare.push((column.sql.clone(), column.name.clone()));
            }
            parts.push(super::expr::quote(&column.name));
            parts.push(json_value(&Typed::plain(column.sql.clone(), column.ty)));
        }
        Ok(Some(format!("json_object({})", parts.join(", "))))
    }
}
