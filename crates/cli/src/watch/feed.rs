//! Keeps the dashboard's snapshot fresh: one session with the monitor, opened again when it ends.

use std::time::Duration;

use jiff::Zoned;
use tokio::sync::mpsc;
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_postgres::Notification;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::model::{EventRow, NodeLine, Snapshot};
use crate::commands::inspect;
use crate::commands::show_state;
use crate::error::Failure;
use crate::monitor_client::{MonitorClient, Param, Row};
use crate::target::Target;

/// How often positions and ages are fetched, which no notification announces. Chosen: a person
/// compares two LSNs in about that time, and it costs the monitor three reads from memory.
pub(super) const REFRESH: Duration = Duration::from_secs(2);
/// Pause before a lost monitor is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Events of the snapshot. Source: the old program.
const EVENTS: i64 = 80;

const FORMATION: &str =
    "SELECT number_sync_standbys FROM pgautofailover.formation WHERE formationid = $1";
const EVENT_COLUMNS: &str = "SELECT eventid, eventtime, nodename, description ";

/// What is watched.
#[derive(Debug, Clone)]
struct Wanted {
    target: Target,
    formation: String,
    group: Option<i32>,
}

/// Opens the session, and keeps it.
///
/// # Errors
/// When the monitor cannot be reached now.
pub(super) async fn start(
    target: Target,
    group: Option<i32>,
) -> Result<(Receiver<Snapshot>, JoinHandle<()>), Failure> {
    let formation = target.formation();
    let wanted = Wanted {
        target,
        formation,
        group,
    };
    let mut session = Session::open(&wanted).await?;
    let first = session.fetch(&wanted).await?;
    let (sender, receiver) = watch::channel(first);
    // The screen is taken: nothing may be logged to the terminal from here on.
    let feeding = async move {
        let mut why = session.follow(&wanted, &sender).await;
        loop {
            let text = format!("monitor lost, trying again: {why}");
            sender.send_modify(|snapshot| snapshot.trouble = Some(text));
            tokio::time::sleep(RETRY).await;
            why = match Session::open(&wanted).await {
                Ok(mut session) => session.follow(&wanted, &sender).await,
                Err(failure) => failure,
            };
        }
    };
    let handle = tokio::spawn(feeding.with_subscriber(NoSubscriber::default()));
    Ok((receiver, handle))
}

struct Session {
    client: MonitorClient,
    pushed: mpsc::Receiver<Notification>,
}

impl Session {
    async fn open(wanted: &Wanted) -> Result<Self, Failure> {
        let mut client = MonitorClient::connect(&wanted.target).await?;
        let pushed = client.listen().await?;
        Ok(Self { client, pushed })
    }

    /// Sends snapshots until the session fails; answers why.
    async fn follow(&mut self, wanted: &Wanted, sender: &Sender<Snapshot>) -> Failure {
        loop {
            match self.fetch(wanted).await {
                Ok(snapshot) => sender.send_replace(snapshot),
                Err(failure) => return failure,
            };
            let news = tokio::time::timeout(REFRESH, self.pushed.recv()).await;
            if let Ok(None) = news {
                return Failure::monitor("the monitor closed the session");
            }
            // One fetch answers everything that was pushed meanwhile.
            while self.pushed.try_recv().is_ok() {}
        }
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<Snapshot, Failure> {
        let Wanted {
            formation, group, ..
        } = wanted;
        let named = [Param::Text(formation)];
        let number = self.client.query(FORMATION, &named).await?;
        let nodes = show_state::fetch(&self.client, formation, *group).await?;
        Ok(Snapshot {
            formation: formation.clone(),
            number_sync: number.first().map(|row| row.text(0)),
            nodes: nodes.iter().map(NodeLine::of).collect(),
            notes: inspect::notes(&self.client, formation, *group).await,
            events: self.events(formation, *group).await?,
            trouble: None,
        })
    }

    async fn events(&self, formation: &str, group: Option<i32>) -> Result<Vec<EventRow>, Failure> {
        let name = Param::Text(formation);
        let rows = match group {
            Some(group) => {
                let text = format!("{EVENT_COLUMNS} FROM pgautofailover.last_events($1, $2, $3)");
                let params = [name, Param::Int(group.into()), Param::Int(EVENTS)];
                self.client.query(&text, &params).await?
            }
            None => {
                let text =
                    format!("{EVENT_COLUMNS} FROM pgautofailover.last_events($1, count => $2)");
                self.client
                    .query(&text, &[name, Param::Int(EVENTS)])
                    .await?
            }
        };
        let mut events: Vec<EventRow> = rows.iter().map(event).collect();
        events.reverse();
        Ok(events)
    }
}

fn event(row: &Row) -> EventRow {
    EventRow {
        id: row.text(0),
        time: local_time(&row.text(1)),
        name: row.text(2),
        description: row.text(3),
    }
}

/// The monitor's time as this machine's clock shows it, or as it came.
fn local_time(text: &str) -> String {
    text.parse::<jiff::Timestamp>().map_or_else(
        |_| text.to_owned(),
        |time| {
            let here = Zoned::now().time_zone().clone();
            time.to_zoned(here)
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitors_times_are_read() {
        let shown = local_time("2026-11-25 09:52:41.991600+00");
        assert_eq!(shown.len(), "2026-11-25 09:52:41".len(), "{shown}");
        assert!(shown.ends_with(":52:41"), "{shown}");
        assert_eq!(local_time("soon"), "soon");
    }
}
