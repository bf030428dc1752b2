//! Read-only SQL: a parsed query becomes SQLite's SQL over the relations that it names, with
//! Postgres' types and column names.
//!
//! The planner is a compiler, not a rewriter: it emits only what it has understood, so text of the
//! client never reaches SQLite but as a quoted literal, and an unknown construct is an error.
//! Every FROM item is called `t<n>`, its columns `c<n>`; names exist only here.

mod arguments;
mod builtins;
mod casts;
mod expr;
mod from;
mod json;
mod names;
mod operators;
mod query;
mod scope;

use std::sync::Arc;

use sqlparser::ast;

use super::catalog::Table;
use super::error::{SqlError, codes};
use super::functions::{Body, Function, Named, Returns};
use super::types::{PgType, Value};
use scope::Scope;

pub(super) use arguments::in_range;

/// Nesting that the planner follows; source: chosen, far above any query of a client, far below
/// what a thread's stack holds.
const MAX_DEPTH: usize = 64;

/// A result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: PgType,
}

/// An argument that is known before any row is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Const {
    Value(Value),
    /// Parameter (from 0), to be read as the type.
    Param(usize, PgType),
}

/// A function with its arguments.
#[derive(Clone, Debug)]
pub(super) struct FunctionUse {
    pub(super) function: &'static Function,
    pub(super) args: Vec<Const>,
}

/// What fills relation `r<n>`.
#[derive(Clone, Debug)]
pub(super) enum Relation {
    Table(Table),
    Function(FunctionUse),
    /// The reply of the statement's one call.
    Reply(&'static Function),
}

/// Reads that need no SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortcut {
    /// The rows of the only relation as they are.
    Rows,
    /// The same, ordered by their first column, a number.
    OrderedRows,
}

/// A read to run on SQLite.
#[derive(Clone, Debug)]
pub(super) struct ReadPlan {
    pub(super) sql: String,
    /// How to do without SQLite: most calls of old keepers are `SELECT * FROM f(…)`.
    pub(super) shortcut: Option<Shortcut>,
    pub(super) columns: Arc<[Column]>,
    pub(super) relations: Vec<Relation>,
}

impl ReadPlan {
    /// Whether it is the only column of its call's reply, as it is.
    pub(super) fn is_bare_reply(&self) -> bool {
        self.sql == BARE_REPLY && matches!(self.relations[..], [Relation::Reply(_)])
    }
}

/// What a SELECT is.
#[derive(Clone, Debug)]
pub(super) enum QueryPlan {
    /// Reads only.
    Read(ReadPlan),
    /// One call; then `rest` shapes its reply.
    Call { call: FunctionUse, rest: ReadPlan },
    /// One call for the row that `source` finds: its first `visible` columns are results, the call's
    /// result is put in at `at`, the others are the call's arguments.
    CallPerRow {
        source: ReadPlan,
        function: &'static Function,
        at: usize,
        visible: usize,
        columns: Vec<Column>,
    },
}

impl QueryPlan {
    /// The result's columns.
    pub(super) fn columns(&self) -> &[Column] {
        match self {
            QueryPlan::Read(plan) | QueryPlan::Call { rest: plan, .. } => &plan.columns,
            QueryPlan::CallPerRow { columns, .. } => columns,
        }
    }
}

/// What is known of a statement's parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Params {
    /// Their types.
    pub(super) types: Vec<PgType>,
    /// Those for which a text that cannot be printed means NULL.
    pub(super) garbage_is_null: Vec<bool>,
}

/// Plans a query. `declared` are the types from Parse, 0 where left open.
///
/// # Errors
/// Postgres' SQLSTATEs for what is wrong, 0A000 for what the monitor does not do.
pub(super) fn plan(
    query: &ast::Query,
    declared: &[PgType],
) -> Result<(QueryPlan, Params), SqlError> {
    let mut planner = Planner::new(declared);
    let plan = planner.statement(query)?;
    Ok((plan, planner.finish()))
}

/// A compiled query: `SELECT … AS c0, … AS c1 …`
struct Sub {
    sql: String,
    columns: Vec<Column>,
}

/// Form of an expression that leaves its type open.
#[derive(Clone, Debug)]
enum Kind {
    Plain,
    Literal(String),
    Null,
    Param(usize),
}

/// A compiled expression.
#[derive(Clone, Debug)]
struct Typed {
    sql: String,
    ty: PgType,
    kind: Kind,
}

impl Typed {
    fn plain(sql: impl Into<String>, ty: PgType) -> Self {
        Typed {
            sql: sql.into(),
            ty,
            kind: Kind::Plain,
        }
    }
}

struct Cte {
    name: String,
    id: usize,
    columns: Vec<Column>,
}

struct Planner {
    params: Params,
    relations: Vec<Relation>,
    next_alias: usize,
    ctes: Vec<Cte>,
    scopes: Vec<Scope>,
    depth: usize,
    aggregate_depth: usize,
    /// Whether the next FROM item may be the statement's call.
    call_allowed: bool,
    call: Option<FunctionUse>,
}

impl Planner {
    fn new(declared: &[PgType]) -> Self {
        Planner {
            params: Params {
                types: declared.to_vec(),
                garbage_is_null: vec![false; declared.len()],
            },
            relations: Vec::new(),
            next_alias: 0,
            ctes: Vec::new(),
            scopes: Vec::new(),
            depth: 0,
            aggregate_depth: 0,
            call_allowed: false,
            call: None,
        }
    }

    fn finish(mut self) -> Params {
        for ty in &mut self.params.types {
            if *ty == PgType::Unknown {
                *ty = PgType::Text;
            }
        }
        self.params
    }

    fn alias(&mut self) -> usize {
        self.next_alias += 1;
        self.next_alias
    }

    /// Runs `body` one level deeper.
    fn nested<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        if self.depth >= MAX_DEPTH {
            return Err(SqlError::new("54001", "statement is nested too deeply"));
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    /// The relation's number, adding it when it is new.
    fn table(&mut self, table: Table) -> usize {
        let known = self
            .relations
            .iter()
            .position(|used| matches!(used, Relation::Table(used) if *used == table));
        known.unwrap_or_else(|| {
            self.relations.push(Relation::Table(table));
            self.relations.len() - 1
        })
    }

    fn read_plan(&mut self, sub: Sub) -> ReadPlan {
        ReadPlan {
            shortcut: shortcut(&sub, self.relations.len()),
            sql: sub.sql,
            columns: sub.columns.into(),
            relations: std::mem::take(&mut self.relations),
        }
    }

    fn statement(&mut self, query: &ast::Query) -> Result<QueryPlan, SqlError> {
        if let Some(plan) = self.call_in_select_list(query)? {
            return Ok(plan);
        }
        self.call_allowed = single_source(query);
        let sub = self.query(query)?;
        let plan = self.read_plan(sub);
        Ok(match self.call.take() {
            Some(call) => QueryPlan::Call { call, rest: plan },
            None => QueryPlan::Read(plan),
        })
    }

    /// `SELECT call(…)` and `SELECT a, b, call(a, …) FROM one_table WHERE …`.
    fn call_in_select_list(&mut self, query: &ast::Query) -> Result<Option<QueryPlan>, SqlError> {
        let ast::SetExpr::Select(select) = query.body.as_ref() else {
            return Ok(None);
        };
        let mut calls = select
            .projection
            .iter()
            .enumerate()
            .filter_map(|(at, item)| Some((at, call_item(item)?)));
        let Some((at, (call, alias))) = calls.next() else {
            return Ok(None);
        };
        if calls.next().is_some() {
            return Err(SqlError::unsupported(
                "only one function that changes state per statement",
            ));
        }
        query::only_plain(query, select)?;
        if select.from.is_empty() {
            return self.bare_call(select, call, alias).map(Some);
        }
        self.call_per_row(select, at, call, alias).map(Some)
    }

    fn bare_call(
        &mut self,
        select: &ast::Select,
        call: &ast::Function,
        alias: Option<String>,
    ) -> Result<QueryPlan, SqlError> {
        if select.projection.len() != 1 || select.selection.is_some() {
            return Err(SqlError::unsupported(
                "a function that changes state must be called in a statement of its own",
            )
            .with_hint("Use SELECT function(...)."));
        }
        let call = self.constant_call(&call.name, &arguments::of_function(call)?)?;
        let Returns::Scalar(ty) = call.function.returns else {
            return Err(rows_in_select_list(call.function));
        };
        self.relations.push(Relation::Reply(call.function));
        let name = alias.unwrap_or_else(|| call.function.name.to_owned());
        let sub = Sub {
            sql: BARE_REPLY.to_owned(),
            columns: vec![Column { name, ty }],
        };
        Ok(QueryPlan::Call {
            call,
            rest: self.read_plan(sub),
        })
    }

    fn call_per_row(
        &mut self,
        select: &ast::Select,
        at: usize,
        call: &ast::Function,
        alias: Option<String>,
    ) -> Result<QueryPlan, SqlError> {
        let mut source = select.clone();
        source.projection.remove(at);
        let visible_items = source.projection.len();
        let args = arguments::of_function(call)?;
        self.enter(&source)?;
        let (function, hidden) = self.row_arguments(&call.name, &args)?;
        let Returns::Scalar(ty) = function.returns else {
            return Err(rows_in_select_list(function));
        };
        let sub = self.leave(&source, &hidden)?;
        let visible = sub.columns.len() - hidden.len();
        if visible != visible_items {
            return Err(SqlError::unsupported(
                "* beside a function that changes state",
            ));
        }
        let mut columns = sub.columns[..visible].to_vec();
        let name = alias.unwrap_or_else(|| function.name.to_owned());
        columns.insert(at, Column { name, ty });
        let source = self.read_plan(sub);
        Ok(QueryPlan::CallPerRow {
            source,
            function,
            at,
            visible,
            columns,
        })
    }
}

/// Recognises the two simplest queries by what they compiled to.
fn shortcut(sub: &Sub, relations: usize) -> Option<Shortcut> {
    if relations != 1 {
        return None;
    }
    if sub.sql == BARE_REPLY {
        return Some(Shortcut::Rows);
    }
    let list: Vec<String> = (0..sub.columns.len())
        .map(|at| format!("t1.c{at} AS c{at}"))
        .collect();
    let all = format!("SELECT {} FROM r0 AS t1", list.join(", "));
    let numbers = sub
        .columns
        .first()
        .is_some_and(|column| column.ty == PgType::Int8);
    match sub.sql.strip_prefix(&all) {
        Some("") => Some(Shortcut::Rows),
        Some(" ORDER BY 1 ASC NULLS LAST") if numbers => Some(Shortcut::OrderedRows),
        Some(_) | None => None,
    }
}

/// The result of `SELECT call(…)`.
const BARE_REPLY: &str = "SELECT r0.c0 AS c0 FROM r0";

/// Whether the query reads from exactly one FROM item, so that a call there happens exactly once.
fn single_source(query: &ast::Query) -> bool {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    query.with.is_none()
        && select.from.len() == 1
        && select.from.iter().all(|from| from.joins.is_empty())
}

/// A select item that is a call of a function that changes state.
fn call_item(item: &ast::SelectItem) -> Option<(&ast::Function, Option<String>)> {
    let (expr, alias) = match item {
        ast::SelectItem::UnnamedExpr(expr) => (expr, None),
        ast::SelectItem::ExprWithAlias { expr, alias } => (expr, Some(scope::fold(alias))),
        ast::SelectItem::ExprWithAliases { .. }
        | ast::SelectItem::QualifiedWildcard(..)
        | ast::SelectItem::Wildcard(_) => return None,
    };
    let ast::Expr::Function(function) = expr else {
        return None;
    };
    arguments::is_call(&function.name).then_some((function, alias))
}

fn rows_in_select_list(function: &Function) -> SqlError {
    SqlError::unsupported(format!("function {} returns rows", function.name)).with_hint(format!(
        "Use SELECT * FROM pgautofailover.{}(...).",
        function.name
    ))
}

/// The columns of a function's rows.
fn function_columns(function: &'static Function, alias: Option<&str>) -> Vec<Column> {
    let named = |columns: &[Named]| {
        columns
            .iter()
            .map(|(name, ty)| Column {
                name: (*name).to_owned(),
                ty: *ty,
            })
            .collect()
    };
    match function.returns {
        Returns::Scalar(ty) => {
            vec![Column {
                name: alias.unwrap_or(function.name).to_owned(),
                ty,
            }]
        }
        Returns::Row(columns) | Returns::Rows(columns) => named(columns),
    }
}

fn is_read(function: &Function) -> bool {
    matches!(function.body, Body::Read(_))
}

/// The message for a construct that exists in Postgres and not here.
fn unsupported(what: impl std::fmt::Display) -> SqlError {
    SqlError::unsupported(format!("{what} is not supported by the monitor")).with_hint(
        "The monitor answers plain SELECTs over pgautofailover.node, pgautofailover.formation and \
         pgautofailover.event, and the functions of schema pgautofailover.",
    )
}

fn mismatch(message: String) -> SqlError {
    SqlError::new(codes::DATATYPE_MISMATCH, message)
}
