//! `do pgsetup …` and `do fsm state`: what scripts ask of the local node, without the monitor.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Context, block_on, config, config_check, show_file};
use crate::error::{ExitCode, Failure};
use crate::local_state::{self, Setup};
use crate::options::parse::Parsed;
use crate::render::{json, out};
use crate::target::Local;

/// How long `do pgsetup wait` waits. Source: the old program.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How often it looks meanwhile. Chosen: below what a person notices.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

async fn setup(local: &Local) -> Setup {
    local_state::setup(&config::discovered(local), &local.paths.pgdata).await
}

/// `do pgsetup ready`.
pub(crate) fn pgsetup_ready(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    conclude(&block_on(async { Ok(setup(&local).await) })?)
}

/// `do pgsetup wait`.
pub(crate) fn pgsetup_wait(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let start = Instant::now();
    let last = block_on(async {
        loop {
            let setup = setup(&local).await;
            if setup.is_ready() || start.elapsed() >= READY_LIMIT {
                return Ok(setup);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })?;
    conclude(&last)
}

fn conclude(setup: &Setup) -> Result<(), Failure> {
    tracing::info!("Postgres status is: \"{}\"", setup.status);
    if setup.is_ready() {
        return Ok(());
    }
    Err(
        Failure::error(ExitCode::Pgsql, "Postgres is not ready").hint(
            "`pg_autoctl status` says whether pg_autoctl runs, `pg_autoctl inspect explain` what it waits for",
        ),
    )
}

/// `do pgsetup discover`.
pub(crate) fn pgsetup_discover(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let config = config::discovered(&local);
    let setup = block_on(async { Ok(setup(&local).await) })?;
    out::stdout(&config_check::text(&setup, &config));
    Ok(())
}

/// `do fsm state`: JSON whether it is asked for or not.
pub(crate) fn fsm_state(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let state = local_state::read(&local.paths.state)
        .map_err(|failure| failure.with_code(ExitCode::BadConfig))?;
    let setup = block_on(async { Ok(setup(&local).await) })?;
    out::stdout(&json::pretty(&json!({
        "postgres": setup.to_json(true),
        "state": show_file::state_json(&state, &setup),
    })));
    Ok(())
}
