//! The SQL endpoint's way to the actor.

use std::sync::Arc;

use async_trait::async_trait;
use pgaf_protocol::{FormationId, GroupId, Registration, Report};
use pgaf_store::{EventFilter, Store};

use crate::actor::{Handle, Input, event_row, wrong_version};
use crate::clock;
use crate::sql::{
    Backend, Call, ChannelSet, Closed, EventQuery, EventRow, Hub, Reply, ReplyValue, ScramVerifier,
    SessionInfo, Snapshot, SqlError, Transaction, codes,
};

/// What the endpoint calls.
pub(crate) struct Bridge {
    pub(crate) handle: Handle,
    pub(crate) hub: Hub,
    pub(crate) store: Arc<dyn Store>,
}

/// Reads what a keeper sent. What cannot be read at all is mostly of another version: then that is
/// the message.
fn from_json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T, SqlError> {
    serde_json::from_str(text).map_err(|error| {
        let ours = pgaf_protocol::PROTOCOL_VERSION;
        match serde_json::from_str::<Version>(text) {
            Ok(Version { protocol }) if protocol != ours => wrong_version(protocol),
            Ok(_) | Err(_) => SqlError::new(
                codes::INVALID_TEXT,
                format!("this is not a {what} of version {ours} of the keepers' protocol: {error}"),
            )
            .with_hint("Only keepers call this function."),
        }
    })
}

/// The part that every version has.
#[derive(serde::Deserialize)]
struct Version {
    protocol: u32,
}

#[async_trait]
impl Backend for Bridge {
    async fn snapshot(&self) -> Result<Arc<Snapshot>, SqlError> {
        self.handle.ask(|reply| Input::Snapshot { reply }).await
    }

    async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, SqlError> {
        let filter = EventFilter {
            formation: query.formation.map(FormationId),
            group: query.group.map(GroupId),
            limit: query.limit,
        };
        let found = self.store.events(filter).await;
        let events = found
            .map_err(|error| SqlError::new("58030", format!("events cannot be read: {error}")))?;
        Ok(events.into_iter().map(event_row).collect())
    }

    async fn call(
        &self,
        session: &SessionInfo,
        transaction: Transaction,
        call: Call,
    ) -> Result<Reply, SqlError> {
        let text = |text| Reply::from(ReplyValue::Text(text));
        if let Call::Ask(question) = call {
            let ask = |reply| Input::Ask { question, reply };
            return self.handle.ask(ask).await.map(text);
        }
        if transaction == Transaction::Open {
            return Err(SqlError::new(
                codes::ACTIVE_TRANSACTION,
                "the monitor's functions cannot run inside a transaction block",
            )
            .with_hint("Each call is a transaction of its own: leave BEGIN away."));
        }
        if let Call::KeeperReport(json) = call {
            let report: Box<Report> = from_json(&json, "report")?;
            let session = (session.id, session.handle.clone());
            let at = clock::now();
            let ask = |reply| Input::Report {
                report,
                session,
                at,
                reply,
            };
            return self.handle.ask(ask).await.map(text);
        }
        if let Call::KeeperRegister(json) = call {
            let registration: Box<Registration> = from_json(&json, "registration")?;
            let ask = |reply| Input::Register {
                registration,
                reply,
            };
            return self.handle.ask(ask).await.map(text);
        }
        self.handle
            .ask(|reply| Input::Operate { call, reply })
            .await
    }

    async fn end_transaction(&self, _session: &SessionInfo, _commit: bool) -> Result<(), SqlError> {
        // Only reads run inside a transaction: there is nothing to end.
        Ok(())
    }

    fn subscribe(&self, session: &SessionInfo, channels: ChannelSet) {
        self.hub.subscribe(session, channels);
    }

    fn session_opened(&self, session: &SessionInfo) {
        tracing::debug!(session = %session.id, peer = %session.peer, "session opened");
    }

    fn session_closed(&self, session: &SessionInfo, how: Closed) {
        tracing::debug!(session = %session.id, ?how, "session closed");
        self.hub.forget(session.id);
        self.handle.tell_soon(Input::SessionClosed {
            session: session.id,
            how,
            at: clock::now(),
        });
    }

    async fn password_verifier(&self) -> Result<Option<ScramVerifier>, SqlError> {
        self.handle.ask(|reply| Input::Verifier { reply }).await
    }

    async fn set_password(
        &self,
        _session: &SessionInfo,
        verifier: Option<ScramVerifier>,
    ) -> Result<(), SqlError> {
        self.handle
            .ask(|reply| Input::SetPassword { verifier, reply })
            .await
    }
}
