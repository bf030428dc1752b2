//! What operators and joining nodes ask for. Each operation is checked in advance: it is refused
//! with a reason and a hint, and then nothing has changed.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use pgaf_protocol::{
    FormationId, Goal, GroupId, NodeId, NodeKind, NodeState, Order, PROTOCOL_VERSION, Possible,
    Registered, Registration, Sequence, Settings, Stamp, SyncConfig, Time,
};

use super::elect::{self, data_loss_command, event};
use super::facts::{Facts, FormationView};
use super::live::LiveGroup;
use super::model::{
    Cluster, Election, Event, Formation, Group, Kind, Leader, Node, Phase, Refusal,
};
use super::quorum::{by_term, obstacle};

/// Highest candidate priority. Source: pg_auto_failover 2.2, `node_metadata.c`.
pub const MAX_PRIORITY: u32 = 100;

/// What an operation on one group needs.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// What this incarnation knows of the group.
    pub live: &'a LiveGroup,
    /// Times and thresholds.
    pub settings: &'a Settings,
    /// The time.
    pub now: Time,
}

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
    let count = formation.groups.get(&group_id).map_or(0, |g| g.nodes.len());
    let name = if wish.name.is_empty() {
        default_name(formation.kind, group_id, id, count)
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

/// A switchover, or with `allow_data_loss` the named way past promises that cannot be had.
///
/// # Errors
/// When nobody could take over: the primary then goes on.
pub fn perform_failover(
    cluster: &mut Cluster,
    formation: &FormationId,
    group: GroupId,
    allow_data_loss: bool,
    at: Now<'_>,
) -> Result<Vec<Event>, Refusal> {
    let view = FormationView::from(formation_of(cluster, formation, "22023")?);
    let group = group_mut(cluster, formation, group)?;
    switch(&view, group, None, allow_data_loss, at)
}

/// A switchover to a named node. `Ok(None)`: it is the primary already.
///
/// # Errors
/// When there is no such node, or it could not take over now.
pub fn perform_promotion(
    cluster: &mut Cluster,
    formation: &FormationId,
    name: &str,
    live_of: impl Fn(GroupId) -> LiveGroup,
    settings: &Settings,
    now: Time,
) -> Result<Option<Vec<Event>>, Refusal> {
    let found = formation_of(cluster, formation, "22023")?
        .groups
        .values()
        .find_map(|g| {
            g.nodes
                .values()
                .find(|n| n.name == name)
                .map(|n| (g.id, n.id))
        });
    let Some((group, node)) = found else {
        return Err(Refusal::new(
            "42704",
            format!("node \"{name}\" is not in formation \"{formation}\""),
            "list the nodes with: pg_autoctl show state",
        ));
    };
    let view = FormationView::from(formation_of(cluster, formation, "22023")?);
    let live = live_of(group);
    let group = group_mut(cluster, formation, group)?;
    if matches!(group.phase, Phase::Steady) && group.primary.is_some_and(|l| l.node == node) {
        return Ok(None);
    }
    switch(
        &view,
        group,
        Some(node),
        false,
        Now {
            live: &live,
            settings,
            now,
        },
    )
    .map(Some)
}

fn switch(
    view: &FormationView,
    group: &mut Group,
    target: Option<NodeId>,
    allow_data_loss: bool,
    at: Now<'_>,
) -> Result<Vec<Event>, Refusal> {
    let before = group.clone();
    let facts = Facts {
        formation: view,
        group: &before,
        live: at.live,
        settings: at.settings,
        now: at.now,
        phase_since: at.live.phase_since,
    };
    check_doubt(&before, at.live)?;
    let Some(leader) = before.primary else {
        return Err(Refusal::new(
            "XX000",
            format!(
                "group {} of formation \"{}\" has no node",
                before.id, before.formation
            ),
            "list the nodes with: pg_autoctl show state",
        ));
    };
    let leader_is_gone = facts.verdict(leader.node).is_gone();
    if allow_data_loss && (leader_is_gone || !matches!(before.phase, Phase::Steady)) {
        return strike(&facts, group, leader);
    }
    if !matches!(before.phase, Phase::Steady) {
        return Err(Refusal::new(
            "55000",
            "a change of primary is under way already",
            "see what it waits for with: pg_autoctl inspect explain",
        ));
    }
    if leader_is_gone || !facts.leader_writes() {
        return Err(no_primary(&facts, leader));
    }
    if elect::move_candidates(&facts, target).is_empty() {
        return Err(nobody(&facts, target));
    }
    group.phase = Phase::Preparing(Election {
        reason: "asked for by an operator".to_string(),
        planned: true,
        target,
        reaching: None,
    });
    Ok(alloc::vec![event(
        group,
        leader.node,
        "switchover.asked",
        "a switchover was asked for: the primary writes a checkpoint first, writes go on"
            .to_string(),
    )])
}

fn check_doubt(group: &Group, live: &LiveGroup) -> Result<(), Refusal> {
    let Some(doubted) = &group.doubted else {
        return Ok(());
    };
    let missing = doubted
        .iter()
        .filter(|n| live.report(**n).is_none())
        .count();
    Err(Refusal::new(
        "55000",
        format!("this monitor was restored, and {missing} node(s) have not reported to it yet"),
        "start the keepers of all nodes, or drop those that are lost: pg_autoctl drop node --force",
    ))
}

fn no_primary(facts: &Facts<'_>, leader: Leader) -> Refusal {
    let name = facts.leader_node().map_or("", |n| n.name.as_str());
    Refusal::new(
        "55000",
        format!(
            "node {} \"{name}\", the primary, cannot be asked to hand over: {}",
            leader.node,
            facts.verdict(leader.node).text()
        ),
        format!(
            "see what the group waits for with: pg_autoctl inspect explain; when the old primary is off for good: {}",
            data_loss_command(facts.group)
        ),
    )
}

/// Why nobody can take over, in the words of the first thing that stands in the way.
fn nobody(facts: &Facts<'_>, target: Option<NodeId>) -> Refusal {
    let leader = facts.leader().map(|l| l.node);
    let mut reasons: Vec<String> = Vec::new();
    for node in facts.staying().filter(|n| Some(n.id) != leader) {
        if target.is_some_and(|t| t != node.id) {
            continue;
        }
        let why = if node.candidate_priority == 0 && target.is_none() {
            "has candidate priority 0".to_string()
        } else if !facts.is_present(node.id) {
            facts.verdict(node.id).text().to_string()
        } else if let Some(setting) = facts.gate(node) {
            format!("has a lower {setting} than the primary")
        } else if node.reported != NodeState::Secondary {
            format!("is {}, not secondary", node.reported)
        } else {
            "does not stream near the primary".to_string()
        };
        reasons.push(format!("node {} \"{}\" {why}", node.id, node.name));
    }
    if reasons.is_empty() {
        reasons.push("the group has no standby".to_string());
    }
    Refusal::new(
        "55000",
        format!("nobody could take over: {}", reasons.join("; ")),
        "the primary goes on; wait until a standby is secondary: pg_autoctl show state",
    )
}

/// Strikes off the list, by name, what cannot be revoked without the old primary's promise.
fn strike(facts: &Facts<'_>, group: &mut Group, leader: Leader) -> Result<Vec<Event>, Refusal> {
    let reachable = elect::reachable_without(facts, leader.node);
    let candidates: Vec<NodeId> = facts
        .staying()
        .filter(|n| n.id != leader.node && n.candidate_priority > 0 && n.copy.is_some())
        .filter(|n| facts.is_present(n.id))
        .map(|n| n.id)
        .collect();
    if candidates.is_empty() {
        return Err(nobody(facts, None));
    }
    let mut events = Vec::new();
    while let Some(lacking) = obstacle(&group.possible, &reachable) {
        let text = format!(
            "an operator allowed data loss: what node {} acknowledged in term {} without the nodes that are here now is given up ({} entries struck)",
            leader.node,
            lacking.term,
            group
                .possible
                .iter()
                .filter(|p| p.stamp.term == lacking.term)
                .count()
        );
        group
            .possible
            .retain(|p: &Possible| p.stamp.term != lacking.term);
        events.push(event(group, leader.node, "operator.allow-data-loss", text));
    }
    let election = Election {
        reason: "an operator allowed data loss".to_string(),
        ..Election::default()
    };
    events.extend(elect::begin(group, election, leader.node).events);
    Ok(events)
}

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
        super::fold::remove(group, node, &mut events);
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
    if is_primary && others && elect::move_candidates(&facts, None).is_empty() {
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

/// Where a node is.
#[must_use]
pub fn find(cluster: &Cluster, node: NodeId) -> Option<(FormationId, GroupId)> {
    cluster.formations.values().find_map(|f| {
        let group = f.groups.values().find(|g| g.nodes.contains_key(&node))?;
        Some((f.id.clone(), group.id))
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

fn check_free(
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
        (NodeKind::Worker, None) => {
            let full = if formation.opt_secondary { 2 } else { 1 };
            let count = |g: &GroupId| formation.groups.get(g).map_or(0, |g| g.nodes.len());
            Ok((1..)
                .map(GroupId)
                .find(|g| count(g) < full)
                .unwrap_or(GroupId(1)))
        }
    }
}

fn default_name(kind: Kind, group: GroupId, id: NodeId, count: usize) -> String {
    let letter = u8::try_from(count)
        .ok()
        .and_then(|n| b'a'.checked_add(n))
        .unwrap_or(b'z');
    let letter = char::from(letter);
    match kind {
        Kind::Pgsql => format!("node_{id}"),
        Kind::Citus if group.0 == 0 => format!("coord{group}{letter}"),
        Kind::Citus => format!("worker{group}{letter}"),
    }
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
        super::config::list(group, SyncConfig::asynchronous());
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
        role: pgaf_protocol::CopyRole::None,
        system_identifier: wish.system_identifier,
        promise: None,
        confirmed: None,
        position: None,
        admitted: None,
        leaving: false,
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

/// Configurations that may be in force, newest term first, for `explain`.
#[must_use]
pub fn terms(group: &Group) -> usize {
    by_term(&group.possible).len()
}
