//! The network: who reaches whom, how late, and what gets lost.
//!
//! Connections are TCP: what is lost is sent again, later; what is sent on one session arrives in order.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::world::World;

/// An end of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Monitor,
    Node(usize),
}

/// The network's present state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Net {
    /// One way each; counted, since faults overlap.
    cuts: BTreeMap<(Place, Place), u32>,
    /// Milliseconds added to every message.
    pub(crate) slow: u64,
    /// One message in so many is lost at first.
    pub(crate) loss: u64,
    /// Milliseconds added between a node and others.
    pub(crate) lag: BTreeMap<usize, u64>,
}

impl Net {
    pub(crate) fn is_up(&self, from: Place, to: Place) -> bool {
        from == to || !self.cuts.contains_key(&(from, to))
    }

    pub(crate) fn both_up(&self, a: Place, b: Place) -> bool {
        self.is_up(a, b) && self.is_up(b, a)
    }

    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    pub(crate) fn mend(&mut self, from: Place, to: Place) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        *self = Self::default();
    }
}

impl World {
    /// Sends; what cannot get through is sent again.
    pub(crate) fn send(&mut self, from: Place, to: Place, event: Event) {
        self.transmit(from, to, 0, event);
    }

    pub(crate) fn transmit(&mut self, from: Place, to: Place, tries: u32, event: Event) {
        if from == to {
            return self.after(0, event);
        }
        let (loss, mut slow) = (self.net.loss, self.net.slow);
        if let (Place::Node(a), Place::Node(b)) = (from, to) {
            let lag = |n: usize| self.net.lag.get(&n).copied().unwrap_or(0);
            slow += lag(a) + lag(b);
        }
        let lost = loss > 0 && self.rng.one_in(loss);
        if lost || !self.net.is_up(from, to) {
            let wait = 200 << tries.min(3);
            let again = Event::Retry {
                from,
                to,
                tries: tries + 1,
                event: Box::new(event),
            };
            return self.after(wait, again);
        }
        let jitter = self.rng.between(0, 2 + slow);
        self.after(1 + slow + jitter, event);
    }
}
