//! Operators and comparisons.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use sqlparser::ast::{self, BinaryOperator as Op, UnaryOperator};

use super::super::error::{SqlError, codes};
use super::super::types::{Family, PgType};
use super::expr::wider;
use super::{Planner, Typed, unsupported};

impl Planner {
    pub(super) fn compare(
        &mut self,
        a: &ast::Expr,
        op: &str,
        b: &ast::Expr,
    ) -> Result<Typed, SqlError> {
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

    pub(super) fn in_list(
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

    pub(super) fn like(
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

    pub(super) fn unary(&mut self, op: UnaryOperator, expr: &ast::Expr) -> Result<Typed, SqlError> {
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

    pub(super) fn binary(
        &mut self,
        left: &ast::Expr,
        op: &Op,
        right: &ast::Expr,
    ) -> Result<Typed, SqlError> {
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
                let (a, b) = (self.text_of(a)?, self.text_of(b)?);
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
