//! What operators and joining nodes ask for. Each operation is checked in advance: it is refused
//! with a reason and a hint, and then nothing has changed.

mod maintain;
mod nodes;
mod register;
mod switch;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;

use pgaf_protocol::{FormationId, GroupId, NodeId};

pub use maintain::{start_maintenance, stop_maintenance};
pub use nodes::{
    remove_node, set_candidate_priority, set_number_sync_standbys, set_replication_quorum,
    update_metadata,
};
pub use register::register;
pub use switch::{Now, perform_failover, perform_promotion};

use super::model::{Cluster, Formation, Group, Kind, Refusal};

/// Highest candidate priority. Source: pg_auto_failover 2.2, `node_metadata.c`.
pub const MAX_PRIORITY: u32 = 100;

/// A new, empty formation.
///
/// # Errors
/// When there is one of that name.
pub fn create_formation(
    cluster: &mut Cluster,
    id: &FormationId,
    kind: Kind,
    dbname: &str,
    opt_secondary: bool,
    number_sync_standbys: u32,
) -> Result<(), Refusal> {
    if cluster.formations.contains_key(id) {
        return Err(Refusal::new(
            "23505",
            format!("formation \"{id}\" already exists"),
            "choose another name, or list formations with: pg_autoctl show uri",
        ));
    }
    let formation = Formation {
        id: id.clone(),
        kind,
        dbname: dbname.to_string(),
        opt_secondary,
        number_sync_standbys,
        number_set_by_hand: number_sync_standbys > 0,
        groups: BTreeMap::new(),
    };
    cluster.formations.insert(id.clone(), formation);
    Ok(())
}

/// Removes an empty formation.
///
/// # Errors
/// When there is none of that name, or it has nodes.
pub fn drop_formation(cluster: &mut Cluster, id: &FormationId) -> Result<(), Refusal> {
    let formation = formation_of(cluster, id, "XX000")?;
    if formation.groups.values().any(|g| !g.nodes.is_empty()) {
        return Err(Refusal::new(
            "23503",
            format!("formation \"{id}\" still has nodes"),
            "drop its nodes first: pg_autoctl drop node",
        ));
    }
    cluster.formations.remove(id);
    Ok(())
}

/// Where a node is.
#[must_use]
pub fn find(cluster: &Cluster, node: NodeId) -> Option<(FormationId, GroupId)> {
    cluster.formations.values().find_map(|f| {
        let group = f.groups.values().find(|g| g.nodes.contains_key(&node))?;
        Some((f.id.clone(), group.id))
    })
}

fn formation_of<'a>(
    cluster: &'a Cluster,
    id: &FormationId,
    sqlstate: &str,
) -> Result<&'a Formation, Refusal> {
    cluster
        .formations
        .get(id)
        .ok_or_else(|| unknown_formation(id, sqlstate))
}

fn formation_mut<'a>(
    cluster: &'a mut Cluster,
    id: &FormationId,
    sqlstate: &str,
) -> Result<&'a mut Formation, Refusal> {
    cluster
        .formations
        .get_mut(id)
        .ok_or_else(|| unknown_formation(id, sqlstate))
}

fn unknown_formation(id: &FormationId, sqlstate: &str) -> Refusal {
    Refusal::new(
        sqlstate,
        format!("unknown formation \"{id}\""),
        "list formations with: pg_autoctl show uri",
    )
}

fn unknown_node(node: NodeId) -> Refusal {
    Refusal::new(
        "42704",
        format!("couldn't find node with nodeid {node}"),
        "list the nodes with: pg_autoctl show state",
    )
}

fn group_mut<'a>(
    cluster: &'a mut Cluster,
    formation: &FormationId,
    group: GroupId,
) -> Result<&'a mut Group, Refusal> {
    formation_mut(cluster, formation, "22023")?
        .groups
        .get_mut(&group)
        .ok_or_else(|| {
            Refusal::new(
                "22023",
                format!("formation \"{formation}\" has no group {group}"),
                "list the nodes with: pg_autoctl show state",
            )
        })
}
