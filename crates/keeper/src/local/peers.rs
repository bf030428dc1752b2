//! Looking at other nodes' Postgres: before a former primary opens by itself, and as a witness.

use std::time::Duration;

use pgaf_fsm::node::Outcome;
use pgaf_postgres::client::{self, ConnectError, Options};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_protocol::{Peer, TimelineId};

use super::Local;

/// For one node to answer (`probe_deadline`'s default).
const LIMIT: Duration = Duration::from_secs(1);

/// The timeline a server writes or has received. A primary that was promoted just now has not
/// written a checkpoint yet: its WAL file's name says it.
const TIMELINE: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN greatest((SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), \
                   (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver))::int4 \
     ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))\
          ::bit(32)::int4 END";

impl Local {
    /// Whether any peer has a newer timeline than this copy.
    pub(super) async fn ask_peers(&self) -> Outcome {
        let own = self
            .known
            .borrow()
            .directory
            .as_ref()
            .and_then(|directory| directory.contents().map(|c| c.timeline));
        let peers = self.journal().peers.clone();
        let answers =
            futures::future::join_all(peers.iter().map(|peer| timeline(self.source(peer)))).await;
        let newest = answers.into_iter().flatten().max();
        tracing::info!(?newest, ?own, "asked the other nodes");
        Outcome::Peers {
            newer: newest > own,
        }
    }

    /// The node that the local standby follows, when a message came from it within `limit`.
    pub(crate) async fn heard_within(&self, limit: Duration) -> Option<pgaf_protocol::NodeId> {
        self.postmaster()?;
        let sql = self.server().observe(LIMIT).await.ok()?;
        let age = sql.receiver?.last_message_age?;
        let upstream = self.journal().upstream.as_ref()?.node;
        (age <= limit).then_some(upstream)
    }

    /// How to reach a peer as a witness.
    pub(crate) fn witness(&self, peer: &Peer) -> Conninfo {
        self.source(peer)
    }
}

fn options() -> Options {
    Options {
        connect_timeout: LIMIT,
        application_name: "pgaf keeper".into(),
    }
}

async fn timeline(source: Conninfo) -> Option<TimelineId> {
    let client = client::connect(&source, &options()).await.ok()?;
    let row = client.query_one(TIMELINE, &[], LIMIT).await.ok()?;
    let number: i32 = row.try_get(0).ok()?;
    u32::try_from(number).ok().map(TimelineId)
}

/// Whether a fresh connection gets an answer: a refusal of the login is one too.
pub(crate) async fn answers(source: Conninfo) -> bool {
    match client::connect(&source, &options()).await {
        Ok(_) => true,
        Err(
            ConnectError::Auth { .. }
            | ConnectError::NoSuchDatabase { .. }
            | ConnectError::NotReady { .. }
            | ConnectError::WrongRole { .. },
        ) => true,
        // An error of the server's own carries a code; a session cut short does not.
        Err(ConnectError::Failed { code, .. }) => code.is_some(),
        Err(
            ConnectError::Refused { .. }
            | ConnectError::TimedOut { .. }
            | ConnectError::Unreachable { .. }
            | ConnectError::Tls { .. },
        ) => false,
    }
}
