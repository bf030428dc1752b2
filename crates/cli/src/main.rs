//! `pg_autoctl`: the only binary, and the only face that people see.
//!
//! Owns words, options, configuration files, exit codes and layouts, compatible with the old
//! program's. It must never decide anything: it asks the monitor, or starts a monitor or keeper.
//!
//! ```text
//!  words ──► dispatch ──► tree (data) ──► commands::<verb> ──┬─► monitor_client ──► a monitor, SQL
//!                            │                               ├─► service ──► pgaf_monitor, pgaf_keeper
//!                            └─► options (tables, parse)     └─► config, paths, pidfile
//!                                        render ◄── everything that is printed
//! ```
//!
//! Read first: [`tree::Command`], [`target::Target`], [`error::Failure`].
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

mod commands;
mod config;
mod destroy;
mod dispatch;
mod error;
mod hostname;
mod joining;
mod local_state;
mod logging;
mod monitor_client;
mod options;
mod paths;
mod pidfile;
mod render;
mod service;
mod services;
mod target;
mod tree;
mod upgrade;
mod watch;

use std::process::ExitCode;

use error::Failure;
use logging::Verbosity;

fn main() -> ExitCode {
    let outcome = words().and_then(dispatch::run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What failed before the options were read is shown at the default level.
            logging::start(Verbosity::Info, false);
            failure.report();
            ExitCode::from(failure.code() as u8)
        }
    }
}

fn words() -> Result<Vec<String>, Failure> {
    std::env::args_os()
        .skip(1)
        .map(|word| {
            word.into_string().map_err(|word| {
                Failure::bad_args(format!("the argument {word:?} is not valid UTF-8"))
            })
        })
        .collect()
}
