//! Tables of parts: each different value is kept once, and a state is a row of numbers.

#[expect(
    clippy::disallowed_types,
    reason = "looked up by key only, millions of times; its order is never asked for"
)]
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use super::names::{Marks, Names, Numbered};

/// A fast hash for trusted keys: multiply and rotate, word by word.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FastHasher(u64);

/// Odd, and without a pattern: the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl FastHasher {
    fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(MULTIPLIER);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.word(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.word(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }

    fn finish(&self) -> u64 {
        let mut h = self.0;
        h ^= h >> 32;
        h = h.wrapping_mul(MULTIPLIER);
        h ^ (h >> 29)
    }
}

/// A map with that hash.
#[expect(
    clippy::disallowed_types,
    reason = "looked up by key only, millions of times; its order is never asked for"
)]
pub(super) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Values of one kind, each once.
#[derive(Debug)]
pub(super) struct Table<T> {
    items: Vec<(Rc<T>, Marks)>,
    index: FastMap<Rc<T>, u32>,
}

impl<T: Eq + Hash + Clone + Numbered> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            items: Vec::new(),
            index: FastMap::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The number of a value.
    pub(super) fn put(&mut self, value: T) -> u32 {
        if let Some(number) = self.index.get(&value) {
            return *number;
        }
        let mut names = Names::Collect(Marks::default());
        let mut visited = value.clone();
        visited.visit(&mut names);
        let (Names::Collect(marks) | Names::Renumber(marks)) = names;
        let number = u32::try_from(self.items.len()).expect("a table holds fewer than 2^32 values");
        let item = Rc::new(value);
        self.items.push((Rc::clone(&item), marks));
        self.index.insert(item, number);
        number
    }

    pub(super) fn get(&self, number: u32) -> &Rc<T> {
        &self.items[number as usize].0
    }

    pub(super) fn marks(&self, number: u32) -> &Marks {
        &self.items[number as usize].1
    }
}
