//! Registering the node.

use std::time::Duration;

use pgaf_fsm::node::{Entry, Journal};
use pgaf_postgres::client::{self, ConnectError, Options, QueryError};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::control::{self, ControlData};
use pgaf_postgres::locate::Installation;
use pgaf_protocol::{NodeId, PROTOCOL_VERSION, Peer, Registered, Registration};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::journal::JournalFile;
use crate::{Joining, KeeperConfig, KeeperError, Shutdown};

/// For one attempt.
const LIMIT: Duration = Duration::from_secs(5);
/// Between attempts while the monitor is not there (chosen: a formation that is started all at
/// once does not wait for it noticeably).
const PAUSE: Duration = Duration::from_millis(200);
/// "Waits for the monitor" is said again this often. Source: the old program says it every 10 s.
const REMIND: Duration = Duration::from_secs(10);

const REGISTER: &str = "SELECT pgautofailover.keeper_register($1)";

/// Registers the node: writes the journal with a token first, so that repeating it after a crash
/// gives the same node; waits, with a message, for a monitor that is not there yet. Once
/// registered it answers at once from the journal. The caller stores `name` and `group` in its
/// configuration file.
///
/// # Errors
/// [`KeeperError`].
pub async fn create(
    config: &KeeperConfig,
    joining: &Joining,
    mut shutdown: watch::Receiver<Shutdown>,
) -> Result<Registered, KeeperError> {
    let file = JournalFile::at(&config.journal);
    let mut journal = match file.load()? {
        Some(journal) if journal.node != NodeId(0) && !journal.dropped => {
            return Ok(registered(&journal, joining));
        }
        // A dropped node that is created again keeps its id, and takes a new place.
        Some(journal) if journal.dropped => {
            let mut again = Journal::new(token(), config.formation.clone());
            again.node = journal.node;
            again.copy = journal.copy;
            again.role = journal.role;
            again.system_identifier = journal.system_identifier;
            store(&file, &again)?;
            again
        }
        Some(journal) => journal,
        None => {
            let journal = Journal::new(token(), config.formation.clone());
            store(&file, &journal)?;
            journal
        }
    };
    crate::failpoint::hit("after-token");
    let monitor = config.monitor.as_ref().ok_or(KeeperError::NoMonitor)?;
    let wish = registration(config, joining, &journal).await?;
    let answer = tokio::select! {
        answer = ask_until_answered(monitor, &wish) => answer?,
        _ = shutdown.wait_for(|s| *s != Shutdown::No) => return Err(KeeperError::Interrupted),
    };
    crate::failpoint::hit("after-register");
    journal.apply(Entry::Registered(answer.clone()));
    journal.apply(Entry::Announced {
        as_peer: Peer {
            node: answer.node,
            name: answer.name.clone(),
            host: config.host.clone(),
            port: config.port,
        },
    });
    store(&file, &journal)?;
    tracing::info!(
        node = %answer.node,
        group = %answer.group,
        name = %answer.name,
        "registered at the monitor"
    );
    Ok(answer)
}

fn store(file: &JournalFile, journal: &Journal) -> Result<(), KeeperError> {
    file.store(journal).map_err(|error| KeeperError::Journal {
        path: file.path().to_owned(),
        reason: crate::words(&error),
    })
}

fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// What the monitor said when the node was registered before.
fn registered(journal: &Journal, joining: &Joining) -> Registered {
    Registered {
        protocol: PROTOCOL_VERSION,
        lineage: journal.lineage.unwrap_or(pgaf_protocol::Lineage(0)),
        node: journal.node,
        group: journal.group,
        name: journal.name.clone(),
        state: journal.state,
        term: journal.seen.term,
        candidate_priority: joining.candidate_priority,
        replication_quorum: joining.replication_quorum,
    }
}

async fn registration(
    config: &KeeperConfig,
    joining: &Joining,
    journal: &Journal,
) -> Result<Registration, KeeperError> {
    let data = existing(config).await?;
    let copy = pgaf_postgres::copy::read(&config.pgdata).ok().flatten();
    let made_standby = config.pgdata.join("standby.signal").exists();
    Ok(Registration {
        protocol: PROTOCOL_VERSION,
        token: journal.token.clone(),
        formation: config.formation.clone(),
        name: config.name.clone(),
        host: config.host.clone(),
        port: config.port,
        dbname: config.dbname.clone(),
        kind: config.kind,
        group: joining.group,
        node: Some(journal.node).filter(|node| *node != NodeId(0)),
        candidate_priority: joining.candidate_priority,
        replication_quorum: joining.replication_quorum,
        cluster: config.cluster.clone(),
        system_identifier: data.as_ref().map(|data| data.system_identifier),
        copy: copy.filter(|_| data.is_some()),
        is_standby: data
            .as_ref()
            .is_some_and(|data| made_standby || !data.state.was_primary()),
    })
}

/// The control file of a data directory that is there before the node is created.
async fn existing(config: &KeeperConfig) -> Result<Option<ControlData>, KeeperError> {
    if !config.pgdata.join("PG_VERSION").exists() {
        return Ok(None);
    }
    let installation =
        Installation::at(&config.pg_ctl)
            .await
            .map_err(|source| KeeperError::Installation {
                pg_ctl: config.pg_ctl.clone(),
                source,
            })?;
    let unusable = |reason: String| KeeperError::DataDirectory {
        pgdata: config.pgdata.clone(),
        reason,
    };
    match pgaf_postgres::version::of_data_directory(&config.pgdata) {
        Ok(major) if major == installation.version.major => {}
        Ok(major) => {
            return Err(unusable(format!(
                "it belongs to Postgres {major}, and `{}` is of Postgres {}",
                config.pg_ctl.display(),
                installation.version
            )));
        }
        Err(error) => return Err(unusable(crate::words(&error))),
    }
    control::read(&installation, &config.pgdata)
        .await
        .map(pgaf_postgres::control::Control::present)
        .map_err(|error| unusable(crate::words(&error)))
}

enum Attempt {
    Later(String),
    Never(KeeperError),
}

async fn ask_until_answered(
    monitor: &Conninfo,
    wish: &Registration,
) -> Result<Registered, KeeperError> {
    let mut said: Option<Instant> = None;
    loop {
        match ask(monitor, wish).await {
            Ok(answer) => return Ok(answer),
            Err(Attempt::Never(error)) => return Err(error),
            Err(Attempt::Later(why)) => {
                if said.is_none_or(|at| at.elapsed() >= REMIND) {
                    tracing::warn!("waits for the monitor at {}: {why}", monitor.redacted());
                    said = Some(Instant::now());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn ask(monitor: &Conninfo, wish: &Registration) -> Result<Registered, Attempt> {
    let options = Options {
        connect_timeout: LIMIT,
        application_name: "pg_autoctl create".into(),
    };
    let client = match client::connect(monitor, &options).await {
        Ok(client) => client,
        Err(error) if error.may_retry() => return Err(Attempt::Later(crate::words(&error))),
        Err(error @ ConnectError::Failed { code: None, .. }) => {
            return Err(Attempt::Later(crate::words(&error)));
        }
        Err(error) => return Err(Attempt::Never(KeeperError::Monitor(error))),
    };
    let text = serde_json::to_string(wish).map_err(|e| Attempt::Later(e.to_string()))?;
    match client.query_one(REGISTER, &[&text], LIMIT).await {
        Ok(row) => {
            let text: String = row
                .try_get(0)
                .map_err(|e| Attempt::Later(crate::words(&e)))?;
            serde_json::from_str(&text).map_err(|e| Attempt::Later(e.to_string()))
        }
        Err(QueryError::Server {
            code,
            message,
            hint,
            ..
        }) => {
            // 57P0x: shutting down; 53xxx, 55P03, 55006 (no primary to join yet), 40001: again.
            let later = ["57", "53", "40"]
                .iter()
                .any(|class| code.starts_with(class))
                || matches!(code.as_str(), "55P03" | "55006")
                || code == "25006";
            if later {
                Err(Attempt::Later(message))
            } else {
                Err(Attempt::Never(KeeperError::Refused {
                    code,
                    message,
                    hint,
                }))
            }
        }
        Err(error @ (QueryError::TimedOut(_) | QueryError::Closed | QueryError::Protocol(_))) => {
            Err(Attempt::Later(crate::words(&error)))
        }
    }
}
