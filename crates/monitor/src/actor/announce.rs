//! Saying what happened: event rows, notifications, log lines. All after the commit.

use pgaf_fsm::group::{Event, Group, LiveGroup, Node};
use pgaf_protocol::{NodeId, Position};
use pgaf_store::EventRecord;
use serde_json::json;

use super::memory::Key;
use super::rows;
use crate::sql::{Channel, Hub};

/// An event with everything that its row and its notification say.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    pub(crate) record: EventRecord,
    pub(crate) health: i32,
}

/// The place a node has at the moment of an event: in the group, or in the group before.
pub(crate) fn find<'a>(groups: &[Option<&'a Group>], node: NodeId) -> Option<&'a Node> {
    groups.iter().flatten().find_map(|g| g.nodes.get(&node))
}

/// Makes an event's row.
pub(crate) fn happening(
    key: &Key,
    event: Event,
    node: Option<&Node>,
    live: Option<&LiveGroup>,
    (health, wall): (i32, i64),
) -> Happening {
    let report = live.and_then(|l| l.of(event.node)?.report.as_ref());
    let position: Option<Position> = report
        .and_then(|r| r.position)
        .or(node.and_then(|n| n.position));
    let replication_state = live.map_or("unknown", |l| rows::replication_state(l, event.node));
    Happening {
        record: EventRecord {
            time: wall,
            formation: key.0.clone(),
            group: key.1,
            node: event.node,
            name: node.map(|n| n.name.clone()).unwrap_or_default(),
            host: node.map(|n| n.host.clone()).unwrap_or_default(),
            port: node.map(|n| n.port).unwrap_or_default(),
            reported: event.reported,
            goal: event.goal,
            replication_state: replication_state.into(),
            position,
            candidate_priority: node.map(|n| n.candidate_priority).unwrap_or_default(),
            replication_quorum: node.is_some_and(|n| n.replication_quorum),
            rule: event.rule,
            description: event.description,
        },
        health,
    }
}

impl Happening {
    /// The payload on channel `state` (`monitor-sql-api.md` §5.1).
    fn state_payload(&self) -> String {
        let it = &self.record;
        json!({
            "type": "state",
            "formation": it.formation.0,
            "groupId": it.group.0,
            "nodeId": it.node.0,
            "name": it.name,
            "host": it.host,
            "port": it.port,
            "reportedState": it.reported.label(),
            "goalState": it.goal.label(),
            "health": match self.health {
                0 => "bad",
                1 => "good",
                _ => "unknown",
            },
        })
        .to_string()
    }

    /// Writes the log line and tells the listeners.
    pub(crate) fn publish(&self, hub: &Hub) {
        let it = &self.record;
        tracing::info!(
            formation = %it.formation,
            group = %it.group,
            node = %it.node,
            rule = %it.rule,
            "{}",
            it.description
        );
        hub.publish(Channel::State, &self.state_payload());
        hub.publish(Channel::Log, &it.description);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgaf_protocol::{FormationId, GroupId, NodeState};

    #[test]
    fn a_notification_has_the_keys_that_old_clients_read() {
        let event = Event {
            node: NodeId(3),
            group: GroupId(0),
            reported: NodeState::Catchingup,
            goal: NodeState::Secondary,
            rule: "standby.ready".into(),
            description: "why".into(),
        };
        let key = (FormationId::default(), GroupId(0));
        let payload = happening(&key, event, None, None, (1, 0)).state_payload();
        assert_eq!(
            payload,
            r#"{"type":"state","formation":"default","groupId":0,"nodeId":3,"name":"","host":"","port":0,"reportedState":"catchingup","goalState":"secondary","health":"good"}"#
        );
    }
}
