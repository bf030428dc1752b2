//! A node joins.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use pgaf_protocol::{
    CopyRole, Goal, GroupId, NodeId, NodeKind, NodeState, Order, PROTOCOL_VERSION, Registered,
    Registration, Sequence, Stamp, SyncConfig,
};

use super::nodes::check_free;
use super::{MAX_PRIORITY, find, formation_mut};
use crate::citus::is_read_replica;
use crate::group::model::{Cluster, Formation, Group, Kind, Leader, Node, Refusal};

/// A node joins; the same token again gives the same node.
///
/// # Errors
/// When the formation is unknown, a name or address is taken, the data is another cluster's, or
/// there is no primary to join yet (55006: ask again).
pub fn register(cluster: &mut Cluster, wish: &Registration) -> Result<Registered, Refusal> {
    if let Some(done) = registered_before(cluster, wish) {
        return Ok(done);
    }
    check_wish(cluster, wish)?;
    check_unique(cluster, wish)?;
    let id = wish
        .node
        .filter(|id| id.0 >= 1 && !cluster.dropped.contains(id) && find(cluster, *id).is_none())
        .unwrap_or(cluster.next_node);
    let formation = formation_mut(cluster, &wish.formation, "42P17")?;
    if formation.groups.values().all(|g| g.nodes.is_empty()) {
        formation.kind = kind_of(wish.kind);
        formation.dbname.clone_from(&wish.dbname);
    }
    check_formation(formation, wish)?;
    let group_id = place(formation, wish)?;
    let name = if wish.name.is_empty() {
        default_name(formation, group_id, id)
    } else {
        wish.name.clone()
    };
    let formation_id = formation.id.clone();
    let group = formation.groups.entry(group_id).or_insert_with(|| Group {
        formation: formation_id,
        id: group_id,
        ..Group::default()
    });
    join(group, wish, id, name)?;
    raise_number(formation, group_id);
    cluster.next_node = NodeId(cluster.next_node.0.max(id.0 + 1));
    registered_before(cluster, wish).ok_or_else(|| {
        Refusal::new(
            "XX000",
            "the node was not kept",
            "this is a fault of pgaf: please report it",
        )
    })
}

fn registered_before(cluster: &Cluster, wish: &Registration) -> Option<Registered> {
    let formation = cluster.formations.get(&wish.formation)?;
    let (group, node) = formation.groups.values().find_map(|g| {
        let node = g
            .nodes
            .values()
            .find(|n| !wish.token.is_empty() && n.token == wish.token)?;
        Some((g, node))
    })?;
    Some(Registered {
        protocol: PROTOCOL_VERSION,
        lineage: cluster.lineage,
        node: node.id,
        group: group.id,
        name: node.name.clone(),
        state: node.goal.state,
        term: group.term,
        candidate_priority: node.candidate_priority,
        replication_quorum: node.replication_quorum,
    })
}

fn check_wish(cluster: &Cluster, wish: &Registration) -> Result<(), Refusal> {
    if !cluster.formations.contains_key(&wish.formation) {
        return Err(Refusal::new(
            "42P17",
            format!("formation \"{}\" does not exist", wish.formation),
            "create it first: pg_autoctl create formation",
        ));
    }
    if wish.candidate_priority > MAX_PRIORITY {
        return Err(Refusal::new(
            "22023",
            format!(
                "invalid value for candidate_priority \"{}\"",
                wish.candidate_priority
            ),
            "candidate_priority must be between 0 (never primary) and 100",
        ));
    }
    if is_read_replica(&wish.cluster) && wish.candidate_priority != 0 {
        return Err(Refusal::new(
            "22023",
            format!(
                "a read replica of Citus cluster \"{}\" cannot have candidate priority {}",
                wish.cluster, wish.candidate_priority
            ),
            "use --candidate-priority 0, which is the default with --citus-secondary",
        ));
    }
    Ok(())
}

fn check_unique(cluster: &Cluster, wish: &Registration) -> Result<(), Refusal> {
    check_free(
        cluster,
        &wish.formation,
        None,
        &wish.name,
        &wish.host,
        wish.port,
    )
}

fn check_formation(formation: &Formation, wish: &Registration) -> Result<(), Refusal> {
    if formation.kind != kind_of(wish.kind) {
        return Err(Refusal::new(
            "XX000",
            format!(
                "a {} node cannot join formation \"{}\", which is of another kind",
                wish.kind.label(),
                formation.id
            ),
            "use another formation: --formation",
        ));
    }
    if formation.dbname != wish.dbname {
        return Err(Refusal::new(
            "XX000",
            format!(
                "formation \"{}\" uses database \"{}\", not \"{}\"",
                formation.id, formation.dbname, wish.dbname
            ),
            format!("use --dbname {}", formation.dbname),
        ));
    }
    Ok(())
}

fn kind_of(kind: NodeKind) -> Kind {
    match kind {
        NodeKind::Standalone => Kind::Pgsql,
        NodeKind::Coordinator | NodeKind::Worker => Kind::Citus,
    }
}

/// The group a node joins: a primary and one secondary, then the next one (Citus workers).
fn place(formation: &Formation, wish: &Registration) -> Result<GroupId, Refusal> {
    match (wish.kind, wish.group) {
        (NodeKind::Standalone, Some(group)) if group.0 > 0 => Err(Refusal::new(
            "XX000",
            format!("group {group} does not exist: a plain Postgres formation has group 0 only"),
            "leave --group away",
        )),
        (NodeKind::Worker, Some(group)) if group.0 == 0 => Err(Refusal::new(
            "22023",
            "group 0 is the coordinator's",
            "workers join group 1 and above",
        )),
        (NodeKind::Standalone | NodeKind::Coordinator, _) => Ok(GroupId(0)),
        (NodeKind::Worker, Some(group)) => Ok(group),
        (NodeKind::Worker, None) => Ok(default_group(formation, &wish.cluster)),
    }
}

/// Groups fill up in order, with nodes that stay; each read-replica cluster has one node in each.
fn default_group(formation: &Formation, cluster: &str) -> GroupId {
    let full = if formation.opt_secondary && !is_read_replica(cluster) {
        2
    } else {
        1
    };
    let count = |group: &GroupId| {
        formation.groups.get(group).map_or(0, |g| {
            g.nodes
                .values()
                .filter(|n| n.cluster == cluster && !n.leaving)
                .count()
        })
    };
    let first = (1..).map(GroupId).find(|g| count(g) < full);
    first.unwrap_or(GroupId(1))
}

/// The old program's names: the first letter that is free.
fn default_name(formation: &Formation, group: GroupId, id: NodeId) -> String {
    let role = match formation.kind {
        Kind::Pgsql => return format!("node_{id}"),
        Kind::Citus if group.0 == 0 => "coord",
        Kind::Citus => "worker",
    };
    let names: BTreeSet<&str> = formation
        .groups
        .values()
        .flat_map(|g| g.nodes.values())
        .map(|n| n.name.as_str())
        .collect();
    ('a'..='z')
        .map(|letter| format!("{role}{group}{letter}"))
        .find(|name| !names.contains(name.as_str()))
        .unwrap_or_else(|| format!("{role}{group}_{id}"))
}

/// Adds the node's row: the first one leads, any other waits for its primary.
fn join(group: &mut Group, wish: &Registration, id: NodeId, name: String) -> Result<(), Refusal> {
    check_system(group, wish)?;
    let first = group.nodes.is_empty() && group.primary.is_none();
    if first && wish.candidate_priority == 0 {
        return Err(Refusal::new(
            "55006",
            "the first node of a group must be able to be primary",
            "register a node with a candidate priority above 0 first; this one retries",
        ));
    }
    if first && wish.is_standby {
        return Err(Refusal::new(
            "55000",
            "the data directory is a standby's, and its group has no primary",
            "register its primary first, or promote it before it joins",
        ));
    }
    let state = if first {
        NodeState::Single
    } else {
        NodeState::WaitStandby
    };
    if first {
        group.term = group.term.next();
        group.primary = Some(Leader {
            node: id,
            copy: wish.copy,
            term: group.term,
        });
        crate::group::config::list(group, SyncConfig::asynchronous());
    }
    group.sequence = Sequence(group.sequence.0 + 1);
    let stamp = Stamp {
        term: group.term,
        sequence: group.sequence,
    };
    // The row of the table gives the order at the next look, before anybody is told.
    let goal = Goal {
        stamp,
        state,
        order: Order::Wait,
        rule: "joins".to_string(),
    };
    let node = Node {
        id,
        name,
        host: wish.host.clone(),
        port: wish.port,
        kind: wish.kind,
        cluster: wish.cluster.clone(),
        token: wish.token.clone(),
        candidate_priority: wish.candidate_priority,
        replication_quorum: wish.replication_quorum,
        reported: NodeState::Init,
        goal: Goal {
            state: if first { NodeState::Init } else { state },
            ..goal
        },
        copy: wish.copy,
        role: CopyRole::None,
        system_identifier: wish.system_identifier,
        promise: None,
        confirmed: None,
        position: None,
        admitted: None,
        leaving: false,
        maintenance: false,
        fetched: None,
    };
    group.nodes.insert(id, node);
    Ok(())
}

fn check_system(group: &Group, wish: &Registration) -> Result<(), Refusal> {
    let theirs = group.nodes.values().find_map(|n| n.system_identifier);
    match (theirs, wish.system_identifier) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(Refusal::new(
            "23P01",
            format!(
                "the data directory has system identifier {ours}, its group's is {theirs}: it is another cluster's"
            ),
            "use an empty data directory, and it will be copied from the primary",
        )),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// The old program's raise from 0 to 1 at the second standby, unless it was set by hand.
fn raise_number(formation: &mut Formation, group: GroupId) {
    let standbys = formation.groups.get(&group).map_or(0, |g| {
        let leader = g.primary.map(|l| l.node);
        g.nodes
            .values()
            .filter(|n| n.replication_quorum && Some(n.id) != leader)
            .count()
    });
    if standbys == 2 && formation.number_sync_standbys == 0 && !formation.number_set_by_hand {
        formation.number_sync_standbys = 1;
    }
}
