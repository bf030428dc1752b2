//! `status`: does the service run, and does Postgres?

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, block_on, config, stop};
use crate::config::Role;
use crate::error::{ExitCode, Failure};
use crate::local_state::{self, Setup};
use crate::options::parse::Parsed;
use crate::pidfile::PidFile;
use crate::render::{json, out};
use crate::target::Local;

/// How long the monitor's own port may take to answer. Chosen: it is on this machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Prints whether pg_autoctl runs here.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let mut setup = block_on(async {
        Ok(local_state::setup(&config::discovered(&local), &local.paths.pgdata).await)
    })?;
    let service = stop::running(&local.paths)?;
    let Some(service) = service else {
        tracing::info!("pg_autoctl is not running at \"{}\"", setup.pgdata);
        return Err(match setup.pid {
            Some(pid) => Failure::fatal(
                ExitCode::BadState,
                format!(
                    "Postgres is running at \"{}\" with pid {pid}, without a pg_autoctl",
                    setup.pgdata
                ),
            )
            .hint("start the service with `pg_autoctl run`: it takes the running Postgres over"),
            None => Failure::silent(ExitCode::BadState),
        });
    };
    tracing::info!("pg_autoctl is running with pid {}", service.pid);
    let ready = match local.config.role() {
        Role::Monitor => monitor_answers(&mut setup, &service),
        Role::Keeper => postgres_answers(&setup),
    };
    if context.json {
        out::stdout(&json::pretty(&json!({
            "postgres": setup.to_json(false),
            "pg_autoctl": service_json(&service, true),
        })));
    }
    if ready {
        Ok(())
    } else {
        Err(Failure::silent(ExitCode::PgCtl))
    }
}

fn postgres_answers(setup: &Setup) -> bool {
    match setup.pid {
        Some(pid) if setup.is_ready() => {
            tracing::info!(
                "Postgres is serving PGDATA \"{}\" on port {} with pid {pid}",
                setup.pgdata,
                setup.port
            );
            true
        }
        Some(pid) => {
            tracing::error!("Postgres has pid {pid} and is {}", setup.status);
            false
        }
        None => {
            tracing::error!("Postgres is not running at \"{}\"", setup.pgdata);
            false
        }
    }
}

/// A monitor has no Postgres: the service itself serves its port.
fn monitor_answers(setup: &mut Setup, service: &PidFile) -> bool {
    let answers = ("localhost", setup.port)
        .to_socket_addrs()
        .is_ok_and(|mut all| all.any(|one| TcpStream::connect_timeout(&one, ANSWER_LIMIT).is_ok()));
    if setup.pid.is_none() {
        setup.pid = Some(service.pid);
        setup.status = if answers { "ready" } else { "unknown" };
    }
    if setup.is_ready() {
        tracing::info!(
            "The monitor is serving \"{}\" on port {}",
            setup.pgdata,
            setup.port
        );
        true
    } else {
        tracing::error!("The monitor does not answer on port {}", setup.port);
        false
    }
}

/// The object of a service. `status` adds whether each part runs; `show file` does not.
pub(crate) fn service_json(service: &PidFile, with_status: bool) -> Value {
    let services: Vec<Value> = service
        .services
        .iter()
        .map(|(pid, name)| {
            let mut object = serde_json::Map::new();
            object.insert("name".into(), name.as_str().into());
            object.insert("pid".into(), (*pid).into());
            if with_status {
                object.insert("status".into(), "running".into());
            }
            object.insert("version".into(), service.version.as_str().into());
            object.insert("pgautofailover".into(), service.extension.as_str().into());
            Value::Object(object)
        })
        .collect();
    let mut object = serde_json::Map::new();
    object.insert("pid".into(), service.pid.into());
    if with_status {
        object.insert("status".into(), "running".into());
    }
    object.insert("pgdata".into(), service.pgdata.as_str().into());
    object.insert("version".into(), service.version.as_str().into());
    object.insert("semId".into(), service.semaphore.into());
    object.insert("services".into(), services.into());
    Value::Object(object)
}
