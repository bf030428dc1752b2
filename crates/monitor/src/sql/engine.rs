//! Runs read plans: a fresh in-memory SQLite connection per statement, filled with the relations
//! that the plan names, on a thread of its own, with limits on time, rows and bytes.
//!
//! Nothing is kept between statements: an idle monitor holds no planner memory.

mod functions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, limits::Limit, params_from_iter};
use tokio::sync::Semaphore;

use super::backend::{Backend, EventQuery};
use super::catalog::{Source, Table};
use super::error::{SqlError, codes};
use super::functions::{Body, Returns};
use super::json;
use super::limits::Limits;
use super::planner::{Const, FunctionUse, ReadPlan, Relation, Shortcut, in_range};
use super::reads::{self, Rows};
use super::snapshot::{EventRow, Snapshot};
use super::types::{PgType, Value};

/// Virtual machine steps between looks at the clock; some 10 µs each time. Chosen.
const PROGRESS_STEPS: i32 = 10_000;

/// Runs plans for all sessions.
pub(super) struct Engine {
    backend: Arc<dyn Backend>,
    limits: Limits,
    extension_version: Arc<str>,
    server_version: Arc<str>,
    slots: Arc<Semaphore>,
}

/// Stops the statement when it is dropped: the client is gone, or its time is up.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One statement with all that it needs, to be moved to a thread.
struct Job {
    plan: ReadPlan,
    params: Vec<Value>,
    snapshot: Arc<Snapshot>,
    /// Per relation.
    events: Vec<Vec<EventRow>>,
    reply: Option<Rows>,
    extension_version: Arc<str>,
    server_version: Arc<str>,
    backend_pid: i32,
    now: i64,
    limits: Limits,
    deadline: Instant,
    stop: Arc<AtomicBool>,
}

impl Engine {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        limits: Limits,
        extension_version: &str,
        server_version: &str,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(limits.concurrent_reads.max(1)));
        Engine {
            backend,
            limits,
            extension_version: Arc::from(extension_version),
            server_version: Arc::from(server_version),
            slots,
        }
    }

    /// The value of a setting as SHOW prints it.
    pub(super) async fn setting(&self, name: &str) -> Result<Option<String>, SqlError> {
        let snapshot = self.backend.snapshot().await?;
        let source = Source {
            snapshot: &snapshot,
            events: &[],
            extension_version: &self.extension_version,
            server_version: &self.server_version,
        };
        Ok(super::catalog::setting(&source, name))
    }

    /// Runs a plan; `reply` fills its reply relation.
    ///
    /// # Errors
    /// Of the functions it calls; 57014 when its time is up, 54000 when its result is too large.
    pub(super) async fn run(
        &self,
        plan: &ReadPlan,
        params: &[Value],
        param_types: &[PgType],
        reply: Option<Rows>,
        backend_pid: i32,
    ) -> Result<Rows, SqlError> {
        let snapshot = self.backend.snapshot().await?;
        let mut events = Vec::with_capacity(plan.relations.len());
        for relation in &plan.relations {
            events.push(self.events(relation, params, param_types).await?);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let job = Job {
            plan: plan.clone(),
            params: params.to_vec(),
            snapshot,
            events,
            reply,
            extension_version: Arc::clone(&self.extension_version),
            server_version: Arc::clone(&self.server_version),
            backend_pid,
            now: now_micros(),
            limits: self.limits.clone(),
            deadline: Instant::now() + self.limits.read_time,
            stop: Arc::clone(&stop),
        };
        if let Some(rows) = job.shortcut(param_types) {
            return rows;
        }
        let _stop = StopOnDrop(stop);
        let types = param_types.to_vec();
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| SqlError::new(codes::ADMIN_SHUTDOWN, "the monitor is shutting down"))?;
        let result = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            job.run(&types)
        });
        result
            .await
            .map_err(|_| SqlError::new(codes::INTERNAL, "the statement's thread failed"))?
    }

    async fn events(
        &self,
        relation: &Relation,
        params: &[Value],
        types: &[PgType],
    ) -> Result<Vec<EventRow>, SqlError> {
        let limit = self.limits.event_rows;
        let query = match relation {
            Relation::Table(Table::Event) => Some(EventQuery {
                formation: None,
                group: None,
                limit,
            }),
            Relation::Table(_) | Relation::Reply(_) => None,
            Relation::Function(call) => match call.function.body {
                Body::Read(function) => {
                    let args = arguments(call, params, types)?;
                    reads::events_needed(function, &args, limit)
                }
                Body::Call(_) => None,
            },
        };
        match query {
            Some(query) if query.limit > 0 => self.backend.events(query).await,
            Some(_) | None => Ok(Vec::new()),
        }
    }
}

/// Microseconds since the Unix epoch.
fn now_micros() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The values of a call's arguments, in the function's types.
pub(super) fn arguments(
    call: &FunctionUse,
    params: &[Value],
    types: &[PgType],
) -> Result<Vec<Value>, SqlError> {
    let value = |constant: &Const| match constant {
        Const::Value(value) => Ok(value.clone()),
        Const::Param(index, ty) => {
            let value = params.get(*index).cloned().unwrap_or(Value::Null);
            let from = types.get(*index).copied().unwrap_or(PgType::Text);
            in_range(value, from, *ty)
        }
    };
    call.args.iter().map(value).collect()
}

/// The rows that a strict function gives for a NULL argument; `None` when it is to be run.
pub(super) fn strict_rows(call: &FunctionUse, args: &[Value]) -> Option<Rows> {
    if !call.function.strict || !args.contains(&Value::Null) {
        return None;
    }
    Some(match call.function.returns {
        Returns::Scalar(_) => vec![vec![Value::Null]],
        Returns::Row(columns) => vec![vec![Value::Null; columns.len()]],
        Returns::Rows(_) => Vec::new(),
    })
}

fn engine_error(error: &rusqlite::Error) -> SqlError {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => SqlError::new(
            codes::QUERY_CANCELED,
            "canceling statement due to statement timeout",
        ),
        Some(ErrorCode::TooBig | ErrorCode::OutOfMemory) => {
            SqlError::new(codes::LIMIT_EXCEEDED, "the statement needs too much memory")
        }
        _ => SqlError::new(
            codes::INTERNAL,
            format!("cannot run the statement: {error}"),
        ),
    }
}

/// What the planner let through and SQLite does not take.
fn unplanned(error: &rusqlite::Error) -> SqlError {
    SqlError::unsupported(format!(
        "the statement is not supported by the monitor: {error}"
    ))
    .with_hint("Write it in a simpler way.")
}

impl Job {
    /// The rows of the simplest plans, on the spot. A narrower width than the relation's would be
    /// another plan, so the rows fit.
    fn shortcut(&self, types: &[PgType]) -> Option<Result<Rows, SqlError>> {
        let (shortcut, relation) = (self.plan.shortcut?, self.plan.relations.first()?);
        let rows = match self.rows(0, relation, types) {
            Ok((width, rows)) if width == self.plan.columns.len() => Ok(rows),
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        Some(rows.map(|mut rows| {
            match shortcut {
                Shortcut::Rows => {}
                Shortcut::OrderedRows => rows.sort_by_key(|row| match row.first() {
                    Some(Value::Int(number)) => (false, *number),
                    Some(Value::Null | Value::Real(_) | Value::Text(_)) | None => (true, 0),
                }),
            }
            rows
        }))
    }

    fn run(self, types: &[PgType]) -> Result<Rows, SqlError> {
        let failure = functions::Failure::default();
        self.run_on_sqlite(types, &failure)
            .map_err(|error| failure.take().unwrap_or(error))
    }

    fn run_on_sqlite(
        &self,
        types: &[PgType],
        failure: &functions::Failure,
    ) -> Result<Rows, SqlError> {
        let failed = |error: rusqlite::Error| engine_error(&error);
        let mut connection = Connection::open_in_memory().map_err(failed)?;
        self.prepare(&mut connection).map_err(failed)?;
        functions::register(&connection, &self.context(), failure).map_err(failed)?;
        for (index, relation) in self.plan.relations.iter().enumerate() {
            let (width, rows) = self.rows(index, relation, types)?;
            fill(&connection, index, width, &rows).map_err(failed)?;
        }
        let mut statement = connection
            .prepare(&self.plan.sql)
            .map_err(|error| unplanned(&error))?;
        let used = statement.parameter_count();
        let params = self
            .params
            .iter()
            .chain(std::iter::repeat(&Value::Null))
            .take(used);
        let mut rows = statement
            .query(params_from_iter(params.map(SqliteValue)))
            .map_err(failed)?;
        let mut result = Rows::new();
        let mut bytes = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut values = Vec::with_capacity(self.plan.columns.len());
            for (at, column) in self.plan.columns.iter().enumerate() {
                let value = value_of(row.get_ref(at).map_err(failed)?, column.ty);
                bytes += size_of::<Value>() + text_length(&value);
                values.push(value);
            }
            result.push(values);
            if result.len() > self.limits.result_rows || bytes > self.limits.result_bytes {
                return Err(
                    SqlError::new(codes::LIMIT_EXCEEDED, "the result is too large")
                        .with_hint("Add a LIMIT, or a WHERE condition."),
                );
            }
        }
        Ok(result)
    }

    fn prepare(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let (stop, deadline) = (Arc::clone(&self.stop), self.deadline);
        let over = move || stop.load(Ordering::Relaxed) || Instant::now() > deadline;
        connection.progress_handler(PROGRESS_STEPS, Some(over))?;
        let length = i32::try_from(self.limits.result_bytes).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, length)?;
        connection.execute_batch("PRAGMA case_sensitive_like = ON; PRAGMA journal_mode = OFF;")
    }

    fn context(&self) -> functions::Context {
        functions::Context {
            snapshot: Arc::clone(&self.snapshot),
            extension_version: Arc::clone(&self.extension_version),
            server_version: Arc::clone(&self.server_version),
            backend_pid: self.backend_pid,
            now: self.now,
        }
    }

    fn rows(
        &self,
        index: usize,
        relation: &Relation,
        types: &[PgType],
    ) -> Result<(usize, Rows), SqlError> {
        let events = self.events.get(index).map_or(&[][..], Vec::as_slice);
        let width = |returns: Returns| match returns {
            Returns::Scalar(_) => 1,
            Returns::Row(columns) | Returns::Rows(columns) => columns.len(),
        };
        Ok(match relation {
            Relation::Table(table) => {
                let source = Source {
                    snapshot: &self.snapshot,
                    events,
                    extension_version: &self.extension_version,
                    server_version: &self.server_version,
                };
                (table.columns().len(), table.rows(&source))
            }
            Relation::Reply(function) => (
                width(function.returns),
                self.reply.clone().unwrap_or_default(),
            ),
            Relation::Function(call) => {
                let args = arguments(call, &self.params, types)?;
                let rows = match (strict_rows(call, &args), call.function.body) {
                    (Some(rows), _) => rows,
                    (None, Body::Read(function)) => {
                        reads::rows(function, &args, &self.snapshot, events)?
                    }
                    (None, Body::Call(_)) => Rows::new(),
                };
                (width(call.function.returns), rows)
            }
        })
    }
}

fn text_length(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Null | Value::Int(_) | Value::Real(_) => 0,
    }
}

/// Creates relation `r<index>` with columns `c0` … and its rows.
fn fill(connection: &Connection, index: usize, width: usize, rows: &Rows) -> rusqlite::Result<()> {
    let names: Vec<String> = (0..width).map(|at| format!("c{at}")).collect();
    connection.execute_batch(&format!("CREATE TABLE r{index} ({})", names.join(", ")))?;
    let marks = vec!["?"; width].join(", ");
    let mut insert = connection.prepare(&format!("INSERT INTO r{index} VALUES ({marks})"))?;
    connection.execute_batch("BEGIN")?;
    for row in rows {
        insert.execute(params_from_iter(row.iter().map(SqliteValue)))?;
    }
    connection.execute_batch("COMMIT")
}

struct SqliteValue<'a>(&'a Value);

impl rusqlite::ToSql for SqliteValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::ToSqlOutput::Borrowed;
        Ok(Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn value_of(value: ValueRef<'_>, ty: PgType) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            if ty == PgType::Jsonb {
                Value::Text(json::canonical(&text).unwrap_or_default())
            } else {
                Value::Text(text.into_owned())
            }
        }
    }
}
