//! What a storm writes to a Citus formation: transactions of rows that lie on several workers, which Citus
//! commits in two phases, through whichever coordinator takes writes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_postgres::NoTls;

use super::load::Load;
use crate::cluster::Cluster;
use crate::sql::Target;
use crate::wait;
use crate::writer::count_warnings;

/// Rows of a transaction. Sixteen shards on two worker groups: all rows of a transaction lie on one group in
/// less than one of a hundred.
const ROWS: i64 = 8;

/// The time between two transactions, and between two attempts to find a coordinator that takes writes.
const PAUSE: Duration = Duration::from_millis(10);

/// A transaction without an answer for so long is given up; nobody knows whether its rows are there.
const PATIENCE: Duration = Duration::from_secs(2);

/// The workers are listed, and know it, within this time.
const ACTIVE: Duration = Duration::from_secs(60);

/// No prepared transaction is left so long after the last cause is gone.
///
/// Citus' own recovery comes once a minute (`citus.recover_2pc_interval`).
const RESOLVED: Duration = Duration::from_secs(90);

/// A transaction that was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Ack {
    sent: Instant,
    at: Instant,
    node: usize,
    number: i64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicI64,
    failed: AtomicU64,
    /// Acknowledged with the warning that no standby has it.
    warned: AtomicU64,
    acks: Mutex<Vec<Ack>>,
}

/// The writers of a formation, two per coordinator; dropping stops them.
#[derive(Debug)]
pub(super) struct Transactions {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Transactions {
    /// Makes the distributed table, and starts the writers.
    ///
    /// # Errors
    /// When the formation does not take the table.
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let coordinator = cluster.primary()?;
        let workers = cluster.group_count() - 1;
        let active = "select count(*) from pg_dist_node where groupid > 0 and isactive \
                      and metadatasynced and noderole = 'primary'";
        wait::until("every worker active", ACTIVE, || {
            Ok(number(cluster, coordinator, active)? == i64::try_from(workers)?)
        })?;
        cluster.query(
            coordinator,
            "create table pgaf_parts(id bigint primary key, n bigint not null)",
        )?;
        cluster.query(
            coordinator,
            "select create_distributed_table('pgaf_parts', 'id', shard_count => 16)",
        )?;
        let targets: Vec<(usize, Target)> = (0..cluster.nodes.len())
            .filter(|node| cluster.groups[*node] == 0)
            .flat_map(|node| [(node, cluster.target(node)), (node, cluster.target(node))])
            .collect();
        let shared = Arc::<Shared>::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot make a runtime")?;
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("transactions".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    for (node, target) in targets {
                        tokio::spawn(write(Arc::clone(&its), node, target));
                    }
                    while !its.stop.load(Ordering::SeqCst) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    // What is under way is answered, or given up.
                    tokio::time::sleep(PATIENCE).await;
                });
            })
            .context("cannot start the writers")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    fn acks(&self) -> MutexGuard<'_, Vec<Ack>> {
        locked(&self.shared)
    }

    fn complete(&self, cluster: &Cluster, coordinator: usize) -> Result<BTreeSet<i64>> {
        let whole = format!("select n from pgaf_parts group by n having count(*) = {ROWS}");
        let rows = cluster.query(coordinator, &whole)?;
        rows.iter().map(|row| Ok(row[0].parse()?)).collect()
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Load for Transactions {
    fn wrote_since(&self, moment: Instant) -> bool {
        self.acks().iter().rev().any(|ack| ack.sent > moment)
    }

    fn last_writer(&self) -> Option<usize> {
        self.acks().last().map(|ack| ack.node)
    }

    fn outage(&self, fault: Instant) -> Duration {
        let acks = self.acks();
        let times = acks.iter().map(|ack| ack.at).chain([Instant::now()]);
        let pairs = times.clone().zip(times.skip(1));
        pairs
            .filter(|(_, after)| *after > fault)
            .map(|(before, after)| after.saturating_duration_since(before))
            .max()
            .unwrap_or_default()
    }

    fn timeline(&self) -> i32 {
        0
    }

    /// Every transaction acknowledged so far is there, whole.
    fn intact(&self, cluster: &Cluster) -> Result<()> {
        let known: Vec<i64> = self.acks().iter().map(|ack| ack.number).collect();
        let whole = self.complete(cluster, cluster.primary()?)?;
        let missing = known.iter().filter(|n| !whole.contains(n)).count();
        ensure!(
            missing == 0,
            "{missing} acknowledged transactions are not there, or not whole"
        );
        Ok(())
    }

    /// No prepared transaction is left, none is there in part, and every acknowledged one is there.
    fn verify(&mut self, cluster: &Cluster) -> Result<usize> {
        let prepared = "select count(*) from pg_prepared_xacts";
        wait::until("no prepared transaction left", RESOLVED, || {
            for group in 0..cluster.group_count() {
                if number(cluster, cluster.primary_of(group)?, prepared)? > 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        let coordinator = cluster.primary()?;
        let half = format!(
            "select count(*) from (select n from pgaf_parts group by n having count(*) <> {ROWS}) s"
        );
        let half = number(cluster, coordinator, &half)?;
        ensure!(half == 0, "{half} transactions are there in part");
        self.intact(cluster)?;
        let rows = number(cluster, coordinator, "select count(*) from pgaf_parts")?;
        let listed = "select count(*) from pg_dist_node where groupid > 0 \
                      and noderole = 'primary' and isactive and metadatasynced";
        let listed = number(cluster, coordinator, listed)?;
        ensure!(
            usize::try_from(listed)? == cluster.group_count() - 1,
            "{listed} workers are listed and active"
        );
        Ok(usize::try_from(rows)?)
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed by the thread itself.
            let _ = thread.join();
        }
    }

    fn summary(&self) -> String {
        format!(
            "{} transactions of {ROWS} rows over two worker groups, {} warned, {} failed or unknown",
            self.acks().len(),
            self.shared.warned.load(Ordering::SeqCst),
            self.shared.failed.load(Ordering::SeqCst)
        )
    }

    fn lines(&self, zero: Instant) -> String {
        let mut text = String::from("node number sent_ms acknowledged_ms\n");
        let ms = |moment: Instant| moment.saturating_duration_since(zero).as_millis();
        for ack in self.acks().iter() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "node{} {} {} {}",
                ack.node + 1,
                ack.number,
                ms(ack.sent),
                ms(ack.at)
            );
        }
        text
    }
}

fn locked(shared: &Shared) -> MutexGuard<'_, Vec<Ack>> {
    shared
        .acks
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn number(cluster: &Cluster, node: usize, query: &str) -> Result<i64> {
    let rows = cluster.query(node, query)?;
    let first = rows.first().and_then(|row| row.first());
    Ok(first.context("no row")?.parse()?)
}

async fn write(shared: Arc<Shared>, node: usize, target: Target) {
    while !shared.stop.load(Ordering::SeqCst) {
        // Errors are the expected end of a session here: the node does not take writes (any more).
        let _ = session(&shared, node, &target).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn session(shared: &Shared, node: usize, target: &Target) -> Result<()> {
    let config = target.config();
    let connecting = config.connect(NoTls);
    let (client, connection) = tokio::time::timeout(PATIENCE, connecting).await??;
    let (notices, driver) = count_warnings(connection);
    let ended = transactions(shared, node, &client, &notices).await;
    driver.abort();
    ended
}

async fn transactions(
    shared: &Shared,
    node: usize,
    client: &tokio_postgres::Client,
    notices: &AtomicU64,
) -> Result<()> {
    let asked = client.query_one("show transaction_read_only", &[]);
    let read_only: String = tokio::time::timeout(PATIENCE, asked).await??.get(0);
    while read_only == "off" && !shared.stop.load(Ordering::SeqCst) {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let values: Vec<String> = (0..ROWS)
            .map(|row| format!("({}, {number})", number * ROWS + row))
            .collect();
        let insert = format!("insert into pgaf_parts values {}", values.join(", "));
        let sent = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, client.batch_execute(&insert)).await;
        if !matches!(answer, Ok(Ok(()))) {
            shared.failed.fetch_add(1, Ordering::SeqCst);
        }
        answer??;
        if notices.swap(0, Ordering::SeqCst) > 0 {
            shared.warned.fetch_add(1, Ordering::SeqCst);
        } else {
            let at = Instant::now();
            locked(shared).push(Ack {
                sent,
                at,
                node,
                number,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
