//! The state as the rows that SQL reads (`monitor-sql-api.md` §2.2-2.4).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use pgaf_fsm::group::{Group, Kind, LiveGroup, Node};
use pgaf_protocol::{NodeId, Order, Setting, Settings};
use pgaf_store::StoredEvent;

use super::memory::Memory;
use crate::sql::{EventRow, FormationRow, GroupRow, NodeRow, Snapshot};

/// What the node table shows of a node and nothing decides by: times by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Last report, microseconds since 1970.
    pub(crate) report_time: i64,
    /// Last report with a position.
    pub(crate) wal_report_time: i64,
    /// 1 good, 0 bad, -1 unknown.
    pub(crate) health: i32,
    /// Last probe.
    pub(crate) health_time: i64,
    /// Last change of goal or reported state.
    pub(crate) state_change_time: i64,
}

impl Seen {
    /// Nothing is known yet.
    pub(crate) fn nothing(wall: i64) -> Self {
        Self {
            report_time: wall,
            wal_report_time: wall,
            health: -1,
            health_time: wall,
            state_change_time: wall,
        }
    }
}

/// The word for a node's replication: as the primary sees its standbys.
pub(crate) fn replication_state(live: &LiveGroup, node: NodeId) -> &'static str {
    let seen = live
        .nodes
        .values()
        .filter_map(|l| l.report.as_ref())
        .filter(|r| r.postgres.is_primary())
        .flat_map(|r| &r.standbys)
        .find(|s| s.node == node);
    match seen {
        Some(standby) if standby.synchronous => "quorum",
        Some(_) => "async",
        None => "unknown",
    }
}

/// Everything, at once.
pub(crate) fn snapshot(
    memory: &Memory,
    live: &std::collections::BTreeMap<super::memory::Key, LiveGroup>,
    seen: &HashMap<NodeId, Seen>,
    settings: &Settings,
) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let nobody = LiveGroup::default();
    for formation in memory.cluster.formations.values() {
        snapshot.formations.push(FormationRow {
            formation: formation.id.0.clone(),
            kind: Cow::Borrowed(match formation.kind {
                Kind::Pgsql => "pgsql",
                Kind::Citus => "citus",
            }),
            dbname: formation.dbname.clone(),
            opt_secondary: formation.opt_secondary,
            number_sync_standbys: i32::try_from(formation.number_sync_standbys).unwrap_or(i32::MAX),
        });
        let mut nodes = Vec::new();
        for group in formation.groups.values() {
            let live = live
                .get(&(formation.id.clone(), group.id))
                .unwrap_or(&nobody);
            snapshot.groups.push(GroupRow {
                formation: formation.id.0.clone(),
                group: group.id.0,
                synchronous_standby_names: names(group),
            });
            nodes.extend(group.nodes.values().map(|node| {
                let seen = seen.get(&node.id).copied();
                Arc::new(row(group, node, live, seen.unwrap_or(Seen::nothing(0))))
            }));
        }
        nodes.sort_by_key(|n| n.node_id);
        snapshot.nodes.extend(nodes);
    }
    snapshot.settings = setting_rows(settings);
    snapshot
}

/// The value of `synchronous_standby_names` that the primary of the group has or shall have.
fn names(group: &Group) -> String {
    group
        .nodes
        .values()
        .find_map(|node| match &node.goal.order {
            Order::Lead(lead) => Some(lead.sync.to_setting()),
            Order::Promote(promote) => Some(promote.sync.to_setting()),
            Order::Wait
            | Order::Follow(_)
            | Order::Promise { .. }
            | Order::Reach(_)
            | Order::Fetch(_)
            | Order::Stop
            | Order::Drop => None,
        })
        .unwrap_or_default()
}

fn row(group: &Group, node: &Node, live: &LiveGroup, seen: Seen) -> NodeRow {
    let report = live.of(node.id).and_then(|l| l.report.as_ref());
    let position = report.and_then(|r| r.position).or(node.position);
    NodeRow {
        formation: group.formation.0.clone(),
        node_id: node.id.0,
        group: group.id.0,
        name: node.name.clone(),
        host: node.host.clone(),
        port: i32::from(node.port),
        system_identifier: node.system_identifier.map(u64::cast_signed),
        goal_state: Cow::Borrowed(node.goal.state.label()),
        reported_state: Cow::Borrowed(node.reported.label()),
        postgres_is_running: report.is_some_and(|r| r.postgres.is_running()),
        replication_state: Cow::Borrowed(replication_state(live, node.id)),
        report_time: seen.report_time,
        // The old table has a check that it is above 0.
        timeline: position.map_or(1, |p| {
            i32::try_from(p.timeline.0).unwrap_or(i32::MAX).max(1)
        }),
        lsn: position.map_or(0, |p| p.lsn.0),
        wal_report_time: seen.wal_report_time,
        health: seen.health,
        health_check_time: seen.health_time,
        state_change_time: seen.state_change_time,
        candidate_priority: i32::try_from(node.candidate_priority).unwrap_or(i32::MAX),
        replication_quorum: node.replication_quorum,
        cluster: node.cluster.clone(),
    }
}

/// Every setting by its name, and by the old program's where that differs.
fn setting_rows(settings: &Settings) -> Vec<(Cow<'static, str>, String)> {
    let mut rows = Vec::new();
    for setting in Setting::ALL {
        let value = settings
            .get(setting.name)
            .unwrap_or(setting.default)
            .to_string();
        if let Some(old) = setting.old_name.filter(|old| *old != setting.name) {
            rows.push((Cow::Borrowed(old), value.clone()));
        }
        rows.push((Cow::Borrowed(setting.name), value));
    }
    rows
}

/// A row of the event table.
pub(crate) fn event(stored: StoredEvent) -> EventRow {
    let it = stored.record;
    EventRow {
        event_id: stored.id,
        event_time: it.time,
        formation: it.formation.0,
        node_id: it.node.0,
        group: it.group.0,
        name: it.name,
        host: it.host,
        port: i32::from(it.port),
        reported_state: Cow::Borrowed(it.reported.label()),
        goal_state: Cow::Borrowed(it.goal.label()),
        replication_state: Cow::Owned(it.replication_state),
        timeline: it
            .position
            .map_or(1, |p| i32::try_from(p.timeline.0).unwrap_or(1).max(1)),
        lsn: it.position.map_or(0, |p| p.lsn.0),
        candidate_priority: i32::try_from(it.candidate_priority).unwrap_or(i32::MAX),
        replication_quorum: it.replication_quorum,
        description: it.description,
    }
}
