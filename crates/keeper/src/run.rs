//! Running the keeper: everything around its loop.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pgaf_fsm::node::StopMode;
use pgaf_postgres::locate::Installation;
use pgaf_protocol::{Look, NodeId, NodeState, Peer};
use tokio::sync::{Notify, mpsc, watch};

use crate::fencer::Fencer;
use crate::journal::JournalFile;
use crate::keeper::{Ends, Keeper, LookWish, Turn};
use crate::local::{Local, answers};
use crate::session::{self, Outgoing};
use crate::{Ended, KeeperConfig, KeeperError, Shutdown, Until};

/// Answers that wait for the loop; more than ever come in one turn.
const BACKLOG: usize = 64;

/// A witness has heard from a node when a replication message came within this (`design.md` §4).
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Runs the keeper. Needs the journal that [`crate::create()`] wrote. Wants a current-thread runtime
/// with all drivers. A configuration that comes through `reload` replaces the one before.
///
/// # Errors
/// [`KeeperError`].
pub async fn run(
    config: KeeperConfig,
    until: Until,
    shutdown: watch::Receiver<Shutdown>,
    reload: mpsc::Receiver<KeeperConfig>,
) -> Result<Ended, KeeperError> {
    let file = JournalFile::at(&config.journal);
    let journal = match file.load()? {
        Some(journal) if journal.node != NodeId(0) => journal,
        Some(_) | None => {
            return Err(KeeperError::NotCreated {
                path: file.path().to_owned(),
            });
        }
    };
    let installation =
        Installation::at(&config.pg_ctl)
            .await
            .map_err(|source| KeeperError::Installation {
                pg_ctl: config.pg_ctl.clone(),
                source,
            })?;
    let reaper = tokio::spawn(reap());
    let config = Arc::new(config);
    let wake = Arc::new(Notify::new());
    let (published, journals) = watch::channel(Arc::new(journal.clone()));
    let fencer = Rc::new(Fencer::of(&config.journal, config.fencer.clone()));
    let local = Local::open(
        Arc::clone(&config),
        installation,
        journals,
        Arc::clone(&wake),
        Rc::clone(&fencer),
    )
    .await
    .map_err(|reason| KeeperError::DataDirectory {
        pgdata: config.pgdata.clone(),
        reason,
    })?;
    let (report_out, reports) = watch::channel(Outgoing {
        report: pgaf_protocol::Report::default(),
        number: 0,
        heartbeat: Duration::from_millis(journal.settings.heartbeat_interval_ms),
        announce: None,
    });
    let (answers_in, incoming) = mpsc::channel(BACKLOG);
    let (looks_in, looks) = mpsc::channel(BACKLOG);
    let (wishes, wanted) = mpsc::channel(BACKLOG);
    let (citus_orders, orders) = watch::channel(crate::citus::Orders::default());
    let (found, citus_found) = watch::channel(crate::citus::Found::default());
    let (monitor, session) = connect(&config, reports, answers_in);
    let ends = Ends {
        incoming,
        outgoing: report_out,
        published,
        wake,
        looks,
        wishes,
        fencer,
        citus_orders,
        citus_found,
    };
    let keeper = Keeper::new(&local, file, address(&config), journal, ends);
    let work = serve(keeper, &local, until, shutdown, reload, monitor);
    let ended = tokio::select! {
        ended = work => ended,
        () = witness(&local, wanted, looks_in) => Ok(Ended::Stopped),
        () = crate::citus::serve(&local, config.kind, orders, found) => Ok(Ended::Stopped),
    };
    for task in [Some(reaper), session].into_iter().flatten() {
        task.abort();
    }
    ended
}

async fn reap() {
    if let Err(error) = pgaf_postgres::reaper::reap_orphans().await {
        tracing::error!(%error, "cannot watch for orphans");
    }
}

/// The loop, until it is told to stop or has nothing more to do.
async fn serve(
    mut keeper: Keeper<'_, Local>,
    local: &Local,
    until: Until,
    mut shutdown: watch::Receiver<Shutdown>,
    mut reload: mpsc::Receiver<KeeperConfig>,
    monitor: Monitor,
) -> Result<Ended, KeeperError> {
    loop {
        tokio::select! {
            turn = keeper.turn() => {
                if turn == Turn::Dropped {
                    return Ok(Ended::Dropped);
                }
                if until == Until::Initialized && initialized(&keeper) {
                    keeper.leave(StopMode::Fast).await;
                    return Ok(Ended::Initialized);
                }
            }
            stop = stopped(&mut shutdown) => {
                let Some(stop) = stop else {
                    tracing::info!("leaves Postgres as it is to the next program");
                    keeper.hand_over().await;
                    return Ok(Ended::HandedOver);
                };
                tracing::info!("stops, with its Postgres");
                let urgent = shutdown.wait_for(|s| *s == Shutdown::Immediate);
                let leave = keeper.leave(stop);
                tokio::pin!(leave);
                tokio::select! {
                    () = &mut leave => {}
                    Ok(_) = urgent, if stop == StopMode::Fast => {
                        local.hurry();
                        leave.await;
                    }
                }
                return Ok(Ended::Stopped);
            }
            Some(next) = reload.recv() => {
                tracing::info!("takes over the changed configuration");
                if let (Some(sender), Some(target)) = (&monitor, &next.monitor) {
                    sender.send_if_modified(|now| {
                        let changed = now != target;
                        now.clone_from(target);
                        changed
                    });
                }
                let address = address(&next);
                local.reconfigure(Arc::new(next));
                keeper.configured(address);
            }
        }
    }
}

/// This node as configured; its id is the journal's.
fn address(config: &KeeperConfig) -> Peer {
    Peer {
        node: NodeId(0),
        name: config.name.clone(),
        host: config.host.clone(),
        port: config.port,
    }
}

type Monitor = Option<watch::Sender<pgaf_postgres::conninfo::Conninfo>>;

/// Starts the session to the monitor, if there is one.
fn connect(
    config: &KeeperConfig,
    reports: watch::Receiver<Outgoing>,
    answers: mpsc::Sender<session::Incoming>,
) -> (Monitor, Option<tokio::task::JoinHandle<()>>) {
    match &config.monitor {
        Some(target) => {
            let (sender, receiver) = watch::channel(target.clone());
            let task = tokio::spawn(session::keep(receiver, reports, answers));
            (Some(sender), Some(task))
        }
        None => {
            tracing::warn!("the monitor is disabled: Postgres is kept as it was told last");
            (None, None)
        }
    }
}

/// Waits for the order to stop; answers how Postgres is stopped then, if it is.
async fn stopped(shutdown: &mut watch::Receiver<Shutdown>) -> Option<StopMode> {
    match shutdown.wait_for(|s| *s != Shutdown::No).await.as_deref() {
        Ok(Shutdown::Immediate) => Some(StopMode::Immediate),
        Ok(Shutdown::HandOver) => None,
        // An error: nobody is left who could say it.
        Ok(Shutdown::No | Shutdown::Fast) | Err(_) => Some(StopMode::Fast),
    }
}

/// Whether the node has reached its first goal.
fn initialized(keeper: &Keeper<'_, Local>) -> bool {
    let journal = keeper.journal();
    let reached = journal
        .goal
        .as_ref()
        .is_some_and(|goal| goal.stamp == journal.reached);
    let state = matches!(
        journal.state,
        NodeState::Single
            | NodeState::WaitPrimary
            | NodeState::Primary
            | NodeState::Catchingup
            | NodeState::Secondary
    );
    reached && state && keeper.observation().postgres.is_running() && keeper.is_heard()
}

/// Looks at peers when the monitor wishes it.
async fn witness(local: &Local, mut wanted: mpsc::Receiver<LookWish>, looks: mpsc::Sender<Look>) {
    while let Some((number, peer)) = wanted.recv().await {
        let connected = answers(local.witness(&peer)).await;
        let look = Look {
            number,
            node: peer.node,
            connected,
            heard: local.heard_within(HEARD_WITHIN).await == Some(peer.node),
        };
        tracing::debug!(node = %peer.node, connected, heard = look.heard, "looked at a peer");
        if looks.send(look).await.is_err() {
            return;
        }
    }
    std::future::pending().await
}
