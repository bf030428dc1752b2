//! What a storm writes, and how it is checked: rows on a plain formation.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::Cluster;
use crate::writer::{self, Writers};

/// Writes under a storm, and what became of them.
pub(super) trait Load {
    /// Whether anything was acknowledged that was sent after this moment.
    fn wrote_since(&self, moment: Instant) -> bool;
    /// The node that acknowledged last.
    fn last_writer(&self) -> Option<usize>;
    /// The longest time without an acknowledgement that ended after the fault.
    fn outage(&self, fault: Instant) -> Duration;
    fn timeline(&self) -> i32;
    /// Between bursts: what was acknowledged so far is there.
    fn intact(&self, cluster: &Cluster) -> Result<()>;
    /// At the end, once no more is written: everything that must hold, and how many rows there are.
    fn verify(&mut self, cluster: &Cluster) -> Result<usize>;
    /// Ends the writing.
    fn stop(&mut self);
    /// What was acknowledged, in words.
    fn summary(&self) -> String;
    /// One line an acknowledgement.
    fn lines(&self, zero: Instant) -> String;
}

impl Load for Writers {
    fn wrote_since(&self, moment: Instant) -> bool {
        self.ledger().wrote_since(moment)
    }

    fn last_writer(&self) -> Option<usize> {
        self.ledger().last_writer()
    }

    fn outage(&self, fault: Instant) -> Duration {
        self.ledger().outage(fault, Instant::now())
    }

    fn timeline(&self) -> i32 {
        self.ledger().timeline()
    }

    /// What was acknowledged so far is on the primary, and nobody else acknowledged meanwhile.
    fn intact(&self, cluster: &Cluster) -> Result<()> {
        let (writer, known) = {
            let ledger = self.ledger();
            (ledger.last_writer().unwrap_or(0), ledger.len())
        };
        let rows = writer::rows(cluster, writer)?;
        let ledger = self.ledger();
        let missing = ledger.missing_among(known, &rows);
        ensure!(
            missing == 0,
            "{missing} acknowledged rows are not on node{}",
            writer + 1
        );
        let two = ledger.two_timelines();
        ensure!(two == 0, "{two} rows were acknowledged by a second writer");
        Ok(())
    }

    /// Every node has the same rows, and every acknowledged one.
    fn verify(&mut self, cluster: &Cluster) -> Result<usize> {
        let primary = cluster.primary()?;
        let rows = writer::rows(cluster, primary)?;
        for (index, node) in cluster.nodes.iter().enumerate() {
            let its = writer::rows(cluster, index)?;
            ensure!(its == rows, "{} has other rows than the primary", node.name);
        }
        let ledger = self.ledger();
        let missing = ledger.missing_from(&rows);
        ensure!(missing == 0, "{missing} acknowledged rows are missing");
        let two = ledger.two_timelines();
        ensure!(two == 0, "{two} rows were acknowledged by a second writer");
        Ok(rows.len())
    }

    fn stop(&mut self) {
        Writers::stop(self);
    }

    fn summary(&self) -> String {
        format!(
            "{} rows, {} warned; second writers: {}",
            self.ledger().len(),
            self.warned(),
            self.ledger().two_timelines()
        )
    }

    fn lines(&self, zero: Instant) -> String {
        self.ledger().lines(zero)
    }
}
