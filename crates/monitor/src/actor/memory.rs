//! What is durable and under which keys: the cluster as values of the store.
//!
//! Each group is one value, so that a failover writes one value; the rest is small and rare.

use std::collections::{BTreeMap, BTreeSet};

use pgaf_fsm::group::{Cluster, Formation, Group};
use pgaf_protocol::{FormationId, GroupId, Incarnation, Lineage, NodeId};
use pgaf_store::{Batch, Revision, Versioned};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Key of [`Meta`].
const META: &str = "monitor";
/// Key of the verifier of `autoctl_node`'s password.
const PASSWORD: &str = "password";
/// Before the name of a setting.
const SETTING: &str = "setting/";
/// Before the name of a formation.
const FORMATION: &str = "formation/";
/// Before the digits of a lineage, among the marks outside the database: a copy that is restored a
/// second time does not know the lineage of the first.
const LINEAGE_MARK: &str = "lineage/";
/// Before the number of a group and the name of its formation.
const GROUP: &str = "group/";

/// Name of a group: its formation and number.
pub(crate) type Key = (FormationId, GroupId);

/// A value of the store that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the value of `{key}` in the monitor's store cannot be read")]
pub struct LoadError {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

/// What a cluster is beyond its formations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) lineage: Lineage,
    /// Lineages before restores: keepers that still pin one of them are ours.
    pub(crate) past_lineages: Vec<Lineage>,
    pub(crate) incarnation: Incarnation,
    pub(crate) next_node: NodeId,
    pub(crate) dropped: BTreeSet<NodeId>,
    /// Milliseconds of the longest lease ever granted: what a restarted monitor would have to wait
    /// out (`safety.md` §5.4).
    pub(crate) longest_lease_ms: u64,
}

/// Everything that is durable, with the revisions it was read or written at.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) cluster: Cluster,
    pub(crate) past_lineages: Vec<Lineage>,
    pub(crate) longest_lease_ms: u64,
    /// Settings that were set by hand, by name.
    pub(crate) settings: BTreeMap<String, String>,
    /// Text of the verifier; a secret.
    pub(crate) password: Option<Password>,
    revisions: BTreeMap<String, Revision>,
}

/// A verifier's text, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(****)")
    }
}

fn group_key((formation, group): &Key) -> String {
    format!("{GROUP}{group}/{formation}")
}

fn read<T: DeserializeOwned>(key: &str, value: &str) -> Result<T, LoadError> {
    serde_json::from_str(value).map_err(|source| LoadError {
        key: key.into(),
        source,
    })
}

/// Our types serialize without fail; a text that says so is better than a lost write.
fn write<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("unwritable: {error}"))
}

impl Memory {
    /// Reads everything; an empty store gives a new cluster with this lineage and the formation
    /// `default`, as the old program's installation does.
    pub(crate) fn load(
        values: BTreeMap<String, Versioned>,
        lineage: Lineage,
    ) -> Result<Self, LoadError> {
        let mut memory = Self::new(lineage);
        if values.is_empty() {
            memory.cluster.formations.insert(
                FormationId::default(),
                Formation {
                    id: FormationId::default(),
                    kind: pgaf_fsm::group::Kind::Pgsql,
                    dbname: "postgres".into(),
                    opt_secondary: true,
                    number_sync_standbys: 0,
                    number_set_by_hand: false,
                    groups: BTreeMap::new(),
                },
            );
        }
        let mut groups: Vec<Group> = Vec::new();
        for (key, Versioned { value, revision }) in values {
            if key == META {
                memory.set_meta(read(&key, &value)?);
            } else if key == PASSWORD {
                memory.password = Some(Password(value));
            } else if let Some(name) = key.strip_prefix(SETTING) {
                memory.settings.insert(name.to_owned(), value);
            } else if key.starts_with(FORMATION) {
                let formation: Formation = read(&key, &value)?;
                memory
                    .cluster
                    .formations
                    .insert(formation.id.clone(), formation);
            } else if key.starts_with(GROUP) {
                groups.push(read(&key, &value)?);
            }
            memory.revisions.insert(key, revision);
        }
        for group in groups {
            if let Some(formation) = memory.cluster.formations.get_mut(&group.formation) {
                formation.groups.insert(group.id, group);
            }
        }
        Ok(memory)
    }

    fn new(lineage: Lineage) -> Self {
        Self {
            cluster: Cluster {
                lineage,
                incarnation: Incarnation(0),
                next_node: NodeId(1),
                dropped: BTreeSet::new(),
                formations: BTreeMap::new(),
            },
            past_lineages: Vec::new(),
            longest_lease_ms: 0,
            settings: BTreeMap::new(),
            password: None,
            revisions: BTreeMap::new(),
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            lineage: self.cluster.lineage,
            past_lineages: self.past_lineages.clone(),
            incarnation: self.cluster.incarnation,
            next_node: self.cluster.next_node,
            dropped: self.cluster.dropped.clone(),
            longest_lease_ms: self.longest_lease_ms,
        }
    }

    fn set_meta(&mut self, meta: Meta) {
        self.cluster.lineage = meta.lineage;
        self.cluster.incarnation = meta.incarnation;
        self.cluster.next_node = meta.next_node;
        self.cluster.dropped = meta.dropped;
        self.past_lineages = meta.past_lineages;
        self.longest_lease_ms = meta.longest_lease_ms;
    }

    /// The group of that name.
    pub(crate) fn group(&self, key: &Key) -> Option<&Group> {
        self.cluster.formations.get(&key.0)?.groups.get(&key.1)
    }

    /// Names of all groups.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let formations = self.cluster.formations.iter();
        formations
            .flat_map(|(id, f)| f.groups.keys().map(move |g| (id.clone(), *g)))
            .collect()
    }

    fn put(&self, batch: &mut Batch, key: String, value: String) {
        batch.put(key.clone(), self.revisions.get(&key).copied(), value);
    }

    fn delete(&self, batch: &mut Batch, key: String) {
        if let Some(revision) = self.revisions.get(&key) {
            batch.delete(key, *revision);
        }
    }

    /// Writes one group, or removes it when it is no more.
    pub(crate) fn write_group(&self, batch: &mut Batch, key: &Key) {
        match self.group(key) {
            Some(group) => {
                self.put(batch, group_key(key), write(group));
                let name = format!("{}/{}", key.0, key.1);
                batch.marks.insert(format!("term/{name}"), group.term.0);
                // A restored copy may lack what was listed last: that must be noticed.
                let listed = group.possible.iter().map(|p| p.stamp.sequence.0).max();
                batch
                    .marks
                    .insert(format!("listed/{name}"), listed.unwrap_or_default());
            }
            None => self.delete(batch, group_key(key)),
        }
    }

    /// Writes what the cluster is beyond its formations.
    pub(crate) fn write_meta(&self, batch: &mut Batch) {
        self.put(batch, META.into(), write(&self.meta()));
        batch
            .marks
            .insert("incarnation".into(), self.cluster.incarnation.0);
        let next = u64::try_from(self.cluster.next_node.0).unwrap_or_default();
        batch.marks.insert("node".into(), next);
        let lives = self.past_lineages.iter().chain([&self.cluster.lineage]);
        for lineage in lives {
            batch.marks.insert(format!("{LINEAGE_MARK}{lineage}"), 1);
        }
    }

    /// Learns the earlier lives of the store that are marked outside it.
    pub(crate) fn remember_lineages(&mut self, marks: &BTreeMap<String, u64>) {
        let marked = marks
            .keys()
            .filter_map(|name| name.strip_prefix(LINEAGE_MARK));
        for lineage in marked.filter_map(|digits| digits.parse().ok()) {
            if lineage != self.cluster.lineage && !self.past_lineages.contains(&lineage) {
                self.past_lineages.push(lineage);
            }
        }
    }

    /// Writes a formation without its groups, or removes it when it is no more.
    pub(crate) fn write_formation(&self, batch: &mut Batch, id: &FormationId) {
        let key = format!("{FORMATION}{id}");
        match self.cluster.formations.get(id) {
            Some(formation) => self.put(batch, key, write(&without_groups(formation))),
            None => self.delete(batch, key),
        }
    }

    /// Writes a setting, or removes it.
    pub(crate) fn write_setting(&self, batch: &mut Batch, name: &str) {
        let key = format!("{SETTING}{name}");
        match self.settings.get(name) {
            Some(value) => self.put(batch, key, value.clone()),
            None => self.delete(batch, key),
        }
    }

    /// Writes the password's verifier, or removes it.
    pub(crate) fn write_password(&self, batch: &mut Batch) {
        match &self.password {
            Some(password) => self.put(batch, PASSWORD.into(), password.0.clone()),
            None => self.delete(batch, PASSWORD.into()),
        }
    }

    /// Writes everything that an operation changed.
    pub(crate) fn write_difference(&self, batch: &mut Batch, before: &Cluster) {
        let after = &self.cluster;
        let rest = |c: &Cluster| (c.lineage, c.incarnation, c.next_node, c.dropped.clone());
        if rest(before) != rest(after) {
            self.write_meta(batch);
        }
        let ids: BTreeSet<_> = before
            .formations
            .keys()
            .chain(after.formations.keys())
            .collect();
        for id in ids {
            let old = before.formations.get(id);
            let new = after.formations.get(id);
            if old.map(without_groups) != new.map(without_groups) {
                self.write_formation(batch, id);
            }
            let groups = |f: Option<&Formation>| -> Vec<GroupId> {
                f.map(|f| f.groups.keys().copied().collect())
                    .unwrap_or_default()
            };
            let numbers: BTreeSet<_> = groups(old).into_iter().chain(groups(new)).collect();
            for number in numbers {
                let of = |f: Option<&Formation>| f.and_then(|f| f.groups.get(&number)).cloned();
                if of(old) != of(new) {
                    self.write_group(batch, &(id.clone(), number));
                }
            }
        }
    }

    /// Writes everything: the first batch of a new store, or after a restore.
    pub(crate) fn write_all(&self, batch: &mut Batch) {
        self.write_meta(batch);
        for id in self.cluster.formations.keys() {
            self.write_formation(batch, id);
        }
        for key in self.keys() {
            self.write_group(batch, &key);
        }
    }

    /// Notes that a batch was written as this revision.
    pub(crate) fn written(
        &mut self,
        puts: &BTreeMap<String, String>,
        gone: &[String],
        at: Revision,
    ) {
        for key in puts.keys() {
            self.revisions.insert(key.clone(), at);
        }
        for key in gone {
            self.revisions.remove(key);
        }
    }
}

fn without_groups(formation: &Formation) -> Formation {
    Formation {
        groups: BTreeMap::new(),
        id: formation.id.clone(),
        kind: formation.kind,
        dbname: formation.dbname.clone(),
        opt_secondary: formation.opt_secondary,
        number_sync_standbys: formation.number_sync_standbys,
        number_set_by_hand: formation.number_set_by_hand,
    }
}
