//! The keeper's half: from the wanted list and what is there to the updates that lack.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pgaf_protocol::{
    FormationId, GroupId, Held, Metadata, MetadataSeen, SeenRow, Stage, Term, WantedRow,
};

use super::gid::Gid;

/// What stands in the coordinator's Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// `pg_dist_node`.
    pub rows: Vec<Row>,
    /// The term in which each group's row was set last, by our own table.
    pub terms: BTreeMap<GroupId, Term>,
    /// Prepared updates of ours.
    pub prepared: Vec<Prepared>,
}

/// A row of `pg_dist_node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Citus' number of it.
    pub id: i32,
    /// Its group.
    pub group: GroupId,
    /// Where it points.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// `noderole` is `primary`.
    pub primary: bool,
    /// `nodecluster`.
    pub cluster: String,
    /// `isactive`.
    pub active: bool,
    /// `metadatasynced`.
    pub synced: bool,
}

/// A prepared update of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its name as it stands.
    pub text: String,
    /// What that says.
    pub gid: Gid,
}

/// One change, done by one transaction; its outcome is read back, never remembered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Update {
    /// Give up a prepared update whose term is over, or whose target is not wanted.
    Rollback {
        /// Its name.
        gid: String,
    },
    /// Commit a prepared update: its target is primary.
    Commit {
        /// Its name.
        gid: String,
    },
    /// Point a group's row to its primary.
    Set {
        /// Citus' number of the row.
        id: i32,
        /// The group.
        group: GroupId,
        /// The primary's term.
        term: Term,
        /// Its address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Prepare that, so that writes to the group's shards wait.
    Hold {
        /// Citus' number of the row.
        id: i32,
        /// The group.
        group: GroupId,
        /// The term that its target will lead.
        term: Term,
        /// Its address.
        host: String,
        /// Its port.
        port: u16,
        /// End statements that stand in the way.
        force: bool,
        /// The name.
        gid: String,
    },
    /// The row points there already: only note the term.
    Raise {
        /// The group.
        group: GroupId,
        /// The term.
        term: Term,
    },
    /// List a group's primary, and activate it.
    Add {
        /// The group.
        group: GroupId,
        /// Its term.
        term: Term,
        /// Its address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Activate a row that is listed.
    Activate {
        /// The address.
        host: String,
        /// The port.
        port: u16,
    },
    /// List a read replica.
    AddReplica {
        /// Its group.
        group: GroupId,
        /// Its Citus cluster.
        cluster: String,
        /// Its address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Take a row out: an operator removed its group, or the replica.
    Remove {
        /// The group, and the term that must not be passed; none for a replica.
        guard: Option<(GroupId, Term)>,
        /// The address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// The updates that lack, most urgent first. Each leads nearer to the wanted list from wherever it
/// is; an update that does not work now must not keep the others from being tried.
#[must_use]
pub fn plan(formation: &FormationId, wanted: &Metadata, seen: &Observed) -> Vec<Update> {
    let mut updates = Vec::new();
    let mut free = true;
    let held: Vec<&Prepared> = seen
        .prepared
        .iter()
        .filter(|p| p.gid.formation == *formation)
        .collect();
    let urgent = wanted
        .rows
        .iter()
        .any(|w| w.stage == Stage::Current && changes_address(w, seen) && !is_held(w, &held));
    for prepared in held {
        let fit = wanted
            .rows
            .iter()
            .find(|w| w.group == prepared.gid.group && is_for(w, prepared));
        match fit.map(|w| w.stage) {
            Some(Stage::Current) => updates.push(Update::Commit {
                gid: prepared.text.clone(),
            }),
            // A held update of one group blocks every other group's: who is primary comes first.
            Some(Stage::Hold) if !urgent => free = false,
            Some(Stage::Hold) | None => updates.push(Update::Rollback {
                gid: prepared.text.clone(),
            }),
        }
    }
    updates.sort();
    let committed: BTreeSet<GroupId> = updates.iter().filter_map(committing).collect();
    for row in wanted.rows.iter().filter(|w| !committed.contains(&w.group)) {
        updates.extend(for_row(formation, row, seen, free && !urgent));
    }
    updates.extend(replicas(wanted, seen));
    updates.extend(removals(wanted, seen));
    // One hold at a time.
    let mut holds = 0;
    updates.retain(|u| {
        let hold = matches!(u, Update::Hold { .. });
        holds += u32::from(hold);
        !hold || holds == 1
    });
    updates.sort_by_key(rank);
    updates
}

fn committing(update: &Update) -> Option<GroupId> {
    let Update::Commit { gid } = update else {
        return None;
    };
    Gid::parse(gid).map(|g| g.group)
}

fn rank(update: &Update) -> u8 {
    match update {
        Update::Rollback { .. } => 0,
        Update::Commit { .. } => 1,
        Update::Set { .. } => 2,
        Update::Hold { .. } => 3,
        Update::Raise { .. } => 4,
        Update::Add { .. } => 5,
        Update::Activate { .. } => 6,
        Update::AddReplica { .. } => 7,
        Update::Remove { .. } => 8,
    }
}

/// The row of a group's primary: there is one in the cluster that takes writes.
fn primary_row(group: GroupId, seen: &Observed) -> Option<&Row> {
    seen.rows.iter().find(|r| r.primary && r.group == group)
}

fn target(row: &WantedRow) -> String {
    format!("{}:{}", row.host, row.port)
}

fn is_for(row: &WantedRow, prepared: &Prepared) -> bool {
    prepared.gid.term == row.term && prepared.gid.target == target(row)
}

fn is_held(row: &WantedRow, held: &[&Prepared]) -> bool {
    held.iter()
        .any(|p| p.gid.group == row.group && is_for(row, p))
}

fn term_of(group: GroupId, seen: &Observed) -> Term {
    seen.terms.get(&group).copied().unwrap_or_default()
}

fn changes_address(row: &WantedRow, seen: &Observed) -> bool {
    term_of(row.group, seen) <= row.term
        && primary_row(row.group, seen).is_some_and(|r| r.host != row.host || r.port != row.port)
}

/// What one wanted row lacks.
fn for_row(
    formation: &FormationId,
    row: &WantedRow,
    seen: &Observed,
    free: bool,
) -> Option<Update> {
    let known = term_of(row.group, seen);
    if known > row.term {
        // An older word than what stands there: it changes nothing.
        return None;
    }
    let (group, term) = (row.group, row.term);
    let (host, port) = (row.host.clone(), row.port);
    let Some(there) = primary_row(group, seen) else {
        return (row.stage == Stage::Current).then_some(Update::Add {
            group,
            term,
            host,
            port,
        });
    };
    let id = there.id;
    let same = there.host == host && there.port == port;
    match row.stage {
        Stage::Hold => {
            let gid = Gid {
                formation: formation.clone(),
                group,
                term,
                target: target(row),
            };
            let already = seen.prepared.iter().any(|p| p.gid == gid);
            (free && !same && !already)
                .then(|| {
                    Some(Update::Hold {
                        id,
                        group,
                        term,
                        host,
                        port,
                        force: row.force,
                        gid: gid.text()?,
                    })
                })
                .flatten()
        }
        Stage::Current if !same => Some(Update::Set {
            id,
            group,
            term,
            host,
            port,
        }),
        Stage::Current if !there.active => Some(Update::Activate { host, port }),
        Stage::Current if known < term => Some(Update::Raise { group, term }),
        Stage::Current => None,
    }
}

fn replicas(wanted: &Metadata, seen: &Observed) -> Vec<Update> {
    wanted
        .replicas
        .iter()
        .filter_map(|replica| {
            let row = seen
                .rows
                .iter()
                .find(|r| !r.primary && r.host == replica.host && r.port == replica.port);
            let (host, port) = (replica.host.clone(), replica.port);
            match (row, replica.leaving) {
                (Some(_), true) => Some(Update::Remove {
                    guard: None,
                    host,
                    port,
                }),
                (None, false) => Some(Update::AddReplica {
                    group: replica.group,
                    cluster: replica.cluster.clone(),
                    host,
                    port,
                }),
                (Some(row), false) if !row.active => Some(Update::Activate { host, port }),
                (Some(_), false) | (None, true) => None,
            }
        })
        .collect()
}

fn removals(wanted: &Metadata, seen: &Observed) -> Vec<Update> {
    wanted
        .removals
        .iter()
        .filter(|removal| term_of(removal.group, seen) <= removal.term)
        .filter_map(|removal| {
            let row = primary_row(removal.group, seen)?;
            Some(Update::Remove {
                guard: Some((removal.group, removal.term)),
                host: row.host.clone(),
                port: row.port,
            })
        })
        .collect()
}

/// What the monitor is told of it.
#[must_use]
pub fn seen(formation: &FormationId, wanted: &Metadata, observed: &Observed) -> MetadataSeen {
    let rows = observed.rows.iter().filter(|r| r.primary).map(|r| SeenRow {
        group: r.group,
        term: term_of(r.group, observed),
        host: r.host.clone(),
        port: r.port,
        active: r.active,
        synced: r.synced,
    });
    let held = observed
        .prepared
        .iter()
        .filter(|p| p.gid.formation == *formation)
        .filter_map(|p| {
            let row = wanted
                .rows
                .iter()
                .find(|w| w.group == p.gid.group && is_for(w, p))?;
            Some(Held {
                group: p.gid.group,
                term: p.gid.term,
                node: row.node,
            })
        });
    MetadataSeen {
        rows: rows.collect(),
        held: held.collect(),
        trouble: None,
    }
}
