//! Running one statement. A [`Step`] holds no part of the session, so that the client can be
//! watched meanwhile; what it changes in the session is an [`Effect`], applied afterwards.

use std::sync::Arc;

use super::auth::ScramVerifier;
use super::backend::{SessionInfo, Transaction};
use super::calls;
use super::engine::{self, Engine};
use super::error::{Notice, NoticeLevel, SqlError, codes};
use super::functions::{Body, Function};
use super::notify::Channel;
use super::parse::{Parsed, Statement};
use super::planner::{Column, FunctionUse, QueryPlan, ReadPlan, in_range};
use super::reads::Rows;
use super::session::{Session, Shared, TransactionState};
use super::types::{PgType, Value};
use super::wire;

/// What a statement changes in its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Begin,
    /// The transaction is over; whether it was committed.
    End(bool),
    Listen(Channel),
    Unlisten(Option<Channel>),
    Discard,
    Deallocate(Option<String>),
    Reported(&'static str, String),
    /// A call was made.
    Called,
}

/// What a statement gives.
#[derive(Debug)]
pub(super) struct Outcome {
    /// `None`: the statement returns no rows.
    pub(super) columns: Option<Arc<[Column]>>,
    pub(super) rows: Rows,
    pub(super) tag: String,
    pub(super) notices: Vec<Notice>,
    pub(super) effect: Effect,
}

impl Outcome {
    fn command(tag: &str, effect: Effect) -> Self {
        Outcome {
            columns: None,
            rows: Rows::new(),
            tag: tag.to_owned(),
            notices: Vec::new(),
            effect,
        }
    }

    fn rows(columns: Arc<[Column]>, rows: Rows, effect: Effect) -> Self {
        let tag = format!("SELECT {}", rows.len());
        Outcome {
            columns: Some(columns),
            rows,
            tag,
            notices: Vec::new(),
            effect,
        }
    }

    fn warn(mut self, code: &'static str, message: &str) -> Self {
        self.notices.push(Notice {
            level: NoticeLevel::Warning,
            code: code.into(),
            message: message.to_owned(),
            detail: None,
            hint: None,
        });
        self
    }
}

/// One statement about to run.
pub(super) struct Step<'a> {
    shared: Arc<Shared>,
    info: Arc<SessionInfo>,
    pid: i32,
    state: TransactionState,
    mode: Transaction,
    called: bool,
    parsed: &'a Parsed,
    params: &'a [Value],
}

impl<'a> Step<'a> {
    pub(super) fn of(session: &Session, parsed: &'a Parsed, params: &'a [Value]) -> Self {
        Step {
            shared: Arc::clone(&session.shared),
            info: Arc::clone(&session.info),
            pid: session.pid,
            state: session.transaction,
            mode: session.transaction_mode(),
            called: session.called,
            parsed,
            params,
        }
    }

    /// Whether abandoning it half-way could leave the client in doubt.
    pub(super) fn is_call(&self) -> bool {
        match &self.parsed.statement {
            Statement::Query(plan) => match plan.as_ref() {
                QueryPlan::Read(_) => false,
                QueryPlan::Call { .. } | QueryPlan::CallPerRow { .. } => true,
            },
            Statement::Commit | Statement::Rollback | Statement::SetPassword(_) => true,
            Statement::Empty
            | Statement::Begin
            | Statement::Set { .. }
            | Statement::Reset
            | Statement::Show(_)
            | Statement::Listen(_)
            | Statement::Unlisten(_)
            | Statement::Discard
            | Statement::Deallocate(_) => false,
        }
    }

    /// Whether it ends the transaction, whatever its result.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(
            self.parsed.statement,
            Statement::Commit | Statement::Rollback
        )
    }

    pub(super) async fn run(&self) -> Result<Outcome, SqlError> {
        check_failed(self.state, &self.parsed.statement)?;
        match &self.parsed.statement {
            Statement::Empty => Ok(Outcome::command("", Effect::None)),
            Statement::Begin => Ok(self.begin()),
            Statement::Commit => self.end(true).await,
            Statement::Rollback => self.end(false).await,
            Statement::Set { name, value } => Ok(Outcome::command(
                "SET",
                match name.as_str() {
                    "application_name" => Effect::Reported("application_name", value.clone()),
                    _ => Effect::None,
                },
            )),
            Statement::Reset => Ok(Outcome::command("RESET", Effect::None)),
            Statement::Show(name) => self.show(name).await,
            Statement::Listen(channel) => Ok(Outcome::command("LISTEN", Effect::Listen(*channel))),
            Statement::Unlisten(channel) => {
                Ok(Outcome::command("UNLISTEN", Effect::Unlisten(*channel)))
            }
            Statement::Discard => Ok(Outcome::command("DISCARD ALL", Effect::Discard)),
            Statement::Deallocate(name) => {
                let tag = if name.is_some() {
                    "DEALLOCATE"
                } else {
                    "DEALLOCATE ALL"
                };
                Ok(Outcome::command(tag, Effect::Deallocate(name.clone())))
            }
            Statement::SetPassword(password) => {
                let text = password.as_ref().map(|password| password.0.as_str());
                let verifier = verifier(text).await?;
                self.shared
                    .backend
                    .set_password(&self.info, verifier)
                    .await?;
                Ok(Outcome::command("ALTER ROLE", Effect::None))
            }
            Statement::Query(plan) => self.query(plan).await,
        }
    }

    fn begin(&self) -> Outcome {
        match self.state {
            TransactionState::Idle => Outcome::command("BEGIN", Effect::Begin),
            TransactionState::Open | TransactionState::Failed => {
                Outcome::command("BEGIN", Effect::None).warn(
                    codes::ACTIVE_TRANSACTION,
                    "there is already a transaction in progress",
                )
            }
        }
    }

    async fn end(&self, commit: bool) -> Result<Outcome, SqlError> {
        let tag = if commit { "COMMIT" } else { "ROLLBACK" };
        if self.state == TransactionState::Idle {
            return Ok(Outcome::command(tag, Effect::None).warn(
                codes::NO_ACTIVE_TRANSACTION,
                "there is no transaction in progress",
            ));
        }
        // COMMIT of a failed transaction rolls back.
        let commit = commit && self.state == TransactionState::Open;
        if self.called {
            self.shared
                .backend
                .end_transaction(&self.info, commit)
                .await?;
        }
        let tag = if commit { "COMMIT" } else { "ROLLBACK" };
        Ok(Outcome::command(tag, Effect::End(commit)))
    }

    async fn show(&self, name: &str) -> Result<Outcome, SqlError> {
        let value = self.shared.engine.setting(name).await?;
        let value = value.ok_or_else(|| {
            SqlError::new(
                codes::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
            )
        })?;
        let columns = [Column {
            name: name.to_owned(),
            ty: PgType::Text,
        }];
        let mut outcome = Outcome::rows(columns.into(), vec![vec![value.into()]], Effect::None);
        "SHOW".clone_into(&mut outcome.tag);
        Ok(outcome)
    }

    async fn query(&self, plan: &QueryPlan) -> Result<Outcome, SqlError> {
        match plan {
            QueryPlan::Read(plan) => {
                let rows = self.read(plan, None).await?;
                Ok(Outcome::rows(Arc::clone(&plan.columns), rows, Effect::None))
            }
            QueryPlan::Call { call, rest } => self.call(call, rest).await,
            QueryPlan::CallPerRow {
                source,
                function,
                at,
                visible,
                columns,
            } => {
                self.call_per_row(source, function, *at, *visible, columns)
                    .await
            }
        }
    }

    async fn read(&self, plan: &ReadPlan, reply: Option<Rows>) -> Result<Rows, SqlError> {
        let engine: &Engine = &self.shared.engine;
        engine
            .run(
                plan,
                self.params,
                &self.parsed.params.types,
                reply,
                self.pid,
            )
            .await
    }

    async fn call(&self, call: &FunctionUse, rest: &ReadPlan) -> Result<Outcome, SqlError> {
        let args = engine::arguments(call, self.params, &self.parsed.params.types)?;
        let mut notices = Vec::new();
        let rows = match engine::strict_rows(call, &args) {
            Some(rows) => rows,
            None => self.backend_call(call.function, args, &mut notices).await?,
        };
        // A bare call, as every keeper's report is, needs no snapshot of the whole cluster.
        let rows = match rest.is_bare_reply() {
            true => rows,
            false => self.read(rest, Some(rows)).await?,
        };
        let mut outcome = Outcome::rows(Arc::clone(&rest.columns), rows, Effect::Called);
        outcome.notices = notices;
        Ok(outcome)
    }

    async fn backend_call(
        &self,
        function: &Function,
        args: Vec<Value>,
        notices: &mut Vec<Notice>,
    ) -> Result<Rows, SqlError> {
        let Body::Call(body) = function.body else {
            return Err(SqlError::new(codes::INTERNAL, "not a call"));
        };
        let call = calls::build(body, args)?;
        let reply = self
            .shared
            .backend
            .call(&self.info, self.mode, call)
            .await?;
        notices.extend(reply.notices);
        Ok(calls::reply_rows(reply.value))
    }

    async fn call_per_row(
        &self,
        source: &ReadPlan,
        function: &'static Function,
        at: usize,
        visible: usize,
        columns: &[Column],
    ) -> Result<Outcome, SqlError> {
        let mut rows = self.read(source, None).await?;
        if rows.len() > 1 {
            return Err(SqlError::new(
                "21000",
                format!("{} would be called for {} rows", function.name, rows.len()),
            )
            .with_hint("Add conditions until one row is left."));
        }
        let mut notices = Vec::new();
        for row in &mut rows {
            let mut args = row.split_off(visible.min(row.len()));
            for (value, arg) in args.iter_mut().zip(function.args) {
                let given = std::mem::replace(value, Value::Null);
                *value = in_range(given, PgType::Unknown, arg.ty)?;
            }
            let null = function.strict && args.contains(&Value::Null);
            let result = match null {
                true => Value::Null,
                false => self
                    .backend_call(function, args, &mut notices)
                    .await?
                    .pop()
                    .and_then(|mut row| row.pop())
                    .unwrap_or(Value::Null),
            };
            row.insert(at.min(row.len()), result);
        }
        let mut outcome = Outcome::rows(columns.into(), rows, Effect::Called);
        outcome.notices = notices;
        Ok(outcome)
    }
}

/// After an error in a transaction only its end is allowed.
pub(super) fn check_failed(state: TransactionState, statement: &Statement) -> Result<(), SqlError> {
    let ends = matches!(statement, Statement::Commit | Statement::Rollback);
    if state == TransactionState::Failed && !ends {
        return Err(SqlError::new(
            codes::IN_FAILED_TRANSACTION,
            "current transaction is aborted, commands ignored until end of transaction block",
        ));
    }
    Ok(())
}

/// The verifier of a new password; a text that is one already is kept.
async fn verifier(password: Option<&str>) -> Result<Option<ScramVerifier>, SqlError> {
    let Some(password) = password else {
        return Ok(None);
    };
    if let Some(verifier) = ScramVerifier::parse(password) {
        return Ok(Some(verifier));
    }
    let is_md5 = password.len() == 35
        && password.starts_with("md5")
        && password[3..].bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_md5 {
        return Err(SqlError::unsupported("md5 passwords are not supported")
            .with_hint("Give the password itself; it is stored as a SCRAM-SHA-256 verifier."));
    }
    if password.is_empty() {
        return Ok(None);
    }
    let password = password.to_owned();
    let verifier = tokio::task::spawn_blocking(move || ScramVerifier::from_password(&password));
    match verifier.await {
        Ok(Some(verifier)) => Ok(Some(verifier)),
        Ok(None) | Err(_) => Err(SqlError::new(codes::INTERNAL, "cannot derive a verifier")),
    }
}

impl Session {
    /// Applies what a statement changed.
    pub(super) fn apply(&mut self, outcome: &Outcome) {
        match &outcome.effect {
            Effect::None => {}
            Effect::Begin => self.transaction = TransactionState::Open,
            Effect::End(commit) => self.finish_transaction(*commit),
            Effect::Called => self.called |= self.transaction != TransactionState::Idle,
            Effect::Listen(channel) => {
                self.want_channel(*channel, true);
                self.channels_changed();
            }
            Effect::Unlisten(Some(channel)) => {
                self.want_channel(*channel, false);
                self.channels_changed();
            }
            Effect::Unlisten(None) => {
                self.wanted_channels = super::notify::ChannelSet::default();
                self.channels_changed();
            }
            Effect::Discard => {
                self.prepared.clear();
                self.portals.clear();
                self.wanted_channels = super::notify::ChannelSet::default();
                self.channels_changed();
            }
            Effect::Deallocate(Some(name)) => {
                self.prepared.remove(name);
            }
            Effect::Deallocate(None) => self.prepared.clear(),
            Effect::Reported(name, value) => {
                wire::put_parameter_status(&mut self.connection.output, name, value);
            }
        }
    }

    /// The transaction is over, at the backend too.
    pub(super) fn finish_transaction(&mut self, commit: bool) {
        self.transaction = TransactionState::Idle;
        self.called = false;
        if !commit {
            self.wanted_channels = self.channels;
        }
        self.channels_changed();
    }

    fn want_channel(&mut self, channel: Channel, listen: bool) {
        match channel {
            Channel::State => self.wanted_channels.state = listen,
            Channel::Log => self.wanted_channels.log = listen,
            Channel::Goal => {}
        }
    }

    /// LISTEN and UNLISTEN take effect at the end of the transaction.
    fn channels_changed(&mut self) {
        if self.transaction == TransactionState::Idle && self.channels != self.wanted_channels {
            self.channels = self.wanted_channels;
            self.shared.backend.subscribe(&self.info, self.channels);
        }
    }
}
