//! `enable maintenance` and `disable maintenance` of the node on this machine.

use pgaf_protocol::NodeState;

use super::perform::{DEFAULT_WAIT, StateChange, Watch};
use super::{Context, block_on, show_state};
use crate::config::Role;
use crate::error::{ExitCode, Failure};
use crate::local_state;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::target::{Local, Target};

const START: &str = "select pgautofailover.start_maintenance($1)";
const STOP: &str = "select pgautofailover.stop_maintenance($1)";

/// `enable maintenance`: Postgres is stopped, and is the operator's from then on.
pub(crate) fn enable(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let node = Node::open(parsed)?;
    let primary = node
        .current
        .parse::<NodeState>()
        .is_ok_and(NodeState::is_writable);
    if primary && !parsed.flag("allow-failover") {
        tracing::warn!(
            "This node is currently in state \"{}\": maintenance of a primary needs a failover first",
            node.current
        );
        return Err(Failure::fatal(
            ExitCode::BadArgs,
            "Please use --allow-failover to allow the command to proceed",
        ));
    }
    node.change(START, &Wanted::Maintenance)
}

/// `disable maintenance`: the node is started again, and follows the primary.
pub(crate) fn disable(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    Node::open(parsed)?.change(STOP, &Wanted::Back)
}

/// What the command waits for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Maintenance,
    Back,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    GivenUp,
}

impl Wanted {
    /// Tells the end from one change; `moved` remembers that the node was on its way.
    fn ended(&self, node: i64, moved: &mut bool, change: &StateChange) -> Option<Outcome> {
        if change.node_id != node {
            return None;
        }
        let both = |state: NodeState| {
            [&change.reported_state, &change.goal_state]
                .iter()
                .all(|s| s.as_str() == state.label())
        };
        let well = both(NodeState::Secondary) || both(NodeState::Primary);
        match self {
            Self::Maintenance if both(NodeState::Maintenance) => Some(Outcome::Done),
            Self::Maintenance => {
                let on_its_way = [
                    NodeState::WaitMaintenance,
                    NodeState::PrepareMaintenance,
                    NodeState::Maintenance,
                ];
                *moved |= on_its_way.iter().any(|s| s.label() == change.goal_state);
                (well && *moved).then_some(Outcome::GivenUp)
            }
            Self::Back => well.then_some(Outcome::Done),
        }
    }
}

/// The node on this machine.
struct Node {
    target: Target,
    id: i64,
    group: i32,
    current: String,
}

impl Node {
    fn open(parsed: &Parsed) -> Result<Self, Failure> {
        let local = Local::open(parsed)?;
        if local.config.role() == Role::Monitor {
            return Err(Failure::bad_config(
                "a monitor has no maintenance: run the command on the node, with its --pgdata",
            ));
        }
        let state = local_state::read(&local.paths.state)?;
        Ok(Self {
            id: state.node,
            group: i32::try_from(state.group).unwrap_or_default(),
            current: state.current,
            target: Target::of_local(local, None)?,
        })
    }

    fn change(&self, sql: &str, wanted: &Wanted) -> Result<(), Failure> {
        let formation = self.target.formation();
        block_on(async {
            let mut client = MonitorClient::connect(&self.target).await?;
            let label = NodeState::Maintenance.label();
            let nodes = show_state::fetch(&client, &formation, Some(self.group)).await?;
            let there = nodes
                .iter()
                .any(|n| n.node == self.id.to_string() && n.reported == label && n.goal == label);
            if there && *wanted == Wanted::Maintenance {
                tracing::info!("This node is in maintenance already");
                return Ok(());
            }
            let events = client.listen().await?;
            let done = client.value(sql, &[Param::Int(self.id)]).await?;
            if done.as_deref() != Some("t") {
                return Err(Failure::monitor(format!(
                    "the monitor knows no node with id {}",
                    self.id
                ))
                .hint("`pg_autoctl show state` lists the nodes"));
            }
            let mut watch = Watch {
                client: &client,
                events,
                formation: formation.clone(),
                group: self.group,
                before: None,
                wait: DEFAULT_WAIT,
                allow_data_loss: false,
            };
            let mut moved = false;
            let end = watch
                .follow(|change| wanted.ended(self.id, &mut moved, change))
                .await?;
            self.conclude(end, &formation)
        })
    }

    fn conclude(&self, end: Option<Outcome>, formation: &str) -> Result<(), Failure> {
        match end {
            Some(Outcome::Done) => Ok(()),
            Some(Outcome::GivenUp) => Err(Failure::monitor(
                "the maintenance was given up: the node goes on as before",
            )
            .hint(format!(
                "`pg_autoctl show events --formation {formation}` says why"
            ))),
            None => Err(Failure::monitor(format!(
                "the node has not reached its goal within {DEFAULT_WAIT} s"
            ))
            .hint(format!(
                "`pg_autoctl inspect explain --formation {formation} --group {}` says what the group waits for",
                self.group
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wanted: &Wanted, changes: &[(i64, &str, &str)]) -> Vec<Option<Outcome>> {
        let mut moved = false;
        changes
            .iter()
            .map(|(node, reported, goal)| {
                wanted.ended(2, &mut moved, &StateChange::sample(*node, reported, goal))
            })
            .collect()
    }

    #[test]
    fn maintenance_ends_in_maintenance_or_where_it_began() {
        assert_eq!(
            all(
                &Wanted::Maintenance,
                &[
                    (1, "maintenance", "maintenance"),
                    (2, "secondary", "secondary"),
                    (2, "secondary", "wait_maintenance"),
                    (2, "maintenance", "maintenance"),
                    (2, "secondary", "secondary"),
                ]
            ),
            [
                None,
                None,
                None,
                Some(Outcome::Done),
                Some(Outcome::GivenUp)
            ]
        );
        assert_eq!(
            all(
                &Wanted::Back,
                &[
                    (2, "maintenance", "maintenance"),
                    (2, "catchingup", "catchingup"),
                    (2, "secondary", "secondary"),
                ]
            ),
            [None, None, Some(Outcome::Done)]
        );
    }
}
