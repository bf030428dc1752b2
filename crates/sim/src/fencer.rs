//! The fencer: a process beside the keeper that ends Postgres with the primary's lease.
//!
//! It shares one number with the keeper, the end of the lease, and looks at it when that has come. It
//! is frozen with its host only, and outlives the keeper.

use pgaf_protocol::Time;

use crate::event::Event;
use crate::sabotage::Sabotage;
use crate::world::World;

/// A fencer that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fencer {
    /// Which one, in the whole world.
    number: u64,
    until: Time,
}

impl World {
    /// A fencer starts, unless there is one; it knows of this end of the lease.
    pub(crate) fn fencer_starts(&mut self, host: usize, until: Time) {
        self.tokens += 1;
        let number = match self.hosts[host].fencer {
            Some(fencer) => fencer.number,
            None => self.tokens,
        };
        self.hosts[host].fencer = Some(Fencer { number, until });
        self.note(|| format!("n{} fencer until {}", host + 1, until.0));
        self.fencer_sleeps(host);
    }

    /// The keeper writes down another end of the lease.
    pub(crate) fn renew_fencer(&mut self, host: usize, until: Option<Time>) {
        let leased = self.hosts[host].journal.lease().is_some();
        if let Some(fencer) = self.hosts[host].fencer.as_mut().filter(|_| leased) {
            fencer.until = until.unwrap_or_default();
        }
    }

    fn fencer_sleeps(&mut self, host: usize) {
        if let Some(Fencer { number, until }) = self.hosts[host].fencer {
            let left = until.0.saturating_sub(self.now);
            self.after(left, Event::Fencer { host, number });
        }
    }

    /// The end that it knew has come: Postgres ends, unless the lease was renewed.
    pub(crate) fn fencer_looks(&mut self, host: usize, number: u64) {
        let Some(fencer) = self.hosts[host].fencer.filter(|f| f.number == number) else {
            return;
        };
        if fencer.until.0 > self.now {
            return self.fencer_sleeps(host);
        }
        if self.is_sabotaged(Sabotage::NoFencer) {
            return;
        }
        self.note(|| format!("n{} fencer: the lease has run out", host + 1));
        self.coverage.event("fencer.ends");
        self.hosts[host].fencer = None;
        self.end_server(host, false);
        self.rouse_keeper(host);
    }
}
