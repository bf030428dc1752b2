//! Asking a node's Postgres over its socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// A query of the harness reads a few thousand rows at most.
const LIMIT: Duration = Duration::from_secs(10);

/// A session is opened at once, or there is none.
const OPENED: Duration = Duration::from_secs(2);

/// Where a Postgres listens.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) sockets: PathBuf,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) database: String,
}

impl Target {
    /// Connection settings.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.sockets)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name("pgaf-xtask")
            .connect_timeout(Duration::from_secs(2));
        config
    }
}

/// A session that stays open from one query to the next.
#[derive(Debug)]
pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    /// Opens a session that reads.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot make a runtime")?;
        let opened = runtime.block_on(async {
            let (client, connection) =
                tokio::time::timeout(OPENED, target.config().connect(NoTls)).await??;
            tokio::spawn(connection);
            anyhow::Ok(client)
        });
        let client = opened.with_context(|| format!("port {}: no session", target.port))?;
        Ok(Self { runtime, client })
    }

    /// Runs a query in this session.
    ///
    /// # Errors
    /// When the session was ended, or there is no answer.
    pub(crate) fn read(&mut self, query: &str) -> Result<()> {
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(LIMIT, self.client.simple_query(query)).await });
        answer.context("no answer")?.map_err(explained).map(drop)
    }
}

/// Runs one query on a connection of its own; null reads as the empty text.
///
/// # Errors
/// When it fails or does not end.
pub(crate) fn query(target: &Target, query: &str) -> Result<Vec<Vec<String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot make a runtime")?;
    let work = async {
        let (client, connection) = target.config().connect(NoTls).await?;
        let driver = tokio::spawn(connection);
        let answer = client.simple_query(query).await;
        drop(client);
        driver.abort();
        answer
    };
    let answer = runtime
        .block_on(async { tokio::time::timeout(LIMIT, work).await })
        .with_context(|| format!("port {}: no answer to `{query}`", target.port))?
        .map_err(explained)
        .with_context(|| format!("port {}: `{query}`", target.port))?;
    let mut rows = Vec::new();
    for message in answer {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push(
                (0..row.len())
                    .map(|i| row.get(i).unwrap_or_default().to_owned())
                    .collect(),
            );
        }
    }
    Ok(rows)
}

/// The server's own words: the driver's error hides them one level down.
pub(crate) fn explained(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(db) => anyhow::anyhow!("{}: {}", db.severity(), db.message()),
        None => error.into(),
    }
}
