//! One write: what it rests on and what it changes.

use std::collections::BTreeMap;

use crate::event::EventRecord;

/// The number of a commit; rises by one with each, never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// A value and the commit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value: JSON, for the store only text.
    pub value: String,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// What a batch takes for granted about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is no value.
    Absent,
    /// The value is the one that this commit wrote.
    At(Revision),
}

/// Changes that are applied together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// What was read; one key that is otherwise refuses the batch.
    pub expects: BTreeMap<String, Expect>,
    /// New values.
    pub puts: BTreeMap<String, String>,
    /// Keys to remove; one that is not there is no error.
    pub deletes: Vec<String>,
    /// Events to append, in order.
    pub events: Vec<EventRecord>,
    /// Numbers that only rise and are also kept outside the database, so that a restored older
    /// copy is noticed. A lower number than the present one changes nothing.
    pub marks: BTreeMap<String, u64>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty()
            && self.deletes.is_empty()
            && self.events.is_empty()
            && self.marks.is_empty()
    }

    /// Writes a value that replaces the one at `revision`, or none.
    pub fn put(&mut self, key: impl Into<String>, revision: Option<Revision>, value: String) {
        let key = key.into();
        self.expects.insert(key.clone(), Expect::from(revision));
        self.puts.insert(key, value);
    }

    /// Removes the value at `revision`.
    pub fn delete(&mut self, key: impl Into<String>, revision: Revision) {
        let key = key.into();
        self.expects.insert(key.clone(), Expect::At(revision));
        self.deletes.push(key);
    }

    /// The first key that is not as the batch expects.
    pub(crate) fn conflict(
        &self,
        mut present: impl FnMut(&str) -> Option<Revision>,
    ) -> Option<String> {
        self.expects
            .iter()
            .find(|(key, expect)| Expect::from(present(key)) != **expect)
            .map(|(key, _)| key.clone())
    }
}

impl From<Option<Revision>> for Expect {
    fn from(revision: Option<Revision>) -> Self {
        revision.map_or(Self::Absent, Self::At)
    }
}
