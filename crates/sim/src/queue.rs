//! What happens when: a queue in the order of (millisecond, sequence).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::event::Event;

/// Events to come. Those of one millisecond happen in the order in which they were put in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    /// When, in which order, and where in `slots`.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// Events are large: only their places are moved about.
    slots: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(event);
                slot
            }
            None => {
                self.slots.push(Some(event));
                self.slots.len() - 1
            }
        };
        self.order.push(Reverse((at, self.sequence, slot)));
    }

    /// The next event, if it is due by `until`.
    pub(crate) fn pop(&mut self, until: u64) -> Option<(u64, Event)> {
        let Reverse((at, _, _)) = *self.order.peek()?;
        if at > until {
            return None;
        }
        let Reverse((at, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        self.slots[slot].take().map(|event| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_time_and_then_of_their_arrival() {
        let mut queue = Queue::default();
        for (at, host) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(at, Event::Fault(host));
        }
        let mut seen = Vec::new();
        while let Some((at, Event::Fault(host))) = queue.pop(4) {
            seen.push((at, host));
        }
        queue.push(4, Event::Fault(9));
        while let Some((at, Event::Fault(host))) = queue.pop(9) {
            seen.push((at, host));
        }
        assert_eq!(seen, [(3, 1), (3, 3), (4, 9), (5, 0), (5, 2)]);
    }
}
