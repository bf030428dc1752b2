//! Starting, running and stopping the daemon.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pgaf_protocol::{Incarnation, Lineage, NodeId};
use pgaf_store::{Batch, Continuation, OpenError, Opened, SqliteStore, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Handle, Input, LoadError, Memory, State, channel};
use crate::backend::Bridge;
use crate::clock;
use crate::config::MonitorConfig;
use crate::descriptors;
use crate::listen::{self, ListenError};
use crate::sql::{EndpointConfig, Hub, Limits, serve};

/// For all sessions to be told and to end. Chosen: what a stuck client may cost a stop.
const GOODBYE: Duration = Duration::from_secs(3);

/// Why a monitor does not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no monitor in the directory.
    #[error("`{}` is not a monitor's directory", .0.display())]
    NotAMonitor(PathBuf),
    /// The store cannot be opened; [`OpenError::InUse`]: another monitor runs on it.
    #[error("cannot open the monitor's store")]
    Store(#[source] OpenError),
    /// The store's contents cannot be read.
    #[error("cannot read the monitor's store")]
    Contents(#[source] LoadError),
    /// The store takes no writes: a monitor that cannot remember must not decide.
    #[error("cannot write to the monitor's store")]
    Write(#[source] StoreError),
    /// An address is taken, or a certificate cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A fault of ours ended one of its tasks.
    #[error("the monitor ended unexpectedly: {0}")]
    Ended(String),
}

/// A monitor that serves.
#[derive(Debug)]
pub struct Running {
    /// The TCP addresses it listens on.
    pub addresses: Vec<SocketAddr>,
    handle: Handle,
    endpoint_stop: CancellationToken,
    endpoint: JoinHandle<()>,
    actor_stop: CancellationToken,
    actor: JoinHandle<()>,
    started_with: MonitorConfig,
}

impl Running {
    /// Takes over what can change while it runs: settings. Says what is wrong or needs a restart.
    pub async fn reload(&self, config: &MonitorConfig) -> Vec<String> {
        let (reply, answer) = oneshot::channel();
        let file = config.settings.clone();
        self.handle.tell(Input::Reload { file, reply }).await;
        let mut problems = answer.await.unwrap_or_default();
        let old = &self.started_with;
        let changed = [
            (
                "listen_addresses",
                old.listen_addresses != config.listen_addresses,
            ),
            ("port", old.port != config.port),
            ("auth", old.auth != config.auth),
            (
                "ssl",
                old.tls != config.tls || old.require_tls != config.require_tls,
            ),
        ];
        for (name, _) in changed.into_iter().filter(|(_, changed)| *changed) {
            problems.push(format!("a change of {name} needs a restart of the monitor"));
        }
        problems
    }

    /// Waits until it ends by itself, which it does only by a fault.
    async fn ended(&mut self) -> StartError {
        let ended = tokio::select! {
            ended = &mut self.actor => ended,
            ended = &mut self.endpoint => ended,
        };
        let why = ended.map_or_else(|error| error.to_string(), |()| "a task returned".into());
        StartError::Ended(why)
    }

    /// Ends every session and closes the store.
    pub async fn stop(self) {
        self.endpoint_stop.cancel();
        if tokio::time::timeout(GOODBYE, self.endpoint).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        self.actor_stop.cancel();
        if let Err(error) = self.actor.await {
            tracing::error!(%error, "the monitor's actor failed");
        }
    }
}

/// Starts a monitor: it serves when this returns.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: MonitorConfig) -> Result<Running, StartError> {
    let path = config.store_file();
    if !path.exists() {
        return Err(StartError::NotAMonitor(config.pgdata));
    }
    let kept_probes = descriptors::take_all();
    let opened = SqliteStore::open(&path, None).map_err(StartError::Store)?;
    let (listeners, addresses) = listen::bind(&config).await?;
    let tls = listen::tls(&config)?;
    let Opened {
        store,
        continuation,
        marks,
    } = opened;
    let store: Arc<dyn Store> = Arc::new(store);
    let state = resume(&config, store.as_ref(), &continuation, marks).await?;

    let (handle, inputs) = channel();
    let hub = Hub::new();
    let endpoint = EndpointConfig {
        auth: config.auth,
        tls,
        require_tls: config.require_tls,
        limits: Limits::default(),
        extension_version: pgaf_protocol::API_VERSION.into(),
    };
    tracing::info!(
        addresses = ?addresses,
        lineage = %state.memory.cluster.lineage,
        incarnation = %state.memory.cluster.incarnation,
        "the monitor serves"
    );
    let bridge = Arc::new(Bridge {
        handle: handle.clone(),
        hub: hub.clone(),
        store: Arc::clone(&store),
    });
    let actor = Actor::new(state, store, hub, handle.clone(), Some(kept_probes));
    let (actor_stop, endpoint_stop) = (CancellationToken::new(), CancellationToken::new());
    Ok(Running {
        addresses,
        handle,
        actor: tokio::spawn(actor.run(inputs, actor_stop.clone())),
        actor_stop,
        endpoint: tokio::spawn(serve(listeners, endpoint, bridge, endpoint_stop.clone())),
        endpoint_stop,
        started_with: config,
    })
}

/// Goes on from the store: a new incarnation, durable before anybody is served; and a new lineage
/// with a void memory when the store may be older than the nodes (`safety.md` §8).
pub(crate) async fn resume(
    config: &MonitorConfig,
    store: &dyn Store,
    continuation: &Continuation,
    marks: BTreeMap<String, u64>,
) -> Result<State, StartError> {
    let values = store.load_all().await.map_err(StartError::Write)?;
    let is_new = values.is_empty();
    let memory = Memory::load(values, Lineage(rand::random())).map_err(StartError::Contents)?;
    let mut state = State::new(memory, config.settings.clone(), clock::now());
    let restored = match continuation {
        Continuation::New | Continuation::Proven => config
            .restored
            .then(|| "it was started with --restored".to_owned()),
        Continuation::Restored { why } => Some(why.clone()),
    };
    let memory = &mut state.memory;
    let marked = |name: &str| marks.get(name).copied().unwrap_or_default();
    let cluster = &mut memory.cluster;
    cluster.incarnation = Incarnation(cluster.incarnation.0.max(marked("incarnation")) + 1);
    let heard = i64::try_from(marked("node")).unwrap_or_default();
    cluster.next_node = cluster.next_node.max(NodeId(heard));
    memory.longest_lease_ms = memory.longest_lease_ms.max(state.settings.lease_ms);
    if let Some(why) = &restored {
        state.memory.remember_lineages(&marks);
        state.void(why);
    }
    let mut batch = Batch::default();
    if is_new || restored.is_some() {
        state.memory.write_all(&mut batch);
    } else {
        state.memory.write_meta(&mut batch);
    }
    // What the counter knows is adopted only together with a void memory.
    for (name, value) in marks {
        let mark = batch.marks.entry(name).or_insert(value);
        *mark = (*mark).max(value);
    }
    let puts = batch.puts.clone();
    let revision = store.commit(batch).await.map_err(StartError::Write)?;
    state.memory.written(&puts, &[], revision);
    Ok(state)
}

/// Runs a monitor until `shutdown` completes. Each configuration that `reload` receives takes the
/// place of the one before, as far as that is possible without a restart; the rest is logged.
///
/// Wants a tokio runtime with IO and time; a current-thread one is enough.
///
/// # Errors
/// [`StartError`].
pub async fn run(
    config: MonitorConfig,
    shutdown: impl Future<Output = ()> + Send,
    mut reload: mpsc::Receiver<MonitorConfig>,
) -> Result<(), StartError> {
    let mut running = start(config).await?;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            error = running.ended() => return Err(error),
            Some(config) = reload.recv() => {
                for line in running.reload(&config).await {
                    tracing::warn!("{line}");
                }
            }
        }
    }
    running.stop().await;
    Ok(())
}
