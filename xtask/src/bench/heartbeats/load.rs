//! The keepers at work: registration, the way to a settled pair, and then one report per heartbeat.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgaf_postgres::conninfo::{Conninfo, SslMode};
use pgaf_protocol::{Answer, KeeperSettings, Registered};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::rustls::ClientConfig;

use super::figures::{Figures, Usage};
use super::keeper::Keeper;
use super::wire::{Heard, Session};
use super::{Heartbeats, probed};
use crate::interrupt;

/// Keepers that log in and register at once: enough for the daemon to commit them together.
const AT_ONCE: usize = 128;
/// For all keepers to settle.
const SETTLES: Duration = Duration::from_secs(300);
/// Before a keeper asks again whether its group has a primary to join.
const AGAIN: Duration = Duration::from_millis(100);

const REPORT: &str = "report";
const REGISTER: &str = "register";

/// What all keepers share.
#[derive(Default)]
pub(super) struct Counts {
    reports: Cell<u64>,
    changes: Cell<u64>,
    /// Sum and worst of the time until the answer, in microseconds.
    waited: Cell<u64>,
    slowest: Cell<u64>,
    settled: Cell<u32>,
    faults: RefCell<Vec<String>>,
}

struct Shared {
    counts: Counts,
    bench: Heartbeats,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    door: Semaphore,
    began: Instant,
    /// Durable changes are made only while it is set.
    measuring: Cell<bool>,
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

/// Plays all keepers, and measures the daemon once they have settled and rested.
pub(super) async fn play(
    bench: &Heartbeats,
    port: u16,
    daemon: i32,
    rest: Duration,
) -> Result<Figures> {
    let (probed_at, listener) = probed::listen().await?;
    let mut conninfo = Conninfo::single("127.0.0.1", port, "autoctl_node", "pg_auto_failover");
    conninfo.sslmode = Some(SslMode::Require);
    let tls = bench
        .tls
        .then(|| pgaf_postgres::tls::client_config(&conninfo, "127.0.0.1"))
        .transpose()
        .context("no TLS")?;
    let shared = Rc::new(Shared {
        counts: Counts::default(),
        bench: bench.clone(),
        address: (Ipv4Addr::LOCALHOST, port).into(),
        tls: tls.map(Arc::new),
        door: Semaphore::new(AT_ONCE),
        began: Instant::now(),
        measuring: Cell::new(false),
    });
    let tasks = LocalSet::new();
    tasks.spawn_local(probed::serve(listener));
    for number in 0..bench.sessions {
        let keeper = Keeper::new(number, bench.nodes, probed_at.port());
        let shared = Rc::clone(&shared);
        tasks.spawn_local(async move {
            if let Err(error) = keep(keeper, number, &shared).await {
                let words = format!("keeper {number}: {error:#}");
                shared.counts.faults.borrow_mut().push(words);
            }
        });
    }
    tasks.run_until(measure(&shared, daemon, rest)).await
}

async fn measure(shared: &Shared, daemon: i32, rest: Duration) -> Result<Figures> {
    let counts = &shared.counts;
    let until = Instant::now() + SETTLES;
    while counts.settled.get() < shared.bench.sessions {
        interrupt::check()?;
        if let Some(fault) = counts.faults.borrow().first() {
            bail!("{fault}");
        }
        if Instant::now() > until {
            bail!(
                "only {} of {} keepers have settled",
                counts.settled.get(),
                shared.bench.sessions
            );
        }
        sleep(Duration::from_millis(200)).await;
    }
    let settled_after = shared.began.elapsed();
    shared.measuring.set(true);
    sleep(rest).await;
    let (reports, changes) = (counts.reports.get(), counts.changes.get());
    counts.waited.set(0);
    counts.slowest.set(0);
    let (before, start) = (Usage::of(daemon)?, Instant::now());
    sleep(Duration::from_secs(shared.bench.seconds)).await;
    interrupt::check()?;
    let (after, took) = (Usage::of(daemon)?, start.elapsed());
    let reports = counts.reports.get() - reports;
    Ok(Figures {
        sessions: shared.bench.sessions,
        tls: shared.bench.tls,
        settled_after,
        took,
        reports,
        stored: counts.changes.get() - changes,
        cpu_user: after.user.saturating_sub(before.user),
        cpu_system: after.system.saturating_sub(before.system),
        pss_bytes: after.pss_bytes,
        rss_bytes: after.rss_bytes,
        answer_mean: Duration::from_micros(counts.waited.get() / reports.max(1)),
        answer_worst: Duration::from_micros(counts.slowest.get()),
        suspicions: 0,
        wrong: counts.faults.borrow().clone(),
    })
}

/// One keeper, until it is dropped.
async fn keep(mut keeper: Keeper, number: u32, shared: &Shared) -> Result<()> {
    let mut session = join(&mut keeper, number, shared).await?;
    let heartbeat = Duration::from_millis(KeeperSettings::default().heartbeat_interval_ms);
    // Keepers of different machines do not beat together.
    let phase = heartbeat * number / shared.bench.sessions.max(1);
    let mut due = shared.began + phase;
    let mut random = u64::from(number) + 1;
    let (mut settled, mut term) = (false, None);
    loop {
        let changes = shared.measuring.get() && {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Only standbys change: twice as often makes the share of all reports.
            (random >> 33) % 100 < u64::from(shared.bench.changes) * 2
        };
        if changes && keeper.change() {
            add(&shared.counts.changes, 1);
        }
        keeper.advance();
        let is_new = say(&mut session, &mut keeper, shared).await?;
        if keeper.is_settled() && !settled {
            settled = true;
            shared.counts.settled.set(shared.counts.settled.get() + 1);
            term = Some(keeper.term());
        }
        if settled && (Some(keeper.term()) != term || !keeper.is_settled()) {
            bail!("it was told something else though nothing happened");
        }
        if is_new {
            continue;
        }
        let now = Instant::now();
        while due <= now {
            due += heartbeat;
        }
        idle(&mut session, &mut keeper, due).await?;
    }
}

/// Waits for the next heartbeat, or for a goal that is pushed.
async fn idle(session: &mut Session, keeper: &mut Keeper, due: Instant) -> Result<()> {
    loop {
        tokio::select! {
            () = sleep_until(due) => return Ok(()),
            heard = session.hear() => match heard? {
                Heard::Pushed(text) => {
                    let answer: Answer = serde_json::from_str(&text).context("a pushed goal")?;
                    // A wish for a look is no goal.
                    if keeper.hear(answer) {
                        return Ok(());
                    }
                }
                Heard::Error(text) => bail!("the monitor says: {text}"),
                Heard::Row(_) | Heard::Ready | Heard::Other => {}
            }
        }
    }
}

/// Reports once; whether the answer brought a new goal.
async fn say(session: &mut Session, keeper: &mut Keeper, shared: &Shared) -> Result<bool> {
    let report = serde_json::to_string(&keeper.report())?;
    let sent = Instant::now();
    let (row, pushed) = session.call(REPORT, &report).await?;
    let waited = u64::try_from(sent.elapsed().as_micros())?;
    let counts = &shared.counts;
    add(&counts.reports, 1);
    add(&counts.waited, waited);
    counts.slowest.set(counts.slowest.get().max(waited));
    let answer: Answer = serde_json::from_str(&row).context("an answer")?;
    if keeper.leads() && keeper.is_settled() && answer.lease.is_none() {
        bail!("a primary's lease was not renewed");
    }
    let mut is_new = keeper.hear(answer);
    for text in pushed {
        is_new |= keeper.hear(serde_json::from_str(&text).context("a pushed goal")?);
    }
    Ok(is_new)
}

/// Opens the session and registers; the first keeper of a group makes its formation.
async fn join(keeper: &mut Keeper, number: u32, shared: &Shared) -> Result<Session> {
    let mut door = Some(shared.door.acquire().await?);
    let mut session = Session::open(shared.address, shared.tls.as_ref()).await?;
    session
        .prepare(REPORT, "SELECT pgautofailover.keeper_report($1)")
        .await?;
    session
        .prepare(REGISTER, "SELECT pgautofailover.keeper_register($1)")
        .await?;
    if number.is_multiple_of(shared.bench.nodes) {
        let make = format!(
            "SELECT * FROM pgautofailover.create_formation('{}', 'pgsql', 'postgres', true, 0)",
            keeper.formation()
        );
        session.simple(&make).await?;
    }
    let wish = serde_json::to_string(&keeper.registration())?;
    let until = Instant::now() + SETTLES;
    loop {
        match session.call(REGISTER, &wish).await {
            Ok((row, _)) => {
                let registered: Registered = serde_json::from_str(&row).context("registered")?;
                keeper.registered(registered);
                return Ok(session);
            }
            // The formation, or its primary, is not there yet.
            Err(_) if !number.is_multiple_of(shared.bench.nodes) && Instant::now() < until => {
                drop(door.take());
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}
