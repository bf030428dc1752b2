//! Our replication slots, nobody else's.
//!
//! The slot of a standby is the gate through which it connects (`safety.md` §2.5): made only for an
//! admitted copy. Until then a slot of another name holds the WAL that it will need.

use std::time::Duration;

use pgaf_protocol::{Lsn, STANDBY_NAME_PREFIX};
use tokio_postgres::types::PgLsn;

use super::limit::Limit;
use super::{Server, ServerError};
use crate::client::Client;

/// Prefix of the slots that hold WAL for standbys that are not admitted yet.
pub const HOLD_PREFIX: &str = "pgautofailover_hold_";

/// What [`Server::ensure_slots`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotChanges {
    /// Made.
    pub created: Vec<String>,
    /// Removed.
    pub dropped: Vec<String>,
    /// To be removed, and still in use: end their walsenders and repeat.
    pub busy: Vec<String>,
}

/// A slot of ours as it is.
struct Slot {
    name: String,
    active: bool,
    /// Its WAL is gone: it holds nothing and serves nobody.
    lost: bool,
}

impl Server {
    /// Makes our slots exactly `wanted` plus `hold`, without losing WAL in between: a wanted slot
    /// whose standby has a hold slot (`pgautofailover_hold_N` for `pgautofailover_standby_N`) is
    /// copied from it before that one goes. A slot whose WAL is gone is made anew.
    ///
    /// Works on a standby as well, from what it has replayed.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn ensure_slots(
        &self,
        wanted: &[String],
        hold: &[String],
        deadline: Duration,
    ) -> Result<SlotChanges, ServerError> {
        let limit = Limit::new("arrange replication slots", deadline);
        let session = self.session(&limit).await?;
        let client = &session.client;
        let mut slots = ours(client, &limit).await?;
        let mut changes = SlotChanges::default();
        for slot in slots.extract_if(.., |s| s.lost && !s.active) {
            drop_slot(client, &slot.name, &limit).await?;
            changes.dropped.push(slot.name);
        }
        for name in hold.iter().chain(wanted) {
            if slots.iter().any(|s| s.name == *name) {
                continue;
            }
            let source = name
                .strip_prefix(STANDBY_NAME_PREFIX)
                .map(|n| format!("{HOLD_PREFIX}{n}"));
            let source = source.filter(|s| slots.iter().any(|slot| slot.name == *s));
            create(client, name, source.as_deref(), &limit).await?;
            slots.push(Slot {
                name: name.clone(),
                active: false,
                lost: false,
            });
            changes.created.push(name.clone());
        }
        for slot in slots {
            if wanted.contains(&slot.name) || hold.contains(&slot.name) {
                continue;
            }
            if slot.active {
                changes.busy.push(slot.name);
            } else {
                drop_slot(client, &slot.name, &limit).await?;
                changes.dropped.push(slot.name);
            }
        }
        Ok(changes)
    }
}

impl Server {
    /// Lets go of WAL that others have received: moves slots of ours that nobody uses forward to
    /// the given positions, at most to what is replayed here. For standbys, whose slots hold WAL
    /// for the time after a promotion. Slots that are missing or further on are passed over.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn advance_slots(
        &self,
        positions: &[(String, Lsn)],
        deadline: Duration,
    ) -> Result<(), ServerError> {
        // One statement: the position is compared, so that the slot never seems to go back.
        const SQL: &str = "SELECT pg_catalog.pg_replication_slot_advance(s.slot_name, least($2, p.l))::text \
               FROM pg_catalog.pg_replication_slots s, \
                    (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
                                 THEN pg_catalog.pg_last_wal_replay_lsn() \
                                 ELSE pg_catalog.pg_current_wal_flush_lsn() END AS l) p \
              WHERE s.slot_name = $1::text AND NOT s.active AND s.restart_lsn < least($2, p.l)";
        let limit = Limit::new("advance replication slots", deadline);
        let session = self.session(&limit).await?;
        for (name, position) in positions {
            let position = PgLsn::from(position.0);
            let rows = session
                .client
                .query(SQL, &[name, &position], limit.left())
                .await;
            rows.map_err(limit.failed())?;
        }
        Ok(())
    }
}

async fn ours(client: &Client, limit: &Limit) -> Result<Vec<Slot>, ServerError> {
    let prefixes = [STANDBY_NAME_PREFIX, HOLD_PREFIX];
    // `wal_status` exists from 13 on; a slot that lost its WAL has no restart_lsn in any version.
    // A fresh one without a reservation has none either: ours always reserve at once.
    let rows = client
        .query(
            "SELECT slot_name::text, active, restart_lsn IS NULL \
               FROM pg_catalog.pg_replication_slots \
              WHERE slot_type = 'physical' AND NOT temporary",
            &[],
            limit.left(),
        )
        .await
        .map_err(limit.failed())?;
    let slots = rows.iter().map(|row| Slot {
        name: row.get(0),
        active: row.get(1),
        lost: row.get(2),
    });
    Ok(slots
        .filter(|s| prefixes.iter().any(|p| s.name.starts_with(p)))
        .collect())
}

async fn create(
    client: &Client,
    name: &str,
    source: Option<&str>,
    limit: &Limit,
) -> Result<(), ServerError> {
    let result = match source {
        Some(source) => {
            let sql =
                "SELECT pg_catalog.pg_copy_physical_replication_slot($1::text, $2::text)::text";
            client.query(sql, &[&source, &name], limit.left()).await
        }
        None => {
            let sql = "SELECT pg_catalog.pg_create_physical_replication_slot($1::text, true)::text";
            client.query(sql, &[&name], limit.left()).await
        }
    };
    match result {
        Ok(_) => Ok(()),
        // 42710: there already.
        Err(e) if e.code() == Some("42710") => Ok(()),
        Err(e) => Err(limit.failed()(e)),
    }
}

async fn drop_slot(client: &Client, name: &str, limit: &Limit) -> Result<(), ServerError> {
    let sql = "SELECT pg_catalog.pg_drop_replication_slot($1::text)::text";
    match client.query(sql, &[&name], limit.left()).await {
        Ok(_) => Ok(()),
        // 42704: gone already.
        Err(e) if e.code() == Some("42704") => Ok(()),
        Err(e) => Err(limit.failed()(e)),
    }
}
