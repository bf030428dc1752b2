//! `show file`: where the files are, and what is in them.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Context, block_on, print_line, status};
use crate::config::Role;
use crate::error::{ExitCode, Failure};
use crate::local_state::{self, LocalState, Setup};
use crate::options::parse::Parsed;
use crate::pidfile::PidFile;
use crate::render::table::{Column, table};
use crate::render::{json, out};
use crate::target::Local;

/// Version of the state file's fields, as the old program shows it.
const STATE_VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selection {
    Config,
    State,
    Init,
    Pid,
}

/// Prints paths or contents of a node's files.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let selection = selection(context, parsed)?;
    let local = Local::open(parsed)?;
    let Some(selection) = selection else {
        if parsed.flag("all") && parsed.flag("contents") {
            tracing::warn!("Ignoring option --contents with --all");
        }
        all(context, &local);
        return Ok(());
    };
    let path = match selection {
        Selection::Config => &local.paths.config,
        Selection::State => keeper_only(&local, &local.paths.state, "state file")?,
        Selection::Init => keeper_only(&local, &local.paths.init, "init state file")?,
        Selection::Pid => &local.paths.pid,
    };
    if parsed.flag("contents") {
        contents(context, &local, selection, path)
    } else {
        print_line(&path.display().to_string());
        Ok(())
    }
}

fn selection(context: &Context<'_>, parsed: &Parsed) -> Result<Option<Selection>, Failure> {
    let given: Vec<Selection> = [
        ("config", Selection::Config),
        ("state", Selection::State),
        ("init", Selection::Init),
        ("pid", Selection::Pid),
    ]
    .into_iter()
    .filter_map(|(name, selection)| parsed.flag(name).then_some(selection))
    .collect();
    match given.as_slice() {
        [] => Ok(None),
        [one] if !parsed.flag("all") => Ok(Some(*one)),
        [..] => Err(context.misuse(Failure::bad_args(
            "Please use only one of --all, --config, --state, --init and --pid",
        ))),
    }
}

fn keeper_only<'a>(local: &Local, path: &'a Path, what: &str) -> Result<&'a Path, Failure> {
    match local.config.role() {
        Role::Keeper => Ok(path),
        Role::Monitor => Err(Failure::bad_args(format!("A monitor has no {what}"))),
    }
}

fn all(context: &Context<'_>, local: &Local) {
    let paths = &local.paths;
    let mut files = vec![("Config", &paths.config)];
    if local.config.role() == Role::Keeper {
        files.push(("State", &paths.state));
        files.push(("Init", &paths.init));
    }
    files.push(("Pid", &paths.pid));
    if context.json {
        let object: Map<String, Value> = files
            .into_iter()
            .map(|(name, path)| (name.to_lowercase(), path.display().to_string().into()))
            .collect();
        out::stdout(&json::pretty(&object));
        return;
    }
    let columns = [Column::growing("File", 7), Column::free("Path", 15)];
    let rows: Vec<Vec<String>> = files
        .into_iter()
        .map(|(name, path)| vec![name.to_owned(), path.display().to_string()])
        .collect();
    out::stdout(&table(&columns, &rows));
}

fn contents(
    context: &Context<'_>,
    local: &Local,
    selection: Selection,
    path: &Path,
) -> Result<(), Failure> {
    match selection {
        Selection::Config if context.json => {
            out::stdout(&json::pretty(&super::config::discovered(local).to_json()));
            Ok(())
        }
        Selection::Config => {
            print_line(&read(path, ExitCode::BadConfig)?);
            Ok(())
        }
        Selection::State => state(context, local),
        Selection::Init => {
            print_line(&format!(
                "Postgres state at keeper init: {}",
                read(path, ExitCode::BadState)?
            ));
            Ok(())
        }
        Selection::Pid => pid(context, path),
    }
}

fn read(path: &Path, code: ExitCode) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::error(code, format!("Failed to read file \"{}\"", path.display())).because(&error)
    })
}

fn pid(context: &Context<'_>, path: &Path) -> Result<(), Failure> {
    if !context.json {
        print_line(&read(path, ExitCode::Internal)?);
        return Ok(());
    }
    let file = PidFile::read(path).ok().flatten().ok_or_else(|| {
        Failure::error(
            ExitCode::Internal,
            format!("Failed to read the pid file \"{}\"", path.display()),
        )
    })?;
    out::stdout(&json::pretty(&status::service_json(&file, false)));
    Ok(())
}

/// The state file as the old program prints it.
pub(super) fn state_json(state: &LocalState, setup: &Setup) -> Value {
    json!({
        "current_role": state.current,
        "assigned_role": state.assigned,
        "version": STATE_VERSION,
        "groupId": state.group,
        "nodeId": state.node,
        "last_monitor_contact": "0",
        "last_secondary_contact": "0",
        "pgversion": setup.control.as_ref().map_or(0, |control| control.control_version),
    })
}

fn state(context: &Context<'_>, local: &Local) -> Result<(), Failure> {
    let state = local_state::read(&local.paths.state)?;
    let setup =
        block_on(async { Ok(local_state::setup(&local.config, &local.paths.pgdata).await) })?;
    let control = setup.control.as_ref();
    let control_version = control.map_or(0, |control| control.control_version);
    if context.json {
        out::stdout(&json::pretty(&state_json(&state, &setup)));
        return Ok(());
    }
    let lines = [
        ("Current Role", state.current),
        ("Assigned Role", state.assigned),
        ("Last Monitor Contact", "0".to_owned()),
        ("Last Secondary Contact", "0".to_owned()),
        ("pg_autoctl state version", STATE_VERSION.to_string()),
        ("group", state.group.to_string()),
        ("node id", state.node.to_string()),
        ("nodes version", "0".to_owned()),
        ("PostgreSQL Version", control_version.to_string()),
        (
            "PostgreSQL CatVersion",
            control.map_or(0, |c| c.catalog_version).to_string(),
        ),
        (
            "PostgreSQL System Id",
            control.map_or(0, |c| c.system_identifier).to_string(),
        ),
    ];
    let text: String = lines
        .into_iter()
        .map(|(label, value)| format!("{:25} {value}\n", format!("{label}:")))
        .collect();
    out::stdout(&text);
    Ok(())
}
