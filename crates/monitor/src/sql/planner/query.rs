//! SELECT, set operations, VALUES, CTEs, FROM, ORDER BY and LIMIT.
//!
//! It is long because the clauses of one SELECT share one scope.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use std::fmt::Write as _;

use sqlparser::ast;

use super::super::catalog;
use super::super::error::{SqlError, codes};
use super::super::types::PgType;
use super::from::rename;
use super::scope::{Scope, SourceColumn, fold, split_name};
use super::{Column, Cte, Kind, Planner, Sub, Typed, unsupported};

/// Refuses everything that a query may have besides its body.
fn only_known_clauses(query: &ast::Query) -> Result<(), SqlError> {
    if query.fetch.is_some() {
        return Err(unsupported("FETCH"));
    }
    if !query.locks.is_empty() || query.for_clause.is_some() {
        return Err(unsupported("FOR UPDATE"));
    }
    if query.settings.is_some() || query.format_clause.is_some() || !query.pipe_operators.is_empty()
    {
        return Err(SqlError::new(
            codes::SYNTAX_ERROR,
            "syntax error at the end of the query",
        ));
    }
    Ok(())
}

fn only_known_select(select: &ast::Select) -> Result<(), SqlError> {
    let foreign = select.top.is_some()
        || select.exclude.is_some()
        || !select.optimizer_hints.is_empty()
        || select.select_modifiers.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || !matches!(select.flavor, ast::SelectFlavor::Standard);
    if foreign {
        return Err(SqlError::new(codes::SYNTAX_ERROR, "syntax error in SELECT"));
    }
    if select.into.is_some() {
        return Err(super::super::parse::read_only("SELECT INTO"));
    }
    if !select.named_window.is_empty() {
        return Err(unsupported("WINDOW"));
    }
    Ok(())
}

/// Refuses everything but a select list, FROM and WHERE.
pub(super) fn only_plain(query: &ast::Query, select: &ast::Select) -> Result<(), SqlError> {
    only_known_clauses(query)?;
    only_known_select(select)?;
    let grouped = match &select.group_by {
        ast::GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
        ast::GroupByExpr::All(_) => true,
    };
    if query.with.is_some()
        || query.order_by.is_some()
        || query.limit_clause.is_some()
        || select.distinct.is_some()
        || select.having.is_some()
        || grouped
    {
        return Err(SqlError::unsupported(
            "a function that changes state allows only FROM and WHERE beside it",
        ));
    }
    Ok(())
}

impl Planner {
    pub(super) fn query(&mut self, query: &ast::Query) -> Result<Sub, SqlError> {
        self.nested(|planner| planner.query_inner(query))
    }

    fn query_inner(&mut self, query: &ast::Query) -> Result<Sub, SqlError> {
        only_known_clauses(query)?;
        let visible = self.ctes.len();
        let with = self.with(query.with.as_ref())?;
        let order: &[ast::OrderByExpr] = match &query.order_by {
            None => &[],
            Some(ast::OrderBy {
                kind: ast::OrderByKind::Expressions(exprs),
                interpolate: None,
            }) => exprs,
            Some(_) => {
                return Err(SqlError::new(
                    codes::SYNTAX_ERROR,
                    "syntax error in ORDER BY",
                ));
            }
        };
        let mut sub = match query.body.as_ref() {
            ast::SetExpr::Select(select) => self.select(select, order)?,
            body => {
                let mut sub = self.set_expr(body)?;
                let order = self.order_of_result(order, &sub.columns)?;
                sub.sql.push_str(&order);
                sub
            }
        };
        sub.sql.push_str(&self.limit(query.limit_clause.as_ref())?);
        sub.sql.insert_str(0, &with);
        self.ctes.truncate(visible);
        Ok(sub)
    }

    fn with(&mut self, with: Option<&ast::With>) -> Result<String, SqlError> {
        let Some(with) = with else {
            return Ok(String::new());
        };
        if with.recursive {
            return Err(unsupported("WITH RECURSIVE"));
        }
        let mut sql = String::new();
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return Err(SqlError::new(codes::SYNTAX_ERROR, "syntax error in WITH"));
            }
            let allowed = std::mem::take(&mut self.call_allowed);
            let sub = self.query(&cte.query)?;
            self.call_allowed = allowed;
            let id = self.alias();
            let mut columns = sub.columns;
            rename(&mut columns, Some(&cte.alias))?;
            let separator = if sql.is_empty() { "WITH" } else { "," };
            let _ = write!(
                sql,
                "{separator} w{id}({}) AS ({})",
                numbered(columns.len()),
                sub.sql
            );
            self.ctes.push(Cte {
                name: fold(&cte.alias.name),
                id,
                columns,
            });
        }
        sql.push(' ');
        Ok(sql)
    }

    fn set_expr(&mut self, body: &ast::SetExpr) -> Result<Sub, SqlError> {
        self.nested(|planner| match body {
            ast::SetExpr::Select(select) => planner.select(select, &[]),
            ast::SetExpr::Query(query) => {
                let sub = planner.query(query)?;
                let sql = format!("SELECT * FROM ({})", sub.sql);
                Ok(Sub {
                    sql,
                    columns: sub.columns,
                })
            }
            ast::SetExpr::Values(values) => planner.values(values),
            ast::SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => planner.set_operation(left, *op, *set_quantifier, right),
            ast::SetExpr::Table(table) => {
                let name = table
                    .table_name
                    .clone()
                    .unwrap_or_default()
                    .to_ascii_lowercase();
                let schema = table
                    .schema_name
                    .as_ref()
                    .map(|name| name.to_ascii_lowercase());
                let table = catalog::find(schema.as_deref(), &name)?;
                let columns = named(table.columns());
                let relation = planner.table(table);
                Ok(Sub {
                    sql: format!("SELECT * FROM r{relation}"),
                    columns,
                })
            }
            ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_) => Err(super::super::parse::read_only("changing a table")),
        })
    }

    fn set_operation(
        &mut self,
        left: &ast::SetExpr,
        op: ast::SetOperator,
        quantifier: ast::SetQuantifier,
        right: &ast::SetExpr,
    ) -> Result<Sub, SqlError> {
        self.call_allowed = false;
        let left = self.set_expr(left)?;
        let right = self.set_expr(right)?;
        let word = match (op, quantifier) {
            (ast::SetOperator::Union, ast::SetQuantifier::All) => "UNION ALL",
            (_, ast::SetQuantifier::All) => return Err(unsupported(format!("{op} ALL"))),
            (_, ast::SetQuantifier::ByName)
            | (_, ast::SetQuantifier::AllByName)
            | (_, ast::SetQuantifier::DistinctByName) => {
                return Err(SqlError::new(
                    codes::SYNTAX_ERROR,
                    "syntax error at BY NAME",
                ));
            }
            (ast::SetOperator::Union, _) => "UNION",
            (ast::SetOperator::Except | ast::SetOperator::Minus, _) => "EXCEPT",
            (ast::SetOperator::Intersect, _) => "INTERSECT",
        };
        if left.columns.len() != right.columns.len() {
            let message = format!("each {op} query must have the same number of columns");
            return Err(SqlError::new(codes::SYNTAX_ERROR, message));
        }
        let mut columns = left.columns;
        for (column, other) in columns.iter_mut().zip(&right.columns) {
            if column.ty.family() != other.ty.family() {
                let (a, b) = (column.ty.name(), other.ty.name());
                let message = format!("{op} types {a} and {b} cannot be matched");
                return Err(SqlError::new(codes::DATATYPE_MISMATCH, message));
            }
            column.ty = super::expr::wider(column.ty, other.ty);
        }
        let sql = format!(
            "SELECT * FROM ({}) {word} SELECT * FROM ({})",
            left.sql, right.sql
        );
        Ok(Sub { sql, columns })
    }

    fn values(&mut self, values: &ast::Values) -> Result<Sub, SqlError> {
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let mut rows: Vec<Vec<Typed>> = Vec::new();
        for row in &values.rows {
            if row.content.len() != width {
                let message = "VALUES lists must all be the same length";
                return Err(SqlError::new(codes::SYNTAX_ERROR, message));
            }
            rows.push(
                row.content
                    .iter()
                    .map(|expr| self.expr(expr))
                    .collect::<Result<_, _>>()?,
            );
        }
        let mut columns = Vec::new();
        for index in 0..width {
            let column = rows.iter().map(|row| row[index].clone()).collect();
            let (column, ty) = self.unify(column, "VALUES")?;
            for (row, typed) in rows.iter_mut().zip(column) {
                row[index] = typed;
            }
            columns.push(Column {
                name: format!("column{}", index + 1),
                ty,
            });
        }
        let selects: Vec<String> = rows
            .iter()
            .map(|row| format!("SELECT {}", select_list(row)))
            .collect();
        Ok(Sub {
            sql: selects.join(" UNION ALL "),
            columns,
        })
    }

    fn select(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
    ) -> Result<Sub, SqlError> {
        self.enter(select)?;
        let sub = self.finish_select(select, order, &[]);
        self.scopes.pop();
        sub
    }

    /// Opens the scope of a SELECT: FROM and WHERE.
    pub(super) fn enter(&mut self, select: &ast::Select) -> Result<(), SqlError> {
        only_known_select(select)?;
        self.scopes.push(Scope::default());
        for from in &select.from {
            self.add_from(from)?;
        }
        self.call_allowed = false;
        if let Some(condition) = &select.selection {
            let typed = self.expr(condition)?;
            let typed = self.condition(typed, "WHERE")?;
            let scope = self.scope();
            scope.condition = Some(typed.sql);
            if scope.aggregate {
                let message = "aggregate functions are not allowed in WHERE";
                return Err(SqlError::new("42803", message));
            }
        }
        Ok(())
    }

    /// Closes the scope that [`Planner::enter`] opened, with hidden columns at the end.
    pub(super) fn leave(
        &mut self,
        select: &ast::Select,
        hidden: &[Typed],
    ) -> Result<Sub, SqlError> {
        let sub = self.finish_select(select, &[], hidden);
        self.scopes.pop();
        sub
    }

    pub(super) fn scope(&mut self) -> &mut Scope {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default());
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    fn finish_select(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        hidden: &[Typed],
    ) -> Result<Sub, SqlError> {
        self.scope().bare.clear();
        let mut items: Vec<(Typed, String)> = Vec::new();
        for item in &select.projection {
            self.select_item(item, &mut items)?;
        }
        items.extend(hidden.iter().map(|typed| (typed.clone(), String::new())));
        let projected = std::mem::take(&mut self.scope().bare);
        let aggregate = std::mem::take(&mut self.scope().aggregate);
        let group = self.group_by(select, &items)?;
        if std::mem::replace(&mut self.scope().aggregate, aggregate) {
            let message = "aggregate functions are not allowed in GROUP BY";
            return Err(SqlError::new("42803", message));
        }
        self.scope().bare = projected;
        let having = match &select.having {
            Some(having) => {
                let typed = self.expr(having)?;
                Some(self.condition(typed, "HAVING")?.sql)
            }
            None => None,
        };
        let columns: Vec<Column> = items
            .iter()
            .map(|(typed, name)| Column {
                name: name.clone(),
                ty: typed.ty,
            })
            .collect();
        let order = self.order_by(order, &columns)?;
        if having.is_some() && group.is_empty() && !self.scope().aggregate {
            return Err(unsupported("HAVING without an aggregate"));
        }
        self.check_grouping(&group)?;
        let typed: Vec<Typed> = items.into_iter().map(|(typed, _)| typed).collect();
        let scope = self.scope();
        let mut sql = match &select.distinct {
            None | Some(ast::Distinct::All) => "SELECT ".to_owned(),
            Some(ast::Distinct::Distinct) => "SELECT DISTINCT ".to_owned(),
            Some(ast::Distinct::On(_)) => return Err(unsupported("DISTINCT ON")),
        };
        sql.push_str(&select_list(&typed));
        if !scope.from.is_empty() {
            let _ = write!(sql, " FROM {}", scope.from);
        }
        if let Some(condition) = &scope.condition {
            let _ = write!(sql, " WHERE {condition}");
        }
        if !group.is_empty() {
            let _ = write!(sql, " GROUP BY {}", group.join(", "));
        }
        if let Some(having) = having {
            let _ = write!(sql, " HAVING {having}");
        }
        sql.push_str(&order);
        Ok(Sub { sql, columns })
    }

    fn select_item(
        &mut self,
        item: &ast::SelectItem,
        items: &mut Vec<(Typed, String)>,
    ) -> Result<(), SqlError> {
        let (expr, alias) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr, None),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr, Some(fold(alias))),
            ast::SelectItem::Wildcard(options) => {
                plain_star(options)?;
                let columns = self.scope().star();
                if columns.is_empty() {
                    let message = "SELECT * with no tables specified is not valid";
                    return Err(SqlError::new(codes::SYNTAX_ERROR, message));
                }
                self.push_columns(columns, items);
                return Ok(());
            }
            ast::SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                plain_star(options)?;
                let (_, name) = split_name(name)?;
                let columns = self.source(&name).map(|source| source.columns.clone());
                let columns = columns.ok_or_else(|| {
                    let message = format!("missing FROM-clause entry for table \"{name}\"");
                    SqlError::new(codes::UNDEFINED_TABLE, message)
                })?;
                self.push_columns(columns, items);
                return Ok(());
            }
            _ => return Err(unsupported(item)),
        };
        let name = alias.unwrap_or_else(|| super::names::column_name(expr));
        let mut typed = self.expr(expr)?;
        if typed.ty == PgType::Unknown {
            typed = self.coerce(typed, PgType::Text)?;
        }
        items.push((typed, name));
        Ok(())
    }

    fn push_columns(&mut self, columns: Vec<SourceColumn>, items: &mut Vec<(Typed, String)>) {
        for column in columns {
            self.scope()
                .bare
                .push((column.sql.clone(), column.name.clone()));
            items.push((Typed::plain(column.sql, column.ty), column.name));
        }
    }

    fn group_by(
        &mut self,
        select: &ast::Select,
        items: &[(Typed, String)],
    ) -> Result<Vec<String>, SqlError> {
        let ast::GroupByExpr::Expressions(exprs, modifiers) = &select.group_by else {
            return Err(unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(unsupported("GROUP BY with ROLLUP, CUBE or TOTALS"));
        }
        let mut group = Vec::new();
        for expr in exprs {
            let sql = match (ordinal(expr), expr) {
                (Some(number), _) => items
                    .get(number.wrapping_sub(1))
                    .map(|(typed, _)| typed.sql.clone())
                    .ok_or_else(|| position_error("GROUP BY", number))?,
                (None, ast::Expr::Identifier(ident)) => match self.column(None, &fold(ident)) {
                    Ok(typed) => typed.sql,
                    Err(error) => items
                        .iter()
                        .find(|(_, name)| *name == fold(ident))
                        .map(|(typed, _)| typed.sql.clone())
                        .ok_or(error)?,
                },
                (None, expr) => self.expr(expr)?.sql,
            };
            group.push(sql);
        }
        Ok(group)
    }

    /// Postgres refuses columns that are neither grouped nor aggregated; SQLite would pick a row.
    fn check_grouping(&mut self, group: &[String]) -> Result<(), SqlError> {
        let scope = self.scope();
        if !scope.aggregate && group.is_empty() {
            return Ok(());
        }
        let loose = scope
            .bare
            .iter()
            .find(|(sql, _)| !group.iter().any(|grouped| grouped.contains(sql.as_str())));
        match loose {
            None => Ok(()),
            Some((_, name)) => Err(SqlError::new(
                "42803",
                format!(
                    "column \"{name}\" must appear in the GROUP BY clause or be used in an \
                     aggregate function"
                ),
            )),
        }
    }

    fn order_by(
        &mut self,
        order: &[ast::OrderByExpr],
        columns: &[Column],
    ) -> Result<String, SqlError> {
        let mut parts = Vec::new();
        for item in order {
            let position = result_position(item, columns)?;
            let sql = match position {
                Some(position) => position.to_string(),
                None => self.expr(&item.expr)?.sql,
            };
            parts.push(format!("{sql}{}", direction(item)?));
        }
        Ok(order_clause(&parts))
    }

    fn order_of_result(
        &mut self,
        order: &[ast::OrderByExpr],
        columns: &[Column],
    ) -> Result<String, SqlError> {
        let mut parts = Vec::new();
        for item in order {
            let position = result_position(item, columns)?
                .ok_or_else(|| unsupported("ORDER BY an expression over a set operation"))?;
            parts.push(format!("{position}{}", direction(item)?));
        }
        Ok(order_clause(&parts))
    }

    fn limit(&mut self, limit: Option<&ast::LimitClause>) -> Result<String, SqlError> {
        let (limit, offset) = match limit {
            None => return Ok(String::new()),
            Some(ast::LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
            }
            Some(_) => return Err(SqlError::new(codes::SYNTAX_ERROR, "syntax error in LIMIT")),
        };
        let mut number = |expr: Option<&ast::Expr>, otherwise: &str| match expr {
            None => Ok(otherwise.to_owned()),
            Some(expr) => {
                let typed = self.expr(expr)?;
                let null = matches!(typed.kind, Kind::Null);
                let typed = self.coerce(typed, PgType::Int8)?;
                Ok(if null {
                    otherwise.to_owned()
                } else {
                    typed.sql
                })
            }
        };
        Ok(format!(
            " LIMIT {} OFFSET {}",
            number(limit, "-1")?,
            number(offset, "0")?
        ))
    }
}

pub(super) fn named(columns: &[super::Named]) -> Vec<Column> {
    columns
        .iter()
        .map(|(name, ty)| Column {
            name: (*name).to_owned(),
            ty: *ty,
        })
        .collect()
}

fn numbered(count: usize) -> String {
    (0..count)
        .map(|index| format!("c{index}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn select_list(items: &[Typed]) -> String {
    let parts: Vec<String> = items
        .iter()
        .enumerate()
        .map(|(at, item)| format!("{} AS c{at}", item.sql))
        .collect();
    parts.join(", ")
}

fn plain_star(options: &ast::WildcardAdditionalOptions) -> Result<(), SqlError> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain {
        Ok(())
    } else {
        Err(SqlError::new(codes::SYNTAX_ERROR, "syntax error after *"))
    }
}

/// The number, when the expression is a bare integer.
fn ordinal(expr: &ast::Expr) -> Option<usize> {
    let ast::Expr::Value(value) = expr else {
        return None;
    };
    let ast::Value::Number(number, _) = &value.value else {
        return None;
    };
    number.parse().ok()
}

fn position_error(clause: &str, number: usize) -> SqlError {
    SqlError::new(
        "42P10",
        format!("{clause} position {number} is not in select list"),
    )
}

/// The result column that an ORDER BY item means, from 1.
fn result_position(item: &ast::OrderByExpr, columns: &[Column]) -> Result<Option<usize>, SqlError> {
    if let Some(number) = ordinal(&item.expr) {
        return if (1..=columns.len()).contains(&number) {
            Ok(Some(number))
        } else {
            Err(position_error("ORDER BY", number))
        };
    }
    let ast::Expr::Identifier(ident) = &item.expr else {
        return Ok(None);
    };
    let name = fold(ident);
    Ok(columns
        .iter()
        .position(|column| column.name == name)
        .map(|at| at + 1))
}

/// SQLite orders NULL first; Postgres last, and first when descending.
pub(super) fn direction(item: &ast::OrderByExpr) -> Result<&'static str, SqlError> {
    if item.with_fill.is_some() {
        return Err(SqlError::new(
            codes::SYNTAX_ERROR,
            "syntax error in ORDER BY",
        ));
    }
    let descending = match &item.options.sort {
        None | Some(ast::OrderBySort::Asc) => false,
        Some(ast::OrderBySort::Desc) => true,
        Some(_) => return Err(unsupported("ORDER BY USING")),
    };
    let nulls_first = item.options.nulls_first.unwrap_or(descending);
    Ok(match (descending, nulls_first) {
        (false, false) => " ASC NULLS LAST",
        (false, true) => " ASC NULLS FIRST",
        (true, false) => " DESC NULLS LAST",
        (true, true) => " DESC NULLS FIRST",
    })
}

fn order_clause(parts: &[String]) -> String {
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ORDER BY {}", parts.join(", "))
    }
}
