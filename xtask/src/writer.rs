//! One writer per node, and the record of every row that was acknowledged.
//!
//! Each writer inserts rows over its node's own socket for as long as that node takes writes, so an
//! outage is the time in which no node at all acknowledged a write, whatever a client's way to
//! reconnect. Each number is tried once: after an error nobody knows whether its row is there.
//!
//! Every node is tried all the time, also one that hangs: a statement that gets no answer is left to
//! itself, and its answer counts whenever it comes, while the next session tries the same node again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Connection, NoTls, Socket};

use crate::cluster::Cluster;
use crate::sql::Target;

/// The time between two rows of a writer. Outages are known to this resolution.
const PAUSE: Duration = Duration::from_millis(2);

/// The time between two attempts to find a node that takes writes.
const RETRY: Duration = Duration::from_millis(10);

/// A statement without an answer for so long hangs: another session tries the node meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many sessions of one node may hang at a time, far below `max_connections`.
const HUNG: usize = 12;

/// No primary moves in less time: a promotion alone takes 100 ms (measured on Postgres 15).
const MOVE: Duration = Duration::from_millis(50);

/// The table that is written to.
pub(crate) const TABLE: &str = "pgaf_rows";

/// A row that Postgres acknowledged, without the warning that no standby has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ack {
    sent: Instant,
    at: Instant,
    node: usize,
    number: i64,
    /// The timeline that the row was written on: each term with another primary has a higher one.
    timeline: i32,
}

/// All that was acknowledged, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    acks: Vec<Ack>,
}

/// The writers of a cluster; dropping stops them.
#[derive(Debug)]
pub(crate) struct Writers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicI64,
    /// Acknowledged with a warning: on its node only, and by choice of whoever cancelled the wait.
    warned: AtomicU64,
    ledger: Mutex<Ledger>,
}

impl Writers {
    /// Makes the table, and starts one writer per node.
    ///
    /// # Errors
    /// When the primary does not take the table.
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let table = format!(
            "create table if not exists {TABLE}(node int, n bigint, at timestamptz default now(), primary key (node, n))"
        );
        cluster.query(cluster.primary()?, &table)?;
        let targets: Vec<_> = (0..cluster.nodes.len())
            .map(|node| cluster.target(node))
            .collect();
        let mut writers = Self {
            shared: Arc::default(),
            thread: None,
        };
        writers.resume(targets)?;
        Ok(writers)
    }

    /// Writes again after [`Self::stop`].
    ///
    /// # Errors
    /// When they run already, or there is no thread for them.
    pub(crate) fn resume(&mut self, targets: Vec<Target>) -> Result<()> {
        if self.thread.is_some() {
            bail!("the writers run already");
        }
        self.shared.stop.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot make a runtime")?;
        let thread = std::thread::Builder::new()
            .name("writers".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    for (node, target) in targets.into_iter().enumerate() {
                        tokio::spawn(write(Arc::clone(&shared), node, target));
                    }
                    // A writer may hang on a frozen server: the end does not wait for it.
                    while !shared.stop.load(Ordering::SeqCst) {
                        tokio::time::sleep(RETRY).await;
                    }
                });
            });
        self.thread = Some(thread.context("cannot start the writers")?);
        Ok(())
    }

    /// Ends the writers; what they recorded stays.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed by the thread itself.
            let _ = thread.join();
        }
    }

    /// What was acknowledged by now.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared
            .ledger
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many rows were acknowledged with the warning that their wait was cancelled.
    pub(crate) fn warned(&self) -> u64 {
        self.shared.warned.load(Ordering::SeqCst)
    }

    /// Whether the writers run.
    pub(crate) fn are_running(&self) -> bool {
        self.thread.is_some()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn write(shared: Arc<Shared>, node: usize, target: Target) {
    let target = Arc::new(target);
    let mut hung = JoinSet::new();
    while !shared.stop.load(Ordering::SeqCst) {
        let (hangs, is_hung) = oneshot::channel();
        let mut session = tokio::spawn(session(
            Arc::clone(&shared),
            node,
            Arc::clone(&target),
            hangs,
        ));
        // Errors are the expected end of a session here: the node does not take writes (any more).
        tokio::select! {
            _ = &mut session => {}
            Ok(()) = is_hung => {
                hung.spawn(session);
            }
        }
        while hung.try_join_next().is_some() {}
        if hung.len() >= HUNG {
            hung.join_next().await;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn session(
    shared: Arc<Shared>,
    node: usize,
    target: Arc<Target>,
    hangs: oneshot::Sender<()>,
) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = target.config().connect(NoTls).await?;
    let (notices, driver) = count_warnings(connection);
    let ended = insert_rows(&shared, node, &client, &notices, hangs).await;
    driver.abort();
    ended
}

/// Drives a session until it is aborted or its end, and counts the warnings that a commit was
/// acknowledged without a standby.
pub(crate) fn count_warnings(
    mut connection: Connection<Socket, NoTlsStream>,
) -> (Arc<AtomicU64>, tokio::task::JoinHandle<()>) {
    let notices = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&notices);
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.message().contains("synchronous replication")
            {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (notices, driver)
}

async fn insert_rows(
    shared: &Shared,
    node: usize,
    client: &tokio_postgres::Client,
    notices: &AtomicU64,
    hangs: oneshot::Sender<()>,
) -> Result<(), tokio_postgres::Error> {
    let read_only: String = client
        .query_one("show transaction_read_only", &[])
        .await?
        .get(0);
    if read_only != "off" {
        return Ok(());
    }
    let timeline =
        "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int";
    let text = format!("insert into {TABLE}(node, n) values ($1, $2) returning {timeline}");
    let insert = client.prepare(&text).await?;
    let id = i32::try_from(node).unwrap_or(i32::MAX);
    let mut hangs = Some(hangs);
    while hangs.is_some() && !shared.stop.load(Ordering::SeqCst) {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let sent = Instant::now();
        let parameters: [&(dyn ToSql + Sync); 2] = [&id, &number];
        let mut answer = pin!(client.query_one(&insert, &parameters));
        let timely = tokio::time::timeout(PATIENCE, &mut answer).await;
        let row = if let Ok(row) = timely {
            row?
        } else {
            // Whoever started this session starts another one; nobody listens when all is over.
            let _ = hangs.take().map(|hangs| hangs.send(()));
            answer.await?
        };
        let at = Instant::now();
        if notices.swap(0, Ordering::SeqCst) > 0 {
            shared.warned.fetch_add(1, Ordering::SeqCst);
        } else {
            let mut ledger = shared
                .ledger
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            ledger.acks.push(Ack {
                sent,
                at,
                node,
                number,
                timeline: row.get(0),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

impl Ledger {
    /// How many rows were acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.acks.len()
    }

    /// Whether a row was acknowledged that was sent after this moment.
    pub(crate) fn wrote_since(&self, moment: Instant) -> bool {
        self.acks.iter().rev().any(|ack| ack.sent > moment)
    }

    /// Whether another node has acknowledged a write than the one that did last before this moment.
    pub(crate) fn moved_since(&self, moment: Instant) -> bool {
        let before = self
            .acks
            .iter()
            .rev()
            .find(|ack| ack.at <= moment)
            .map(|ack| ack.node);
        self.acks
            .iter()
            .rev()
            .any(|ack| ack.sent > moment && Some(ack.node) != before)
    }

    /// The longest time without an acknowledged write that ended after `fault`; one that still lasts counts.
    pub(crate) fn outage(&self, fault: Instant, now: Instant) -> Duration {
        let times = self.acks.iter().map(|ack| ack.at).chain([now]);
        let mut before = None;
        let mut longest = Duration::ZERO;
        for at in times {
            if let Some(before) = before.replace(at)
                && at > fault
            {
                longest = longest.max(at.duration_since(before));
            }
        }
        longest
    }

    /// Writes that a node acknowledged though they were sent while another one did: neither late answers
    /// to writes sent before the other took over, nor moves back, which take longer than [`MOVE`].
    pub(crate) fn two_writers(&self) -> usize {
        let mut seen = BTreeSet::new();
        let mut found = 0;
        let mut owner: Option<(usize, Instant, Instant)> = None;
        for ack in &self.acks {
            let known = !seen.insert(ack.node);
            owner = match owner {
                Some((node, since, _)) if node == ack.node => Some((node, since, ack.at)),
                Some((node, since, last)) if known && ack.sent < since => Some((node, since, last)),
                Some((_, _, last)) => {
                    let at_once = ack.sent.saturating_duration_since(last) < MOVE;
                    found += usize::from(known && at_once);
                    Some((ack.node, ack.at, ack.at))
                }
                None => Some((ack.node, ack.at, ack.at)),
            };
        }
        found
    }

    /// Writes that an older timeline acknowledged though they were sent after a newer one had
    /// acknowledged, and those of a timeline that another node wrote first: each term with another
    /// primary has a timeline of its own, so either would be a second writer.
    pub(crate) fn two_timelines(&self) -> usize {
        let mut owners = BTreeMap::new();
        let mut newest = i32::MIN;
        // What was the newest timeline when each ack came; they are in order of time.
        let newest_at: Vec<i32> = self
            .acks
            .iter()
            .map(|ack| {
                newest = newest.max(ack.timeline);
                newest
            })
            .collect();
        let is_second = |ack: &&Ack| {
            let before = self.acks.partition_point(|other| other.at < ack.sent);
            let overtaken = before > 0 && newest_at[before - 1] > ack.timeline;
            overtaken || *owners.entry(ack.timeline).or_insert(ack.node) != ack.node
        };
        self.acks.iter().filter(is_second).count()
    }

    /// The node that acknowledged last, if any did.
    pub(crate) fn last_writer(&self) -> Option<usize> {
        self.acks.last().map(|ack| ack.node)
    }

    /// The highest timeline that anything was acknowledged on.
    pub(crate) fn timeline(&self) -> i32 {
        self.acks.iter().map(|ack| ack.timeline).max().unwrap_or(0)
    }

    /// One line an acknowledgement: node, timeline, number, milliseconds from `zero` to its sending and its answer.
    pub(crate) fn lines(&self, zero: Instant) -> String {
        let mut text = String::from("node timeline number sent_ms acknowledged_ms\n");
        let ms = |moment: Instant| moment.saturating_duration_since(zero).as_millis();
        for ack in &self.acks {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "node{} {} {} {} {}",
                ack.node + 1,
                ack.timeline,
                ack.number,
                ms(ack.sent),
                ms(ack.at)
            );
        }
        text
    }

    /// Acknowledged rows that are not among these.
    pub(crate) fn missing_from(&self, rows: &BTreeSet<(usize, i64)>) -> usize {
        self.missing_among(self.acks.len(), rows)
    }

    /// As [`Self::missing_from`], for the first `known` acknowledgements only.
    pub(crate) fn missing_among(&self, known: usize, rows: &BTreeSet<(usize, i64)>) -> usize {
        self.acks
            .iter()
            .take(known)
            .filter(|ack| !rows.contains(&(ack.node, ack.number)))
            .count()
    }
}

/// The rows that a node has.
///
/// # Errors
/// When it does not answer.
pub(crate) fn rows(cluster: &Cluster, node: usize) -> Result<BTreeSet<(usize, i64)>> {
    let rows = cluster.query(node, &format!("select node, n from {TABLE}"))?;
    rows.iter()
        .map(|row| match &row[..] {
            [node, number] => Ok((node.parse()?, number.parse()?)),
            _ => bail!("a row of {} columns", row.len()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger of (node, sent, at) in milliseconds.
    fn ledger(zero: Instant, acks: &[(usize, u64, u64)]) -> Ledger {
        let after = |ms| zero + Duration::from_millis(ms);
        let acks = acks.iter().enumerate().map(|(i, (node, sent, at))| Ack {
            sent: after(*sent),
            at: after(*at),
            node: *node,
            number: i64::try_from(i).unwrap(),
            timeline: 1,
        });
        Ledger {
            acks: acks.collect(),
        }
    }

    #[test]
    fn an_outage_is_the_longest_gap_that_ends_after_the_fault() {
        let zero = Instant::now();
        let after = |ms| zero + Duration::from_millis(ms);
        let ledger = ledger(
            zero,
            &[
                (0, 0, 1),
                (0, 900, 901),
                (0, 910, 911),
                (1, 1300, 1311),
                (1, 1320, 1321),
            ],
        );
        assert_eq!(
            ledger.outage(after(1000), after(1330)),
            Duration::from_millis(400)
        );
        assert_eq!(
            ledger.outage(after(1000), after(2000)),
            Duration::from_millis(679)
        );
        assert!(ledger.wrote_since(after(1310)));
        assert!(!ledger.wrote_since(after(1320)));
        assert!(ledger.moved_since(after(1000)));
        assert!(!ledger.moved_since(after(1315)));
    }

    #[test]
    fn moves_and_late_answers_are_not_two_writers() {
        let zero = Instant::now();
        let there_and_back = [
            (0, 0, 1),
            (1, 200, 201),
            (1, 203, 204),
            (0, 500, 501),
            (0, 503, 504),
        ];
        assert_eq!(ledger(zero, &there_and_back).two_writers(), 0);
        let frozen_answer = [(0, 0, 1), (1, 4000, 4001), (0, 3, 4002), (1, 4003, 4004)];
        assert_eq!(ledger(zero, &frozen_answer).two_writers(), 0);
    }

    #[test]
    fn interleaved_writes_are_two_writers() {
        let both = [
            (0, 0, 1),
            (1, 200, 201),
            (0, 203, 204),
            (1, 206, 207),
            (0, 209, 210),
        ];
        assert_eq!(ledger(Instant::now(), &both).two_writers(), 3);
    }

    #[test]
    fn a_row_that_is_not_there_is_missing() {
        let ledger = ledger(Instant::now(), &[(0, 0, 1), (1, 2, 3)]);
        assert_eq!(ledger.missing_from(&BTreeSet::from([(0, 0), (1, 1)])), 0);
        assert_eq!(ledger.missing_from(&BTreeSet::from([(0, 0), (0, 1)])), 1);
    }

    #[test]
    fn an_older_timeline_that_acknowledges_late_is_a_second_writer() {
        let count = |acks: &[(usize, u64, u64)], timelines: &[i32]| {
            let mut ledger = ledger(Instant::now(), acks);
            for (ack, timeline) in ledger.acks.iter_mut().zip(timelines) {
                ack.timeline = *timeline;
            }
            ledger.two_timelines()
        };
        // There and back, and an answer to a write that was sent before the move.
        let fine = [(0, 0, 1), (1, 10, 11), (0, 2, 12), (0, 20, 21)];
        assert_eq!(count(&fine, &[1, 2, 1, 3]), 0);
        // Sent after the newer timeline had acknowledged.
        assert_eq!(count(&[(0, 0, 1), (1, 10, 11), (0, 12, 13)], &[1, 2, 1]), 1);
        // One timeline, two nodes.
        assert_eq!(count(&[(0, 0, 1), (1, 10, 11)], &[1, 1]), 1);
    }
}
