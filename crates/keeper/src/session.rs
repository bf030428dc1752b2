//! The session to the monitor.
//!
//! Owns one connection, kept open: reports go out on it, answers and pushed goals come in. It must
//! never judge an answer: the loop does. Reconnects by itself, with a jittered pause.

use std::time::Duration;

use pgaf_postgres::client::{self, Client, ConnectError, Options, QueryError};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_protocol::{Answer, GOAL_CHANNEL, Incarnation, Peer, Report, Time};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_postgres::Statement;

use crate::clock;

/// For a connection to the monitor, login included (chosen: four heartbeats; a monitor that is
/// there answers in milliseconds).
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For the answer to a report: a session that is silent for longer is opened anew. Below the
/// shortest lease, so that one lost answer does not cost a lease.
const REPORT_LIMIT: Duration = Duration::from_secs(2);
/// Pause before the first new attempt (chosen: a monitor that restarts is back in well under 1 s).
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts (`design.md` §4: bring-up and failover never wait for it long).
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A problem that lasts is logged again this often.
const REMIND: Duration = Duration::from_secs(30);

const REPORT: &str = "SELECT pgautofailover.keeper_report($1)";
/// Source: the old program's API (`monitor-sql-api.md`).
const ANNOUNCE: &str = "SELECT * FROM pgautofailover.update_node_metadata($1, $2, $3, $4)";

/// What the loop wants to be said.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// The report.
    pub(crate) report: Report,
    /// Raised when it is to be sent at once.
    pub(crate) number: u64,
    /// Sent again after this.
    pub(crate) heartbeat: Duration,
    /// The node's name and address, when the monitor is to be told of them.
    pub(crate) announce: Option<Peer>,
}

/// What the session heard.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The monitor has taken over this name and address.
    Announced(Peer),
    /// An answer, or a pushed goal.
    Answer {
        /// What was said.
        answer: Box<Answer>,
        /// The monitor's run, as the first answer of this session had it.
        session: Incarnation,
        /// When the request was sent; `None` for a push.
        sent: Option<Time>,
        /// The number of the report that was answered; `None` for a push.
        number: Option<u64>,
    },
}

/// Keeps a session until the loop has gone.
pub(crate) async fn keep(
    mut monitor: watch::Receiver<Conninfo>,
    mut outgoing: watch::Receiver<Outgoing>,
    incoming: mpsc::Sender<Incoming>,
) {
    let mut pause = FIRST_PAUSE;
    let mut problem = Problem::default();
    // Nothing is said before the loop has looked at its Postgres once.
    if outgoing.wait_for(|out| out.number > 0).await.is_err() {
        return;
    }
    loop {
        let target = monitor.borrow_and_update().clone();
        let options = Options {
            connect_timeout: CONNECT_LIMIT,
            application_name: "pg_autoctl keeper".into(),
        };
        match client::connect(&target, &options).await {
            Ok(client) => {
                match converse(client, &mut outgoing, &incoming, &mut problem, &monitor).await {
                    Left::LoopGone => return,
                    Left::Closed { answered, why } => {
                        problem.note(&format!("the session to the monitor has ended: {why}"));
                        if answered {
                            pause = FIRST_PAUSE;
                        }
                    }
                }
            }
            Err(error) => problem.note(&unreachable_words(&target, &error)),
        }
        if incoming.is_closed() {
            return;
        }
        let jitter = pause.mul_f64(0.5 + rand::random::<f64>() * 0.5);
        tokio::time::sleep(jitter).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn unreachable_words(target: &Conninfo, error: &ConnectError) -> String {
    format!(
        "waits for the monitor at {}: {}",
        target.redacted(),
        crate::words(error)
    )
}

/// Says a problem once, and again only when it lasts or changes.
#[derive(Debug, Default)]
struct Problem {
    said: Option<(String, Instant)>,
}

impl Problem {
    fn note(&mut self, text: &str) {
        let again = self
            .said
            .as_ref()
            .is_none_or(|(before, at)| before != text || at.elapsed() >= REMIND);
        if again {
            tracing::warn!("{text}");
            self.said = Some((text.to_owned(), Instant::now()));
        }
    }

    fn over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("the monitor answers again");
        }
    }
}

enum Left {
    LoopGone,
    Closed { answered: bool, why: String },
}

/// One session, from its first report to its end.
async fn converse(
    mut client: Client,
    outgoing: &mut watch::Receiver<Outgoing>,
    incoming: &mpsc::Sender<Incoming>,
    problem: &mut Problem,
    monitor: &watch::Receiver<Conninfo>,
) -> Left {
    let Some(mut pushes) = client.notifications() else {
        return Left::Closed {
            answered: false,
            why: "no notifications on this session".into(),
        };
    };
    let mut session: Option<Incarnation> = None;
    let mut refused: Option<Peer> = None;
    // Prepared once: a report is then one round trip instead of three.
    let report = match client.prepare(REPORT, REPORT_LIMIT).await {
        Ok(statement) => statement,
        Err(error) => return closed(session, &error),
    };
    loop {
        let (text, heartbeat, number) = {
            let out = outgoing.borrow_and_update();
            (
                serde_json::to_string(&out.report).unwrap_or_default(),
                out.heartbeat,
                out.number,
            )
        };
        let sent = clock::now();
        let due = Instant::now() + heartbeat;
        let request = (&client, &report, &text);
        let answer = match ask(request, &mut pushes, session, incoming).await {
            Ok(answer) => answer,
            Err(left) => return left,
        };
        problem.over();
        let session = *session.get_or_insert(answer.incarnation);
        let message = Incoming::Answer {
            answer: Box::new(answer),
            session,
            sent: Some(sent),
            number: Some(number),
        };
        if incoming.send(message).await.is_err() {
            return Left::LoopGone;
        }
        if let Err(left) = announce(&client, outgoing, &mut refused, incoming).await {
            return left;
        }
        // Wait for something to say, or to hear.
        loop {
            tokio::select! {
                changed = outgoing.changed() => match changed {
                    Err(_) => return Left::LoopGone,
                    Ok(()) if outgoing.borrow().number != number => break,
                    Ok(()) => {}
                },
                () = tokio::time::sleep_until(due) => break,
                push = pushes.recv() => match push {
                    Some(push) => {
                        if forward_push(&push, session, incoming).await.is_err() {
                            return Left::LoopGone;
                        }
                    }
                    None => return Left::Closed { answered: true, why: client.closed().await },
                },
                why = client.closed() => return Left::Closed { answered: true, why },
            }
            if monitor.has_changed().unwrap_or(true) {
                return Left::Closed {
                    answered: true,
                    why: "another monitor is configured".into(),
                };
            }
        }
    }
}

/// Tells the monitor a new name or address: identity is not an address, the id stays. A refusal
/// (another node has it) is said once a session.
async fn announce(
    client: &Client,
    outgoing: &watch::Receiver<Outgoing>,
    refused: &mut Option<Peer>,
    incoming: &mpsc::Sender<Incoming>,
) -> Result<(), Left> {
    let Some(own) = outgoing.borrow().announce.clone() else {
        return Ok(());
    };
    if refused.as_ref() == Some(&own) {
        return Ok(());
    }
    let port = i32::from(own.port);
    let told = client
        .query(
            ANNOUNCE,
            &[&own.node.0, &own.name, &own.host, &port],
            REPORT_LIMIT,
        )
        .await;
    match told {
        Ok(_) => incoming
            .send(Incoming::Announced(own))
            .await
            .map_err(|_| Left::LoopGone),
        Err(error) => {
            tracing::error!(
                error = %crate::words(&error),
                name = own.name,
                host = own.host,
                port = own.port,
                "the monitor does not take over this node's name and address"
            );
            *refused = Some(own);
            Ok(())
        }
    }
}

/// Sends one report and waits for its answer. A goal that is pushed meanwhile does not wait.
async fn ask(
    (client, statement, report): (&Client, &Statement, &String),
    pushes: &mut mpsc::Receiver<tokio_postgres::Notification>,
    session: Option<Incarnation>,
    incoming: &mpsc::Sender<Incoming>,
) -> Result<Answer, Left> {
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [report];
    let asked = client.query_prepared(statement, &parameters, REPORT_LIMIT);
    tokio::pin!(asked);
    let answered = loop {
        tokio::select! {
            rows = &mut asked => break rows,
            push = pushes.recv() => match (push, session) {
                (Some(push), Some(session)) => {
                    if forward_push(&push, session, incoming).await.is_err() {
                        return Err(Left::LoopGone);
                    }
                }
                (Some(_), None) => {}
                (None, _) => break Err(QueryError::Closed),
            },
        }
    };
    let rows = answered.map_err(|error| closed(session, &error))?;
    let Some(row) = rows.first() else {
        return Err(Left::Closed {
            answered: session.is_some(),
            why: "an answer without a row".into(),
        });
    };
    let text: String = row.try_get(0).map_err(|error| closed(session, &error))?;
    serde_json::from_str(&text).map_err(|error| closed(session, &error))
}

fn closed(session: Option<Incarnation>, error: &(dyn std::error::Error + 'static)) -> Left {
    Left::Closed {
        answered: session.is_some(),
        why: crate::words(error),
    }
}

/// Hands a pushed goal to the loop. What cannot be read is dropped: a push is only a hint, the
/// next answer carries the goal.
async fn forward_push(
    push: &tokio_postgres::Notification,
    session: Incarnation,
    incoming: &mpsc::Sender<Incoming>,
) -> Result<(), ()> {
    if push.channel() != GOAL_CHANNEL {
        return Ok(());
    }
    let answer: Answer = match serde_json::from_str(push.payload()) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, "cannot read a pushed goal");
            return Ok(());
        }
    };
    let message = Incoming::Answer {
        answer: Box::new(answer),
        session,
        sent: None,
        number: None,
    };
    incoming.send(message).await.map_err(|_| ())
}
