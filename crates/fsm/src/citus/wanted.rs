//! The monitor's half: from the groups of a formation to the wanted list.

use alloc::string::String;
use alloc::vec::Vec;

use pgaf_protocol::{
    CitusOrders, GroupId, Metadata, MetadataSeen, NodeId, NodeState, Removal, Replica, Stage, Term,
    WantedRow,
};

use super::view::metadata;
use crate::group::{Formation, Group, Kind, LiveGroup, Node, Phase};

/// The Citus cluster that takes writes.
const DEFAULT_CLUSTER: &str = "default";

/// The node metadata that a formation wants. A group that is not named keeps its row, whatever it
/// says; only a group that an operator emptied is removed.
#[must_use]
pub fn wanted(formation: &Formation) -> Metadata {
    let groups = || formation.groups.values().filter(|g| g.doubted.is_none());
    Metadata {
        rows: groups().filter_map(row).collect(),
        replicas: groups().flat_map(replicas).collect(),
        removals: groups().filter_map(removal).collect(),
    }
}

fn row(group: &Group) -> Option<WantedRow> {
    let leader = group.primary?;
    if removal(group).is_some() {
        return None;
    }
    match &group.phase {
        Phase::Steady | Phase::Preparing(_) => {
            let node = group.nodes.get(&leader.node)?;
            if let Phase::Preparing(election) = &group.phase
                && group.id.0 > 0
                && let Some(next) = election.hold
            {
                return wanted_row(group, next, group.term.next(), Stage::Hold, false);
            }
            opens(node)
                .then(|| wanted_row(group, leader.node, leader.term, Stage::Current, false))
                .flatten()
        }
        Phase::Collecting(election) => {
            let next = election.hold.filter(|_| group.id.0 > 0)?;
            wanted_row(group, next, group.term, Stage::Hold, false)
        }
        // The coordinator's row is changed by itself, once it is open.
        Phase::Promoting { .. } if group.id.0 == 0 => None,
        // Whatever hangs on the old primary is lost: it has promised, or it is gone.
        Phase::Promoting { node, .. } => wanted_row(group, *node, group.term, Stage::Hold, true),
    }
}

/// Whether it has opened in this term, database and extension included.
fn opens(node: &Node) -> bool {
    node.reported.is_writable() || node.reported == NodeState::StopReplication
}

fn wanted_row(
    group: &Group,
    node: NodeId,
    term: Term,
    stage: Stage,
    force: bool,
) -> Option<WantedRow> {
    let it = group.nodes.get(&node)?;
    Some(WantedRow {
        group: group.id,
        term,
        node,
        host: it.host.clone(),
        port: it.port,
        stage,
        force,
    })
}

/// Whether nodes of this Citus cluster only read; a node that names none is of the default one.
#[must_use]
pub fn is_read_replica(cluster: &str) -> bool {
    !cluster.is_empty() && cluster != DEFAULT_CLUSTER
}

fn is_replica(node: &Node) -> bool {
    is_read_replica(&node.cluster)
}

fn replicas(group: &Group) -> impl Iterator<Item = Replica> + use<'_> {
    group
        .nodes
        .values()
        .filter(|n| is_replica(n))
        .filter(|n| n.leaving || n.reported == NodeState::Secondary)
        .map(|n| Replica {
            group: group.id,
            cluster: n.cluster.clone(),
            host: n.host.clone(),
            port: n.port,
            leaving: n.leaving,
        })
}

/// A group that had a primary, and whose last node an operator has removed or is removing.
fn removal(group: &Group) -> Option<Removal> {
    let stays = group.nodes.values().any(|n| !n.leaving && !is_replica(n));
    (group.id.0 > 0 && group.term > Term(0) && !stays).then_some(Removal {
        group: group.id,
        term: group.term,
    })
}

/// A number that changes with every row that was set: node metadata is another than before.
#[must_use]
pub fn generation(seen: &MetadataSeen) -> u64 {
    // FNV-1a, 64 bits: only equality counts.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for row in &seen.rows {
        eat(&row.group.0.to_le_bytes());
        eat(&row.term.0.to_le_bytes());
        eat(row.host.as_bytes());
        eat(&row.port.to_le_bytes());
    }
    hash
}

/// What a node of a formation is told; `None` in one of plain Postgres. `coordinator` is group 0,
/// as this monitor knows it.
#[must_use]
pub fn orders(
    formation: &Formation,
    coordinator: Option<&LiveGroup>,
    group: &Group,
    node: &Node,
) -> Option<CitusOrders> {
    if formation.kind != Kind::Citus {
        return None;
    }
    let leads = group.primary.is_some_and(|l| l.node == node.id);
    let seen = metadata(formation, coordinator);
    let knows = |seen: &&MetadataSeen| {
        group.id.0 == 0
            || seen
                .rows
                .iter()
                .any(|r| r.group == group.id && r.synced && r.active)
    };
    Some(CitusOrders {
        metadata: (leads && group.id == GroupId(0)).then(|| wanted(formation)),
        recover: seen.filter(|_| leads).filter(knows).map(generation),
        shut_out: Vec::<String>::new(),
    })
}
