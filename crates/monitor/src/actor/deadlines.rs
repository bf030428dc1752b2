//! When to look at which group, though nothing comes in.
//!
//! Each heartbeat moves its group's deadline on, and next to none is ever reached. So the order of
//! deadlines is kept lazily: a group waits under a time that is not later than its deadline, and is put
//! back when that time comes and the deadline has moved. A heartbeat writes one number.

use std::collections::{BTreeMap, BTreeSet};

use pgaf_protocol::Time;

use super::memory::Key;

/// All deadlines.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Of each group: its deadline, and the time that it waits under.
    of: BTreeMap<Key, (Time, Time)>,
    order: BTreeSet<(Time, Key)>,
}

impl Deadlines {
    /// A group is to be looked at then, or only when something comes in.
    pub(crate) fn set(&mut self, key: &Key, at: Option<Time>) {
        let Some(at) = at else {
            return self.forget(key);
        };
        match self.of.get_mut(key) {
            Some((deadline, waits)) if *waits <= at => *deadline = at,
            Some((deadline, waits)) => {
                self.order.remove(&(*waits, key.clone()));
                self.order.insert((at, key.clone()));
                (*deadline, *waits) = (at, at);
            }
            None => {
                self.order.insert((at, key.clone()));
                self.of.insert(key.clone(), (at, at));
            }
        }
    }

    /// A group is no more.
    pub(crate) fn forget(&mut self, key: &Key) {
        if let Some((_, waits)) = self.of.remove(key) {
            self.order.remove(&(waits, key.clone()));
        }
    }

    /// The groups whose deadline has come. They wait again once they were looked at.
    pub(crate) fn due(&mut self, now: Time) -> Vec<Key> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, key)) = self.order.pop_first() else {
                break;
            };
            match self.of.get_mut(&key) {
                Some((deadline, waits)) if *deadline > now => {
                    *waits = *deadline;
                    self.order.insert((*deadline, key));
                }
                Some(_) => {
                    self.of.remove(&key);
                    due.push(key);
                }
                None => {}
            }
        }
        due
    }

    /// When to wake up: not later than the first deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgaf_protocol::GroupId;

    fn key(number: i32) -> Key {
        ("f".into(), GroupId(number))
    }

    #[test]
    fn a_deadline_that_moved_on_is_not_due_and_one_that_came_nearer_is() {
        let mut deadlines = Deadlines::default();
        deadlines.set(&key(1), Some(Time(100)));
        deadlines.set(&key(2), Some(Time(150)));
        deadlines.set(&key(1), Some(Time(200)));
        assert_eq!(deadlines.next(), Some(Time(100)));
        assert_eq!(deadlines.due(Time(100)), []);
        assert_eq!(deadlines.next(), Some(Time(150)));
        deadlines.set(&key(1), Some(Time(120)));
        assert_eq!(deadlines.due(Time(149)), [key(1)]);
        assert_eq!(deadlines.due(Time(1000)), [key(2)]);
        assert_eq!(
            (deadlines.next(), deadlines.due(Time(9999))),
            (None, vec![])
        );
    }

    #[test]
    fn a_group_without_a_deadline_or_that_is_gone_does_not_wake_anybody() {
        let mut deadlines = Deadlines::default();
        deadlines.set(&key(1), Some(Time(100)));
        deadlines.set(&key(1), None);
        deadlines.set(&key(2), Some(Time(100)));
        deadlines.forget(&key(2));
        assert_eq!((deadlines.next(), deadlines.due(Time(100))), (None, vec![]));
    }
}
