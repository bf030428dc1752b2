//! `enable maintenance` and `disable maintenance`.

use alloc::format;
use alloc::vec::Vec;

use pgaf_protocol::NodeId;

use super::switch::{Now, check_doubt, no_primary, nobody};
use super::{find, formation_of, group_mut, unknown_node};
use crate::group::candidates;
use crate::group::elect::event;
use crate::group::facts::FormationView;
use crate::group::model::{Cluster, Event, Phase, Refusal};

/// A node is to stand back for an operator. A standby first leaves the names; a primary first hands
/// over, as in a switchover. Asking again changes nothing.
///
/// # Errors
/// When there is no such node, or the group could not do without it now: it is then as it was.
pub fn start_maintenance(
    cluster: &mut Cluster,
    node: NodeId,
    at: Now<'_>,
) -> Result<Vec<Event>, Refusal> {
    let Some((formation, group_id)) = find(cluster, node) else {
        return Err(unknown_node(node));
    };
    let view = FormationView::from(formation_of(cluster, &formation, "42704")?);
    let group = group_mut(cluster, &formation, group_id)?;
    let before = group.clone();
    let facts = at.facts(&view, &before);
    check_doubt(&before, at.live)?;
    let Some(row) = before.nodes.get(&node) else {
        return Err(unknown_node(node));
    };
    if row.maintenance {
        return Ok(Vec::new());
    }
    if row.leaving {
        return Err(Refusal::new(
            "55000",
            format!("node {node} \"{}\" is being removed", row.name),
            "see what it waits for with: pg_autoctl inspect explain",
        ));
    }
    if !matches!(before.phase, Phase::Steady) {
        return Err(Refusal::new(
            "55000",
            "a change of primary is under way: maintenance cannot begin now",
            "see what it waits for with: pg_autoctl inspect explain, and repeat the command",
        ));
    }
    if let Some(leader) = before.primary {
        if facts.verdict(leader.node).is_gone() || !facts.leader_writes() {
            return Err(no_primary(&facts, leader));
        }
        if leader.node == node && candidates::move_candidates(&facts, None).is_empty() {
            return Err(nobody(&facts, None));
        }
    }
    if let Some(row) = group.nodes.get_mut(&node) {
        row.maintenance = true;
    }
    let text = format!("an operator wants to maintain node {node} \"{}\"", row.name);
    Ok(alloc::vec![event(
        group,
        node,
        "operator.enable-maintenance",
        text
    )])
}

/// A node comes back from maintenance, or does not go there after all.
///
/// # Errors
/// When there is no such node, or nobody maintains it.
pub fn stop_maintenance(cluster: &mut Cluster, node: NodeId) -> Result<Vec<Event>, Refusal> {
    let Some((formation, group_id)) = find(cluster, node) else {
        return Err(unknown_node(node));
    };
    let group = group_mut(cluster, &formation, group_id)?;
    let Some(row) = group.nodes.get_mut(&node) else {
        return Err(unknown_node(node));
    };
    if !row.maintenance {
        return Err(Refusal::new(
            "55000",
            format!(
                "cannot stop maintenance: node {node} \"{}\" is {}, not in maintenance",
                row.name, row.goal.state
            ),
            "list the states with: pg_autoctl show state",
        ));
    }
    row.maintenance = false;
    let text = format!(
        "an operator ends the maintenance of node {node} \"{}\"",
        row.name
    );
    Ok(alloc::vec![event(
        group,
        node,
        "operator.disable-maintenance",
        text
    )])
}
