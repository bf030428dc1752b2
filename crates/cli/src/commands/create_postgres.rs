//! `create postgres`, `create coordinator`, `create worker`.

use std::path::{Path, PathBuf};

use pgaf_keeper::{Joining, Until};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::locate::Search;
use pgaf_protocol::{GroupId, NodeKind};

use super::create_monitor::existing;
use super::run::refuse_root;
use super::{Context, block_on};
use crate::config::{Config, Role};
use crate::error::{ExitCode, Failure};
use crate::options::create::{self, Replica, SslChoice, variable};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::paths::{self, Paths};
use crate::target::{self, DEFAULT_PORT, MONITOR_VARIABLE};
use crate::{hostname, joining, service};

/// The database of Citus nodes when none is named. Source: the old program.
const CITUS_DATABASE: &str = "citus";

/// Creates a node of plain Postgres and, with `--run`, runs it.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    create(context, parsed, NodeKind::Standalone)
}

/// Creates a Citus coordinator.
pub(crate) fn coordinator(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    create(context, parsed, NodeKind::Coordinator)
}

/// Creates a Citus worker.
pub(crate) fn worker(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    create(context, parsed, NodeKind::Worker)
}

fn create(context: &Context<'_>, parsed: &Parsed, kind: NodeKind) -> Result<(), Failure> {
    let wishes = Wishes::of(context, parsed, kind)?;
    let paths = paths::of_command(parsed.value("pgdata"))?;
    refuse_root()?;
    let mut config = existing(&paths, Role::Keeper)?;
    let claim = service::claim(&paths, Role::Keeper, ExitCode::BadState)?;
    if !paths.state.exists() {
        check_directory(&paths)?;
        check_port(parsed, &wishes, &config, &paths)?;
    }
    wishes.ssl.warn();
    wishes.store(parsed, &mut config, &paths)?;
    config.write(&paths.config).map_err(|error| {
        Failure::bad_config("the configuration cannot be stored").because(&error)
    })?;
    if !paths.state.exists() {
        joining::store(&paths.init, &wishes.joining)?;
    }
    let until = if parsed.flag("run") {
        Until::Stopped
    } else {
        Until::Initialized
    };
    let outcome = service::keeper(config, &paths, until);
    drop(claim);
    outcome
}

/// A new node takes an empty directory, or one of Postgres: anything else is somebody's.
fn check_directory(paths: &Paths) -> Result<(), Failure> {
    let pgdata = &paths.pgdata;
    let Ok(entries) = std::fs::read_dir(pgdata) else {
        return Ok(());
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    // A mount point has a lost+found of its own.
    let found = names.filter(|name| name != "lost+found").min();
    match found {
        Some(found) if !pgdata.join("PG_VERSION").exists() => Err(Failure::fatal(
            ExitCode::PgCtl,
            format!(
                "\"{}\" is not empty and not a data directory of Postgres: it contains \"{}\"",
                pgdata.display(),
                found.display()
            ),
        )
        .hint("use an empty or absent directory with --pgdata; nothing was changed")),
        Some(_) | None => Ok(()),
    }
}

/// A port that somebody else listens on would only be noticed after the base backup.
fn check_port(
    parsed: &Parsed,
    wishes: &Wishes,
    config: &Config,
    paths: &Paths,
) -> Result<(), Failure> {
    if paths.pgdata.join("postmaster.pid").exists() {
        return Ok(());
    }
    let port = wishes.port.or(config.port()).unwrap_or(DEFAULT_PORT);
    let listen = parsed
        .value("listen")
        .or(config.text("postgresql", "listen_addresses"));
    let address = match listen {
        Some("*") | None => "0.0.0.0",
        Some(list) => list.split(',').next().unwrap_or(list).trim(),
    };
    match std::net::TcpListener::bind((address, port)) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::fatal(
            ExitCode::PgCtl,
            format!("port {port} is in use by another program"),
        )
        .hint("choose another one with --pgport; nothing was changed")),
        // Other troubles are Postgres' to tell, with its own words.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The options, checked.
struct Wishes {
    ssl: SslChoice,
    auth: String,
    hba_level: &'static str,
    port: Option<u16>,
    monitor: (String, Conninfo),
    joining: Joining,
    kind: NodeKind,
    citus: Replica,
}

impl Wishes {
    fn of(context: &Context<'_>, parsed: &Parsed, kind: NodeKind) -> Result<Self, Failure> {
        let ssl = SslChoice::of(parsed).map_err(|failure| context.misuse_of_choice(failure))?;
        let auth = create::auth(parsed).map_err(|failure| context.misuse_of_choice(failure))?;
        let hba_level = create::hba_level(parsed, &auth)?;
        let port = create::port(parsed)?;
        let defaults = Joining::default();
        let citus = create::replica(parsed)?;
        let joining = Joining {
            candidate_priority: match create::candidate_priority(parsed)? {
                _ if citus.is_replica() => 0,
                given => given.unwrap_or(defaults.candidate_priority),
            },
            group: create::group(parsed)?.map(GroupId),
            replication_quorum: create::replication_quorum(parsed)?
                .unwrap_or(defaults.replication_quorum),
        };
        let monitor = monitor(context, parsed)?;
        Ok(Self {
            ssl,
            auth,
            hba_level,
            port,
            monitor,
            joining,
            kind,
            citus,
        })
    }

    fn store(&self, parsed: &Parsed, config: &mut Config, paths: &Paths) -> Result<(), Failure> {
        let own = |option: &str, name: &str| {
            parsed
                .value(option)
                .map(str::to_owned)
                .or_else(|| variable(name))
        };
        let (uri, conninfo) = &self.monitor;
        config.put("pg_autoctl", "monitor", uri.as_str());
        config.put("pg_autoctl", "nodekind", self.kind.label());
        config.put_some("pg_autoctl", "formation", parsed.value("formation"));
        config.put_some("pg_autoctl", "name", own("name", "PG_AUTOCTL_NODE_NAME"));
        config.put_some("pg_autoctl", "hostname", parsed.value("hostname"));
        if config.text("pg_autoctl", "hostname").is_none() {
            let first = conninfo.endpoints.first();
            let peer = first.and_then(|server| {
                Some((server.host.as_deref()?, server.port.unwrap_or(DEFAULT_PORT)))
            });
            config.put("pg_autoctl", "hostname", hostname::detect(peer)?);
        }
        let pg_ctl = parsed
            .value("pgctl")
            .or(config.text("postgresql", "pg_ctl"));
        let pg_ctl = locate(pg_ctl.map(PathBuf::from))?;
        config.put("postgresql", "pgdata", paths.pgdata.display().to_string());
        config.put("postgresql", "pg_ctl", pg_ctl.display().to_string());
        config.put_some("postgresql", "username", own("username", "PGUSER"));
        let dbname = own("dbname", "PGDATABASE");
        let dbname = match self.kind {
            NodeKind::Standalone => dbname,
            NodeKind::Coordinator | NodeKind::Worker => {
                check_citus(&pg_ctl)?;
                self.citus.store(config);
                Some(dbname.unwrap_or_else(|| CITUS_DATABASE.to_owned()))
            }
        };
        config.put_some("postgresql", "dbname", dbname);
        config.put_some("postgresql", "proxyport", parsed.value("proxyport"));
        config.put_some("postgresql", "host", own("pghost", "PGHOST"));
        config.put_some("postgresql", "port", self.port.map(|port| port.to_string()));
        config.put_some("postgresql", "listen_addresses", parsed.value("listen"));
        config.put("postgresql", "auth_method", self.auth.as_str());
        config.put("postgresql", "hba_level", self.hba_level);
        config.put_some(
            "replication",
            "maximum_backup_rate",
            parsed.value("maximum-backup-rate"),
        );
        self.ssl.store(config, &paths.pgdata);
        Ok(())
    }
}

fn monitor(context: &Context<'_>, parsed: &Parsed) -> Result<(String, Conninfo), Failure> {
    let fatal = |text: &str| Failure::fatal(ExitCode::BadArgs, text);
    let option = parsed.value("monitor");
    let disabled = parsed.flag("disable-monitor");
    if option.is_some() && disabled {
        return Err(context.misuse(fatal("Use either --monitor or --disable-monitor, not both")));
    }
    if let Some(text) = parsed.value("node-id") {
        if !disabled {
            return Err(fatal(
                "Option --node-id is only accepted with --disable-monitor",
            ));
        }
        values::integer("--node-id", text, 1, i64::MAX)?;
    } else if disabled {
        return Err(fatal("Option --disable-monitor needs --node-id"));
    }
    if disabled {
        return Err(
            Failure::bad_args("nodes without a monitor are not built yet")
                .hint("use --monitor; nothing was changed"),
        );
    }
    let uri = option.map(str::to_owned).or_else(|| variable(MONITOR_VARIABLE)).ok_or_else(|| {
        fatal("Failed to set the monitor URI: use either --monitor postgres://... or PG_AUTOCTL_MONITOR")
            .hint("`pg_autoctl show uri --formation monitor` on the monitor's host prints it")
    })?;
    let conninfo = target::parse_uri(&uri)?;
    Ok((uri, conninfo))
}

/// Without the extension, Postgres would not even start: better said before anything is written.
fn check_citus(pg_ctl: &Path) -> Result<(), Failure> {
    let asked = pg_ctl.parent().map(|bin| {
        std::process::Command::new(bin.join("pg_config"))
            .arg("--sharedir")
            .output()
    });
    // Where there is no pg_config, Postgres' own words must do.
    let Some(Ok(answer)) = asked else {
        return Ok(());
    };
    let folder = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    if !answer.status.success() || Path::new(&folder).join("extension/citus.control").exists() {
        return Ok(());
    }
    Err(Failure::fatal(
        ExitCode::ExtensionMissing,
        format!("the extension citus is not installed for {}", pg_ctl.display()),
    )
    .hint("install it, see https://docs.citusdata.com/en/stable/installation/, or choose another Postgres with --pgctl"))
}

fn locate(pg_ctl: Option<PathBuf>) -> Result<PathBuf, Failure> {
    block_on(async {
        Search::from_env(pg_ctl)
            .find()
            .await
            .map(|found| found.pg_ctl)
            .map_err(|error| {
                Failure::error(ExitCode::BadConfig, "Failed to find the Postgres to run")
                    .because(&error)
                    .hint("use --pgctl, or set PG_CONFIG to the path of a pg_config")
            })
    })
}
