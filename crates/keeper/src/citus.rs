//! Citus, beside the loop: node metadata on a coordinator, in-doubt transactions on every primary.
//!
//! Owns two tasks that never hold up the loop, nor each other. Neither remembers a step: what is to
//! be done follows from the wanted list and from what Postgres says, each time anew, so that a
//! crash at any point leaves nothing half known. They must never decide which row is right:
//! `pgaf_fsm::citus` does.

use std::collections::BTreeMap;
use std::time::Duration;

use pgaf_fsm::citus::{Gid, Observed, Prepared, Row, Update, plan, seen};
use pgaf_postgres::citus::{self as sql, CitusError, Session};
use pgaf_protocol::{CitusOrders, FormationId, GroupId, MetadataSeen, NodeKind, Term};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::local::Local;

/// For one look at the node metadata (chosen: milliseconds usually).
const LOOK: Duration = Duration::from_secs(2);
/// For a held update (`safety.md` §9.1).
const HOLD: Duration = Duration::from_millis(pgaf_fsm::citus::HOLD_DEADLINE_MS);
/// For an update that is done whole, or committed: it waits for nobody but other updates.
const SET: Duration = Duration::from_secs(3);
/// For one that reaches the other nodes (chosen: Citus' own limit for a connection is 30 s).
const REACH: Duration = Duration::from_secs(40);
/// The node metadata is read again this often when nothing happens: somebody may have changed it.
const QUIET: Duration = Duration::from_secs(10);
/// And this often while a node does not know it yet.
const UNSYNCED: Duration = Duration::from_millis(100);
/// After this long without that node, less often.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries of an update that failed: doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// In-doubt transactions are looked for this often. Source: Citus, `recover_2pc_interval`'s
/// default, which we switch off.
const RECOVER_EVERY: Duration = Duration::from_secs(60);

/// What the loop lets these tasks do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Orders {
    pub(crate) citus: CitusOrders,
    /// This node is its group's primary; otherwise nothing is done.
    pub(crate) leads: Option<Leads>,
}

/// A primary that may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leads {
    pub(crate) term: Term,
    /// The postmaster.
    pub(crate) since: i64,
    /// It holds a lease: nobody else is primary, by the monitor's word.
    pub(crate) leased: bool,
}

/// What these tasks have found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) metadata: Option<MetadataSeen>,
    pub(crate) shut_out: Vec<String>,
}

/// Works for ever, on a node of a Citus formation.
pub(crate) async fn serve(
    local: &Local,
    kind: NodeKind,
    orders: watch::Receiver<Orders>,
    found: watch::Sender<Found>,
) {
    if kind == NodeKind::Standalone {
        std::future::pending::<()>().await;
    }
    tokio::join!(
        reconcile(local, orders.clone(), found),
        recover(local, orders)
    );
}

/// Makes the node metadata what the monitor wants, on the coordinator's primary.
async fn reconcile(
    local: &Local,
    mut orders: watch::Receiver<Orders>,
    found: watch::Sender<Found>,
) {
    let mut task = Reconciler::default();
    loop {
        let order = orders.borrow_and_update().clone();
        let wait = task.round(local, &order, &mut orders, &found).await;
        tokio::select! {
            changed = orders.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[derive(Debug, Default)]
struct Reconciler {
    session: Option<Session>,
    /// Updates that failed: not before then, and how often.
    paused: BTreeMap<Update, (Instant, u32)>,
    trouble: Option<String>,
    unsynced_since: Option<Instant>,
}

impl Reconciler {
    /// Does what can be done now; answers when to look again.
    async fn round(
        &mut self,
        local: &Local,
        order: &Orders,
        orders: &mut watch::Receiver<Orders>,
        found: &watch::Sender<Found>,
    ) -> Duration {
        let (Some(_), Some(wanted)) = (order.leads, &order.citus.metadata) else {
            self.session = None;
            self.paused.clear();
            publish(found, None);
            return RECOVER_EVERY;
        };
        let formation = local.formation();
        loop {
            let observed = match self.observe(local).await {
                Ok(observed) => observed,
                Err(error) => {
                    self.complain(&error);
                    return PAUSES.1 / 10;
                }
            };
            let updates = plan(&formation, wanted, &observed);
            self.paused.retain(|update, _| updates.contains(update));
            if self.paused.is_empty() {
                self.trouble = None;
            }
            let mut said = seen(&formation, wanted, &observed);
            said.trouble.clone_from(&self.trouble);
            publish(found, Some(said));
            let now = Instant::now();
            let due = |update: &&Update| self.paused.get(update).is_none_or(|(at, _)| *at <= now);
            let Some(update) = updates.iter().find(due).cloned() else {
                return self.rest(&observed, now);
            };
            self.perform(&update).await;
            if orders.has_changed().unwrap_or(true) {
                return Duration::ZERO;
            }
        }
    }

    /// When to look again though nothing changes here.
    fn rest(&mut self, observed: &Observed, now: Instant) -> Duration {
        let paused = self
            .paused
            .values()
            .map(|(at, _)| at.saturating_duration_since(now))
            .min();
        let unsynced = observed.rows.iter().any(|r| r.active && !r.synced);
        let since = if unsynced {
            Some(*self.unsynced_since.get_or_insert(now))
        } else {
            self.unsynced_since = None;
            None
        };
        let regular = match since {
            Some(since) if now.duration_since(since) < PATIENCE => UNSYNCED,
            Some(_) => UNSYNCED * 10,
            None => QUIET,
        };
        paused.map_or(regular, |at| at.min(regular))
    }

    async fn observe(&mut self, local: &Local) -> Result<Observed, CitusError> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session = None;
            let session = local.citus_session(LOOK).await?;
            session.ensure_objects(SET).await?;
            self.session = Some(session);
        }
        let Some(session) = &self.session else {
            return Ok(Observed::default());
        };
        match session.observe(LOOK).await {
            Ok(observed) => Ok(translate(observed)),
            Err(error) => {
                self.session = None;
                Err(error)
            }
        }
    }

    async fn perform(&mut self, update: &Update) {
        let Some(session) = &self.session else { return };
        let began = Instant::now();
        match apply(session, update).await {
            Ok(()) => {
                tracing::info!(?update, took = ?began.elapsed(), "changed the node metadata");
                self.paused.remove(update);
            }
            Err(error) => {
                let failures = self.paused.get(update).map_or(0, |(_, n)| *n);
                let pause = PAUSES.1.min(PAUSES.0 * 2_u32.pow(failures.min(6)));
                let again = Instant::now() + pause;
                self.paused.insert(update.clone(), (again, failures + 1));
                if error.is_lost() {
                    self.session = None;
                }
                self.complain(&error);
            }
        }
    }

    /// Says a trouble once.
    fn complain(&mut self, error: &CitusError) {
        let text = crate::words(error);
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!("node metadata: {text}");
        }
        self.trouble = Some(text);
    }
}

fn publish(found: &watch::Sender<Found>, metadata: Option<MetadataSeen>) {
    found.send_if_modified(|before| {
        let changed = before.metadata != metadata;
        before.metadata = metadata;
        changed
    });
}

fn translate(observed: sql::Observed) -> Observed {
    let rows = observed.nodes.into_iter().map(|node| Row {
        id: node.id,
        group: GroupId(node.group),
        host: node.host,
        port: node.port,
        primary: node.primary,
        cluster: node.cluster,
        active: node.active,
        synced: node.synced,
    });
    let terms = observed.terms.into_iter();
    let prepared = observed.prepared.into_iter();
    Observed {
        rows: rows.collect(),
        terms: terms.map(|(g, t)| (GroupId(g), Term(t))).collect(),
        prepared: prepared
            .filter_map(|text| {
                let gid = Gid::parse(&text)?;
                Some(Prepared { text, gid })
            })
            .collect(),
    }
}

async fn apply(session: &Session, update: &Update) -> Result<(), CitusError> {
    match update {
        Update::Rollback { gid } => session.rollback_prepared(gid, SET).await,
        Update::Commit { gid } => session.commit_prepared(gid, SET).await,
        Update::Set {
            id,
            group,
            term,
            host,
            port,
        } => {
            let address = (host.as_str(), *port);
            session.set((group.0, term.0), *id, address, SET).await
        }
        Update::Hold {
            id,
            group,
            term,
            host,
            port,
            force,
            gid,
        } => {
            let address = (host.as_str(), *port);
            let row = (group.0, term.0);
            session.hold(row, *id, address, *force, gid, HOLD).await
        }
        Update::Raise { group, term } => session.raise_term(group.0, term.0, SET).await,
        Update::Add {
            group,
            term,
            host,
            port,
        } => {
            session
                .add((group.0, term.0), (host.as_str(), *port), REACH)
                .await
        }
        Update::Activate { host, port } => session.activate((host.as_str(), *port), REACH).await,
        Update::AddReplica {
            group,
            cluster,
            host,
            port,
        } => {
            let address = (host.as_str(), *port);
            session.add_replica(group.0, cluster, address, REACH).await
        }
        Update::Remove { guard, host, port } => {
            let guard = guard.map(|(group, term)| (group.0, term.0));
            session.remove(guard, (host.as_str(), *port), REACH).await
        }
    }
}

/// Resolves what this node left in doubt: after it became primary, after node metadata that it
/// knows has changed, and now and then (`safety.md` §9.1).
async fn recover(local: &Local, mut orders: watch::Receiver<Orders>) {
    let mut done: Option<(i64, Option<u64>)> = None;
    let mut last = Instant::now();
    loop {
        let order = orders.borrow_and_update().clone();
        let key = order
            .leads
            .filter(|leads| leads.leased)
            .map(|leads| (leads.since, order.citus.recover));
        let mut wait = RECOVER_EVERY.saturating_sub(last.elapsed());
        if let Some(key) = key
            && (done != Some(key) || wait.is_zero())
        {
            match resolve(local).await {
                Ok(count) => {
                    if count > 0 {
                        tracing::info!(count, "resolved distributed transactions in doubt");
                    }
                    done = Some(key);
                    last = Instant::now();
                    wait = RECOVER_EVERY;
                }
                Err(error) => {
                    tracing::debug!(error = %crate::words(&error), "cannot resolve transactions in doubt now");
                    wait = PAUSES.1 / 5;
                }
            }
        }
        tokio::select! {
            changed = orders.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = tokio::time::sleep(wait.max(PAUSES.0)) => {}
        }
    }
}

async fn resolve(local: &Local) -> Result<i32, CitusError> {
    let session = local.citus_session(LOOK).await?;
    session.recover(REACH).await
}

impl Local {
    fn formation(&self) -> FormationId {
        self.config().formation.clone()
    }

    async fn citus_session(&self, limit: Duration) -> Result<Session, CitusError> {
        let dbname = self.config().dbname.clone();
        Session::open(&self.server(), &dbname, limit).await
    }
}
