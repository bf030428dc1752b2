//! Expressions: types, operators, casts, subqueries.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use sqlparser::ast::{self, BinaryOperator as Op};

use super::super::catalog;
use super::super::error::{SqlError, codes};
use super::super::types::{Family, PgType, parse_text};
use super::casts::cast_type;
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
            } => self.in_subquery(expr, subquery, *negated),
            ast::Expr::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(expr, *negated, low, high),
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
            } => self.any_of(left, right),
            _ => self.syntax_function(expr),
        }
    }

    fn in_subquery(
        &mut self,
        expr: &ast::Expr,
        subquery: &ast::Query,
        negated: bool,
    ) -> Result<Typed, SqlError> {
        let typed = self.expr(expr)?;
        let sub = self.subquery(subquery, Some(1))?;
        let ty = sub.columns.first().map_or(PgType::Text, |column| column.ty);
        let typed = self.coerce(typed, ty)?;
        let not = if negated { "NOT " } else { "" };
        let sql = format!("({} {not}IN ({}))", typed.sql, sub.sql);
        Ok(Typed::plain(sql, PgType::Bool))
    }

    fn between(
        &mut self,
        expr: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
    ) -> Result<Typed, SqlError> {
        let all = vec![self.expr(expr)?, self.expr(low)?, self.expr(high)?];
        let (all, _) = self.unify(all, "BETWEEN")?;
        let not = if negated { "NOT " } else { "" };
        let [value, low, high] = &all[..] else {
            return Err(unsupported("BETWEEN"));
        };
        let sql = format!("({} {not}BETWEEN {} AND {})", value.sql, low.sql, high.sql);
        Ok(Typed::plain(sql, PgType::Bool))
    }

    /// `value = ANY (array)`
    fn any_of(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<Typed, SqlError> {
        let value = self.expr(left)?;
        let value = self.text_of(value)?;
        let array = self.expr(right)?;
        let array = self.coerce(array, PgType::TextArray)?;
        let sql = format!("pgaf_in_array({}, {})", value.sql, array.sql);
        Ok(Typed::plain(sql, PgType::Bool))
    }

    /// What looks like a function or an access but has a syntax of its own.
    fn syntax_function(&mut self, expr: &ast::Expr) -> Result<Typed, SqlError> {
        match expr {
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
            self.params.garbage_is_null.resize(number, false);
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
}

fn literal_sql(value: &super::Value) -> String {
    match value {
        super::Value::Null => "NULL".to_owned(),
        super::Value::Int(number) => number.to_string(),
        super::Value::Real(number) => format!("{number:?}"),
        super::Value::Text(text) => quote(text),
    }
}
