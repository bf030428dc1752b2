//! Expressions: types, operators, casts, subqueries.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use sqlparser::ast::{self, BinaryOperator as Op, UnaryOperator};

use super::super::catalog;
use super::super::error::{SqlError, codes};
use super::super::types::{Family, PgType, parse_text};
use super::scope::{fold, split_name};
use super::{Kind, Planner, Typed, mismatch, unsupported};

/// A text as SQLite's literal.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The wider of two types of one family.
pub(super) fn wider(a: PgType, b: PgType) -> PgType {
    const ORDER: &[PgType] = &[
        PgType::Oid,
        PgType::Int2,
        PgType::Int4,
        PgType::Int8,
        PgType::Numeric,
        PgType::Float8,
    ];
    let rank = |ty| ORDER.iter().position(|known| *known == ty);
    match (rank(a), rank(b)) {
        (Some(x), Some(y)) => {
            if x >= y {
                a
            } else {
                b
            }
        }
        _ if a == b => a,
        _ if a.family() == Family::Text => PgType::Text,
        _ => a,
    }
}

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
            name if name == "?column?" => cast_type(data_type).map_or(name, |ty| short_name(ty)),
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
    pub(super) fn expr(&mut self, expr: &ast::Expr) -> Result<Typed, SqlError> {
        self.nested(|planner| planner.expr_inner(expr))
    }

    fn expr_inner(&mut self, expr: &ast::Expr) -> Result<Typed, SqlError> {
        match expr {
            ast::Expr::Identifier(ident) => self.identifier(ident),
            ast::Expr::CompoundIdentifier(idents) => self.compound(idents),
            ast::Expr::Nested(inner) => self.expr(inner),
            ast::Expr::Value(value) => self.value(&value.value),
            ast::Expr::TypedString(typed) => {
                let ty = cast_type(&typed.data_type)?;
                let literal = self.value(&typed.value.value)?;
                self.coerce(literal, ty)
            }
            ast::Expr::Interval(interval) => super::builtins::interval(interval),
            ast::Expr::Cast {
                expr,
                data_type,
                format: None,
                ..
            } => {
                let typed = self.expr(expr)?;
                self.cast(typed, data_type)
            }
            ast::Expr::Collate { expr, collation } => {
                let (_, name) = split_name(collation)?;
                if !["default", "C", "POSIX", "ucs_basic"].contains(&name.as_str()) {
                    let message = format!("collation \"{name}\" does not exist");
                    return Err(SqlError::new(codes::UNDEFINED_OBJECT, message));
                }
                self.expr(expr)
            }
            ast::Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            ast::Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            ast::Expr::Function(function) => self.function(function),
            ast::Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref()),
            ast::Expr::Subquery(query) => {
                let sub = self.subquery(query, Some(1))?;
                let ty = sub.columns.first().map_or(PgType::Text, |column| column.ty);
                Ok(Typed::plain(format!("({})", sub.sql), ty))
            }
            ast::Expr::Exists { subquery, negated } => {
                let sub = self.subquery(subquery, None)?;
                let not = if *negated { "NOT " } else { "" };
                Ok(Typed::plain(
                    format!("({not}EXISTS ({}))", sub.sql),
                    PgType::Bool,
                ))
            }
            _ => self.predicate(expr),
        }
    }

    /// Expressions that are true or false, and what looks like a function but is syntax.
    fn predicate(&mut self, expr: &ast::Expr) -> Result<Typed, SqlError> {
        let truth = |planner: &mut Self, inner: &ast::Expr, test: &str| {
            let typed = planner.expr(inner)?;
            let typed = planner.condition(typed, "IS")?;
            Ok(Typed::plain(
                format!("({} {test})", typed.sql),
                PgType::Bool,
            ))
        };
        match expr {
            ast::Expr::IsNull(inner) => self.null_test(inner, "IS NULL"),
            ast::Expr::IsNotNull(inner) => self.null_test(inner, "IS NOT NULL"),
            ast::Expr::IsTrue(inner) => truth(self, inner, "IS 1"),
            ast::Expr::IsNotTrue(inner) => truth(self, inner, "IS NOT 1"),
            ast::Expr::IsFalse(inner) => truth(self, inner, "IS 0"),
            ast::Expr::IsNotFalse(inner) => truth(self, inner, "IS NOT 0"),
            ast::Expr::IsUnknown(inner) => truth(self, inner, "IS NULL"),
            ast::Expr::IsNotUnknown(inner) => truth(self, inner, "IS NOT NULL"),
            ast::Expr::IsDistinctFrom(a, b) => self.compare(a, "IS NOT", b),
            ast::Expr::IsNotDistinctFrom(a, b) => self.compare(a, "IS", b),
            ast::Expr::InList {
                expr,
                list,
                negated,
            } => self.in_list(expr, list, *negated),
            ast::Expr::InSubquery {
                expr,
                subquery,
                negated,
            } => {
                let typed = self.expr(expr)?;
                let sub = self.subquery(subquery, Some(1))?;
                let ty = sub.columns.first().map_or(PgType::Text, |column| column.ty);
                let typed = self.coerce(typed, ty)?;
                let not = if *negated { "NOT " } else { "" };
                Ok(Typed::plain(
                    format!("({} {not}IN ({}))", typed.sql, sub.sql),
                    PgType::Bool,
                ))
            }
            ast::Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let all = vec![self.expr(expr)?, self.expr(low)?, self.expr(high)?];
                let (all, _) = self.unify(all, "BETWEEN")?;
                let not = if *negated { "NOT " } else { "" };
                let [value, low, high] = &all[..] else {
                    return Err(unsupported("BETWEEN"));
                };
                let sql = format!("({} {not}BETWEEN {} AND {})", value.sql, low.sql, high.sql);
                Ok(Typed::plain(sql, PgType::Bool))
            }
            ast::Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char: None,
            } => self.like(expr, pattern, *negated, false),
            ast::Expr::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char: None,
            } => self.like(expr, pattern, *negated, true),
            ast::Expr::AnyOp {
                left,
                compare_op: Op::Eq,
                right,
                ..
            } => {
                let value = self.expr(left)?;
                let value = self.to_text(value)?;
                let array = self.expr(right)?;
                let array = self.coerce(array, PgType::TextArray)?;
                let sql = format!("pgaf_in_array({}, {})", value.sql, array.sql);
                Ok(Typed::plain(sql, PgType::Bool))
            }
            ast::Expr::Extract { field, expr, .. } => self.extract(field, expr),
            ast::Expr::CompoundFieldAccess { root, access_chain } => {
                self.element(root, access_chain)
            }
            ast::Expr::Substring {
                expr,
                substring_from: Some(from),
                substring_for,
                ..
            } => {
                let mut sql = format!("substr({}, {}", self.text(expr)?.sql, self.int(from)?.sql);
                if let Some(length) = substring_for {
                    sql.push_str(&format!(", {}", self.int(length)?.sql));
                }
                Ok(Typed::plain(format!("{sql})"), PgType::Text))
            }
            ast::Expr::Trim {
                trim_where: None,
                trim_what: None,
                expr,
                trim_characters: None,
            } => Ok(Typed::plain(
                format!("trim({})", self.text(expr)?.sql),
                PgType::Text,
            )),
            _ => Err(unsupported(expr)),
        }
    }

    /// `array[number]`
    fn element(&mut self, root: &ast::Expr, chain: &[ast::AccessExpr]) -> Result<Typed, SqlError> {
        let [ast::AccessExpr::Subscript(ast::Subscript::Index { index })] = chain else {
            return Err(unsupported("this kind of access"));
        };
        let array = self.expr(root)?;
        let (ty, at) = match array.ty {
            PgType::IntArray => (PgType::Int8, self.int(index)?),
            PgType::TextArray => (PgType::Text, self.int(index)?),
            other => return Err(mismatch(format!("cannot subscript type {}", other.name()))),
        };
        let sql = format!("pgaf_element({}, {}, {})", array.sql, at.sql, ty.oid());
        Ok(Typed::plain(sql, ty))
    }

    pub(super) fn text(&mut self, expr: &ast::Expr) -> Result<Typed, SqlError> {
        let typed = self.expr(expr)?;
        self.coerce(typed, PgType::Text)
    }

    pub(super) fn int(&mut self, expr: &ast::Expr) -> Result<Typed, SqlError> {
        let typed = self.expr(expr)?;
        self.coerce(typed, PgType::Int8)
    }

    fn null_test(&mut self, inner: &ast::Expr, test: &str) -> Result<Typed, SqlError> {
        let typed = self.expr(inner)?;
        Ok(Typed::plain(
            format!("({} {test})", typed.sql),
            PgType::Bool,
        ))
    }

    fn identifier(&mut self, ident: &ast::Ident) -> Result<Typed, SqlError> {
        let name = fold(ident);
        let error = match self.column(None, &name) {
            Ok(typed) => return Ok(typed),
            Err(error) => error,
        };
        if ident.quote_style.is_none()
            && let Some(typed) = super::builtins::bare_word(&name)
        {
            return Ok(typed);
        }
        Err(error)
    }

    fn compound(&mut self, idents: &[ast::Ident]) -> Result<Typed, SqlError> {
        let names: Vec<String> = idents.iter().map(fold).collect();
        match &names[..] {
            [source, column] => self.column(Some(source), column),
            [schema, source, column] if schema == catalog::SCHEMA || schema == "pg_catalog" => {
                self.column(Some(source), column)
            }
            _ => Err(unsupported(names.join("."))),
        }
    }

    fn value(&mut self, value: &ast::Value) -> Result<Typed, SqlError> {
        let text = |text: &String| Typed {
            sql: quote(text),
            ty: PgType::Unknown,
            kind: Kind::Literal(text.clone()),
        };
        Ok(match value {
            ast::Value::Number(number, false) => {
                let small = number
                    .parse::<i64>()
                    .map(|value| match i32::try_from(value) {
                        Ok(_) => PgType::Int4,
                        Err(_) => PgType::Int8,
                    });
                match (small, number.parse::<f64>()) {
                    (Ok(ty), _) => Typed::plain(number.clone(), ty),
                    (Err(_), Ok(real)) if real.is_finite() => {
                        Typed::plain(format!("{real:?}"), PgType::Numeric)
                    }
                    _ => return Err(unsupported(format!("the number {number}"))),
                }
            }
            ast::Value::SingleQuotedString(literal)
            | ast::Value::EscapedStringLiteral(literal)
            | ast::Value::UnicodeStringLiteral(literal) => text(literal),
            ast::Value::DollarQuotedString(literal) => text(&literal.value),
            ast::Value::Boolean(value) => {
                Typed::plain(if *value { "1" } else { "0" }, PgType::Bool)
            }
            ast::Value::Null => Typed {
                sql: "NULL".to_owned(),
                ty: PgType::Unknown,
                kind: Kind::Null,
            },
            ast::Value::Placeholder(placeholder) => self.placeholder(placeholder)?,
            other => return Err(unsupported(format!("the literal {other}"))),
        })
    }

    fn placeholder(&mut self, placeholder: &str) -> Result<Typed, SqlError> {
        /// Source: the protocol's 16-bit count.
        const MAX_PARAMS: usize = 65_535;
        let number: usize = placeholder
            .strip_prefix('$')
            .and_then(|digits| digits.parse().ok())
            .filter(|number| (1..=MAX_PARAMS).contains(number))
            .ok_or_else(|| {
                let message = format!("there is no parameter {placeholder}");
                SqlError::new(codes::UNDEFINED_PARAMETER, message)
            })?;
        if self.params.types.len() < number {
            self.params.types.resize(number, PgType::Unknown);
            self.params.empty_is_null.resize(number, false);
        }
        let ty = self.params.types[number - 1];
        Ok(Typed {
            sql: format!("?{number}"),
            ty,
            kind: Kind::Param(number - 1),
        })
    }

    /// Brings an expression to a type without a cast being written.
    pub(super) fn coerce(&mut self, typed: Typed, ty: PgType) -> Result<Typed, SqlError> {
        if typed.ty.family() == ty.family() && typed.ty != PgType::Unknown {
            return Ok(Typed {
                ty: if typed.ty == ty {
                    ty
                } else {
                    wider(typed.ty, ty)
                },
                ..typed
            });
        }
        match &typed.kind {
            Kind::Literal(text) => {
                let value = parse_text(text, ty)?;
                Ok(Typed::plain(literal_sql(&value), ty))
            }
            Kind::Null => Ok(Typed { ty, ..typed }),
            Kind::Param(index) if typed.ty == PgType::Unknown => {
                if self.params.types[*index] == PgType::Unknown {
                    self.params.types[*index] = ty;
                }
                Ok(Typed { ty, ..typed })
            }
            Kind::Param(_) | Kind::Plain => Err(mismatch(format!(
                "expression is of type {} but {} is needed",
                typed.ty.name(),
                ty.name()
            ))),
        }
    }

    /// Brings expressions to their common type.
    pub(super) fn unify(
        &mut self,
        items: Vec<Typed>,
        what: &str,
    ) -> Result<(Vec<Typed>, PgType), SqlError> {
        let mut common = PgType::Unknown;
        for item in items.iter().filter(|item| item.ty != PgType::Unknown) {
            if common == PgType::Unknown {
                common = item.ty;
            } else if common.family() == item.ty.family() {
                common = wider(common, item.ty);
            } else {
                let (a, b) = (common.name(), item.ty.name());
                return Err(mismatch(format!(
                    "{what} types {a} and {b} cannot be matched"
                )));
            }
        }
        if common == PgType::Unknown {
            common = PgType::Text;
        }
        let items = items
            .into_iter()
            .map(|item| self.coerce(item, common))
            .collect::<Result<_, _>>()?;
        Ok((items, common))
    }

    pub(super) fn condition(&mut self, typed: Typed, what: &str) -> Result<Typed, SqlError> {
        let ty = typed.ty;
        self.coerce(typed, PgType::Bool)
            .map_err(|error| match error.code.as_ref() {
                codes::DATATYPE_MISMATCH => mismatch(format!(
                    "argument of {what} must be type boolean, not type {}",
                    ty.name()
                )),
                _ => error,
            })
    }

    fn subquery(
        &mut self,
        query: &ast::Query,
        width: Option<usize>,
    ) -> Result<super::Sub, SqlError> {
        let allowed = std::mem::take(&mut self.call_allowed);
        let aggregate = std::mem::take(&mut self.aggregate_depth);
        let sub = self.query(query);
        self.call_allowed = allowed;
        self.aggregate_depth = aggregate;
        let sub = sub?;
        match width {
            Some(width) if sub.columns.len() != width => Err(SqlError::new(
                codes::SYNTAX_ERROR,
                "subquery must return only one column",
            )),
            Some(_) | None => Ok(sub),
        }
    }

    fn compare(&mut self, a: &ast::Expr, op: &str, b: &ast::Expr) -> Result<Typed, SqlError> {
        let pair = vec![self.expr(a)?, self.expr(b)?];
        let (left, right) = (pair[0].ty, pair[1].ty);
        let (pair, _) = self
            .unify(pair, op)
            .map_err(|error| match error.code.as_ref() {
                codes::DATATYPE_MISMATCH => undefined_operator(left, op, right),
                _ => error,
            })?;
        Ok(Typed::plain(
            format!("({} {op} {})", pair[0].sql, pair[1].sql),
            PgType::Bool,
        ))
    }

    fn in_list(
        &mut self,
        expr: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
    ) -> Result<Typed, SqlError> {
        let mut items = vec![self.expr(expr)?];
        for item in list {
            items.push(self.expr(item)?);
        }
        let (items, _) = self.unify(items, "IN")?;
        let words: Vec<&str> = items.iter().map(|item| item.sql.as_str()).collect();
        let not = if negated { "NOT " } else { "" };
        let sql = format!("({} {not}IN ({}))", words[0], words[1..].join(", "));
        Ok(Typed::plain(sql, PgType::Bool))
    }

    fn like(
        &mut self,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        negated: bool,
        fold_case: bool,
    ) -> Result<Typed, SqlError> {
        let (mut value, mut pattern) = (self.text(expr)?.sql, self.text(pattern)?.sql);
        if fold_case {
            (value, pattern) = (format!("lower({value})"), format!("lower({pattern})"));
        }
        let not = if negated { "NOT " } else { "" };
        Ok(Typed::plain(
            format!("({value} {not}LIKE {pattern} ESCAPE '\\')"),
            PgType::Bool,
        ))
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        else_result: Option<&ast::Expr>,
    ) -> Result<Typed, SqlError> {
        let mut tests = Vec::new();
        let mut results = Vec::new();
        for when in conditions {
            tests.push(match operand {
                Some(operand) => self.compare(operand, "=", &when.condition)?.sql,
                None => {
                    let typed = self.expr(&when.condition)?;
                    self.condition(typed, "CASE/WHEN")?.sql
                }
            });
            results.push(self.expr(&when.result)?);
        }
        if let Some(result) = else_result {
            results.push(self.expr(result)?);
        }
        let (results, ty) = self.unify(results, "CASE")?;
        let mut sql = "(CASE".to_owned();
        for (test, result) in tests.iter().zip(&results) {
            sql.push_str(&format!(" WHEN {test} THEN {}", result.sql));
        }
        if let Some(last) = results.get(tests.len()) {
            sql.push_str(&format!(" ELSE {}", last.sql));
        }
        Ok(Typed::plain(format!("{sql} END)"), ty))
    }

    fn extract(&mut self, field: &ast::DateTimeField, expr: &ast::Expr) -> Result<Typed, SqlError> {
        let typed = self.expr(expr)?;
        if !matches!(typed.ty.family(), Family::Time | Family::Interval) {
            return Err(mismatch(format!(
                "cannot extract from type {}",
                typed.ty.name()
            )));
        }
        if !matches!(field, ast::DateTimeField::Epoch) {
            return Err(unsupported(format!("extract({field} from ...)")));
        }
        Ok(Typed::plain(
            format!("({} / 1000000.0)", typed.sql),
            PgType::Numeric,
        ))
    }

    fn unary(&mut self, op: UnaryOperator, expr: &ast::Expr) -> Result<Typed, SqlError> {
        let typed = self.expr(expr)?;
        match op {
            UnaryOperator::Not => {
                let typed = self.condition(typed, "NOT")?;
                Ok(Typed::plain(format!("(NOT {})", typed.sql), PgType::Bool))
            }
            UnaryOperator::Minus | UnaryOperator::Plus if typed.ty.family() == Family::Number => {
                let sign = if op == UnaryOperator::Minus { "-" } else { "+" };
                Ok(Typed::plain(format!("({sign}{})", typed.sql), typed.ty))
            }
            _ => Err(unsupported(format!(
                "operator {op} on type {}",
                typed.ty.name()
            ))),
        }
    }

    fn binary(&mut self, left: &ast::Expr, op: &Op, right: &ast::Expr) -> Result<Typed, SqlError> {
        match op {
            Op::PGCustomBinaryOperator(path) => {
                let op = match path.last().map(String::as_str) {
                    Some("~") => Op::PGRegexMatch,
                    Some("~*") => Op::PGRegexIMatch,
                    Some("!~") => Op::PGRegexNotMatch,
                    Some("=") => Op::Eq,
                    Some("<>") => Op::NotEq,
                    _ => return Err(unsupported(format!("operator {}", path.join(".")))),
                };
                self.binary(left, &op, right)
            }
            Op::Eq => self.compare(left, "=", right),
            Op::NotEq => self.compare(left, "<>", right),
            Op::Lt => self.compare(left, "<", right),
            Op::LtEq => self.compare(left, "<=", right),
            Op::Gt => self.compare(left, ">", right),
            Op::GtEq => self.compare(left, ">=", right),
            Op::And | Op::Or => {
                let (a, b) = (self.expr(left)?, self.expr(right)?);
                let word = if *op == Op::And { "AND" } else { "OR" };
                let (a, b) = (self.condition(a, word)?, self.condition(b, word)?);
                Ok(Typed::plain(
                    format!("({} {word} {})", a.sql, b.sql),
                    PgType::Bool,
                ))
            }
            Op::PGLikeMatch => self.like(left, right, false, false),
            Op::PGNotLikeMatch => self.like(left, right, true, false),
            Op::PGILikeMatch => self.like(left, right, false, true),
            Op::PGNotILikeMatch => self.like(left, right, true, true),
            Op::PGRegexMatch | Op::PGRegexIMatch | Op::PGRegexNotMatch | Op::PGRegexNotIMatch => {
                let (value, pattern) = (self.text(left)?.sql, self.text(right)?.sql);
                let fold = matches!(op, Op::PGRegexIMatch | Op::PGRegexNotIMatch);
                let negated = matches!(op, Op::PGRegexNotMatch | Op::PGRegexNotIMatch);
                let not = if negated { "NOT " } else { "" };
                let sql = format!("({not}pgaf_regex({value}, {pattern}, {}))", u8::from(fold));
                Ok(Typed::plain(sql, PgType::Bool))
            }
            Op::StringConcat => {
                let (a, b) = (self.expr(left)?, self.expr(right)?);
                if a.ty == PgType::TextArray && b.ty == PgType::TextArray {
                    let sql = format!("pgaf_array_cat({}, {})", a.sql, b.sql);
                    return Ok(Typed::plain(sql, PgType::TextArray));
                }
                let (a, b) = (self.to_text(a)?, self.to_text(b)?);
                Ok(Typed::plain(
                    format!("({} || {})", a.sql, b.sql),
                    PgType::Text,
                ))
            }
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => {
                self.arithmetic(left, op, right)
            }
            _ => Err(unsupported(format!("operator {op}"))),
        }
    }

    fn arithmetic(
        &mut self,
        left: &ast::Expr,
        op: &Op,
        right: &ast::Expr,
    ) -> Result<Typed, SqlError> {
        let (mut a, mut b) = (self.expr(left)?, self.expr(right)?);
        if a.ty == PgType::Unknown {
            a = self.coerce(
                a,
                if b.ty == PgType::Unknown {
                    PgType::Int4
                } else {
                    b.ty
                },
            )?;
        }
        if b.ty == PgType::Unknown {
            b = self.coerce(b, a.ty)?;
        }
        let ty = match (a.ty.family(), op, b.ty.family()) {
            (Family::Number, _, Family::Number) => wider(a.ty, b.ty),
            (Family::Time, Op::Minus, Family::Time) => PgType::Interval,
            (Family::Time, Op::Plus | Op::Minus, Family::Interval)
            | (Family::Interval, Op::Plus, Family::Time) => PgType::TimestampTz,
            (Family::Interval, Op::Plus | Op::Minus, Family::Interval)
            | (Family::Interval, Op::Multiply, Family::Number) => PgType::Interval,
            (Family::Lsn, Op::Minus, Family::Lsn) => PgType::Numeric,
            (Family::Lsn, Op::Plus | Op::Minus, Family::Number) => PgType::Lsn,
            _ => return Err(undefined_operator(a.ty, &op.to_string(), b.ty)),
        };
        if matches!(op, Op::Divide | Op::Modulo) {
            return Ok(Typed::plain(
                format!("pgaf_divide({}, {}, '{op}')", a.sql, b.sql),
                ty,
            ));
        }
        Ok(Typed::plain(format!("({} {op} {})", a.sql, b.sql), ty))
    }

    /// A cast to text, as `||` does it.
    pub(super) fn to_text(&mut self, typed: Typed) -> Result<Typed, SqlError> {
        if typed.ty == PgType::Unknown || typed.ty.family() == Family::Text {
            return self.coerce(typed, PgType::Text);
        }
        Ok(Typed::plain(
            format!("pgaf_text({}, {})", typed.sql, typed.ty.oid()),
            PgType::Text,
        ))
    }

    fn cast(&mut self, typed: Typed, data_type: &ast::DataType) -> Result<Typed, SqlError> {
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
            (Family::Number, Family::Number) => match ty {
                PgType::Float8 => format!("CAST({} AS REAL)", typed.sql),
                PgType::Numeric => typed.sql,
                _ => format!("pgaf_parse({}, {})", typed.sql, ty.oid()),
            },
            (a, b) if a == b && ty != PgType::State => typed.sql,
            (_, Family::Text) if ty != PgType::State => self.to_text(typed)?.sql,
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

fn undefined_operator(a: PgType, op: &str, b: PgType) -> SqlError {
    SqlError::new(
        codes::UNDEFINED_FUNCTION,
        format!("operator does not exist: {} {op} {}", a.name(), b.name()),
    )
    .with_hint(
        "No operator matches the given name and argument types. You might need to add explicit \
         type casts.",
    )
}

fn literal_sql(value: &super::Value) -> String {
    match value {
        super::Value::Null => "NULL".to_owned(),
        super::Value::Int(number) => number.to_string(),
        super::Value::Real(number) => format!("{number:?}"),
        super::Value::Text(text) => quote(text),
    }
}
