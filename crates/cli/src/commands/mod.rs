//! One module per verb. A command reads its options, does one thing, and prints through `render`.

pub(crate) mod activate;
pub(crate) mod config;
pub(crate) mod config_check;
pub(crate) mod create_monitor;
pub(crate) mod create_postgres;
pub(crate) mod debug;
pub(crate) mod drop;
pub(crate) mod fencer;
pub(crate) mod formation;
pub(crate) mod help;
pub(crate) mod inspect;
pub(crate) mod inspect_error;
pub(crate) mod inspect_fsm;
pub(crate) mod inspect_settings;
pub(crate) mod inspect_what_if;
pub(crate) mod maintenance;
pub(crate) mod metadata;
pub(crate) mod perform;
pub(crate) mod properties;
pub(crate) mod run;
pub(crate) mod show_events;
pub(crate) mod show_file;
pub(crate) mod show_settings;
pub(crate) mod show_standby_names;
pub(crate) mod show_state;
pub(crate) mod show_systemd;
pub(crate) mod show_uri;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod unbuilt;
pub(crate) mod upgrade;
pub(crate) mod version;

use std::future::Future;

use crate::error::{ExitCode, Failure};
use crate::render::out;

/// What a command knows beyond its options.
pub(crate) struct Context<'a> {
    /// The words that led here, for messages.
    pub(crate) breadcrumb: &'a str,
    /// Whether JSON is wanted.
    pub(crate) json: bool,
    /// The usage text.
    pub(crate) usage: &'a dyn Fn() -> String,
}

impl Context<'_> {
    /// Wrong arguments: the error, then the usage text.
    pub(crate) fn misuse(&self, failure: Failure) -> Failure {
        let code = failure.code();
        failure.report();
        out::stderr(&(self.usage)());
        Failure::silent(code)
    }

    /// A choice that must be made: two of them want the usage text, none has its own hint.
    pub(crate) fn misuse_of_choice(&self, failure: Failure) -> Failure {
        if failure.has_hint() {
            failure
        } else {
            self.misuse(failure)
        }
    }
}

/// Runs a future on a runtime of one thread, which is all that a command needs.
///
/// # Errors
/// What the future ends with; exit code 12 when the system gives no runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::fatal(ExitCode::Internal, "cannot start the runtime").because(&error)
        })?
        .block_on(future)
}

/// Prints text that the monitor made, with a newline.
pub(crate) fn print_line(text: &str) {
    out::stdout(&format!("{text}\n"));
}
