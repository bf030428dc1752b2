//! The operations of the API, mapped to those of the fsm.

use std::collections::BTreeSet;

use pgaf_fsm::group::operate::{self, Now};
use pgaf_fsm::group::{Event, Kind, LiveGroup, Refusal};
use pgaf_protocol::{FormationId, GroupId, NodeId, Setting};

use super::input::Answering;
use super::memory::Key;
use super::state::State;
use super::turn::{Owed, Turn};
use crate::sql::{Call, NodeRef, Notice, NoticeLevel, Reply, ReplyValue, SqlError, codes};

/// SQLSTATE `object_not_in_prerequisite_state`.
pub(crate) const NOT_IN_THIS_STATE: &str = "55000";

/// A refusal of the fsm as an error on the wire.
pub(crate) fn refusal(refused: Refusal) -> SqlError {
    let error = SqlError::new(refused.sqlstate, refused.message);
    match refused.hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What an operation did: its answer, and events by group.
struct Done {
    reply: Reply,
    events: Vec<(Key, Vec<Event>)>,
}

impl From<ReplyValue> for Done {
    fn from(value: ReplyValue) -> Self {
        Self {
            reply: value.into(),
            events: Vec::new(),
        }
    }
}

impl State {
    /// Runs an operation: it is owed an answer when it is durable, or refused at once.
    pub(crate) fn operate(&mut self, turn: &mut Turn, call: Call, reply: Answering<Reply>) {
        turn.keep_all(&self.memory);
        let before = self.memory.clone();
        match self.run(turn, call) {
            Err(error) => {
                self.memory = before;
                drop(reply.send(Err(error)));
            }
            Ok(done) => {
                self.touched(turn, &before.cluster);
                for (key, events) in done.events {
                    self.happened(turn, &key, events);
                }
                turn.owed.push(Owed::Done {
                    outcome: done.reply,
                    reply,
                });
            }
        }
    }

    /// Every group that an operation changed is looked at, and the others of its formation, since
    /// the formation's settings may have changed.
    fn touched(&mut self, turn: &mut Turn, before: &pgaf_fsm::group::Cluster) {
        let cluster = &self.memory.cluster;
        let ids: BTreeSet<&FormationId> = before
            .formations
            .keys()
            .chain(cluster.formations.keys())
            .collect();
        let mut keys: Vec<Key> = Vec::new();
        for id in ids {
            let (old, new) = (before.formations.get(id), cluster.formations.get(id));
            if old != new {
                let groups = old.into_iter().chain(new).flat_map(|f| f.groups.keys());
                keys.extend(groups.map(|g| (id.clone(), *g)));
            }
        }
        for key in keys {
            let old = before
                .formations
                .get(&key.0)
                .and_then(|f| f.groups.get(&key.1));
            self.note_phase(turn, &key, old);
            turn.dirty.insert(key);
        }
    }

    fn live_of(&self, key: &Key) -> LiveGroup {
        self.live.get(key).cloned().unwrap_or_default()
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a table: one short arm for each call"
    )]
    fn run(&mut self, turn: &Turn, call: Call) -> Result<Done, SqlError> {
        match call {
            Call::PerformFailover {
                formation,
                group,
                allow_data_loss,
            } => self.failover(turn, &formation, group, allow_data_loss),
            Call::PerformPromotion {
                formation,
                node_name,
            } => self.promotion(turn, &formation, &node_name),
            Call::RemoveNode { node, force } => self.remove(turn, &node, force),
            Call::SetCandidatePriority {
                formation,
                node_name,
                priority,
            } => {
                let id = FormationId(formation);
                let cluster = &mut self.memory.cluster;
                operate::set_candidate_priority(cluster, &id, &node_name, priority.into())
                    .map_err(refusal)?;
                Ok(ReplyValue::Bool(true).into())
            }
            Call::SetReplicationQuorum {
                formation,
                node_name,
                quorum,
            } => {
                let id = FormationId(formation);
                let cluster = &mut self.memory.cluster;
                operate::set_replication_quorum(cluster, &id, &node_name, quorum)
                    .map_err(refusal)?;
                Ok(ReplyValue::Bool(true).into())
            }
            Call::SetNumberSyncStandbys { formation, number } => {
                let id = FormationId(formation);
                operate::set_number_sync_standbys(&mut self.memory.cluster, &id, number.into())
                    .map_err(refusal)?;
                Ok(ReplyValue::Bool(true).into())
            }
            Call::UpdateNodeMetadata {
                node_id,
                name,
                host,
                port,
            } => {
                let port = port.map(port_number).transpose()?;
                let (name, host) = (name.as_deref(), host.as_deref());
                let cluster = &mut self.memory.cluster;
                operate::update_metadata(cluster, NodeId(node_id), name, host, port)
                    .map_err(refusal)?;
                Ok(ReplyValue::Bool(true).into())
            }
            Call::CreateFormation {
                formation,
                kind,
                dbname,
                opt_secondary,
                number_sync_standbys,
            } => {
                self.create_formation(formation, kind, dbname, opt_secondary, number_sync_standbys)
            }
            Call::DropFormation { formation } => {
                operate::drop_formation(&mut self.memory.cluster, &FormationId(formation))
                    .map_err(refusal)?;
                Ok(ReplyValue::Void.into())
            }
            Call::SetSetting { name, value } => self.set_setting(&name, value),
            Call::RegisterNode(_)
            | Call::NodeActive(_)
            | Call::SetNodeSystemIdentifier { .. }
            | Call::SetGroupSystemIdentifier { .. } => Err(SqlError::unsupported(
                "this monitor does not serve keepers of the old program yet",
            )
            .with_hint("Install this release of pg_autoctl on the node.")),
            Call::StartMaintenance { node_id } => self.maintain(turn, NodeId(node_id), true),
            Call::StopMaintenance { node_id } => self.maintain(turn, NodeId(node_id), false),
            Call::SetSecondary { .. } => Err(SqlError::unsupported(
                "secondaries of a formation cannot be switched on or off yet",
            )),
            Call::KeeperRegister(_) | Call::KeeperReport(_) | Call::Ask(_) => Err(SqlError::new(
                codes::INTERNAL,
                "this call is not an operation",
            )),
        }
    }

    fn failover(
        &mut self,
        turn: &Turn,
        formation: &str,
        group: i32,
        allow_data_loss: bool,
    ) -> Result<Done, SqlError> {
        let key: Key = (formation.into(), GroupId(group));
        let live = self.live_of(&key);
        let at = Now {
            live: &live,
            settings: &self.settings,
            now: turn.now,
        };
        let cluster = &mut self.memory.cluster;
        let events = operate::perform_failover(cluster, &key.0, key.1, allow_data_loss, at)
            .map_err(refusal)?;
        Ok(Done {
            events: vec![(key, events)],
            ..ReplyValue::Void.into()
        })
    }

    fn promotion(&mut self, turn: &Turn, formation: &str, name: &str) -> Result<Done, SqlError> {
        let id = FormationId::from(formation);
        let live = &self.live;
        let live_of = |group| live.get(&(id.clone(), group)).cloned().unwrap_or_default();
        let cluster = &mut self.memory.cluster;
        let settings = &self.settings;
        let done = operate::perform_promotion(cluster, &id, name, live_of, settings, turn.now)
            .map_err(refusal)?;
        let Some(events) = done else {
            return Ok(Done {
                reply: Reply {
                    notices: vec![Notice {
                        level: NoticeLevel::Notice,
                        code: NOT_IN_THIS_STATE.into(),
                        message: format!(
                            "cannot perform promotion: node \"{name}\" in formation \"{formation}\" is already a primary"
                        ),
                        detail: None,
                        hint: None,
                    }],
                    value: ReplyValue::Bool(false),
                },
                events: Vec::new(),
            });
        };
        let group = events.first().map(|e| e.group).unwrap_or_default();
        Ok(Done {
            events: vec![((id, group), events)],
            ..ReplyValue::Bool(true).into()
        })
    }

    fn remove(&mut self, turn: &Turn, node: &NodeRef, force: bool) -> Result<Done, SqlError> {
        let id = match node {
            NodeRef::Id(id) => NodeId(*id),
            NodeRef::Address(host, port) => self.at_address(host, *port)?,
        };
        let key = operate::find(&self.memory.cluster, id).unwrap_or_default();
        let live = self.live_of(&key);
        let (cluster, settings) = (&mut self.memory.cluster, &self.settings);
        let events =
            operate::remove_node(cluster, id, force, &live, settings, turn.now).map_err(refusal)?;
        Ok(Done {
            events: vec![(key, events)],
            ..ReplyValue::Bool(true).into()
        })
    }

    fn maintain(&mut self, turn: &Turn, node: NodeId, start: bool) -> Result<Done, SqlError> {
        let Some(key) = operate::find(&self.memory.cluster, node) else {
            // The old monitor's answer for a node that it does not know.
            return Ok(ReplyValue::Bool(false).into());
        };
        let live = self.live_of(&key);
        let at = Now {
            live: &live,
            settings: &self.settings,
            now: turn.now,
        };
        let cluster = &mut self.memory.cluster;
        let done = if start {
            operate::start_maintenance(cluster, node, at)
        } else {
            operate::stop_maintenance(cluster, node)
        };
        Ok(Done {
            events: vec![(key, done.map_err(refusal)?)],
            ..ReplyValue::Bool(true).into()
        })
    }

    fn at_address(&self, host: &str, port: i32) -> Result<NodeId, SqlError> {
        let formations = self.memory.cluster.formations.values();
        formations
            .flat_map(|f| f.groups.values())
            .flat_map(|g| g.nodes.values())
            .find(|n| n.host == host && i32::from(n.port) == port)
            .map(|n| n.id)
            .ok_or_else(|| {
                SqlError::new(
                    codes::UNDEFINED_OBJECT,
                    format!("couldn't find node with hostname \"{host}\" and port {port}"),
                )
                .with_hint("List the nodes with: pg_autoctl show state")
            })
    }

    fn create_formation(
        &mut self,
        formation: String,
        kind: String,
        dbname: String,
        opt_secondary: bool,
        number_sync_standbys: i32,
    ) -> Result<Done, SqlError> {
        let parsed = match kind.as_str() {
            "pgsql" => Kind::Pgsql,
            "citus" => Kind::Citus,
            _ => {
                return Err(SqlError::new(
                    codes::INVALID_PARAMETER,
                    format!("unknown formation kind \"{kind}\""),
                )
                .with_hint("Formations are of kind pgsql or citus."));
            }
        };
        let number = u32::try_from(number_sync_standbys).map_err(|_| {
            SqlError::new(
                codes::INVALID_PARAMETER,
                format!("invalid value for number_sync_standbys: \"{number_sync_standbys}\""),
            )
            .with_hint("It must not be negative.")
        })?;
        let id = FormationId(formation.clone());
        let cluster = &mut self.memory.cluster;
        operate::create_formation(cluster, &id, parsed, &dbname, opt_secondary, number)
            .map_err(refusal)?;
        Ok(ReplyValue::Formation {
            formation,
            kind,
            dbname,
            opt_secondary,
            number_sync_standbys,
        }
        .into())
    }

    fn set_setting(&mut self, name: &str, value: Option<String>) -> Result<Done, SqlError> {
        let row = Setting::find(name).ok_or_else(|| {
            SqlError::new(
                codes::UNDEFINED_OBJECT,
                format!("there is no setting \"{name}\""),
            )
            .with_hint("List the settings with: pg_autoctl inspect settings")
        })?;
        let in_file =
            |(n, _): &&(String, String)| Setting::find(n).is_some_and(|s| s.name == row.name);
        if self.file_settings.iter().any(|s| in_file(&s)) {
            return Err(SqlError::new(
                NOT_IN_THIS_STATE,
                format!(
                    "setting \"{}\" is in the monitor's configuration file",
                    row.name
                ),
            )
            .with_hint("Change it there with: pg_autoctl config set, then: pg_autoctl reload"));
        }
        match value {
            None => drop(self.memory.settings.remove(row.name)),
            Some(value) => {
                self.settings
                    .clone()
                    .set(row.name, &value)
                    .map_err(|error| SqlError::new(codes::INVALID_PARAMETER, error.to_string()))?;
                self.memory.settings.insert(row.name.to_owned(), value);
            }
        }
        self.apply_settings();
        Ok(ReplyValue::Bool(true).into())
    }
}

fn port_number(port: i32) -> Result<u16, SqlError> {
    u16::try_from(port).ok().filter(|p| *p > 0).ok_or_else(|| {
        SqlError::new(
            codes::INVALID_PARAMETER,
            format!("invalid port number {port}"),
        )
    })
}
