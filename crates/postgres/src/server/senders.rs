//! Walsenders: who streams from here, how far, and ending them.

use std::time::Duration;

use pgaf_protocol::Lsn;
use tokio_postgres::types::PgLsn;

use super::limit::{Limit, Pace};
use super::observe::lsn;
use super::session::Session;
use super::{Server, ServerError};

/// One walsender, as a confirmation needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) sent: Lsn,
    pub(super) flushed: Lsn,
    /// The primary's own flush position, read after the walsender's.
    pub(super) own: Lsn,
}

impl Sender {
    /// Whether this standby really has everything up to `target`.
    ///
    /// On connecting, a receiver reports its own replay position as flushed: a diverged standby
    /// may claim more than it was ever sent, or more than there is (`safety.md` §2.5).
    pub(super) fn has_flushed(&self, target: Lsn) -> bool {
        self.state == "streaming"
            && self.flushed >= target
            && self.flushed <= self.sent
            && self.flushed <= self.own
    }
}

// The function scan is read whole before the first row is computed, so that the primary's own
// position is the later one.
const SQL: &str = "SELECT s.pid, coalesce(a.application_name, ''), coalesce(s.state, ''), \
           s.sent_lsn, s.flush_lsn, pg_catalog.pg_current_wal_flush_lsn() \
      FROM pg_catalog.pg_stat_get_wal_senders() s \
      LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(s.pid) a ON true \
     WHERE s.state IS DISTINCT FROM 'backup'";

/// All walsenders but those of base backups, which never act on the names.
pub(super) async fn list(session: &Session, limit: &Limit) -> Result<Vec<Sender>, ServerError> {
    let prepare = || session.client.prepare(SQL, limit.left());
    let statement = session
        .senders
        .get_or_try_init(prepare)
        .await
        .map_err(limit.failed())?;
    let rows = session
        .client
        .query_prepared(statement, &[], limit.left())
        .await
        .map_err(limit.failed())?;
    let position = |row: &tokio_postgres::Row, column: usize| {
        row.get::<_, Option<PgLsn>>(column)
            .map(lsn)
            .unwrap_or_default()
    };
    let sender = |row: &tokio_postgres::Row| Sender {
        pid: row.get(0),
        name: row.get(1),
        state: row.get(2),
        sent: position(row, 3),
        flushed: position(row, 4),
        own: position(row, 5),
    };
    Ok(rows.iter().map(sender).collect())
}

impl Server {
    /// Ends the walsenders of one `application_name` and waits until they are gone; answers how
    /// many there were. A frozen standby's would live for `wal_sender_timeout`. Measured: 5 to 22 ms.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn end_walsender(
        &self,
        application_name: &str,
        deadline: Duration,
    ) -> Result<usize, ServerError> {
        let limit = Limit::new("end a walsender", deadline);
        let session = self.session(&limit).await?;
        let sql = "SELECT pid, pg_catalog.pg_terminate_backend(pid) \
                     FROM pg_catalog.pg_stat_activity \
                    WHERE backend_type = 'walsender' AND application_name = $1";
        let name: &(dyn tokio_postgres::types::ToSql + Sync) = &application_name;
        let mut pace = Pace::new();
        let mut ended = std::collections::BTreeSet::new();
        loop {
            let rows = session
                .client
                .query(sql, &[name], limit.left())
                .await
                .map_err(limit.failed())?;
            if rows.is_empty() {
                return Ok(ended.len());
            }
            ended.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
            if limit.is_over() {
                return Err(limit.timed_out(format!("{} of {application_name} live", rows.len())));
            }
            pace.pause().await;
        }
    }
}
