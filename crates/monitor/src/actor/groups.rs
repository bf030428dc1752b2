//! What is known of each group while this monitor runs: found by its name, or, on the way that every
//! heartbeat takes, by its place.

use std::collections::BTreeMap;

use pgaf_fsm::group::{AtRest, LiveGroup};
use pgaf_protocol::NodeId;

use super::memory::Key;
use crate::sql::SessionId;

/// Where a group is found. The place of a group that is gone is given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(pub(super) usize);

/// One group.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) key: Key,
    pub(crate) live: LiveGroup,
    /// The group as it was when nothing went on in it.
    pub(crate) at_rest: AtRest,
    /// Who was told everything of that group, and on which session.
    told: Vec<(NodeId, SessionId)>,
}

impl Known {
    /// Whether a full answer, made of the group as it is at rest, was the last one on this session.
    pub(crate) fn was_told(&self, node: NodeId, session: SessionId) -> bool {
        self.told.contains(&(node, session))
    }

    /// A full answer goes to a node.
    pub(crate) fn tell(&mut self, node: NodeId, session: SessionId) {
        self.told.retain(|(told, _)| *told != node);
        if self.at_rest.group().is_some() {
            self.told.push((node, session));
        }
    }

    /// What was told is no longer all there is to tell.
    pub(crate) fn untell(&mut self) {
        self.told.clear();
    }

    /// Nothing is known of the group at rest.
    pub(crate) fn unrest(&mut self) {
        self.at_rest = AtRest::default();
        self.untell();
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    places: BTreeMap<Key, Place>,
    known: Vec<Option<Known>>,
    free: Vec<Place>,
}

impl Groups {
    pub(crate) fn place(&self, key: &Key) -> Option<Place> {
        self.places.get(key).copied()
    }

    pub(crate) fn at(&mut self, place: Place) -> Option<&mut Known> {
        self.known.get_mut(place.0)?.as_mut()
    }

    pub(crate) fn known(&mut self, key: &Key) -> Option<&mut Known> {
        self.at(self.place(key)?)
    }

    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Known> {
        self.known.iter_mut().flatten()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&LiveGroup> {
        let place = self.place(key)?;
        self.known.get(place.0)?.as_ref().map(|known| &known.live)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut LiveGroup> {
        self.known(key).map(|known| &mut known.live)
    }

    /// A group that is not known yet is, with this.
    pub(crate) fn add(&mut self, key: &Key, live: LiveGroup) {
        if self.places.contains_key(key) {
            return;
        }
        let known = Some(Known {
            key: key.clone(),
            live,
            at_rest: AtRest::default(),
            told: Vec::new(),
        });
        let place = match self.free.pop() {
            Some(place) => {
                self.known[place.0] = known;
                place
            }
            None => {
                self.known.push(known);
                Place(self.known.len() - 1)
            }
        };
        self.places.insert(key.clone(), place);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(place) = self.places.remove(key) {
            self.known[place.0] = None;
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgaf_protocol::{GroupId, Time};

    fn key(number: i32) -> Key {
        ("f".into(), GroupId(number))
    }

    #[test]
    fn a_place_is_found_by_name_and_given_on_when_its_group_is_gone() {
        let mut groups = Groups::default();
        groups.add(&key(1), LiveGroup::default());
        groups.add(&key(2), LiveGroup::default());
        let place = groups.place(&key(1)).unwrap();
        groups.at(place).unwrap().live.leased_until = Time(7);
        groups.add(&key(1), LiveGroup::default());
        assert_eq!(groups.get(&key(1)).unwrap().leased_until, Time(7));
        groups.remove(&key(1));
        assert!(groups.at(place).is_none() && groups.get(&key(1)).is_none());
        groups.add(&key(3), LiveGroup::default());
        assert_eq!(groups.place(&key(3)), Some(place));
        assert_eq!(groups.all().count(), 2);
    }

    #[test]
    fn only_a_group_at_rest_was_told_in_full() {
        let mut groups = Groups::default();
        groups.add(&key(1), LiveGroup::default());
        let known = groups.known(&key(1)).unwrap();
        known.tell(NodeId(1), SessionId(1));
        assert!(!known.was_told(NodeId(1), SessionId(1)));
    }
}
