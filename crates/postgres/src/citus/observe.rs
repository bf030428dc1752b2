//! What the node metadata says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CitusError, Session};

const NODES: &str = "SELECT nodeid, groupid, nodename::text, nodeport, noderole::text, \
     nodecluster::text, isactive, metadatasynced \
     FROM pg_catalog.pg_dist_node ORDER BY groupid, nodeid";

const TERMS: &str = "SELECT groupid, term FROM pgaf.citus_group";

const PREPARED: &str = "SELECT gid FROM pg_catalog.pg_prepared_xacts \
     WHERE database = pg_catalog.current_database() AND gid LIKE 'pgaf %' ORDER BY gid";

/// A row of `pg_dist_node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `nodeid`.
    pub id: i32,
    /// `groupid`.
    pub group: i32,
    /// `nodename`.
    pub host: String,
    /// `nodeport`.
    pub port: u16,
    /// `noderole` is `primary`.
    pub primary: bool,
    /// `nodecluster`.
    pub cluster: String,
    /// `isactive`.
    pub active: bool,
    /// `metadatasynced`.
    pub synced: bool,
}

/// Node metadata, terms and prepared updates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// `pg_dist_node`.
    pub nodes: Vec<Node>,
    /// Our own table.
    pub terms: BTreeMap<i32, u64>,
    /// Names of prepared updates of ours.
    pub prepared: Vec<String>,
}

impl Session {
    /// Reads them, one after another: what is prepared last, so that an update which is committed
    /// in between is seen as done or as prepared, never as neither.
    ///
    /// # Errors
    /// [`CitusError`].
    pub async fn observe(&self, limit: Duration) -> Result<Observed, CitusError> {
        let failed = CitusError::of("read the node metadata");
        let query = async |sql: &str| self.client.query(sql, &[], limit).await;
        let mut prepared: Vec<String> = Vec::new();
        for row in query(PREPARED).await.map_err(&failed)? {
            prepared.push(row.get(0));
        }
        let mut terms = BTreeMap::new();
        for row in query(TERMS).await.map_err(&failed)? {
            terms.insert(row.get(0), row.get::<_, i64>(1).cast_unsigned());
        }
        let mut nodes = Vec::new();
        for row in query(NODES).await.map_err(&failed)? {
            nodes.push(Node {
                id: row.get(0),
                group: row.get(1),
                host: row.get(2),
                port: u16::try_from(row.get::<_, i32>(3)).unwrap_or_default(),
                primary: row.get::<_, String>(4) == "primary",
                cluster: row.get(5),
                active: row.get(6),
                synced: row.get(7),
            });
        }
        Ok(Observed {
            nodes,
            terms,
            prepared,
        })
    }
}
