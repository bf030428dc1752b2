//! Why a keeper cannot go on.

use std::path::PathBuf;

/// Why `create` or `run` ended without success. The command line maps it to an exit code.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The journal cannot be read or written, or is of another version (exit code 3).
    #[error("cannot use the state file `{path}`: {reason}", path = path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no journal: the node was never created (exit code 3).
    #[error("`{path}` is not there: the node has not been created", path = path.display())]
    NotCreated {
        /// The journal.
        path: PathBuf,
    },
    /// Postgres' programs are not usable (exit code 5).
    #[error("cannot use the Postgres of `{pg_ctl}`", pg_ctl = pg_ctl.display())]
    Installation {
        /// The program.
        pg_ctl: PathBuf,
        /// Why.
        #[source]
        source: pgaf_postgres::locate::LocateError,
    },
    /// The data directory is not usable: another major version, unreadable (exit code 5).
    #[error("cannot use the data directory `{pgdata}`: {reason}", pgdata = pgdata.display())]
    DataDirectory {
        /// The directory.
        pgdata: PathBuf,
        /// Why.
        reason: String,
    },
    /// The monitor refuses, and repeating will not help (exit code 6).
    #[error("the monitor refuses: {message}")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// Its words.
        message: String,
        /// Its advice.
        hint: Option<String>,
    },
    /// The login at the monitor fails for a reason that waiting does not cure (exit code 6).
    #[error("cannot use the monitor")]
    Monitor(#[source] pgaf_postgres::client::ConnectError),
    /// No monitor is configured, and one is needed (exit code 2).
    #[error("no monitor is configured")]
    NoMonitor,
    /// The keeper was told to stop before it was done (exit code 0).
    #[error("stopped before it was done")]
    Interrupted,
    /// The system refuses something basic: a timer, a signal, the clock (exit code 12).
    #[error("cannot {doing}")]
    System {
        /// What.
        doing: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}
