//! The states that were entered, and with how much that may still go wrong.
//!
//! Two states that differ only in what may still come are the same state with different budgets, and every
//! move that the smaller budget allows is allowed by the larger one, to a state that again differs in the
//! budget only. So a state is entered only when no known one of the same kind has at least its budget in
//! every respect: nothing can be reached from it that is not reached from there.

use super::world::{State, World};
use super::{Bounds, Trouble, fingerprint};

/// Budgets that one history can be left with, at most: one bit of a set each.
const BUDGETS: usize = 64;

/// Fingerprints of the states, each with its budgets: open addressing, 0 is free.
#[derive(Debug)]
pub(super) struct Visited {
    slots: Vec<u128>,
    budgets: Vec<u64>,
    count: usize,
    /// How many values each budget can have.
    sizes: [usize; 4],
}

impl Visited {
    pub(super) fn new(bounds: &Bounds) -> Result<Self, Trouble> {
        let most = [bounds.faults, bounds.losses, bounds.switches, bounds.writes];
        let sizes = most.map(|n| usize::from(n) + 1);
        if sizes.iter().product::<usize>() > BUDGETS {
            let text = "faults, losses, switches and writes: too many at once";
            return Err(Trouble(text.to_owned()));
        }
        Ok(Self {
            slots: vec![0; 1 << 16],
            budgets: vec![0; 1 << 16],
            count: 0,
            sizes,
        })
    }

    /// Whether something can be reached from a state that was not entered yet.
    pub(super) fn enter(&mut self, world: &mut World, state: &State) -> bool {
        if self.count * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let (bare, budget) = world.bare(state);
        let print = fingerprint(&bare);
        let at = self.place(print);
        if self.slots[at] == 0 {
            self.slots[at] = print;
            self.count += 1;
        }
        if self.budgets[at] & self.bit(budget) != 0 {
            return false;
        }
        self.budgets[at] |= self.up_to(budget);
        true
    }

    fn bit(&self, budget: [u8; 4]) -> u64 {
        let place = self
            .sizes
            .iter()
            .zip(budget)
            .fold(0, |place, (size, n)| place * size + usize::from(n));
        1 << place
    }

    /// A budget and all that are smaller.
    fn up_to(&self, [a, b, c, d]: [u8; 4]) -> u64 {
        let mut set = 0;
        for a in 0..=a {
            for b in 0..=b {
                for c in 0..=c {
                    for d in 0..=d {
                        set |= self.bit([a, b, c, d]);
                    }
                }
            }
        }
        set
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        let slots = core::mem::replace(&mut self.slots, vec![0; size]);
        let budgets = core::mem::replace(&mut self.budgets, vec![0; size]);
        for (print, set) in slots.into_iter().zip(budgets).filter(|(p, _)| *p != 0) {
            let at = self.place(print);
            self.slots[at] = print;
            self.budgets[at] = set;
        }
    }

    fn place(&self, print: u128) -> usize {
        let mask = self.slots.len() - 1;
        // The low half decides the place; the whole is compared.
        let mut at = print as usize & mask;
        while self.slots[at] != 0 && self.slots[at] != print {
            at = (at + 1) & mask;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_budget_is_covered_and_one_that_is_larger_somewhere_is_not() {
        let bounds = Bounds {
            faults: 2,
            writes: 2,
            ..Bounds::quiet(2)
        };
        let visited = Visited::new(&bounds).unwrap();
        let known = visited.up_to([1, 0, 0, 2]);
        assert_ne!(known & visited.bit([1, 0, 0, 1]), 0);
        assert_ne!(known & visited.bit([0, 0, 0, 2]), 0);
        assert_eq!(known & visited.bit([2, 0, 0, 0]), 0);
        assert_eq!(known.count_ones(), 6);
    }

    #[test]
    fn more_budgets_than_there_are_bits_are_refused() {
        let bounds = Bounds {
            faults: 7,
            writes: 8,
            ..Bounds::quiet(2)
        };
        assert!(Visited::new(&bounds).is_err());
    }
}
