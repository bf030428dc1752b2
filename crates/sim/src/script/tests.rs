//! The grammar from the outside: what it reads, what it prints again, what it refuses and how.

use core::time::Duration;

use super::*;

const STORY: &str = "# A story.\n# In two lines.\n\ncluster 3 nodes\n";

fn steps(lines: &str) -> Vec<Step> {
    let script = Script::parse(&format!("{STORY}{lines}")).unwrap();
    script.steps.into_iter().map(|line| line.step).collect()
}

fn problem(lines: &str) -> String {
    Script::parse(&format!("{STORY}{lines}"))
        .unwrap_err()
        .to_string()
}

#[test]
fn story_and_cluster_are_read() {
    let script = Script::parse(&format!("{STORY}\nwrite start # begin\n")).unwrap();
    assert_eq!(script.story, "A story.\nIn two lines.");
    assert_eq!(script.nodes, 3);
    assert_eq!(
        script.steps,
        [Line {
            number: 6,
            step: Step::WriteStart
        }]
    );
}

#[test]
fn every_form_prints_as_it_was_written() {
    let lines = "write start\nwrite stop\nperform \"switchover\"\nperform \"promotion --name node2\"\n\
        perform \"failover\" refused\nset \"node candidate-priority --name node3 0\"\n\
        set \"formation number-sync-standbys 7\" refused\nkill-host node1 node3\ndrop node3\nkill-postgres primary\nkill-keeper node1\nkill-host all\n\
        kill-host monitor\nstart-host node2\nfreeze standby\nthaw node2\ncut node1 from all\n\
        cut primary from monitor\ncut monitor to node2\nmend node1 from node2\nmend node1 to all\nwait settled 30s\nwait writes 1500ms\n\
        wait node1 wait_primary 20s\nwait node3 gone 10s\nwait 2s\nexpect primary node2\n\
        expect outage < 4s\nexpect no-failover 10s\nexpect no-writes 3s\nexpect nothing lost\n\
        expect postgres-kept node1\nexpect session-kept node3\nexpect explain says \"waiting on node2\"\nfreeze node1 keeper\nexpect event says \"is lost\"";
    let printed: Vec<_> = steps(lines).iter().map(Step::to_string).collect();
    assert_eq!(printed, lines.lines().map(str::trim).collect::<Vec<_>>());
}

#[test]
fn every_verb_is_documented_and_there_are_fifteen() {
    assert_eq!(VERBS.len(), 15);
    for (verb, form, _) in VERBS {
        assert!(form.starts_with(verb));
        let bare = problem(&format!("{verb} never such-a thing at-all"));
        assert!(bare.contains("line 5: "), "{bare}");
    }
}

#[test]
fn times_have_a_unit() {
    let Step::Wait { within, .. } = &steps("wait 1.5s")[0] else {
        panic!("no wait")
    };
    assert_eq!(*within, Duration::from_millis(1500));
    assert_eq!(
        problem("wait 10"),
        "line 5: `10` is no time; write 30s, 1.5s or 500ms"
    );
    assert!(problem("wait 0s").contains("no time"));
}

#[test]
fn unknown_nodes_and_verbs_name_what_there_is() {
    assert_eq!(
        problem("drop node4"),
        "line 5: there is no node `node4`; there are node1 to node3, primary, standby"
    );
    assert!(
        problem("reboot node1").starts_with("line 5: there is no verb `reboot`; there are cluster")
    );
}

#[test]
fn a_tail_that_is_not_understood_is_refused() {
    assert_eq!(
        problem("drop node2 now"),
        "line 5: the form of `drop` is: drop NODE"
    );
    assert!(problem("cut all from node1").contains("the form of `cut`"));
    assert!(problem("kill-host node1 all").contains("the form of `kill-host`"));
    assert_eq!(
        problem("write start\n\nthaw"),
        "line 7: the form of `thaw` is: thaw NODE|monitor"
    );
    assert!(problem("perform \"failover").contains("not closed"));
}

#[test]
fn what_is_missing_is_named() {
    let error = |text| Script::parse(text).unwrap_err().to_string();
    assert!(error("# only a story").contains("no `cluster N nodes` line"));
    assert!(error("cluster 2 nodes\nwrite start").contains("story"));
    assert!(error("# s\ncluster 2 nodes\n").contains("no step"));
    assert!(error("# s\ncluster 1 nodes\n").contains("from 2 to 9"));
    assert!(error("# s\nwrite start\n").contains("first line must be"));
}
