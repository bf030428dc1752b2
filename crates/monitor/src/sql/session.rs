//! One authenticated session: waits for the next message, a push, or the end; answers; pushes to
//! an idle client outside of transactions and batches.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use super::backend::{Backend, Closed, SessionInfo, Transaction};
use super::connection::{Connection, End, idle_in_message};
use super::engine::Engine;
use super::error::{SqlError, codes};
use super::execute::{Outcome, Step};
use super::extended::{Portal, Prepared};
use super::limits::Limits;
use super::notify::{ChannelSet, Notification, PushQueue};
use super::parse;
use super::wire::{self, Message};

/// What all sessions share.
pub(super) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) engine: Engine,
    pub(super) limits: Limits,
    pub(super) shutdown: CancellationToken,
}

/// The transaction's state, as ReadyForQuery tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionState {
    Idle,
    Open,
    Failed,
}

/// Why a session ends.
pub(super) enum Ending {
    Closed(Closed),
    /// The client is told first.
    Error(SqlError),
}

impl From<SqlError> for Ending {
    fn from(error: SqlError) -> Self {
        Ending::Error(error)
    }
}

impl From<std::io::Error> for Ending {
    fn from(_: std::io::Error) -> Self {
        Ending::Closed(Closed::Reset)
    }
}

impl From<End> for Ending {
    fn from(end: End) -> Self {
        Ending::Closed(closed(end))
    }
}

fn closed(end: End) -> Closed {
    match end {
        End::Eof => Closed::Eof,
        End::Reset => Closed::Reset,
    }
}

/// What a session remembers between messages.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) info: Arc<SessionInfo>,
    pub(super) pid: i32,
    pub(super) connection: Connection,
    pushes: PushQueue,
    pub(super) transaction: TransactionState,
    /// Whether a call was made in the open transaction.
    pub(super) called: bool,
    /// Channels that are in force, and those that COMMIT would make so.
    pub(super) channels: ChannelSet,
    pub(super) wanted_channels: ChannelSet,
    /// Between the first extended message and Sync.
    in_batch: bool,
    /// After an error, until Sync.
    skipping: bool,
    pub(super) prepared: HashMap<String, Arc<Prepared>>,
    pub(super) portals: HashMap<String, Portal>,
    /// Whether the end was told to the backend already.
    closed: bool,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        info: SessionInfo,
        pid: i32,
        connection: Connection,
        pushes: PushQueue,
    ) -> Self {
        Session {
            shared,
            info: Arc::new(info),
            pid,
            connection,
            pushes,
            transaction: TransactionState::Idle,
            called: false,
            channels: ChannelSet::default(),
            wanted_channels: ChannelSet::default(),
            in_batch: false,
            skipping: false,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            closed: false,
        }
    }

    /// Serves the client to the end.
    pub(super) async fn run(mut self) {
        self.shared.backend.session_opened(&self.info);
        let ending = self.serve().await;
        match ending {
            Ending::Closed(how) => self.tell_closed(how),
            Ending::Error(error) => {
                let shutdown = error.code == codes::ADMIN_SHUTDOWN;
                self.tell_closed(if shutdown {
                    Closed::Shutdown
                } else {
                    Closed::Dropped
                });
                self.connection
                    .close_with(&SqlError {
                        fatal: true,
                        ..error
                    })
                    .await;
            }
        }
        let time = self.shared.limits.statement_time;
        let _ = timeout(time, self.end_transaction(false)).await;
    }

    fn tell_closed(&mut self, how: Closed) {
        if !std::mem::replace(&mut self.closed, true) {
            if !self.channels.is_empty() {
                let backend = &self.shared.backend;
                backend.subscribe(&self.info, ChannelSet::default());
            }
            self.shared.backend.session_closed(&self.info, how);
        }
    }

    async fn serve(&mut self) -> Ending {
        loop {
            let step = match self.next_message().await {
                Ok(message) => self.handle(message).await,
                Err(ending) => Err(ending),
            };
            if let Err(ending) = step {
                return ending;
            }
        }
    }

    /// Waits for a message; pushes meanwhile when the client is idle.
    async fn next_message(&mut self) -> Result<Message, Ending> {
        let limit = self.shared.limits.message_after_auth;
        loop {
            if self.pushes.overflowed() {
                return Err(overflow().into());
            }
            if let Some((kind, body)) = self.connection.take_message(limit)? {
                // A malformed message ends the session: what follows cannot be trusted.
                return wire::parse_message(kind, body).map_err(|error| {
                    match error.code.as_ref() {
                        codes::PROTOCOL_VIOLATION => Ending::Error(error),
                        _ => Ending::Error(SqlError {
                            fatal: true,
                            ..error
                        }),
                    }
                });
            }
            if self.may_push() {
                self.push_waiting();
            }
            self.connection.flush().await?;
            self.connection.rest();
            self.wait().await?;
        }
    }

    fn may_push(&self) -> bool {
        self.transaction == TransactionState::Idle && !self.in_batch
    }

    fn push(&mut self, notification: &Notification) {
        wire::put_notification(
            &mut self.connection.output,
            self.pid,
            notification.channel.name(),
            &notification.payload,
        );
    }

    fn push_waiting(&mut self) {
        while let Some(notification) = self.pushes.try_next() {
            self.push(&notification);
        }
    }

    /// Waits for bytes, a push, a time limit or the shutdown.
    async fn wait(&mut self) -> Result<(), Ending> {
        let limits = &self.shared.limits;
        let (time, error) = if self.connection.has_input() || self.in_batch {
            (Some(limits.message_time), idle_in_message())
        } else if self.transaction != TransactionState::Idle {
            let message = "terminating connection due to idle-in-transaction timeout";
            (
                Some(limits.idle_in_transaction_time),
                SqlError::fatal("25P03", message),
            )
        } else {
            (None, idle_in_message())
        };
        let may_push = self.may_push();
        let shutdown = self.shared.shutdown.clone();
        let pushed = tokio::select! {
            biased;
            read = self.connection.read_more() => return Ok(read?),
            pushed = self.pushes.next(), if may_push => pushed,
            () = shutdown.cancelled() => return Err(shutting_down().into()),
            () = sleep(time) => return Err(error.into()),
        };
        self.push(&pushed);
        Ok(())
    }

    async fn handle(&mut self, message: Message) -> Result<(), Ending> {
        if self.skipping && !matches!(message, Message::Sync | Message::Terminate) {
            return Ok(());
        }
        let result = match message {
            Message::Query(text) => return self.simple_query(&text).await,
            Message::Terminate => return Err(Ending::Closed(Closed::Terminated)),
            Message::Password(_) => {
                let message = "unexpected password message";
                return Err(SqlError::fatal(codes::PROTOCOL_VIOLATION, message).into());
            }
            Message::Sync => return self.sync().await,
            Message::Flush => return Ok(self.connection.flush().await?),
            Message::Parse { name, query, types } => self.parse(name, &query, &types),
            Message::Bind(bind) => self.bind(bind),
            Message::Describe(target) => self.describe(&target),
            Message::Close(target) => self.close(&target),
            Message::Execute { portal, max_rows } => {
                self.in_batch = true;
                self.execute_portal(&portal, max_rows).await?
            }
        };
        self.in_batch = true;
        if let Err(error) = result {
            self.fail(error)?;
            self.skipping = true;
        }
        Ok(())
    }

    /// Reports an error; an open transaction is aborted by it, and the session by a fatal one.
    fn fail(&mut self, error: SqlError) -> Result<(), Ending> {
        if error.fatal {
            return Err(error.into());
        }
        wire::put_error(&mut self.connection.output, &error);
        if self.transaction == TransactionState::Open {
            self.transaction = TransactionState::Failed;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Ending> {
        self.in_batch = false;
        self.skipping = false;
        self.ready().await
    }

    /// Ends a command: pushes what waits, tells the transaction's state.
    async fn ready(&mut self) -> Result<(), Ending> {
        if self.transaction == TransactionState::Idle {
            self.portals.clear();
        }
        if self.may_push() {
            self.push_waiting();
        }
        let state = match self.transaction {
            TransactionState::Idle => b'I',
            TransactionState::Open => b'T',
            TransactionState::Failed => b'E',
        };
        wire::put_ready(&mut self.connection.output, state);
        Ok(self.connection.flush().await?)
    }

    async fn simple_query(&mut self, text: &str) -> Result<(), Ending> {
        self.in_batch = false;
        // Postgres drops the unnamed statement and portal here.
        self.prepared.remove("");
        self.portals.remove("");
        match parse::parse(text, &[]) {
            Err(error) => self.fail(error)?,
            Ok(statements) if statements.is_empty() => {
                wire::put_empty(&mut self.connection.output, b'I');
            }
            Ok(statements) => {
                for parsed in statements {
                    if !self.simple_statement(parsed).await? {
                        break;
                    }
                }
            }
        }
        self.ready().await
    }

    /// Runs one statement of a simple query; whether to go on with the next.
    async fn simple_statement(&mut self, parsed: parse::Parsed) -> Result<bool, Ending> {
        if !parsed.params.types.is_empty() {
            let error = SqlError::new(codes::UNDEFINED_PARAMETER, "there is no parameter $1");
            self.fail(error)?;
            return Ok(false);
        }
        match self.run_statement(&parsed, &[]).await? {
            Err(error) => {
                self.fail(error)?;
                Ok(false)
            }
            Ok(outcome) => {
                self.put_notices(&outcome);
                if let Some(columns) = &outcome.columns {
                    wire::put_row_description(&mut self.connection.output, columns, &[]);
                    self.put_rows(&outcome.rows, columns, &[]).await?;
                }
                self.put_tag(&outcome);
                Ok(true)
            }
        }
    }

    pub(super) fn put_tag(&mut self, outcome: &Outcome) {
        if outcome.tag.is_empty() {
            wire::put_empty(&mut self.connection.output, b'I');
        } else {
            wire::put_complete(&mut self.connection.output, &outcome.tag);
        }
    }

    pub(super) fn put_notices(&mut self, outcome: &Outcome) {
        for notice in &outcome.notices {
            wire::put_notice(&mut self.connection.output, notice);
        }
    }

    /// Runs a statement while watching the client: its end is told at once. A call that is under
    /// way is not abandoned, a read is.
    pub(super) async fn run_statement(
        &mut self,
        parsed: &parse::Parsed,
        params: &[super::types::Value],
    ) -> Result<Result<Outcome, SqlError>, Ending> {
        let limit = self.shared.limits.message_after_auth;
        let time = self.shared.limits.statement_time;
        let step = Step::of(self, parsed, params);
        let (is_call, ends) = (step.is_call(), step.ends_transaction());
        let mut work = Box::pin(timeout(time, step.run()));
        let result = tokio::select! {
            biased;
            result = &mut work => result,
            end = self.connection.wait_for_end(limit) => {
                let how = closed(end);
                self.tell_closed(how);
                if is_call {
                    let _ = work.await;
                }
                return Err(Ending::Closed(how));
            }
        };
        let result = result.unwrap_or_else(|_| {
            let message = "canceling statement due to statement timeout";
            Err(SqlError::new(codes::QUERY_CANCELED, message))
        });
        match &result {
            Ok(outcome) => self.apply(outcome),
            // A failed COMMIT is a rollback.
            Err(_) if ends => self.finish_transaction(false),
            Err(_) => self.called |= is_call && self.transaction != TransactionState::Idle,
        }
        Ok(result)
    }

    /// How calls run now.
    pub(super) fn transaction_mode(&self) -> Transaction {
        match self.transaction {
            TransactionState::Idle => Transaction::Auto,
            TransactionState::Open | TransactionState::Failed => Transaction::Open,
        }
    }

    /// Ends the transaction at the backend, if it made a call.
    pub(super) async fn end_transaction(&mut self, commit: bool) -> Result<(), SqlError> {
        if std::mem::take(&mut self.called) {
            return self
                .shared
                .backend
                .end_transaction(&self.info, commit)
                .await;
        }
        Ok(())
    }
}

impl Drop for Session {
    /// A session never ends untold, not even by a panic.
    fn drop(&mut self) {
        self.tell_closed(Closed::Dropped);
    }
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn overflow() -> SqlError {
    SqlError::fatal(
        codes::LIMIT_EXCEEDED,
        "terminating connection: notifications were not read",
    )
}

pub(super) fn shutting_down() -> SqlError {
    SqlError::fatal(
        codes::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}
