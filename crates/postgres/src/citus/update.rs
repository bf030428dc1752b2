//! Changes of node metadata: each is one transaction.

use std::time::Duration;

use super::{CitusError, Session};
use crate::client::QueryError;

/// Zero rows: a higher term stands there.
const RAISE: &str = "INSERT INTO pgaf.citus_group AS known (groupid, term) VALUES ($1, $2) \
     ON CONFLICT (groupid) DO UPDATE SET term = EXCLUDED.term \
     WHERE known.term <= EXCLUDED.term RETURNING 1";

const UPDATE: &str =
    "SELECT pg_catalog.citus_update_node($1, $2, $3, force => $4, lock_cooldown => $5)";

const ADD: &str =
    "SELECT pg_catalog.citus_add_node($1, $2, $3, $4::text::pg_catalog.noderole, $5::text::name)";

const ACTIVATE: &str = "SELECT pg_catalog.citus_activate_node($1, $2)";

const REMOVE: &str = "SELECT pg_catalog.citus_remove_node($1, $2)";

/// Milliseconds before statements that stand in the way of a forced update are ended: those that
/// end by themselves do so sooner, the others hang on a node that is gone. Chosen.
const COOLDOWN_MS: i32 = 100;

/// Which group's row is changed, and to what term it is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Guard {
    group: i32,
    term: u64,
}

impl Session {
    /// Points the row `id` of a group to its primary, now. Statements that stand in the way are
    /// ended: its old address is no primary any more.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn set(
        &self,
        (group, term): (i32, u64),
        id: i32,
        (host, port): (&str, u16),
        limit: Duration,
    ) -> Result<(), CitusError> {
        let doing = "set a group's primary in the node metadata";
        self.in_transaction(doing, limit, "COMMIT", async || {
            self.raise(Guard { group, term }, doing, limit).await?;
            self.update_node(id, (host, port), true, doing, limit).await
        })
        .await
    }

    /// Prepares that under a name. From then on writes that start here and go to the group's
    /// shards wait.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn hold(
        &self,
        (group, term): (i32, u64),
        id: i32,
        (host, port): (&str, u16),
        force: bool,
        gid: &str,
        limit: Duration,
    ) -> Result<(), CitusError> {
        let doing = "prepare a group's next primary in the node metadata";
        let end = format!("PREPARE TRANSACTION {}", literal(gid));
        self.in_transaction(doing, limit, &end, async || {
            self.raise(Guard { group, term }, doing, limit).await?;
            self.update_node(id, (host, port), force, doing, limit)
                .await
        })
        .await
    }

    /// Commits a prepared update; one that is not there any more has been committed or rolled back
    /// before, which the next look tells.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn commit_prepared(&self, gid: &str, limit: Duration) -> Result<(), CitusError> {
        self.finish("COMMIT", gid, "commit a prepared update", limit)
            .await
    }

    /// Rolls a prepared update back.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn rollback_prepared(&self, gid: &str, limit: Duration) -> Result<(), CitusError> {
        self.finish("ROLLBACK", gid, "roll a prepared update back", limit)
            .await
    }

    /// Notes that a group's row, as it stands, is that of this term.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn raise_term(
        &self,
        group: i32,
        term: u64,
        limit: Duration,
    ) -> Result<(), CitusError> {
        self.raise(Guard { group, term }, "note a group's term", limit)
            .await
    }

    /// Lists a group's primary, and activates it. Reaches that node.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn add(
        &self,
        (group, term): (i32, u64),
        (host, port): (&str, u16),
        limit: Duration,
    ) -> Result<(), CitusError> {
        let doing = "add a node";
        self.in_transaction(doing, limit, "COMMIT", async || {
            self.raise(Guard { group, term }, doing, limit).await?;
            self.call(
                ADD,
                &[&host, &i32::from(port), &group, &"primary", &"default"],
                doing,
                limit,
            )
            .await
        })
        .await
    }

    /// Lists a read replica.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn add_replica(
        &self,
        group: i32,
        cluster: &str,
        (host, port): (&str, u16),
        limit: Duration,
    ) -> Result<(), CitusError> {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&host, &i32::from(port), &group, &"secondary", &cluster];
        self.call(ADD, &params, "add a read replica", limit).await
    }

    /// Activates a row that is listed.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn activate(
        &self,
        (host, port): (&str, u16),
        limit: Duration,
    ) -> Result<(), CitusError> {
        self.call(
            ACTIVATE,
            &[&host, &i32::from(port)],
            "activate a node",
            limit,
        )
        .await
    }

    /// Takes a row out; Citus refuses while shards are placed there.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn remove(
        &self,
        guard: Option<(i32, u64)>,
        (host, port): (&str, u16),
        limit: Duration,
    ) -> Result<(), CitusError> {
        let doing = "remove a node";
        self.in_transaction(doing, limit, "COMMIT", async || {
            if let Some((group, term)) = guard {
                self.raise(Guard { group, term }, doing, limit).await?;
            }
            self.call(REMOVE, &[&host, &i32::from(port)], doing, limit)
                .await
        })
        .await
    }

    async fn update_node(
        &self,
        id: i32,
        (host, port): (&str, u16),
        force: bool,
        doing: &'static str,
        limit: Duration,
    ) -> Result<(), CitusError> {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&id, &host, &i32::from(port), &force, &COOLDOWN_MS];
        self.call(UPDATE, &params, doing, limit).await
    }

    async fn raise(
        &self,
        guard: Guard,
        doing: &'static str,
        limit: Duration,
    ) -> Result<(), CitusError> {
        let Guard { group, term } = guard;
        let rows = self
            .client
            .query(RAISE, &[&group, &term.cast_signed()], limit)
            .await
            .map_err(CitusError::of(doing))?;
        if rows.is_empty() {
            return Err(CitusError::Superseded { group, term });
        }
        Ok(())
    }

    async fn call(
        &self,
        sql: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
        doing: &'static str,
        limit: Duration,
    ) -> Result<(), CitusError> {
        let answer = self.client.query(sql, params, limit).await;
        answer.map(drop).map_err(CitusError::of(doing))
    }

    async fn finish(
        &self,
        how: &str,
        gid: &str,
        doing: &'static str,
        limit: Duration,
    ) -> Result<(), CitusError> {
        let sql = format!("{how} PREPARED {}", literal(gid));
        match self.client.batch(&sql, limit).await {
            Ok(()) => Ok(()),
            // Done before: undefined_object.
            Err(QueryError::Server { code, .. }) if code == "42704" => Ok(()),
            Err(error) => Err(CitusError::of(doing)(error)),
        }
    }

    /// Runs a transaction that gives up by itself before the deadline: a session that is only
    /// dropped would go on waiting for its lock, and hold up all others behind it.
    async fn in_transaction(
        &self,
        doing: &'static str,
        limit: Duration,
        end: &str,
        work: impl AsyncFnOnce() -> Result<(), CitusError>,
    ) -> Result<(), CitusError> {
        let failed = CitusError::of(doing);
        let ms = (limit * 4 / 5).as_millis().max(1);
        let begin =
            format!("BEGIN; SET LOCAL lock_timeout = {ms}; SET LOCAL statement_timeout = {ms}");
        self.client.batch(&begin, limit).await.map_err(&failed)?;
        let done = match work().await {
            Ok(()) => self.client.batch(end, limit).await.map_err(failed),
            Err(error) => Err(error),
        };
        if let Err(error) = &done
            && !error.is_lost()
        {
            // What cannot be rolled back is ended with its session.
            let _ended = self.client.batch("ROLLBACK", limit).await;
        }
        done
    }
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
