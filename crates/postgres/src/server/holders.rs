//! Sessions that hold replay up.

use super::limit::Limit;
use super::{Server, ServerError};

/// What the startup process of a standby is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Startup {
    wait_event: Option<String>,
    pid: i32,
}

impl Startup {
    /// Everything on disk is replayed: it waits for WAL that is not there.
    pub(super) fn waits_for_wal(&self) -> bool {
        matches!(
            self.wait_event.as_deref(),
            Some("RecoveryWalStream" | "RecoveryWalAll" | "RecoveryRetrieveRetryInterval")
        )
    }
}

impl Server {
    /// The startup process, when there is one.
    pub(super) async fn startup(&self, limit: &Limit) -> Result<Option<Startup>, ServerError> {
        let session = self.session(limit).await?;
        let sql = "SELECT pid, wait_event FROM pg_catalog.pg_stat_activity \
                    WHERE backend_type = 'startup'";
        let rows = session
            .client
            .query(sql, &[], limit.left())
            .await
            .map_err(limit.failed())?;
        Ok(rows.first().map(|row| Startup {
            pid: row.get(0),
            wait_event: row.get(1),
        }))
    }

    /// Ends the sessions for which the startup process waits; answers their process ids.
    ///
    /// A lock names its holders. A snapshot, buffer pin or tablespace conflict does not: then all
    /// client sessions that hold a snapshot go. Before 14 such a conflict shows no wait event: the
    /// caller says by `stalled` that replay has not moved.
    pub(super) async fn end_holders(
        &self,
        startup: &Startup,
        stalled: bool,
        limit: &Limit,
    ) -> Result<Vec<i32>, ServerError> {
        const OF_LOCKS: &str = "SELECT h.pid, pg_catalog.pg_terminate_backend(h.pid) \
               FROM pg_catalog.pg_locks w JOIN pg_catalog.pg_locks h \
                 ON h.locktype = w.locktype AND h.database IS NOT DISTINCT FROM w.database \
                AND h.relation IS NOT DISTINCT FROM w.relation AND h.granted AND h.pid <> w.pid \
              WHERE w.pid = $1 AND NOT w.granted";
        const OF_SNAPSHOTS: &str = "SELECT pid, pg_catalog.pg_terminate_backend(pid) \
               FROM pg_catalog.pg_stat_activity \
              WHERE backend_type = 'client backend' AND pid NOT IN ($1, pg_catalog.pg_backend_pid()) \
                AND backend_xmin IS NOT NULL";
        let session = self.session(limit).await?;
        let hidden = stalled && session.version_num < 140_000;
        let sql = match startup.wait_event.as_deref() {
            Some("relation" | "RecoveryConflictLock" | "object" | "advisory") => OF_LOCKS,
            Some("RecoveryConflictSnapshot" | "RecoveryConflictTablespace" | "BufferPin") => {
                OF_SNAPSHOTS
            }
            None if hidden => OF_SNAPSHOTS,
            Some(_) | None => return Ok(Vec::new()),
        };
        let rows = session
            .client
            .query(sql, &[&startup.pid], limit.left())
            .await;
        let pids: Vec<i32> = rows
            .map_err(limit.failed())?
            .iter()
            .map(|row| row.get(0))
            .collect();
        if !pids.is_empty() {
            tracing::warn!(?pids, event = ?startup.wait_event, "ended sessions that hold up replay");
        }
        Ok(pids)
    }
}
