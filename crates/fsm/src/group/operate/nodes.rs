//! Removing nodes, and changing what they are.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use pgaf_protocol::{FormationId, NodeId, Settings, Time};

use super::switch::nobody;
use super::{MAX_PRIORITY, find, formation_mut, formation_of, group_mut, unknown_node};
use crate::citus::is_read_replica;
use crate::group::candidates;
use crate::group::elect::event;
use crate::group::facts::{Facts, FormationView};
use crate::group::fold;
use crate::group::live::LiveGroup;
use crate::group::model::{Cluster, Event, Node, Refusal};

/// Removes a node: by its own keeper, or at once with `force`.
///
/// # Errors
/// When there is no such node, or it is the primary and nobody can take over.
pub fn remove_node(
    cluster: &mut Cluster,
    node: NodeId,
    force: bool,
    live: &LiveGroup,
    settings: &Settings,
    now: Time,
) -> Result<Vec<Event>, Refusal> {
    let Some((formation, group_id)) = find(cluster, node) else {
        return Err(unknown_node(node));
    };
    let view = FormationView::from(formation_of(cluster, &formation, "42704")?);
    let group = group_mut(cluster, &formation, group_id)?;
    let mut events = Vec::new();
    if force {
        fold::remove(group, node, &mut events);
        cluster.dropped.insert(node);
        return Ok(events);
    }
    let before = group.clone();
    let phase_since = live.phase_since;
    let facts = Facts {
        formation: &view,
        group: &before,
        live,
        settings,
        now,
        phase_since,
    };
    let is_primary = before.primary.is_some_and(|l| l.node == node);
    let others = before.nodes.values().any(|n| n.id != node && !n.leaving);
    if is_primary && others && candidates::move_candidates(&facts, None).is_empty() {
        let mut refusal = nobody(&facts, None);
        refusal.hint = Some(
            "drop the standbys first, or remove it at once with: pg_autoctl drop node --force"
                .to_string(),
        );
        return Err(refusal);
    }
    if let Some(row) = group.nodes.get_mut(&node) {
        row.leaving = true;
    }
    events.push(event(
        group,
        node,
        "operator.drop",
        "an operator removes this node".to_string(),
    ));
    cluster.dropped.insert(node);
    Ok(events)
}

/// Sets a node's candidate priority.
///
/// # Errors
/// When there is no such node, or the number is above 100.
pub fn set_candidate_priority(
    cluster: &mut Cluster,
    formation: &FormationId,
    name: &str,
    priority: i64,
) -> Result<NodeId, Refusal> {
    let priority = u32::try_from(priority)
        .ok()
        .filter(|p| *p <= MAX_PRIORITY)
        .ok_or_else(|| {
            Refusal::new(
                "22023",
                format!("invalid value for candidate_priority \"{priority}\""),
                "candidate_priority must be between 0 (never primary) and 100",
            )
        })?;
    let node = named(cluster, formation, name)?;
    if is_read_replica(&node.cluster) && priority != 0 {
        return Err(Refusal::new(
            "22023",
            format!(
                "node \"{name}\" is a read replica of Citus cluster \"{}\": its candidate priority stays 0",
                node.cluster
            ),
            "a node that may become primary is created without --citus-secondary",
        ));
    }
    node.candidate_priority = priority;
    Ok(node.id)
}

/// Sets whether a node's acknowledgement counts.
///
/// # Errors
/// When there is no such node.
pub fn set_replication_quorum(
    cluster: &mut Cluster,
    formation: &FormationId,
    name: &str,
    quorum: bool,
) -> Result<NodeId, Refusal> {
    let node = named(cluster, formation, name)?;
    node.replication_quorum = quorum;
    Ok(node.id)
}

/// Sets how many standbys must have a commit.
///
/// # Errors
/// When the formation is unknown, the number is negative, or no group has that many standbys.
pub fn set_number_sync_standbys(
    cluster: &mut Cluster,
    id: &FormationId,
    number: i64,
) -> Result<(), Refusal> {
    let formation = formation_mut(cluster, id, "22023")?;
    let most = formation
        .groups
        .values()
        .map(|g| {
            g.nodes
                .values()
                .filter(|n| n.replication_quorum && !n.leaving)
                .count()
        })
        .max()
        .unwrap_or(0)
        .saturating_sub(2);
    let wanted = u32::try_from(number)
        .ok()
        .filter(|n| usize::try_from(*n).is_ok_and(|n| n <= most));
    let Some(wanted) = wanted else {
        return Err(Refusal::new(
            "22023",
            format!("invalid value for number_sync_standbys: \"{number}\""),
            format!(
                "it must be between 0 and {most}: one less than the standbys of the largest group that are in the replication quorum"
            ),
        ));
    };
    formation.number_sync_standbys = wanted;
    formation.number_set_by_hand = true;
    Ok(())
}

/// A node's name or address changed; its id does not.
///
/// # Errors
/// When there is no such node, or the name or address is another's.
pub fn update_metadata(
    cluster: &mut Cluster,
    node: NodeId,
    name: Option<&str>,
    host: Option<&str>,
    port: Option<u16>,
) -> Result<(), Refusal> {
    let Some((formation, group)) = find(cluster, node) else {
        return Err(unknown_node(node));
    };
    let old = group_mut(cluster, &formation, group)?.nodes[&node].clone();
    let (host, port) = (host.unwrap_or(&old.host), port.unwrap_or(old.port));
    let name = name.unwrap_or(&old.name);
    check_free(cluster, &formation, Some(node), name, host, port)?;
    if let Some(row) = group_mut(cluster, &formation, group)?.nodes.get_mut(&node) {
        row.name = name.to_string();
        row.host = host.to_string();
        row.port = port;
    }
    Ok(())
}

pub(super) fn check_free(
    cluster: &Cluster,
    formation: &FormationId,
    but: Option<NodeId>,
    name: &str,
    host: &str,
    port: u16,
) -> Result<(), Refusal> {
    for f in cluster.formations.values() {
        for node in f
            .groups
            .values()
            .flat_map(|g| g.nodes.values())
            .filter(|n| Some(n.id) != but)
        {
            if node.host == host && node.port == port {
                return Err(Refusal::new(
                    "23505",
                    format!(
                        "node {} \"{}\" of formation \"{}\" is at {host}:{port} already",
                        node.id, node.name, f.id
                    ),
                    "choose another port, or drop that node first: pg_autoctl drop node",
                ));
            }
            if f.id == *formation && node.name == name {
                return Err(Refusal::new(
                    "23505",
                    format!(
                        "formation \"{formation}\" has a node named \"{name}\" already: node {} at {}:{}",
                        node.id, node.host, node.port
                    ),
                    "choose another name with --name, or drop that node first: pg_autoctl drop node",
                ));
            }
        }
    }
    Ok(())
}

fn named<'a>(
    cluster: &'a mut Cluster,
    formation: &FormationId,
    name: &str,
) -> Result<&'a mut Node, Refusal> {
    let missing = Refusal::new(
        "42704",
        format!("node \"{name}\" is not in formation \"{formation}\""),
        "list the nodes with: pg_autoctl show state",
    );
    formation_mut(cluster, formation, "42704")?
        .groups
        .values_mut()
        .flat_map(|g| g.nodes.values_mut())
        .find(|n| n.name == name)
        .ok_or(missing)
}
