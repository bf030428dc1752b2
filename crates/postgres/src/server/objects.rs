//! Roles, databases, extensions.

use std::time::Duration;

use super::limit::Limit;
use super::{Server, ServerError};
use crate::client::{Client, Options, connect};
use crate::conninfo::Secret;
use crate::hba::{MONITOR_ROLE, REPLICATION_ROLE};

/// What `pg_rewind` calls on its source (Postgres manual, "pg_rewind", Notes).
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// An extension to create in [`Objects::dbname`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Whether it is an error when the server does not have it.
    pub required: bool,
}

/// What a node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// `--username`: LOGIN SUPERUSER, owner of the database. `None`: the initdb role.
    pub username: Option<String>,
    /// `--dbname`.
    pub dbname: String,
    /// Password of `pgautofailover_replicator`.
    pub replication_password: Option<Secret>,
    /// Extensions.
    pub extensions: Vec<Extension>,
}

impl Server {
    /// Creates the roles, the database and the extensions that are missing, and keeps what is
    /// there; only on a primary. Waits for no standby: the session commits locally.
    ///
    /// The replication role is no superuser; it may call what `pg_rewind` needs. Its password is
    /// set each time one is given. The monitor's role gets rid of the old program's limit of one
    /// connection, which a kept session and a fresh probe together exceed.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn ensure_objects(
        &self,
        objects: &Objects,
        deadline: Duration,
    ) -> Result<(), ServerError> {
        let limit = Limit::new("create roles and databases", deadline);
        let session = self.session(&limit).await?;
        let client = &session.client;
        self.roles(client, objects, &limit).await?;
        if !exists(client, "pg_database WHERE datname", &objects.dbname, &limit).await? {
            let owner = objects
                .username
                .as_deref()
                .map(|u| format!(" OWNER {}", identifier(u)));
            let sql = format!(
                "CREATE DATABASE {}{}",
                identifier(&objects.dbname),
                owner.unwrap_or_default()
            );
            client
                .batch(&sql, limit.left())
                .await
                .map_err(limit.failed())?;
        }
        grant_rewind(client, &limit).await?;
        let inside = self.in_database(&objects.dbname, &limit).await?;
        grant_rewind(&inside, &limit).await?;
        for extension in &objects.extensions {
            create_extension(&inside, extension, &limit).await?;
        }
        Ok(())
    }

    async fn roles(
        &self,
        client: &Client,
        objects: &Objects,
        limit: &Limit,
    ) -> Result<(), ServerError> {
        let run = async |sql: String| {
            client
                .batch(&sql, limit.left())
                .await
                .map_err(limit.failed())
        };
        if exists(client, "pg_roles WHERE rolname", MONITOR_ROLE, limit).await? {
            let limited = "pg_roles WHERE rolconnlimit = 1 AND rolname";
            if exists(client, limited, MONITOR_ROLE, limit).await? {
                run(format!("ALTER ROLE {MONITOR_ROLE} CONNECTION LIMIT -1")).await?;
            }
        } else {
            // A known password, as in the old program: HBA lets only the monitor's host in.
            run(format!(
                "CREATE ROLE {MONITOR_ROLE} LOGIN PASSWORD '{MONITOR_ROLE}'"
            ))
            .await?;
        }
        if !exists(client, "pg_roles WHERE rolname", REPLICATION_ROLE, limit).await? {
            run(format!("CREATE ROLE {REPLICATION_ROLE} LOGIN REPLICATION")).await?;
        }
        if let Some(password) = &objects.replication_password {
            let literal = literal(password.expose());
            run(format!("ALTER ROLE {REPLICATION_ROLE} PASSWORD {literal}")).await?;
        }
        if let Some(username) = &objects.username
            && !exists(client, "pg_roles WHERE rolname", username, limit).await?
        {
            run(format!(
                "CREATE ROLE {} LOGIN SUPERUSER",
                identifier(username)
            ))
            .await?;
        }
        Ok(())
    }

    /// A session in another database of the same server.
    async fn in_database(&self, dbname: &str, limit: &Limit) -> Result<Client, ServerError> {
        let mut conninfo = self.inner.conninfo.clone();
        conninfo.dbname = Some(dbname.to_owned());
        conninfo.options = Some("-c synchronous_commit=local -c log_statement=none".to_owned());
        let options = Options {
            connect_timeout: limit.left(),
            application_name: "pg_autoctl".to_owned(),
        };
        connect(&conninfo, &options)
            .await
            .map_err(ServerError::Connect)
    }
}

/// `what` is catalogue, condition and column, all ours.
async fn exists(
    client: &Client,
    what: &str,
    name: &str,
    limit: &Limit,
) -> Result<bool, ServerError> {
    let sql = format!("SELECT 1 FROM pg_catalog.{what} = $1::text");
    let rows = client
        .query(&sql, &[&name], limit.left())
        .await
        .map_err(limit.failed())?;
    Ok(!rows.is_empty())
}

/// Grants what is missing: a grant that is there would write WAL for nothing.
async fn grant_rewind(client: &Client, limit: &Limit) -> Result<(), ServerError> {
    for function in REWIND_FUNCTIONS {
        let sql = "SELECT pg_catalog.has_function_privilege($1::text, $2::text, 'execute')";
        let row = client
            .query_one(sql, &[&REPLICATION_ROLE, &function], limit.left())
            .await;
        if !row.map_err(limit.failed())?.get::<_, bool>(0) {
            let sql = format!("GRANT EXECUTE ON FUNCTION {function} TO {REPLICATION_ROLE}");
            client
                .batch(&sql, limit.left())
                .await
                .map_err(limit.failed())?;
        }
    }
    Ok(())
}

async fn create_extension(
    client: &Client,
    extension: &Extension,
    limit: &Limit,
) -> Result<(), ServerError> {
    let name = &extension.name;
    if exists(client, "pg_extension WHERE extname", name, limit).await? {
        return Ok(());
    }
    let known = exists(client, "pg_available_extensions WHERE name", name, limit).await?;
    if !known && !extension.required {
        tracing::info!(extension = name, "not installed on this host: left out");
        return Ok(());
    }
    let sql = format!(
        "CREATE EXTENSION IF NOT EXISTS {} CASCADE",
        identifier(name)
    );
    client
        .batch(&sql, limit.left())
        .await
        .map_err(limit.failed())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Works whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
