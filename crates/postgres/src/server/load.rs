//! Loading configuration, and seeing what is in force and why.

use std::time::Duration;

use super::limit::{Limit, Pace};
use super::observe::Effective;
use super::{PgTime, Server, ServerError};
use crate::client::Client;
use crate::conf::{self, ENFORCED_FILE, Enforced};

/// New sessions without the reload after which the files are checked. Chosen.
const SUSPICIOUS: u32 = 5;

/// A setting of ours whose value comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The setting.
    pub setting: String,
    /// Its effective value; `****` for `primary_conninfo`.
    pub value: String,
    /// The file, or the kind of source (`command line`, …).
    pub place: String,
}

/// One setting with its source.
pub(super) async fn effective(
    client: &Client,
    name: &str,
    limit: &Limit,
) -> Result<Effective, ServerError> {
    let row = client
        .query_one(
            "SELECT setting, source, sourcefile FROM pg_catalog.pg_settings WHERE name = $1",
            &[&name],
            limit.left(),
        )
        .await
        .map_err(limit.failed())?;
    Ok(Effective {
        value: row.get(0),
        source: row.get(1),
        file: row.get(2),
    })
}

impl Effective {
    /// Where the value comes from, for a person.
    #[must_use]
    pub fn place(&self) -> String {
        self.file.clone().unwrap_or_else(|| self.source.clone())
    }

    /// Whether the value comes from the file that we enforce.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.file
            .as_deref()
            .is_some_and(|f| f.rsplit('/').next() == Some(ENFORCED_FILE))
    }
}

/// The value of a setting that may hold a password is not shown.
fn shown(setting: &str, value: &str) -> String {
    if setting == "primary_conninfo" && !value.is_empty() {
        "****".to_owned()
    } else {
        value.to_owned()
    }
}

/// The error when a setting is not what our file says.
pub(super) fn overridden(setting: &str, effective: &Effective) -> ServerError {
    ServerError::Overridden {
        setting: setting.to_owned(),
        value: shown(setting, &effective.value),
        place: effective.place(),
    }
}

impl Server {
    /// Writes the file (fsync), reloads, and answers a session that was opened after the
    /// postmaster had loaded it and passed the signal on.
    pub(super) async fn write_and_reload(
        &self,
        enforced: &Enforced,
        limit: &Limit,
    ) -> Result<Client, ServerError> {
        conf::write_enforced(self.pgdata(), enforced).map_err(ServerError::Conf)?;
        self.reload_seen(limit).await
    }

    /// Tells the postmaster to reload; answers when that was, on its clock.
    pub(super) async fn request_reload(&self, limit: &Limit) -> Result<PgTime, ServerError> {
        let session = self.session(limit).await?;
        let row = session
            .client
            .query_one(
                "SELECT pg_catalog.clock_timestamp(), pg_catalog.pg_reload_conf()",
                &[],
                limit.left(),
            )
            .await
            .map_err(limit.failed())?;
        Ok(row.get(0))
    }

    /// Reloads; done when a new session's `pg_conf_load_time()` is not before the request. New
    /// sessions inherit the postmaster's values, and it signals the others in the same breath.
    pub(super) async fn reload_seen(&self, limit: &Limit) -> Result<Client, ServerError> {
        let requested = self.request_reload(limit).await?;
        let mut pace = Pace::new();
        for attempt in 1.. {
            let client = self.fresh(limit).await?;
            let row = client
                .query_one("SELECT pg_catalog.pg_conf_load_time()", &[], limit.left())
                .await
                .map_err(limit.failed())?;
            if row.get::<_, PgTime>(0) >= requested {
                return Ok(client);
            }
            // Mostly the first session has seen it. Files with a syntax error are never loaded.
            if attempt % SUSPICIOUS == 0
                && let Some(reason) = broken_files(&client, limit).await?
            {
                return Err(ServerError::BadConfiguration(reason));
            }
            if limit.is_over() {
                break;
            }
            pace.pause().await;
        }
        Err(limit.timed_out("no new session has seen the reload"))
    }

    /// Checks that a setting has our value from our file. `client` has seen the reload: the value
    /// is read there. The source is read in the kept session, whose caches are warm (the view
    /// costs a new session some milliseconds); it handles the postmaster's signal before it runs
    /// the statement.
    pub(super) async fn check_in_force(
        &self,
        client: &Client,
        setting: &str,
        value: &str,
        limit: &Limit,
    ) -> Result<(), ServerError> {
        let sql = "SELECT current_setting($1)";
        let row = client.query_one(sql, &[&setting], limit.left()).await;
        let new: String = row.map_err(limit.failed())?.get(0);
        let session = self.session(limit).await?;
        let mut effective = effective(&session.client, setting, limit).await?;
        if new == value && effective.value == value && effective.is_ours() {
            return Ok(());
        }
        effective.value = new;
        // A file that does not parse leaves all the old values in force.
        if let Some(reason) = broken_files(client, limit).await? {
            return Err(ServerError::BadConfiguration(reason));
        }
        Err(overridden(setting, &effective))
    }

    /// Writes `enforced`, reloads, and waits until a fresh session has loaded it. Settings that
    /// need a restart are listed by [`Server::pending_restart`].
    ///
    /// # Errors
    /// [`ServerError`]; `Overridden` or `BadConfiguration` when it is loaded and not in force.
    pub async fn load(&self, enforced: &Enforced, deadline: Duration) -> Result<(), ServerError> {
        let limit = Limit::new("load the configuration", deadline);
        let client = self.write_and_reload(enforced, &limit).await?;
        let names = enforced.names.to_setting();
        self.check_in_force(&client, "synchronous_standby_names", &names, &limit)
            .await
    }

    /// Reloads without writing anything (after a change of HBA rules), seen by a new session.
    ///
    /// # Errors
    /// [`ServerError`]; `BadConfiguration` when `pg_hba.conf` does not parse.
    pub async fn reload(&self, deadline: Duration) -> Result<(), ServerError> {
        let limit = Limit::new("reload the configuration", deadline);
        let client = self.reload_seen(&limit).await?;
        let rows = client
            .query(
                "SELECT line_number, error FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL",
                &[],
                limit.left(),
            )
            .await
            .map_err(limit.failed())?;
        match rows.first() {
            None => Ok(()),
            Some(row) => {
                let (line, error): (i32, String) = (row.get(0), row.get(1));
                Err(ServerError::BadConfiguration(format!(
                    "pg_hba.conf line {line}: {error}"
                )))
            }
        }
    }

    /// Settings that wait for a restart.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn pending_restart(&self, deadline: Duration) -> Result<Vec<String>, ServerError> {
        let limit = Limit::new("look for settings that need a restart", deadline);
        let session = self.session(&limit).await?;
        let sql = "SELECT name FROM pg_catalog.pg_settings WHERE pending_restart ORDER BY name";
        let rows = session
            .client
            .query(sql, &[], limit.left())
            .await
            .map_err(limit.failed())?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Settings of ours whose effective value comes from elsewhere: `ALTER SYSTEM`, a later file,
    /// the command line.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn overrides(&self, deadline: Duration) -> Result<Vec<Override>, ServerError> {
        let limit = Limit::new("look for overridden settings", deadline);
        let session = self.session(&limit).await?;
        let owned: &[&str] = &conf::OWNED;
        // Sessions of ours set two of them for themselves.
        let rows = session
            .client
            .query(
                "SELECT s.name, s.setting, coalesce(s.sourcefile, s.source) \
                   FROM pg_catalog.pg_settings s \
                  WHERE s.name = ANY ($1) AND s.source NOT IN ('default', 'client', 'override') \
                    AND coalesce(s.sourcefile, '') NOT LIKE '%/' || $2 \
                  ORDER BY 1",
                &[&owned, &ENFORCED_FILE],
                limit.left(),
            )
            .await
            .map_err(limit.failed())?;
        let as_override = |row: &tokio_postgres::Row| {
            let (setting, value): (String, String) = (row.get(0), row.get(1));
            Override {
                value: shown(&setting, &value),
                setting,
                place: row.get(2),
            }
        };
        Ok(rows.iter().map(as_override).collect())
    }

    /// Roles and databases that lower `synchronous_commit`: commits there are acknowledged before a
    /// standby has them (`safety.md` §1). Each as a person would say it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn lowered_commits(&self, deadline: Duration) -> Result<Vec<String>, ServerError> {
        let limit = Limit::new("look for lowered synchronous_commit", deadline);
        let session = self.session(&limit).await?;
        let rows = session
            .client
            .query(
                "SELECT concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname) || ': ' || c \
                   FROM pg_catalog.pg_db_role_setting s \
                   CROSS JOIN LATERAL unnest(s.setconfig) c \
                   LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
                   LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
                  WHERE c ~ '^synchronous_commit=' \
                    AND c !~ '=(on|remote_apply|true|yes|1)$' ORDER BY 1",
                &[],
                limit.left(),
            )
            .await
            .map_err(limit.failed())?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Resets what `ALTER SYSTEM` holds for settings of ours; answers their names.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn reset_auto_entries(&self, deadline: Duration) -> Result<Vec<String>, ServerError> {
        let limit = Limit::new("reset settings of ALTER SYSTEM", deadline);
        let entries = conf::auto_entries(self.pgdata()).map_err(ServerError::Conf)?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.session(&limit).await?;
        let mut names = Vec::new();
        for entry in entries {
            // One of our own constants: nothing to quote.
            let sql = format!("ALTER SYSTEM RESET {}", entry.name);
            session
                .client
                .batch(&sql, limit.left())
                .await
                .map_err(limit.failed())?;
            names.push(entry.name);
        }
        self.reload_seen(&limit).await?;
        Ok(names)
    }
}

/// The first error of the configuration files, if any.
async fn broken_files(client: &Client, limit: &Limit) -> Result<Option<String>, ServerError> {
    let rows = client
        .query(
            // A setting that waits for a restart is an error in this view as well.
            "SELECT sourcefile, sourceline, error FROM pg_catalog.pg_file_settings \
              WHERE error IS NOT NULL AND error NOT LIKE '%without restarting the server%' \
                AND error NOT LIKE '%setting could not be applied%' LIMIT 1",
            &[],
            limit.left(),
        )
        .await
        .map_err(limit.failed())?;
    Ok(rows.first().map(|row| {
        let (file, line): (Option<String>, Option<i32>) = (row.get(0), row.get(1));
        let error: String = row.get(2);
        format!(
            "{} line {}: {error}",
            file.unwrap_or_default(),
            line.unwrap_or_default()
        )
    }))
}
