//! From a function with typed arguments to a [`Call`], and from its reply to rows.

use super::backend::{
    Assigned, Call, NodeActive, NodeAddress, NodeRef, Question, RegisterNode, ReplyValue,
};
use super::error::{SqlError, codes};
use super::functions::CallFn;
use super::reads::Rows;
use super::types::Value;

/// Arguments of the function's own types, in order.
struct Args(std::vec::IntoIter<Value>);

impl Args {
    fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }

    fn text_or_null(&mut self) -> Option<String> {
        match self.next() {
            Value::Text(text) => Some(text),
            Value::Null | Value::Int(_) | Value::Real(_) => None,
        }
    }

    fn text(&mut self) -> String {
        self.text_or_null().unwrap_or_default()
    }

    fn int8_or_null(&mut self) -> Option<i64> {
        match self.next() {
            Value::Int(number) => Some(number),
            Value::Null | Value::Text(_) | Value::Real(_) => None,
        }
    }

    fn int8(&mut self) -> i64 {
        self.int8_or_null().unwrap_or_default()
    }

    fn int4_or_null(&mut self) -> Option<i32> {
        self.int8_or_null()
            .and_then(|number| i32::try_from(number).ok())
    }

    fn int4(&mut self) -> i32 {
        self.int4_or_null().unwrap_or_default()
    }

    fn bool(&mut self) -> bool {
        self.int8() != 0
    }
}

/// Builds the call. Arguments have the function's types; NULL occurs only where the function is not
/// strict.
///
/// # Errors
/// For a NULL that no function takes.
#[expect(clippy::too_many_lines, reason = "one flat arm per function")]
pub(super) fn build(function: CallFn, args: Vec<Value>) -> Result<Call, SqlError> {
    let mut args = Args(args.into_iter());
    Ok(match function {
        CallFn::RegisterNode => Call::RegisterNode(Box::new(register_node(&mut args))),
        CallFn::NodeActive => Call::NodeActive(Box::new(node_active(&mut args))),
        CallFn::SetNodeSystemIdentifier => Call::SetNodeSystemIdentifier {
            node_id: args.int8(),
            system_identifier: args.int8(),
        },
        CallFn::SetGroupSystemIdentifier => Call::SetGroupSystemIdentifier {
            group: args.int8(),
            system_identifier: args.int8(),
        },
        CallFn::UpdateNodeMetadata => Call::UpdateNodeMetadata {
            node_id: args
                .int8_or_null()
                .ok_or_else(|| SqlError::new(codes::INTERNAL, "node_id must not be null"))?,
            name: args.text_or_null(),
            host: args.text_or_null(),
            port: args.int4_or_null(),
        },
        CallFn::RemoveNodeById => Call::RemoveNode {
            node: NodeRef::Id(args.int8()),
            force: args.bool(),
        },
        CallFn::RemoveNodeByAddress => Call::RemoveNode {
            node: NodeRef::Address(args.text(), args.int4()),
            force: args.bool(),
        },
        CallFn::PerformFailover => Call::PerformFailover {
            formation: args.text(),
            group: args.int4(),
            allow_data_loss: args.bool(),
        },
        CallFn::PerformPromotion => Call::PerformPromotion {
            formation: args.text(),
            node_name: args.text(),
        },
        CallFn::StartMaintenance => Call::StartMaintenance {
            node_id: args.int8(),
        },
        CallFn::StopMaintenance => Call::StopMaintenance {
            node_id: args.int8(),
        },
        CallFn::CreateFormation => Call::CreateFormation {
            formation: args.text(),
            kind: args.text(),
            dbname: args.text(),
            opt_secondary: args.bool(),
            number_sync_standbys: args.int4(),
        },
        CallFn::DropFormation => Call::DropFormation {
            formation: args.text(),
        },
        CallFn::EnableSecondary => Call::SetSecondary {
            formation: args.text(),
            enabled: true,
        },
        CallFn::DisableSecondary => Call::SetSecondary {
            formation: args.text(),
            enabled: false,
        },
        CallFn::SetNodeCandidatePriority => Call::SetCandidatePriority {
            formation: args.text(),
            node_name: args.text(),
            priority: args.int4(),
        },
        CallFn::SetNodeReplicationQuorum => Call::SetReplicationQuorum {
            formation: args.text(),
            node_name: args.text(),
            quorum: args.bool(),
        },
        CallFn::SetFormationNumberSyncStandbys => Call::SetNumberSyncStandbys {
            formation: args.text(),
            number: args.int4(),
        },
        CallFn::KeeperRegister => Call::KeeperRegister(args.text()),
        CallFn::KeeperReport => Call::KeeperReport(args.text()),
        CallFn::Explain => Call::Ask(Question::Explain {
            formation: args.text(),
            group: args.int4_or_null(),
        }),
        CallFn::WhatIf => Call::Ask(Question::WhatIf {
            formation: args.text(),
            node_name: args.text(),
            fault: args.text(),
        }),
        CallFn::Settings => Call::Ask(Question::Settings),
        CallFn::SetSetting => Call::SetSetting {
            name: args.text(),
            value: args.text_or_null(),
        },
    })
}

fn register_node(args: &mut Args) -> RegisterNode {
    RegisterNode {
        formation: args.text(),
        host: args.text(),
        port: args.int4(),
        dbname: args.text(),
        name: args.text(),
        system_identifier: args.int8(),
        desired_node_id: args.int8(),
        desired_group_id: args.int4(),
        initial_state: args.text(),
        kind: args.text(),
        candidate_priority: args.int4(),
        replication_quorum: args.bool(),
        cluster: args.text(),
    }
}

fn node_active(args: &mut Args) -> NodeActive {
    NodeActive {
        formation: args.text(),
        node_id: args.int8(),
        group: args.int4(),
        state: args.text(),
        postgres_is_running: args.bool(),
        timeline: args.int4(),
        lsn: args.int8().cast_unsigned(),
        replication_state: args.text(),
    }
}

fn assigned(assigned: &Assigned) -> Vec<Value> {
    vec![
        assigned.node_id.into(),
        assigned.group.into(),
        assigned.state.as_ref().into(),
        assigned.candidate_priority.into(),
        assigned.replication_quorum.into(),
    ]
}

fn address(node: &NodeAddress) -> Vec<Value> {
    vec![
        node.node_id.into(),
        node.name.as_str().into(),
        node.host.as_str().into(),
        node.port.into(),
    ]
}

/// The rows of a reply, in the function's column order.
pub(super) fn reply_rows(value: ReplyValue) -> Rows {
    match value {
        // As Postgres prints void: one row with an empty text.
        ReplyValue::Void => vec![vec!["".into()]],
        ReplyValue::Bool(value) => vec![vec![value.into()]],
        ReplyValue::Text(text) => vec![vec![text.into()]],
        ReplyValue::Registered { active, name } => {
            let mut row = assigned(&active);
            row.push(name.into());
            vec![row]
        }
        ReplyValue::Active(active) => vec![assigned(&active)],
        ReplyValue::NodeAddress(Some(node)) => vec![address(&node)],
        ReplyValue::NodeAddress(None) => vec![vec![Value::Null; 4]],
        ReplyValue::NodeAddresses(nodes) => nodes.iter().map(address).collect(),
        ReplyValue::Formation {
            formation,
            kind,
            dbname,
            opt_secondary,
            number_sync_standbys,
        } => {
            vec![vec![
                formation.into(),
                kind.into(),
                dbname.into(),
                opt_secondary.into(),
                number_sync_standbys.into(),
            ]]
        }
    }
}
