//! FROM: tables, CTEs, derived tables, functions, and joins.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use std::fmt::Write as _;

use sqlparser::ast;

use super::super::catalog;
use super::super::error::{SqlError, codes};
use super::super::types::PgType;
use super::query::named;
use super::scope::{Source, SourceColumn, fold, split_name};
use super::{Column, Planner, Relation, arguments, function_columns, is_read, unsupported};

impl Planner {
    pub(super) fn add_from(&mut self, from: &ast::TableWithJoins) -> Result<(), SqlError> {
        let (sql, source) = self.table_factor(&from.relation)?;
        self.add_source(sql, source, " CROSS JOIN ", "");
        for join in &from.joins {
            self.join(join)?;
        }
        Ok(())
    }

    fn add_source(&mut self, sql: Option<String>, source: Source, glue: &str, on: &str) {
        let scope = self.scope();
        if let Some(sql) = sql {
            if !scope.from.is_empty() {
                scope.from.push_str(glue);
            }
            scope.from.push_str(&sql);
            scope.from.push_str(on);
        }
        scope.sources.push(source);
    }

    fn join(&mut self, join: &ast::Join) -> Result<(), SqlError> {
        use ast::JoinOperator as Op;
        let (glue, constraint) = match &join.join_operator {
            Op::Join(constraint) | Op::Inner(constraint) => (" JOIN ", constraint),
            Op::Left(constraint) | Op::LeftOuter(constraint) => (" LEFT JOIN ", constraint),
            Op::Right(constraint) | Op::RightOuter(constraint) => (" RIGHT JOIN ", constraint),
            Op::FullOuter(constraint) => (" FULL JOIN ", constraint),
            Op::CrossJoin(constraint) => (" CROSS JOIN ", constraint),
            _ => return Err(unsupported("this kind of JOIN")),
        };
        let (sql, source) = self.table_factor(&join.relation)?;
        if sql.is_none() && glue != " CROSS JOIN " {
            return Err(unsupported("JOIN with a function that returns one value"));
        }
        match constraint {
            ast::JoinConstraint::None => self.add_source(sql, source, glue, ""),
            ast::JoinConstraint::On(condition) => {
                self.add_source(sql, source, glue, "");
                let typed = self.expr(condition)?;
                let on = self.condition(typed, "JOIN/ON")?.sql;
                let _ = write!(self.scope().from, " ON {on}");
            }
            ast::JoinConstraint::Using(names) => {
                if glue == " FULL JOIN " || glue == " RIGHT JOIN " {
                    return Err(unsupported("USING in a RIGHT or FULL JOIN"));
                }
                self.join_using(sql, source, glue, names)?;
            }
            ast::JoinConstraint::Natural => return Err(unsupported("NATURAL JOIN")),
        }
        Ok(())
    }

    fn join_using(
        &mut self,
        sql: Option<String>,
        source: Source,
        glue: &str,
        names: &[ast::ObjectName],
    ) -> Result<(), SqlError> {
        let mut conditions = Vec::new();
        let mut merged = Vec::new();
        for name in names {
            let (_, name) = split_name(name)?;
            let left = self.column(None, &name)?;
            let right = source
                .columns
                .iter()
                .find(|column| column.name == name)
                .ok_or_else(|| {
                    let message =
                        format!("column \"{name}\" specified in USING clause does not exist");
                    SqlError::new(codes::UNDEFINED_COLUMN, message)
                })?;
            conditions.push(format!("{} = {}", left.sql, right.sql));
            merged.push(name);
        }
        let on = format!(" ON {}", conditions.join(" AND "));
        self.add_source(sql, source, glue, &on);
        self.scope().merged.extend(merged);
        Ok(())
    }

    /// A FROM item: its SQL (none when it is inlined into its columns) and its names.
    fn table_factor(
        &mut self,
        factor: &ast::TableFactor,
    ) -> Result<(Option<String>, Source), SqlError> {
        match factor {
            ast::TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                match args {
                    Some(args) if args.settings.is_none() => {
                        self.function_factor(name, &args.args, alias.as_ref())
                    }
                    Some(_) => Err(unsupported(factor)),
                    None => self.named_factor(name, alias.as_ref()),
                }
            }
            ast::TableFactor::Function {
                name,
                args,
                with_ordinality: false,
                alias,
                lateral: _,
            } => self.function_factor(name, args, alias.as_ref()),
            ast::TableFactor::Derived {
                lateral: false,
                subquery,
                alias,
                sample: None,
            } => {
                let allowed = std::mem::take(&mut self.call_allowed);
                // A derived table does not see the other FROM items, only outer queries.
                let hidden = self.scopes.pop();
                let sub = self.query(subquery);
                self.scopes.extend(hidden);
                self.call_allowed = allowed;
                let sub = sub?;
                let mut columns = sub.columns;
                rename(&mut columns, alias.as_ref())?;
                let id = self.alias();
                let name = alias.as_ref().map(|alias| fold(&alias.name));
                Ok((
                    Some(format!("({}) AS t{id}", sub.sql)),
                    source(name, columns, id),
                ))
            }
            other => Err(unsupported(format!("FROM {other}"))),
        }
    }

    fn named_factor(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
    ) -> Result<(Option<String>, Source), SqlError> {
        let (schema, table) = split_name(name)?;
        let id = self.alias();
        let shown = alias.map_or_else(|| table.clone(), |alias| fold(&alias.name));
        let cte = self
            .ctes
            .iter()
            .rev()
            .find(|cte| schema.is_none() && cte.name == table);
        let (sql, mut columns) = match cte {
            Some(cte) => (format!("w{} AS t{id}", cte.id), cte.columns.clone()),
            None => {
                let table = catalog::find(schema.as_deref(), &table)?;
                let relation = self.table(table);
                (format!("r{relation} AS t{id}"), named(table.columns()))
            }
        };
        rename(&mut columns, alias)?;
        Ok((Some(sql), source(Some(shown), columns, id)))
    }

    fn function_factor(
        &mut self,
        name: &ast::ObjectName,
        args: &[ast::FunctionArg],
        alias: Option<&ast::TableAlias>,
    ) -> Result<(Option<String>, Source), SqlError> {
        let args = arguments::list(args)?;
        let alias_name = alias.map(|alias| fold(&alias.name));
        if let Some((sql, function)) = self.inline_read(name, &args)? {
            let mut columns = function_columns(function, alias_name.as_deref());
            rename(&mut columns, alias)?;
            let columns = columns
                .into_iter()
                .map(|column| SourceColumn {
                    name: column.name,
                    ty: column.ty,
                    sql: sql.clone(),
                })
                .collect();
            let name = alias_name.unwrap_or_else(|| function.name.to_owned());
            return Ok((
                None,
                Source {
                    name: Some(name),
                    columns,
                },
            ));
        }
        if let Some(series) = self.series(name, &args, alias)? {
            return Ok(series);
        }
        let call = self.constant_call(name, &args)?;
        let function = call.function;
        if is_read(function) {
            self.relations.push(Relation::Function(call));
        } else if self.call_allowed && self.call.is_none() {
            self.relations.push(Relation::Reply(function));
            self.call = Some(call);
        } else {
            return Err(SqlError::unsupported(format!(
                "function {} changes state and must be called in a statement of its own",
                function.name
            ))
            .with_hint(format!(
                "Use SELECT * FROM pgautofailover.{}(...).",
                function.name
            )));
        }
        let relation = self.relations.len() - 1;
        let id = self.alias();
        let mut columns = function_columns(function, alias_name.as_deref());
        rename(&mut columns, alias)?;
        let name = alias_name.unwrap_or_else(|| function.name.to_owned());
        Ok((
            Some(format!("r{relation} AS t{id}")),
            source(Some(name), columns, id),
        ))
    }
}

impl Planner {
    /// A set-returning function of Postgres, whose arguments may be columns of outer queries.
    fn series(
        &mut self,
        name: &ast::ObjectName,
        args: &[arguments::Written<'_>],
        alias: Option<&ast::TableAlias>,
    ) -> Result<Option<(Option<String>, Source)>, SqlError> {
        let (schema, function) = split_name(name)?;
        if !matches!(schema.as_deref(), None | Some("pg_catalog")) {
            return Ok(None);
        }
        let (items, ty) = match (function.as_str(), args) {
            ("generate_series", [low, high]) => {
                let (low, high) = (self.int(low.positional()?)?, self.int(high.positional()?)?);
                (
                    format!("pgaf_series({}, {})", low.sql, high.sql),
                    PgType::Int8,
                )
            }
            ("unnest", [array]) => {
                let array = self.text(array.positional()?)?;
                (format!("pgaf_array_json({})", array.sql), PgType::Text)
            }
            _ => return Ok(None),
        };
        let id = self.alias();
        let name = alias.map_or(function, |alias| fold(&alias.name));
        let mut columns = vec![Column {
            name: name.clone(),
            ty,
        }];
        rename(&mut columns, alias)?;
        let column = |column: Column| SourceColumn {
            name: column.name,
            ty: column.ty,
            sql: format!("t{id}.value"),
        };
        let columns = columns.into_iter().map(column).collect();
        let sql = format!("json_each({items}) AS t{id}");
        Ok(Some((
            Some(sql),
            Source {
                name: Some(name),
                columns,
            },
        )))
    }
}

fn source(name: Option<String>, columns: Vec<Column>, id: usize) -> Source {
    let columns = columns
        .into_iter()
        .enumerate()
        .map(|(index, column)| SourceColumn {
            name: column.name,
            ty: column.ty,
            sql: format!("t{id}.c{index}"),
        })
        .collect();
    Source { name, columns }
}

pub(super) fn rename(
    columns: &mut [Column],
    alias: Option<&ast::TableAlias>,
) -> Result<(), SqlError> {
    let Some(alias) = alias else { return Ok(()) };
    if alias.at.is_some()
        || alias
            .columns
            .iter()
            .any(|column| column.data_type.is_some())
    {
        return Err(unsupported("a column definition list"));
    }
    if alias.columns.len() > columns.len() {
        let message = format!(
            "table \"{}\" has {} columns available but {} columns specified",
            alias.name,
            columns.len(),
            alias.columns.len()
        );
        return Err(SqlError::new("42P10", message));
    }
    for (column, name) in columns.iter_mut().zip(&alias.columns) {
        column.name = fold(&name.name);
    }
    Ok(())
}
