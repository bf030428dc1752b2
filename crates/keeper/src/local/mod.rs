//! The real Postgres of this host.
//!
//! Owns the postmaster as a child, PGDATA, and the session to the local server, through
//! `pgaf_postgres`. It must never decide: it answers what is, and does the one step it is given.

mod act;
mod conf;
mod kept;
mod look;
mod peers;
mod rejoin;
mod sync;

pub(crate) use peers::answers;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use pgaf_fsm::node::{Directory, Journal, Observation, Outcome, Step};
use pgaf_postgres::conninfo::{Conninfo, Endpoint};
use pgaf_postgres::locate::Installation;
use pgaf_postgres::postmaster::{PidFile, Postmaster};
use pgaf_postgres::server::{PgTime, Server};
use pgaf_postgres::swap::Staging;
use pgaf_protocol::{History, NodeId, Progress, Time};
use tokio::sync::{Notify, watch};

use crate::fencer::Fencer;
use crate::{Instance, KeeperConfig};

/// The process.
#[derive(Debug, Default)]
enum Process {
    /// None that we know of.
    #[default]
    None,
    /// One lives.
    Up {
        postmaster: Postmaster,
        /// It has answered.
        answered: bool,
        /// We have told it to stop.
        told: bool,
    },
    /// The last one has ended, and what it left has not been cleared away.
    Gone { crashed: bool },
}

/// What was learnt by earlier looks.
#[derive(Debug, Default)]
struct Known {
    directory: Option<Directory>,
    redo_bytes: Option<u64>,
    history: Option<History>,
    /// Of each walsender: its last reply time, and when that changed.
    replies: BTreeMap<NodeId, (PgTime, Time)>,
}

/// The local Postgres.
pub(crate) struct Local {
    config: RefCell<Arc<KeeperConfig>>,
    installation: Installation,
    journal: watch::Receiver<Arc<Journal>>,
    server: RefCell<Server>,
    process: RefCell<Process>,
    crashed: Cell<bool>,
    starts_failed: Cell<u32>,
    start_words: RefCell<Option<String>>,
    start_hopeless: Cell<bool>,
    kept: kept::Kept,
    known: RefCell<Known>,
    staging: RefCell<Option<Staging>>,
    deleting: RefCell<Option<tokio::task::JoinHandle<()>>>,
    progress: Arc<Mutex<Option<Progress>>>,
    wake: Arc<Notify>,
    fencer: Rc<Fencer>,
}

impl Local {
    /// Takes over what is there: finishes a swap that was under way, adopts a Postgres that runs.
    ///
    /// # Errors
    /// In words, when PGDATA cannot be used.
    pub(crate) async fn open(
        config: Arc<KeeperConfig>,
        installation: Installation,
        journal: watch::Receiver<Arc<Journal>>,
        wake: Arc<Notify>,
        fencer: Rc<Fencer>,
    ) -> Result<Self, String> {
        let pgdata = config.pgdata.clone();
        let resumed = pgaf_postgres::swap::resume(&pgdata).map_err(|e| crate::words(&e))?;
        if resumed != pgaf_postgres::swap::Resumed::Nothing {
            tracing::info!(?resumed, "went on with the exchange of the data directory");
        }
        if let Ok(major) = pgaf_postgres::version::of_data_directory(&pgdata)
            && major != installation.version.major
        {
            return Err(format!(
                "it belongs to Postgres {major}, and `{}` is of Postgres {}",
                installation.pg_ctl.display(),
                installation.version
            ));
        }
        let server = RefCell::new(local_server(&config));
        let local = Self {
            config: RefCell::new(config),
            installation,
            journal,
            server,
            process: RefCell::default(),
            crashed: Cell::new(false),
            starts_failed: Cell::new(0),
            start_words: RefCell::default(),
            start_hopeless: Cell::new(false),
            kept: kept::Kept::default(),
            known: RefCell::default(),
            staging: RefCell::default(),
            deleting: RefCell::default(),
            progress: Arc::default(),
            wake,
            fencer,
        };
        if let Some(postmaster) = Postmaster::adopt(&pgdata)
            .await
            .map_err(|e| crate::words(&e))?
        {
            tracing::info!(
                pid = postmaster.pid(),
                "found Postgres running, goes on with it"
            );
            local.take(postmaster, true);
        } else if pgaf_postgres::postmaster::cluster_processes(&pgdata)
            .is_ok_and(|pids| !pids.is_empty())
        {
            *local.process.borrow_mut() = Process::Gone { crashed: true };
        }
        Ok(local)
    }

    /// Uses another configuration from now on. Where Postgres listens changes when it starts.
    pub(crate) fn reconfigure(&self, config: Arc<KeeperConfig>) {
        let before = self.config.replace(Arc::clone(&config));
        if self.postmaster().is_none() {
            *self.server.borrow_mut() = local_server(&config);
        } else if (before.port, &before.listen_addresses, &before.socket_dir)
            != (config.port, &config.listen_addresses, &config.socket_dir)
        {
            tracing::warn!(
                "another port, address or socket directory takes effect when Postgres is started again"
            );
        }
    }

    /// Stops Postgres at once, whatever stop is under way.
    pub(crate) fn hurry(&self) {
        if let Some(postmaster) = self.postmaster() {
            tracing::warn!("stops Postgres at once");
            postmaster.stop(pgaf_postgres::postmaster::StopMode::Immediate);
        }
    }

    pub(crate) fn config(&self) -> Arc<KeeperConfig> {
        Arc::clone(&self.config.borrow())
    }

    fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal.borrow())
    }

    pub(crate) fn server(&self) -> Server {
        self.server.borrow().clone()
    }

    fn pgdata(&self) -> PathBuf {
        self.config.borrow().pgdata.clone()
    }

    /// Remembers a postmaster, and wakes the loop at its end.
    fn take(&self, postmaster: Postmaster, answered: bool) {
        let mut config = KeeperConfig::clone(&self.config());
        if let Ok(Some(file)) = PidFile::read(&config.pgdata)
            && file.pid == postmaster.pid()
            && file.port != 0
        {
            // It may have been started with another configuration than ours of today.
            config.port = file.port;
            config.socket_dir = file.socket_directory.or(config.socket_dir);
        }
        *self.server.borrow_mut() = local_server(&config);
        let watched = postmaster.clone();
        let wake = Arc::clone(&self.wake);
        tokio::spawn(async move {
            watched.exited().await;
            wake.notify_one();
        });
        *self.process.borrow_mut() = Process::Up {
            postmaster,
            answered,
            told: false,
        };
    }

    fn postmaster(&self) -> Option<Postmaster> {
        match &*self.process.borrow() {
            Process::Up { postmaster, .. } => Some(postmaster.clone()),
            Process::None | Process::Gone { .. } => None,
        }
    }

    /// Forgets what was read from PGDATA.
    fn forget(&self) {
        *self.known.borrow_mut() = Known::default();
    }

    fn set_progress(&self, progress: Option<Progress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

impl Instance for Local {
    async fn observe(&self) -> Observation {
        self.look().await
    }

    async fn apply(&self, step: Step) -> Outcome {
        let word = step.word();
        crate::failpoint::hit(&format!("before-{word}"));
        let outcome = self.act(step).await;
        crate::failpoint::hit(&format!("after-{word}"));
        self.set_progress(None);
        outcome
    }
}

/// The session to the local server, as the account that owns it.
fn local_server(config: &KeeperConfig) -> Server {
    let endpoint = Endpoint {
        host: config
            .socket_dir
            .as_ref()
            .map(|dir| dir.to_string_lossy().into_owned()),
        hostaddr: None,
        port: Some(config.port),
    };
    let conninfo = Conninfo {
        endpoints: vec![endpoint],
        user: Some(conf::account()),
        dbname: Some("postgres".into()),
        ..Conninfo::default()
    };
    Server::new(conninfo, config.pgdata.clone())
}
