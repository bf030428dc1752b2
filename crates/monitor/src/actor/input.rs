//! What the actor hears, and the handle by which others tell it.

use std::sync::Arc;

use pgaf_fsm::group::Probe;
use pgaf_protocol::{NodeId, Registration, Report, Time};
use tokio::sync::{mpsc, oneshot};

use crate::sql::{
    Call, Closed, Question, Reply, ScramVerifier, SessionHandle, SessionId, Snapshot, SqlError,
};

/// Inputs that may wait. A keeper's report waits for its answer, so this is about the number of
/// keepers; more than this makes sessions wait. Chosen.
const QUEUE: usize = 4096;

/// Where an answer goes.
pub(crate) type Answering<T> = oneshot::Sender<Result<T, SqlError>>;

/// Something that happened outside of the actor.
#[derive(Debug)]
pub(crate) enum Input {
    /// A keeper reports; the answer is an `Answer` as JSON.
    Report {
        report: Box<Report>,
        session: (SessionId, SessionHandle),
        at: Time,
        reply: Answering<String>,
    },
    /// A keeper registers its node; the answer is a `Registered` as JSON.
    Register {
        registration: Box<Registration>,
        reply: Answering<String>,
    },
    /// An operation of the API.
    Operate { call: Call, reply: Answering<Reply> },
    /// Somebody wants to know why; the answer is JSON.
    Ask {
        question: Question,
        reply: Answering<String>,
    },
    /// Read-only SQL wants the present state.
    Snapshot { reply: Answering<Arc<Snapshot>> },
    /// A session wants to authenticate.
    Verifier {
        reply: Answering<Option<ScramVerifier>>,
    },
    /// The password is set or removed.
    SetPassword {
        verifier: Option<ScramVerifier>,
        reply: Answering<()>,
    },
    /// A session is over.
    SessionClosed {
        session: SessionId,
        how: Closed,
        at: Time,
    },
    /// An attempt to connect to a node's Postgres has ended.
    Probed { node: NodeId, probe: Probe },
    /// The kept session to a node's Postgres has ended.
    ProbeClosed { node: NodeId },
    /// Settings of the configuration file have changed.
    Reload {
        file: Vec<(String, String)>,
        reply: oneshot::Sender<Vec<String>>,
    },
}

/// Tells the actor. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    inputs: mpsc::Sender<Input>,
}

/// A handle and the actor's end of it.
pub(crate) fn channel() -> (Handle, mpsc::Receiver<Input>) {
    let (inputs, receiver) = mpsc::channel(QUEUE);
    (Handle { inputs }, receiver)
}

impl Handle {
    /// Tells, waiting while too many inputs wait. A stopped actor hears nothing.
    pub(crate) async fn tell(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }

    /// Tells without waiting, in order with what the same caller told before.
    pub(crate) fn tell_soon(&self, input: Input) {
        match self.inputs.try_send(input) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(input)) => {
                // Such inputs are as many as sessions and nodes: the number of waiting tasks is
                // bounded by those.
                let handle = self.clone();
                tokio::spawn(async move { handle.tell(input).await });
            }
        }
    }

    /// Tells and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        input: impl FnOnce(Answering<T>) -> Input,
    ) -> Result<T, SqlError> {
        let (reply, answer) = oneshot::channel();
        self.tell(input(reply)).await;
        answer.await.unwrap_or_else(|_| {
            Err(SqlError::fatal(
                crate::sql::codes::ADMIN_SHUTDOWN,
                "the monitor is shutting down",
            ))
        })
    }
}
