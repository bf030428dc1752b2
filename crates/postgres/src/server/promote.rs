//! Promotion.

use std::time::Duration;

use pgaf_protocol::{Lsn, TimelineId};

use super::limit::{Limit, Pace};
use super::{PgTime, Server, ServerError};

/// A promotion that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// The new timeline.
    pub timeline: TimelineId,
    /// Where its WAL is.
    pub lsn: Lsn,
    /// The run of the postmaster.
    pub postmaster_start: PgTime,
    /// How long it took.
    pub took: Duration,
}

/// How often sessions that hold replay up are looked for. Chosen: a promotion without any takes
/// less.
const LOOK_FOR_HOLDERS: Duration = Duration::from_millis(50);

impl Server {
    /// Promotes, and waits until the server accepts writes. A server that is promoted already
    /// answers at once. Sessions that hold replay up are ended: `pg_promote` would wait for them.
    ///
    /// Measured on Postgres 15: 38 to 113 ms, nearly all of it between "selected new timeline" and
    /// "archive recovery complete" in the server's log: it copies and syncs the last WAL segment.
    ///
    /// `pg_promote`'s own waiting looks every 100 ms; this looks every 1 to 10 ms.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn promote(&self, deadline: Duration) -> Result<Promoted, ServerError> {
        let limit = Limit::new("promote the local Postgres", deadline);
        let mut pace = Pace::new();
        let mut looked = Duration::ZERO;
        let mut asked = false;
        while self.in_recovery(&limit).await? {
            if limit.is_over() {
                return Err(limit.timed_out("still in recovery"));
            }
            if !asked {
                let session = self.session(&limit).await?;
                let sql = "SELECT pg_catalog.pg_promote(false)";
                session
                    .client
                    .query_one(sql, &[], limit.left())
                    .await
                    .map_err(limit.failed())?;
                asked = true;
            } else if limit.elapsed() > looked + LOOK_FOR_HOLDERS {
                looked = limit.elapsed();
                if let Some(startup) = self.startup(&limit).await? {
                    self.end_holders(&startup, true, &limit).await?;
                }
            }
            pace.pause().await;
        }
        let took = limit.elapsed();
        let seen = self.observe(limit.left()).await?;
        Ok(Promoted {
            timeline: seen.timeline,
            lsn: seen.lsn,
            postmaster_start: seen.postmaster_start,
            took,
        })
    }

    async fn in_recovery(&self, limit: &Limit) -> Result<bool, ServerError> {
        let session = self.session(limit).await?;
        let sql = "SELECT pg_catalog.pg_is_in_recovery()";
        let row = session.client.query_one(sql, &[], limit.left()).await;
        Ok(row.map_err(limit.failed())?.get(0))
    }
}
