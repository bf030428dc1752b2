//! Casts, written and implied.

use sqlparser::ast;

use super::super::catalog;
use super::super::error::{SqlError, codes};
use super::super::types::{Family, PgType};
use super::{Kind, Planner, Typed, unsupported};

/// What a cast asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CastTo {
    Type(PgType),
    /// `regclass`: an OID of a relation, or its name.
    Regclass,
    /// `regtype`: an OID of a type, or its name.
    Regtype,
    /// `regnamespace`: an OID of a schema, or its name.
    Regnamespace,
}

fn cast_target(data_type: &ast::DataType) -> Result<CastTo, SqlError> {
    let written = data_type.to_string();
    let folded = written.to_ascii_lowercase();
    let unquoted = folded.replace('"', "");
    let bare = ["pg_catalog.", "pgautofailover."]
        .iter()
        .find_map(|schema| unquoted.strip_prefix(schema))
        .unwrap_or(&unquoted);
    let word = bare.split('(').next().unwrap_or(bare).trim();
    Ok(CastTo::Type(match word {
        "bool" | "boolean" => PgType::Bool,
        "char" if folded.contains('"') => PgType::Char,
        "name" => PgType::Name,
        "int2" | "smallint" => PgType::Int2,
        "int" | "int4" | "integer" => PgType::Int4,
        "int8" | "bigint" => PgType::Int8,
        "oid" => PgType::Oid,
        "float8" | "double precision" | "float" | "real" | "float4" => PgType::Float8,
        "numeric" | "decimal" | "dec" => PgType::Numeric,
        "text" | "varchar" | "character varying" | "citext" => PgType::Text,
        "text[]" | "name[]" => PgType::TextArray,
        "int2[]" | "smallint[]" | "int4[]" | "integer[]" | "int[]" => PgType::IntArray,
        "pg_lsn" => PgType::Lsn,
        "timestamptz" | "timestamp with time zone" => PgType::TimestampTz,
        "json" => PgType::Json,
        "jsonb" => PgType::Jsonb,
        "interval" => PgType::Interval,
        "replication_state" => PgType::State,
        "regclass" => return Ok(CastTo::Regclass),
        "regtype" => return Ok(CastTo::Regtype),
        "regnamespace" => return Ok(CastTo::Regnamespace),
        _ => {
            return Err(SqlError::new(
                codes::UNDEFINED_OBJECT,
                format!("type \"{written}\" does not exist"),
            ));
        }
    }))
}

/// The type of a cast to an ordinary type.
pub(super) fn cast_type(data_type: &ast::DataType) -> Result<PgType, SqlError> {
    match cast_target(data_type)? {
        CastTo::Type(ty) => Ok(ty),
        CastTo::Regclass | CastTo::Regtype | CastTo::Regnamespace => {
            Err(unsupported(format!("a cast to {data_type}")))
        }
    }
}

impl Planner {
    /// A cast to text, as `||` does it.
    pub(super) fn text_of(&mut self, typed: Typed) -> Result<Typed, SqlError> {
        if typed.ty == PgType::Unknown || typed.ty.family() == Family::Text {
            return self.coerce(typed, PgType::Text);
        }
        Ok(Typed::plain(
            format!("pgaf_text({}, {})", typed.sql, typed.ty.oid()),
            PgType::Text,
        ))
    }

    pub(super) fn cast(
        &mut self,
        typed: Typed,
        data_type: &ast::DataType,
    ) -> Result<Typed, SqlError> {
        let ty = match cast_target(data_type)? {
            CastTo::Type(ty) => ty,
            CastTo::Regclass => return self.regclass(typed),
            CastTo::Regtype if typed.ty.family() == Family::Number => {
                return Ok(Typed::plain(
                    format!("pgaf_type_name({})", typed.sql),
                    PgType::Text,
                ));
            }
            CastTo::Regnamespace if typed.ty.family() == Family::Number => {
                return Ok(Typed::plain(
                    format!("pgaf_schema_name({})", typed.sql),
                    PgType::Text,
                ));
            }
            CastTo::Regtype | CastTo::Regnamespace => {
                return Err(unsupported(format!("a cast to {data_type}")));
            }
        };
        if typed.ty == PgType::Unknown || typed.ty == ty {
            return self.coerce(typed, ty);
        }
        let sql = match (typed.ty.family(), ty.family()) {
            (Family::Number, Family::Number) if ty == PgType::Float8 => {
                format!("CAST({} AS REAL)", typed.sql)
            }
            (Family::Number, Family::Number) if ty == PgType::Numeric => typed.sql,
            (Family::Number, Family::Number) => format!("pgaf_parse({}, {})", typed.sql, ty.oid()),
            (a, b) if a == b && ty != PgType::State => typed.sql,
            (_, Family::Text) if ty != PgType::State => self.text_of(typed)?.sql,
            (Family::Text, _) => format!("pgaf_parse({}, {})", typed.sql, ty.oid()),
            (Family::Bool, Family::Number) => typed.sql,
            (Family::Number, Family::Bool) => format!("({} <> 0)", typed.sql),
            _ => {
                let (a, b) = (typed.ty.name(), ty.name());
                return Err(SqlError::new(
                    "42846",
                    format!("cannot cast type {a} to {b}"),
                ));
            }
        };
        Ok(Typed::plain(sql, ty))
    }

    fn regclass(&mut self, typed: Typed) -> Result<Typed, SqlError> {
        if typed.ty.family() == Family::Number {
            return Ok(Typed::plain(
                format!("pgaf_relation_name({})", typed.sql),
                PgType::Text,
            ));
        }
        let Kind::Literal(text) = &typed.kind else {
            return Err(unsupported("a cast to regclass"));
        };
        if let Ok(number) = text.parse::<u32>() {
            return Ok(Typed::plain(number.to_string(), PgType::Oid));
        }
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text.as_str()),
        };
        let oid = catalog::relation_oid(schema, name)?;
        Ok(Typed::plain(oid.to_string(), PgType::Oid))
    }
}
