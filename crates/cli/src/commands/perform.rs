//! `perform failover|switchover|promotion`, with the table of state changes as they come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Zoned;
use pgaf_protocol::NodeState;
use serde::Deserialize;
use tokio::sync::mpsc::Receiver;
use tokio_postgres::Notification;

use super::inspect;
use super::show_standby_names::which_group;
use super::show_state::node_id;
use super::{Context, block_on};
use crate::error::{ExitCode, Failure};
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::render::out;
use crate::render::table::{self, Column};
use crate::target::Target;

/// How many seconds are waited unless `--wait` says otherwise. Source: the old program.
pub(crate) const DEFAULT_WAIT: u64 = 60;

const FAILOVER: &str = "SELECT pgautofailover.perform_failover($1, $2)";
const FAILOVER_WITH_LOSS: &str =
    "SELECT pgautofailover.perform_failover($1, $2, allow_data_loss => true)";
const PROMOTION: &str = "SELECT pgautofailover.perform_promotion($1, $2)";
const GROUP_OF_NODE: &str =
    "SELECT groupid FROM pgautofailover.node WHERE formationid = $1 and nodename = $2";
const KIND: &str = "SELECT formation_kind FROM pgautofailover.current_state($1)";
const NODES: &str = "SELECT * FROM pgautofailover.get_nodes($1, $2) ORDER BY node_id";

/// `perform failover` and `perform switchover`.
pub(crate) fn failover(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let wait = wait(parsed)?;
    let group = parsed.value("group").map(values::group).transpose()?;
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let loss = parsed.flag("allow-data-loss");
    block_on(async {
        let mut client = MonitorClient::connect(&target).await?;
        let group = which_group(&client, &target, &formation, group).await?;
        let events = client.listen().await?;
        let before = primary_of(&client, &formation, group).await;
        if loss {
            tracing::warn!(
                "--allow-data-loss: commits that clients saw succeed may be missing afterwards"
            );
        }
        let text = if loss { FAILOVER_WITH_LOSS } else { FAILOVER };
        let asked = client
            .query(text, &[Param::Text(&formation), Param::Int(group.into())])
            .await;
        if let Err(failure) = asked {
            let failure = refused(failure, &formation, group);
            return Err(explained(failure, &client, &formation, group).await);
        }
        Watch {
            client: &client,
            events,
            formation,
            group,
            before,
            wait,
            allow_data_loss: loss,
        }
        .run()
        .await
    })
}

/// `perform promotion`.
pub(crate) fn promotion(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let wait = wait(parsed)?;
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let own = || {
        target
            .keeper()
            .and_then(|local| local.config.text("pg_autoctl", "name"))
    };
    let name = parsed.value("name").or_else(own).ok_or_else(|| {
        Failure::fatal(
            ExitCode::BadArgs,
            "Please use --name to target a specific node",
        )
    })?;
    block_on(async {
        let mut client = MonitorClient::connect(&target).await?;
        let params = [Param::Text(&formation), Param::Text(name)];
        let rows = client.query(GROUP_OF_NODE, &params).await?;
        let group = rows
            .first()
            .and_then(|row| row.number(0))
            .and_then(|group| i32::try_from(group).ok())
            .ok_or_else(|| {
                Failure::bad_args(format!(
                    "Failed to find node \"{name}\" in formation \"{formation}\" on the monitor"
                ))
                .hint("`pg_autoctl show state` lists the nodes")
            })?;
        let events = client.listen().await?;
        let before = primary_of(&client, &formation, group).await;
        let started = match client.value(PROMOTION, &params).await {
            Ok(started) => started,
            Err(failure) => {
                let failure = refused(failure, &formation, group);
                return Err(explained(failure, &client, &formation, group).await);
            }
        };
        if started.as_deref() != Some("t") {
            tracing::warn!("NOTICE:  node \"{name}\" is already the primary: nothing to do");
            return Ok(());
        }
        Watch {
            client: &client,
            events,
            formation,
            group,
            before,
            wait,
            allow_data_loss: false,
        }
        .run()
        .await
    })
}

fn wait(parsed: &Parsed) -> Result<u64, Failure> {
    parsed
        .value("wait")
        .map_or(Ok(DEFAULT_WAIT), |text| values::seconds("--wait", text))
}

/// Adds what `inspect explain` and `show state` would say of the group.
async fn explained(
    failure: Failure,
    client: &MonitorClient,
    formation: &str,
    group: i32,
) -> Failure {
    let notes = inspect::notes(client, formation, Some(group)).await;
    notes
        .into_iter()
        .fold(failure, |failure, note| failure.detail(note))
}

fn refused(failure: Failure, formation: &str, group: i32) -> Failure {
    if failure.has_details() {
        // The monitor has said it better.
        return failure;
    }
    failure.hint(format!(
        "`pg_autoctl inspect explain --formation {formation} --group {group}` says what is in the way"
    ))
}

/// The payload of a notification on the channel `state`; other keys are of no use here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StateChange {
    pub(super) formation: String,
    pub(super) group_id: i32,
    pub(super) node_id: i64,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) reported_state: String,
    pub(super) goal_state: String,
}

/// The node that takes writes before the command asks for another one.
async fn primary_of(client: &MonitorClient, formation: &str, group: i32) -> Option<i64> {
    let params = [Param::Text(formation), Param::Int(group.into())];
    let rows = client.query(NODES, &params).await.ok()?;
    rows.iter().find(|row| row.get(5) == Some("t"))?.number(0)
}

/// Tells the end of a change of primary from what went before it: health and plans are notified
/// too, and the old primary is `primary` in those.
#[derive(Debug, Default)]
struct End {
    /// Somebody was told to leave `primary` or to become it.
    moving: bool,
    /// An operator gave up on this primary: whoever takes writes after it is the end, for it may
    /// have no standby for a long time.
    given_up: Option<i64>,
}

impl End {
    /// The primary, once a change that began has ended.
    fn after(&mut self, change: &StateChange) -> Option<i64> {
        let states = [change.reported_state.as_str(), change.goal_state.as_str()];
        let quiet = [NodeState::Primary.label(), NodeState::Secondary.label()];
        if states.iter().any(|state| !quiet.contains(state)) {
            self.moving = true;
        }
        let primary = states
            .iter()
            .all(|state| *state == NodeState::Primary.label());
        let alone = self.given_up.is_some_and(|old| old != change.node_id)
            && states
                .iter()
                .all(|state| *state == NodeState::WaitPrimary.label());
        ((primary || alone) && self.moving).then_some(change.node_id)
    }
}

/// Prints state changes until there is a primary.
pub(super) struct Watch<'a> {
    pub(super) client: &'a MonitorClient,
    pub(super) events: Receiver<Notification>,
    pub(super) formation: String,
    pub(super) group: i32,
    /// Who was primary before.
    pub(super) before: Option<i64>,
    /// Seconds; 0 is without limit.
    pub(super) wait: u64,
    /// The primary before is given up.
    pub(super) allow_data_loss: bool,
}

impl Watch<'_> {
    async fn run(mut self) -> Result<(), Failure> {
        let Self {
            formation,
            group,
            wait,
            ..
        } = &self;
        if *wait > 0 {
            tracing::info!(
                "Waiting {wait} secs for a notification with state \"{}\" in formation \"{formation}\" and group {group}",
                NodeState::Primary.label()
            );
        }
        let mut end = End {
            given_up: self.before.filter(|_| self.allow_data_loss),
            ..End::default()
        };
        if let Some(primary) = self.follow(|change| end.after(change)).await? {
            return self.conclude(primary);
        }
        let waited = Failure::error(
            ExitCode::Internal,
            "Failed to wait until a new primary has been notified",
        );
        let waited = explained(waited, self.client, &self.formation, self.group).await;
        Err(waited.hint(format!(
            "`pg_autoctl inspect explain --formation {} --group {}` says what the group waits for",
            self.formation, self.group
        )))
    }

    /// Prints the changes of the group until one of them is the end; `None` when time is up.
    pub(super) async fn follow<T>(
        &mut self,
        mut end: impl FnMut(&StateChange) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        tracing::info!(
            "Listening monitor notifications about state changes in formation \"{}\" and group {}",
            self.formation,
            self.group
        );
        tracing::info!("Following table displays times when notifications are received");
        let columns = self.columns().await;
        let citus = self.is_citus().await;
        let widths = table::widths(&columns, &[]);
        out::stdout(&table::head(&columns, &widths));
        let start = Instant::now();
        let mut shown = BTreeMap::new();
        while let Some(change) = self.next(start).await? {
            if change.formation != self.formation || change.group_id != self.group {
                continue;
            }
            let states = (change.reported_state.clone(), change.goal_state.clone());
            // Health and plans are notified as well, with both states as they were.
            if shown.insert(change.node_id, states.clone()) != Some(states) {
                out::stdout(&table::row(&columns, &widths, &cells(&change, citus)));
            }
            if let Some(ended) = end(&change) {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// The group has a primary again: another one, or the same one when the move was given up.
    fn conclude(&self, after: i64) -> Result<(), Failure> {
        if self.before != Some(after) {
            return Ok(());
        }
        Err(Failure::error(
            ExitCode::Internal,
            format!("the change of primary was given up: node {after} is the primary again"),
        )
        .hint(format!(
            "`pg_autoctl show events --formation {}` says why, no commit was lost",
            self.formation
        )))
    }

    /// The next change; `None` when time is up.
    async fn next(&mut self, start: Instant) -> Result<Option<StateChange>, Failure> {
        loop {
            let left = Duration::from_secs(self.wait).saturating_sub(start.elapsed());
            let event = if self.wait == 0 {
                self.events.recv().await
            } else {
                match tokio::time::timeout(left, self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => {
                        tracing::error!("Failed to receive monitor's notifications");
                        return Ok(None);
                    }
                }
            };
            let Some(event) = event else {
                return Err(Failure::error(
                    ExitCode::Internal,
                    "the monitor closed the session while the state changes",
                )
                .hint("`pg_autoctl show state` shows how far it came"));
            };
            match serde_json::from_str(event.payload()) {
                Ok(change) => return Ok(Some(change)),
                Err(error) => tracing::warn!("cannot read a notification of the monitor: {error}"),
            }
        }
    }

    /// Whether a node is shown with its group.
    async fn is_citus(&self) -> bool {
        let rows = self
            .client
            .query(KIND, &[Param::Text(&self.formation)])
            .await;
        rows.is_ok_and(|rows| rows.first().is_some_and(|row| row.get(0) == Some("citus")))
    }

    /// The columns, as wide as the group's nodes need.
    async fn columns(&self) -> [Column; 6] {
        let params = [Param::Text(&self.formation), Param::Int(self.group.into())];
        let (name, host) = match self.client.query(NODES, &params).await {
            Ok(rows) => rows.iter().fold((4, 9), |(name, host), row| {
                let address = format!("{}:{}", row.text(2), row.text(3));
                (
                    name.max(row.text(1).chars().count()),
                    host.max(address.chars().count()),
                )
            }),
            Err(_) => {
                tracing::warn!("Failed to get_nodes() on the monitor");
                (25, 25)
            }
        };
        [
            Column::fixed("Time", 8),
            Column::fixed("Name", name),
            Column::fixed("Node", 5),
            Column::fixed("Host:Port", host),
            Column::fixed("Current State", 19),
            Column::fixed("Assigned State", 19),
        ]
    }
}

#[cfg(test)]
impl StateChange {
    /// A node of the group 0 of the formation `default`.
    pub(super) fn sample(node_id: i64, reported: &str, goal: &str) -> Self {
        Self {
            formation: "default".into(),
            group_id: 0,
            node_id,
            name: "n".into(),
            host: "h".into(),
            port: 1,
            reported_state: reported.into(),
            goal_state: goal.into(),
        }
    }
}

fn cells(change: &StateChange, citus: bool) -> Vec<String> {
    vec![
        Zoned::now().strftime("%H:%M:%S").to_string(),
        change.name.clone(),
        node_id(citus, change.group_id, change.node_id),
        format!("{}:{}", change.host, change.port),
        change.reported_state.clone(),
        change.goal_state.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_notification_of_the_old_monitor_is_understood() {
        let payload = r#"{"type": "state", "formation": "default", "groupId": 0, "nodeId": 1,
            "name": "node1", "host": "localhost", "port": 15501, "reportedState": "primary",
            "goalState": "draining", "health": "good"}"#;
        let change: StateChange = serde_json::from_str(payload).unwrap();
        assert_eq!(
            cells(&change, false)[1..],
            ["node1", "1", "localhost:15501", "primary", "draining"]
        );
        assert_eq!(cells(&change, true)[2], "0/1");
    }

    #[test]
    fn a_change_ends_with_a_primary_after_somebody_moved() {
        let change = StateChange::sample;
        let mut end = End::default();
        assert_eq!(end.after(&change(1, "primary", "primary")), None);
        assert_eq!(end.after(&change(1, "primary", "primary")), None);
        assert_eq!(end.after(&change(1, "primary", "draining")), None);
        assert_eq!(end.after(&change(2, "wait_primary", "primary")), None);
        assert_eq!(end.after(&change(2, "primary", "primary")), Some(2));
        let mut end = End {
            given_up: Some(1),
            ..End::default()
        };
        assert_eq!(end.after(&change(1, "wait_primary", "wait_primary")), None);
        assert_eq!(
            end.after(&change(2, "wait_primary", "wait_primary")),
            Some(2)
        );
    }
}
