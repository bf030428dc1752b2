//! Many seeds on all cores: each seed is one thread's alone, so that it means the same on any machine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use crate::coverage::Coverage;
use crate::sabotage::Sabotage;
use crate::seed::{SeedRun, nodes_of, run_sabotaged, run_seed};

/// Which seeds are run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Seeds {
    /// The first one.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many nodes each has; `None`: each its own number, from 1 to 7.
    pub nodes: Option<usize>,
    /// A rule that is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// How many threads.
    pub threads: usize,
}

/// What became of many seeds.
#[derive(Debug, Clone, Default)]
pub struct Total {
    /// How many were run.
    pub runs: u64,
    /// Those that broke something, in no particular order.
    pub broken: Vec<SeedRun>,
    /// What fired in all of them.
    pub coverage: Coverage,
    /// Commits that clients saw succeed.
    pub acknowledged: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Faults that struck.
    pub faults: u64,
}

impl Seeds {
    /// The number of nodes of a seed.
    #[must_use]
    pub fn nodes(&self, seed: u64) -> usize {
        self.nodes.unwrap_or_else(|| nodes_of(seed))
    }

    fn run_one(&self, seed: u64) -> SeedRun {
        match self.sabotage {
            Some(how) => run_sabotaged(seed, self.nodes(seed), how),
            None => run_seed(seed, self.nodes(seed)),
        }
    }

    /// Runs them until the last one, or until `on_run` says that it is enough.
    pub fn run(&self, mut on_run: impl FnMut(&SeedRun) -> bool) -> Total {
        let next = AtomicU64::new(self.first);
        let end = self.first.saturating_add(self.count);
        let enough = AtomicBool::new(false);
        let mut total = Total::default();
        std::thread::scope(|scope| {
            let (tell, hear) = mpsc::sync_channel::<SeedRun>(64);
            for _ in 0..self.threads.max(1) {
                let tell = tell.clone();
                scope.spawn(|| {
                    let tell = tell;
                    while !enough.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || tell.send(self.run_one(seed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(tell);
            for run in hear {
                total.add(&run);
                if !on_run(&run) {
                    enough.store(true, Ordering::Relaxed);
                }
                if run.broken.is_some() {
                    total.broken.push(run);
                }
            }
        });
        total
    }
}

impl Total {
    fn add(&mut self, run: &SeedRun) {
        self.runs += 1;
        self.coverage.add(&run.coverage);
        self.acknowledged += u64::try_from(run.acknowledged).unwrap_or(0);
        self.virtual_ms += run.virtual_ms;
        self.faults += u64::try_from(run.faults).unwrap_or(0);
    }
}
