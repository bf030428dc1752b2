//! Placement, the wanted list, and a coordinator in memory that may crash between any two updates.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use pgaf_protocol::{
    FormationId, GroupId, Incarnation, Lineage, Metadata, NodeId, NodeKind, NodeState,
    Registration, Removal, Stage, Term, WantedRow,
};

use super::{Gid, Observed, Prepared, Row, Update, plan, seen, wanted};
use crate::group::operate::{create_formation, register};
use crate::group::{Cluster, Election, Kind, Phase};

fn cluster(opt_secondary: bool) -> Cluster {
    let mut cluster = Cluster {
        lineage: Lineage(1),
        incarnation: Incarnation(1),
        next_node: NodeId(1),
        dropped: alloc::collections::BTreeSet::new(),
        formations: BTreeMap::new(),
    };
    let id = FormationId::default();
    create_formation(&mut cluster, &id, Kind::Citus, "citus", opt_secondary, 0).unwrap();
    cluster
}

fn wish(number: u16, kind: NodeKind) -> Registration {
    Registration {
        protocol: pgaf_protocol::PROTOCOL_VERSION,
        token: format!("token {number}"),
        host: format!("host{number}"),
        port: 5432,
        dbname: "citus".into(),
        kind,
        candidate_priority: 50,
        replication_quorum: true,
        cluster: "default".into(),
        ..Registration::default()
    }
}

/// "name group" of each registration, in order.
fn places(cluster: &mut Cluster, wishes: &[Registration]) -> Vec<String> {
    wishes
        .iter()
        .map(|wish| match register(cluster, wish) {
            Ok(done) => format!("{} {}", done.name, done.group),
            Err(refused) => refused.sqlstate,
        })
        .collect()
}

#[test]
fn six_workers_at_once_are_three_full_groups_also_before_their_coordinator() {
    let mut cluster = cluster(true);
    let mut wishes: Vec<_> = (1..=6).map(|n| wish(n, NodeKind::Worker)).collect();
    wishes.push(wish(7, NodeKind::Coordinator));
    wishes.push(wish(8, NodeKind::Coordinator));
    let found = places(&mut cluster, &wishes);
    assert_eq!(
        found,
        [
            "worker1a 1",
            "worker1b 1",
            "worker2a 2",
            "worker2b 2",
            "worker3a 3",
            "worker3b 3",
            "coord0a 0",
            "coord0b 0",
        ]
    );
    // A registration whose answer was lost takes no second place.
    assert_eq!(places(&mut cluster, &wishes[2..4]), found[2..4]);
}

#[test]
fn placement_follows_the_group_that_was_asked_for_and_fills_gaps_first() {
    let mut cluster = cluster(true);
    let in_group = |number, group| Registration {
        group: Some(GroupId(group)),
        ..wish(number, NodeKind::Worker)
    };
    let replica = |number| Registration {
        cluster: "reports".into(),
        candidate_priority: 0,
        ..wish(number, NodeKind::Worker)
    };
    let wishes = [
        in_group(1, 2),
        wish(2, NodeKind::Worker),
        in_group(3, 2),
        wish(4, NodeKind::Worker),
        wish(5, NodeKind::Worker),
        in_group(6, 0),
        replica(7),
        replica(8),
        Registration {
            candidate_priority: 50,
            ..replica(9)
        },
    ];
    assert_eq!(
        places(&mut cluster, &wishes),
        [
            "worker2a 2",
            "worker1a 1",
            "worker2b 2",
            "worker1b 1",
            "worker3a 3",
            "22023",
            "worker1c 1",
            "worker2c 2",
            "22023",
        ]
    );
}

#[test]
fn without_secondaries_each_worker_is_a_group() {
    let mut cluster = cluster(false);
    let wishes: Vec<_> = (1..=3).map(|n| wish(n, NodeKind::Worker)).collect();
    assert_eq!(
        places(&mut cluster, &wishes),
        ["worker1a 1", "worker2a 2", "worker3a 3"]
    );
}

fn row(group: i32, term: u64, node: i64, stage: Stage) -> WantedRow {
    WantedRow {
        group: GroupId(group),
        term: Term(term),
        node: NodeId(node),
        host: format!("host{node}"),
        port: 5432,
        stage,
        force: false,
    }
}

fn metadata(rows: Vec<WantedRow>) -> Metadata {
    Metadata {
        rows,
        ..Metadata::default()
    }
}

/// What Citus does with an update: all of it or nothing, and nothing for a term that is over.
fn apply(observed: &mut Observed, update: &Update) {
    let passes = |o: &Observed, group, term| o.terms.get(&group).is_none_or(|t| *t <= term);
    let point = |o: &mut Observed, group: GroupId, term, host: &str| {
        if let Some(row) = o.rows.iter_mut().find(|r| r.group == group) {
            row.host = host.into();
            row.synced = false;
        }
        o.terms.insert(group, term);
    };
    match update {
        Update::Rollback { gid } => observed.prepared.retain(|p| p.text != *gid),
        Update::Commit { gid } => {
            let Some(gid) = Gid::parse(gid) else {
                panic!("{gid}")
            };
            observed.prepared.retain(|p| p.gid != gid);
            let host = gid.target.split(':').next().unwrap().to_string();
            point(observed, gid.group, gid.term, &host);
        }
        Update::Set {
            group, term, host, ..
        } => {
            assert!(passes(observed, *group, *term));
            // Another group's prepared update stands in the way.
            if observed.prepared.is_empty() {
                point(observed, *group, *term, host);
            }
        }
        Update::Hold {
            group, term, gid, ..
        } => {
            assert!(passes(observed, *group, *term));
            assert!(observed.prepared.is_empty(), "one at a time");
            let parsed = Gid::parse(gid).unwrap();
            observed.prepared.push(Prepared {
                text: gid.clone(),
                gid: parsed,
            });
        }
        Update::Raise { group, term } => drop(observed.terms.insert(*group, *term)),
        Update::Add {
            group, term, host, ..
        } => {
            observed.rows.push(Row {
                id: group.0 + 1,
                group: *group,
                host: host.clone(),
                port: 5432,
                primary: true,
                cluster: "default".into(),
                active: true,
                synced: true,
            });
            observed.terms.insert(*group, *term);
        }
        Update::Remove { host, .. } => observed.rows.retain(|r| r.host != *host),
        Update::Activate { .. } | Update::AddReplica { .. } => {}
    }
}

/// Does every update that lacks, each from a fresh look, as after a crash between any two.
fn settle(wanted: &Metadata, observed: &mut Observed) -> Vec<String> {
    let formation = FormationId::default();
    for _ in 0..20 {
        let updates = plan(&formation, wanted, observed);
        let Some(first) = updates.first() else {
            break;
        };
        let again = observed.clone();
        apply(observed, first);
        assert_ne!(*observed, again, "{first:?} changes nothing");
    }
    assert_eq!(plan(&formation, wanted, observed), [], "it does not settle");
    observed
        .rows
        .iter()
        .map(|r| format!("{}:{}@{}", r.group, r.host, observed.terms[&r.group].0))
        .collect()
}

/// A coordinator and two workers, as they are after their creation.
fn three() -> (Metadata, Observed) {
    let all = metadata(vec![
        row(0, 1, 1, Stage::Current),
        row(1, 1, 3, Stage::Current),
        row(2, 1, 5, Stage::Current),
    ]);
    let mut observed = Observed::default();
    assert_eq!(
        settle(&all, &mut observed),
        ["0:host1@1", "1:host3@1", "2:host5@1"]
    );
    (all, observed)
}

#[test]
fn a_move_is_held_then_committed_and_repeats_change_nothing() {
    let (mut all, mut observed) = three();
    all.rows[1] = row(1, 2, 4, Stage::Hold);
    assert_eq!(settle(&all, &mut observed)[1], "1:host3@1", "only prepared");
    let held = seen(&FormationId::default(), &all, &observed).held;
    assert_eq!(
        (held[0].group, held[0].term, held[0].node),
        (GroupId(1), Term(2), NodeId(4))
    );
    all.rows[1].stage = Stage::Current;
    assert_eq!(settle(&all, &mut observed)[1], "1:host4@2");
    assert!(observed.prepared.is_empty());
    assert_eq!(settle(&all, &mut observed)[1], "1:host4@2");
}

#[test]
fn a_prepared_update_of_an_older_term_or_another_target_is_rolled_back() {
    for next in [
        row(1, 3, 4, Stage::Current), // same target, later term
        row(1, 2, 3, Stage::Current), // given up: the old primary goes on
        row(1, 2, 6, Stage::Hold),    // another candidate
    ] {
        let (mut all, mut observed) = three();
        all.rows[1] = row(1, 2, 4, Stage::Hold);
        settle(&all, &mut observed);
        let before = observed.prepared[0].text.clone();
        all.rows[1] = next.clone();
        let first = &plan(&FormationId::default(), &all, &observed)[0];
        assert_eq!(*first, Update::Rollback { gid: before });
        let rows = settle(&all, &mut observed);
        if next.stage == Stage::Current {
            assert_eq!(rows[1], format!("1:{}@{}", next.host, next.term.0));
        }
    }
}

#[test]
fn an_older_word_changes_nothing_and_a_partial_list_removes_nobody() {
    let (mut all, mut observed) = three();
    all.rows[1] = row(1, 4, 4, Stage::Current);
    settle(&all, &mut observed);
    let before = observed.clone();
    let old = metadata(vec![
        row(1, 3, 3, Stage::Current),
        row(1, 3, 3, Stage::Hold),
    ]);
    assert_eq!(plan(&FormationId::default(), &old, &observed), []);
    assert_eq!(
        plan(&FormationId::default(), &Metadata::default(), &observed),
        []
    );
    assert_eq!(observed, before);
    // Only an explicit removal does, and not of a row that was set later.
    let removal = |term| Metadata {
        removals: vec![Removal {
            group: GroupId(1),
            term: Term(term),
        }],
        ..Metadata::default()
    };
    assert_eq!(plan(&FormationId::default(), &removal(3), &observed), []);
    assert_eq!(
        settle(&removal(4), &mut observed),
        ["0:host1@1", "2:host5@1"]
    );
}

#[test]
fn a_held_update_gives_way_to_a_group_that_has_a_new_primary() {
    let (mut all, mut observed) = three();
    all.rows[1] = row(1, 2, 4, Stage::Hold);
    settle(&all, &mut observed);
    all.rows[2] = row(2, 2, 6, Stage::Current);
    let updates = plan(&FormationId::default(), &all, &observed);
    assert!(matches!(updates[0], Update::Rollback { .. }));
    assert!(matches!(updates[1], Update::Set { .. }));
    assert_eq!(updates.len(), 2);
    assert_eq!(settle(&all, &mut observed)[2], "2:host6@2");
    assert_eq!(observed.prepared.len(), 1, "and is held again");
}

#[test]
fn others_prepared_transactions_are_left_alone() {
    let (all, mut observed) = three();
    let gid = Gid {
        formation: "another/one".into(),
        group: GroupId(1),
        term: Term(7),
        target: "h:1".into(),
    };
    let text = gid.text().unwrap();
    assert_eq!(text, "pgaf another/one/1/7/h:1");
    assert_eq!(Gid::parse(&text), Some(gid.clone()));
    assert_eq!(Gid::parse("citus_0_123_4_5"), None);
    let long = Gid {
        target: "x".repeat(250),
        ..gid.clone()
    };
    assert_eq!(long.text(), None);
    observed.prepared.push(Prepared { text, gid });
    assert_eq!(plan(&FormationId::default(), &all, &observed), []);
}

#[test]
fn the_list_names_a_primary_once_it_is_open_and_its_successor_while_it_is_chosen() {
    let mut cluster = cluster(true);
    let wishes = [
        wish(1, NodeKind::Coordinator),
        wish(2, NodeKind::Worker),
        wish(3, NodeKind::Worker),
    ];
    places(&mut cluster, &wishes);
    let id = FormationId::default();
    let said = |cluster: &Cluster| {
        let list = wanted(&cluster.formations[&id]);
        let of = |r: &WantedRow| format!("{}@{} {} {:?}", r.group, r.term.0, r.node, r.stage);
        let rows: Vec<String> = list.rows.iter().map(of).collect();
        (rows, list.removals.len())
    };
    assert_eq!(said(&cluster), (vec![], 0), "nobody is open yet");
    let groups = |cluster: &mut Cluster| cluster.formations.get_mut(&id).unwrap().groups.clone();
    let set = |cluster: &mut Cluster, change: &dyn Fn(&mut crate::group::Group)| {
        let mut all = groups(cluster);
        change(all.get_mut(&GroupId(1)).unwrap());
        cluster.formations.get_mut(&id).unwrap().groups = all;
    };
    set(&mut cluster, &|g| {
        g.nodes.get_mut(&NodeId(2)).unwrap().reported = NodeState::Single;
    });
    assert_eq!(said(&cluster).0, ["1@1 2 Current"]);
    set(&mut cluster, &|g| {
        g.phase = Phase::Preparing(Election {
            hold: Some(NodeId(3)),
            ..Election::default()
        });
    });
    assert_eq!(said(&cluster).0, ["1@2 3 Hold"]);
    // Removed, by an operator's word for each of its nodes; the group itself is remembered.
    set(&mut cluster, &|g| {
        g.phase = Phase::Steady;
        for node in g.nodes.values_mut() {
            node.leaving = true;
        }
    });
    assert_eq!(said(&cluster), (vec![], 1));
}
