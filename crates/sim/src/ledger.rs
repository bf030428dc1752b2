//! What was acknowledged, by whom, and whether it is still there.

use std::collections::{BTreeMap, BTreeSet};

use pgaf_protocol::{CopyId, Term};

use crate::wal::{Branch, BranchId, Path};
use crate::world::World;

static NO_PATH: Path = Path::empty();

/// A client's commit.
#[derive(Debug, Clone)]
struct Commit {
    host: usize,
    began: u64,
    place: Option<(BranchId, u64)>,
}

/// The record of all commits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    commits: BTreeMap<u64, Commit>,
    next: u64,
    /// The furthest acknowledged commit of each branch: the earlier ones are on the way to it.
    frontier: BTreeMap<BranchId, u64>,
    /// (when, host, when it was sent) of every acknowledgement.
    pub(crate) acknowledged: Vec<(u64, usize, u64)>,
    /// The highest term that acknowledged, its copy, and its host.
    highest: Option<(Term, CopyId, usize)>,
    /// Copies whose acknowledgements an operator gave up.
    struck: BTreeSet<CopyId>,
    /// Copies whose lease had run out when another was promoted: up to these terms they acknowledge
    /// nothing more.
    lapsed: BTreeMap<CopyId, Term>,
}

impl Ledger {
    pub(crate) fn begin(&mut self, host: usize, now: u64) -> u64 {
        self.next += 1;
        self.commits.insert(
            self.next,
            Commit {
                host,
                began: now,
                place: None,
            },
        );
        self.next
    }

    pub(crate) fn written(&mut self, id: u64, branch: BranchId, lsn: u64) {
        if let Some(commit) = self.commits.get_mut(&id) {
            commit.place = Some((branch, lsn));
        }
    }

    /// An operator gives up what was acknowledged without the nodes that are there.
    pub(crate) fn give_up(&mut self, struck: impl IntoIterator<Item = CopyId>) {
        self.frontier.clear();
        self.highest = None;
        self.struck.extend(struck);
    }

    /// A copy that was asynchronous by choice is given up up to a term, in favour of one that holds
    /// `path`: what it acknowledged alone is lost, as announced, and nothing else.
    fn lapse(&mut self, copy: CopyId, term: Term, branches: &[Branch], path: &Path) {
        self.lapsed.insert(copy, term);
        self.frontier = core::mem::take(&mut self.frontier)
            .into_iter()
            .filter_map(|(branch, lsn)| {
                let made = &branches[branch.0];
                let given_up = made.copy == copy && made.term <= term;
                if !given_up || path.contains(branch, lsn) {
                    return Some((branch, lsn));
                }
                let held = path.end_of(branch)?;
                Some((branch, held.min(lsn)))
            })
            .collect();
    }

    /// The first acknowledged commit that is not in a path.
    pub(crate) fn missing(&self, path: &Path) -> Option<(BranchId, u64)> {
        self.frontier
            .iter()
            .map(|(branch, lsn)| (*branch, *lsn))
            .find(|(branch, lsn)| !path.contains(*branch, *lsn))
    }

    /// As [`Self::missing`], but for branches that are still being written: those have replication lag.
    pub(crate) fn missing_but_recent(&self, path: &Path) -> Option<(BranchId, u64)> {
        let newest = self.frontier.keys().next_back().copied();
        self.missing(path)
            .filter(|(branch, _)| Some(*branch) != newest)
    }

    /// The longest time without an acknowledgement that ended after `since`, up to `now`.
    pub(crate) fn outage(&self, since: u64, now: u64) -> u64 {
        let mut longest = 0;
        let mut last = None;
        for (at, _, _) in &self.acknowledged {
            if *at >= since {
                longest = longest.max(at.saturating_sub(last.unwrap_or(since)));
            }
            last = Some(*at);
        }
        longest.max(now.saturating_sub(last.unwrap_or(since).max(since)))
    }

    /// Whether a write that was sent after `since` was acknowledged.
    pub(crate) fn wrote_since(&self, since: u64) -> bool {
        self.acknowledged
            .iter()
            .rev()
            .take(200)
            .any(|(_, _, sent)| *sent > since)
    }
}

impl World {
    /// A commit that its own server has lost already: what comes after shows it.
    pub(crate) fn acknowledge_late(&mut self, host: usize, id: u64) {
        let Some((branch, lsn)) = self.ledger.commits.remove(&id).and_then(|c| c.place) else {
            return;
        };
        self.ledger.acknowledged.push((self.now, host, self.now));
        let furthest = self.ledger.frontier.entry(branch).or_default();
        *furthest = lsn.max(*furthest);
    }

    /// A client sees its commit succeed: the two invariants that all the rest is for.
    pub(crate) fn acknowledge(&mut self, host: usize, id: u64) {
        let now = self.now;
        let Some(commit) = self.ledger.commits.remove(&id) else {
            return;
        };
        debug_assert_eq!(commit.host, host, "a commit stays where it was made");
        let Some((branch, lsn)) = commit.place else {
            return self.fail("a commit without a place was acknowledged".to_owned());
        };
        let made = self.branches[branch.0].clone();
        if self.ledger.struck.contains(&made.copy) {
            return;
        }
        let lapsed = self.ledger.lapsed.get(&made.copy);
        if lapsed.is_some_and(|term| made.term <= *term) {
            return self.check_lapsed(host, made.term);
        }
        self.ledger.acknowledged.push((now, host, commit.began));
        let older = self.ledger.highest.filter(|(term, copy, _)| {
            made.term < *term || (made.term == *term && made.copy != *copy)
        });
        if let Some((term, _, newest)) = older {
            // A standby's reply that was long on its way may still end a wait: harmless when the new
            // primary holds that commit.
            let held = self.hosts[newest].pg.disk.as_ref();
            if !held.is_some_and(|d| d.path.contains(branch, lsn)) {
                self.fail(format!(
                    "one-writer: n{} acknowledges in term {}, and n{}, which did in term {term}, lacks it",
                    host + 1,
                    made.term,
                    newest + 1
                ));
            }
            return;
        }
        self.ledger.highest = Some((made.term, made.copy, host));
        let disk = self.hosts[host].pg.disk.as_ref();
        let path = disk.map_or(&NO_PATH, |d| &d.path);
        if let Some((lost, at)) = self.ledger.missing(path) {
            let has = path.text();
            return self.fail(format!(
                "nothing-lost: n{} acknowledges, and lacks b{} up to {at:x}, which was acknowledged; it has {}",
                host + 1,
                lost.0,
                has
            ));
        }
        let furthest = self.ledger.frontier.entry(branch).or_default();
        *furthest = lsn.max(*furthest);
    }

    /// A primary whose lease has run out acknowledges: only right after its host thawed (`safety.md`
    /// §5.3), while whoever was frozen with it finds out how late it is.
    fn check_lapsed(&mut self, host: usize, term: Term) {
        let lease = self.monitor.settings.lease_ms;
        let thawed = self.hosts[host].thawed;
        if thawed > 0 && self.now.saturating_sub(thawed) <= lease {
            return self.coverage.event("window.thawed");
        }
        self.fail(format!(
            "one-writer: n{} acknowledges in term {term} after its lease, and another was promoted",
            host + 1
        ));
    }

    /// The monitor has stored that another copy is promoted, because this one's lease is over.
    pub(crate) fn lease_lapsed(&mut self, copy: CopyId, term: Term, candidate: usize) {
        let path = self.hosts[candidate].pg.disk.as_ref();
        let path = path.map(|d| d.path.clone()).unwrap_or_default();
        self.ledger.lapse(copy, term, &self.branches, &path);
    }

    /// A copy was promoted: it has everything that was acknowledged.
    pub(crate) fn check_promotion(&mut self, host: usize) {
        let Some(disk) = &self.hosts[host].pg.disk else {
            return;
        };
        if disk.copy.is_some_and(|c| self.ledger.struck.contains(&c)) {
            return;
        }
        // A late opening of an older term, under names that are revoked, acknowledges nothing.
        let term = self.branches.last().map(|b| b.term);
        if self
            .ledger
            .highest
            .is_some_and(|(highest, _, _)| term < Some(highest))
        {
            return;
        }
        if let Some((lost, at)) = self.ledger.missing(&disk.path) {
            let text = disk.path.text();
            self.fail(format!(
                "nothing-lost: n{} is promoted and lacks b{} up to {at:x}, which was acknowledged; it has {text}",
                host + 1,
                lost.0
            ));
        }
    }

    /// A copy that promised takes no WAL of an older term.
    pub(crate) fn check_promise(&mut self, host: usize, source: usize, branches: &[BranchId]) {
        let Some(disk) = &self.hosts[host].pg.disk else {
            return;
        };
        let Some(copy) = disk.copy else { return };
        let Some((term, position)) = self.promises.get(&copy).copied() else {
            return;
        };
        // What comes from a copy that has promised as well, or leads that term, is no new WAL.
        let journal = &self.hosts[source].journal;
        if journal.promise >= Some(term) || journal.opened() >= Some(term) {
            return;
        }
        let broken = branches
            .iter()
            .map(|b| self.branches[b.0].term)
            .find(|wrote| *wrote < term);
        if let Some(wrote) = broken
            && disk.path.end() > position.lsn.0
        {
            self.fail(format!(
                "never-back: n{} promised term {term} at {position} and takes WAL of term {wrote}",
                host + 1
            ));
        }
    }
}
