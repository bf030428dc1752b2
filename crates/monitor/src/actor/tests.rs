//! The actor with fake keepers in this process: what is durable, what is told, and to whom.

#[path = "../../tests/fake/mod.rs"]
mod fake;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgaf_fsm::group::{Probe, ProbeOutcome};
use pgaf_protocol::*;
use pgaf_store::{Batch, Continuation, EventFilter, MemoryStore, Store, StoreError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::MonitorConfig;
use crate::sql::{
    Call, Closed, NodeRef, PushQueue, Question, Reply, ReplyValue, SessionHandle, SessionId,
    Snapshot,
};
use fake::{Nodes, wish};

/// A monitor without sockets, and its nodes.
struct Rig {
    store: MemoryStore,
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
    nodes: Nodes,
    sessions: BTreeMap<NodeId, (SessionId, SessionHandle, PushQueue)>,
    next_session: u64,
}

impl Rig {
    async fn start(store: MemoryStore, continuation: Continuation) -> Self {
        let config = MonitorConfig::new("/nonexistent", "localhost", 0);
        let state = crate::run::resume(&config, &store, &continuation, BTreeMap::new())
            .await
            .unwrap();
        let (handle, inputs) = channel();
        let stop = CancellationToken::new();
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let actor = Actor::new(state, shared, Hub::new(), handle.clone(), None);
        Self {
            store,
            handle,
            task: tokio::spawn(actor.run(inputs, stop.clone())),
            stop,
            nodes: Nodes::default(),
            sessions: BTreeMap::new(),
            next_session: 0,
        }
    }

    async fn new() -> Self {
        Self::start(MemoryStore::new(), Continuation::New).await
    }

    /// A pair that has settled.
    async fn pair() -> Self {
        let mut rig = Self::new().await;
        rig.add("one").await;
        rig.until("single/single").await;
        rig.add("two").await;
        rig.until("primary/primary secondary/secondary").await;
        rig
    }

    async fn restart(mut self, continuation: Continuation) -> Self {
        self.stop.cancel();
        self.task.await.unwrap();
        let mut next = Self::start(self.store, continuation).await;
        next.nodes = self.nodes;
        self.sessions.clear();
        next
    }

    async fn register(&self, wish: Registration) -> Result<Registered, SqlError> {
        let registration = Box::new(wish);
        let json = self
            .handle
            .ask(|reply| Input::Register {
                registration,
                reply,
            })
            .await?;
        Ok(serde_json::from_str(&json).unwrap())
    }

    async fn add(&mut self, token: &str) -> NodeId {
        let port = 5000 + u16::try_from(self.nodes.0.lock().unwrap().len()).unwrap();
        let done = self.register(wish(token, port)).await.unwrap();
        self.nodes.add(&done);
        done.node
    }

    async fn send(&mut self, report: Report) -> Result<Answer, SqlError> {
        let node = report.node;
        if !self.sessions.contains_key(&node) {
            self.next_session += 1;
            let (handle, queue) = SessionHandle::new(64);
            let session = (SessionId(self.next_session), handle, queue);
            self.sessions.insert(node, session);
        }
        let (id, handle, _) = &self.sessions[&node];
        let session = (*id, handle.clone());
        let report = Box::new(report);
        let at = clock::now();
        let ask = |reply| Input::Report {
            report,
            session,
            at,
            reply,
        };
        let json = self.handle.ask(ask).await?;
        Ok(serde_json::from_str(&json).unwrap())
    }

    /// Every living node reports once and does what it is told.
    async fn round(&mut self) {
        let ids: Vec<NodeId> = self.nodes.0.lock().unwrap().keys().copied().collect();
        for id in ids {
            if self.nodes.get(id).alive {
                let answer = self.send(self.nodes.report(id)).await.unwrap();
                self.nodes.obey(id, &answer);
            }
        }
    }

    /// "reported/goal" of every node, by id.
    async fn states(&self) -> String {
        let rows = self.snapshot().await;
        let word = |n: &Arc<crate::sql::NodeRow>| format!("{}/{}", n.reported_state, n.goal_state);
        rows.nodes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    async fn snapshot(&self) -> Arc<Snapshot> {
        self.handle
            .ask(|reply| Input::Snapshot { reply })
            .await
            .unwrap()
    }

    async fn until(&mut self, states: &str) {
        let began = Instant::now();
        while self.states().await != states {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{} instead of {states}",
                self.states().await
            );
            self.round().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn call(&self, call: Call) -> Result<Reply, SqlError> {
        self.handle
            .ask(|reply| Input::Operate { call, reply })
            .await
    }

    async fn explain(&self) -> Vec<Explanation> {
        let formation = "default".into();
        let group = None;
        let question = Question::Explain { formation, group };
        serde_json::from_str(&self.ask(question).await.unwrap()).unwrap()
    }

    async fn ask(&self, question: Question) -> Result<String, SqlError> {
        let ask = |reply| Input::Ask { question, reply };
        self.handle.ask(ask).await
    }

    /// The host of a node dies: its processes are gone, its kernel answers.
    async fn kill(&mut self, node: NodeId) {
        self.nodes.kill(node);
        let (session, ..) = self.sessions.remove(&node).unwrap();
        let at = clock::now();
        let how = Closed::Eof;
        let closed = Input::SessionClosed { session, how, at };
        self.handle.tell(closed).await;
        let probe = Probe {
            began: at,
            ended: at,
            outcome: ProbeOutcome::Refused,
        };
        self.handle.tell(Input::Probed { node, probe }).await;
    }

    async fn revision(&self) -> pgaf_store::Revision {
        self.store.commit(Batch::default()).await.unwrap()
    }

    async fn events(&self) -> Vec<String> {
        let filter = EventFilter {
            limit: 1000,
            ..EventFilter::default()
        };
        let events = self.store.events(filter).await.unwrap();
        events.into_iter().map(|e| e.record.rule).collect()
    }
}

fn failover(allow_data_loss: bool) -> Call {
    Call::PerformFailover {
        formation: "default".into(),
        group: 0,
        allow_data_loss,
    }
}

#[tokio::test]
async fn two_nodes_become_primary_and_secondary() {
    let rig = Rig::pair().await;
    let rows = rig.snapshot().await;
    assert_eq!(
        rows.groups[0].synchronous_standby_names,
        "ANY 1 (pgautofailover_standby_2)"
    );
    assert_eq!(rows.nodes[0].name, "node_1");
    assert!(rig.events().await.contains(&"reported".to_owned()));
}

#[tokio::test]
async fn a_heartbeat_that_changes_nothing_is_not_written() {
    let mut rig = Rig::pair().await;
    rig.round().await;
    let before = rig.revision().await;
    for _ in 0..20 {
        rig.round().await;
    }
    assert_eq!(rig.revision().await, before);
}

#[tokio::test]
async fn only_the_primary_is_given_a_lease() {
    let mut rig = Rig::pair().await;
    let (one, two) = (NodeId(1), NodeId(2));
    let lease = rig.send(rig.nodes.report(one)).await.unwrap().lease;
    assert_eq!(lease.map(|l| l.duration_ms), Some(5000));
    assert!(
        rig.send(rig.nodes.report(two))
            .await
            .unwrap()
            .lease
            .is_none()
    );
}

#[tokio::test]
async fn a_goal_is_pushed_to_the_session_of_its_node_and_to_nobody_else() {
    let mut rig = Rig::pair().await;
    for (_, _, queue) in rig.sessions.values_mut() {
        while queue.try_next().is_some() {}
    }
    rig.call(failover(false)).await.unwrap();
    let (_, _, primary) = rig.sessions.get_mut(&NodeId(1)).unwrap();
    let pushed = primary
        .try_next()
        .expect("the primary is asked for a checkpoint");
    assert_eq!(pushed.channel, Channel::Goal);
    let answer: Answer = serde_json::from_str(&pushed.payload).unwrap();
    assert!(matches!(&answer.goal.order, Order::Lead(lead) if lead.checkpoint));
    assert!(answer.lease.is_none(), "a push grants nothing");
    assert_eq!(answer.peers.len(), 1);
    let (_, _, standby) = rig.sessions.get_mut(&NodeId(2)).unwrap();
    assert!(standby.try_next().is_none());
}

#[tokio::test]
async fn a_switchover_changes_the_roles() {
    let mut rig = Rig::pair().await;
    rig.call(failover(false)).await.unwrap();
    rig.until("secondary/secondary primary/primary").await;
    assert_eq!(rig.explain().await[0].term, Term(2));
    let refused = rig
        .call(Call::PerformPromotion {
            formation: "default".into(),
            node_name: "node_2".into(),
        })
        .await
        .unwrap();
    assert_eq!(refused.value, ReplyValue::Bool(false));
    assert_eq!(refused.notices.len(), 1);
}

#[tokio::test]
async fn the_loss_of_the_primary_is_followed_by_a_promotion_without_a_heartbeat_of_it() {
    let mut rig = Rig::pair().await;
    rig.kill(NodeId(1)).await;
    let began = Instant::now();
    while !rig.states().await.ends_with("wait_primary/wait_primary") {
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{}",
            rig.states().await
        );
        rig.round().await;
    }
    rig.nodes.change(NodeId(1), |fake| fake.alive = true);
    rig.until("secondary/secondary primary/primary").await;
}

#[tokio::test]
async fn an_operation_without_a_candidate_is_refused_and_changes_nothing() {
    let mut rig = Rig::new().await;
    rig.add("one").await;
    rig.until("single/single").await;
    let before = rig.revision().await;
    let refused = rig.call(failover(false)).await.unwrap_err();
    assert_eq!(refused.code, "55000");
    assert!(refused.hint.is_some());
    assert_eq!(rig.revision().await, before);
}

#[tokio::test]
async fn a_restart_keeps_terms_and_goals_and_is_a_new_incarnation() {
    let mut rig = Rig::pair().await;
    rig.call(failover(false)).await.unwrap();
    rig.until("secondary/secondary primary/primary").await;
    let old = rig.send(rig.nodes.report(NodeId(2))).await.unwrap();
    let mut rig = rig.restart(Continuation::Proven).await;
    assert_eq!(rig.states().await, "secondary/secondary primary/primary");
    let new = rig.send(rig.nodes.report(NodeId(2))).await.unwrap();
    assert_eq!(new.goal, old.goal);
    assert_eq!(new.lineage, old.lineage);
    assert_eq!(new.incarnation.0, old.incarnation.0 + 1);
    rig.round().await;
    assert_eq!(rig.states().await, "secondary/secondary primary/primary");
}

#[tokio::test]
async fn a_restored_monitor_waits_for_every_member() {
    let rig = Rig::pair().await;
    let lineage = rig.explain().await;
    let restored = Continuation::Restored { why: "test".into() };
    let mut rig = rig.restart(restored).await;
    assert_eq!(rig.explain().await[0].term, lineage[0].term);
    let refused = rig.call(failover(false)).await.unwrap_err();
    assert!(refused.message.contains("restored"), "{refused}");
    let answer = rig.send(rig.nodes.report(NodeId(1))).await.unwrap();
    assert!(answer.lease.is_none());
    let waits = |e: &Explanation| e.waiting.iter().any(|w| w.id == "restored-monitor");
    assert!(waits(&rig.explain().await[0]));
    rig.round().await;
    rig.until("primary/primary secondary/secondary").await;
    assert!(!waits(&rig.explain().await[0]));
}

#[tokio::test]
async fn a_keeper_that_has_seen_more_than_the_store_shows_that_it_is_an_older_copy() {
    let mut rig = Rig::pair().await;
    let lineage = rig.send(rig.nodes.report(NodeId(1))).await.unwrap().lineage;
    let mut report = rig.nodes.report(NodeId(2));
    report.seen.sequence.0 += 100;
    // Seen in another life of the store: that proves nothing.
    let old_life = Report {
        lineage: None,
        ..report.clone()
    };
    assert_eq!(rig.send(old_life).await.unwrap().lineage, lineage);
    let answer = rig.send(report.clone()).await.unwrap();
    assert_ne!(answer.lineage, lineage);
    assert!(
        rig.explain().await[0]
            .waiting
            .iter()
            .any(|w| w.id == "restored-monitor")
    );
    rig.round().await;
    rig.until("primary/primary secondary/secondary").await;
    let answer = rig.send(rig.nodes.report(NodeId(1))).await.unwrap();
    assert!(
        answer.goal.stamp.sequence > report.seen.sequence,
        "numbers continue above"
    );
}

#[tokio::test]
async fn a_keeper_is_told_what_it_is_to_this_monitor() {
    let mut rig = Rig::pair().await;
    let report = rig.nodes.report(NodeId(2));
    let refused = |sqlstate: &str, error: SqlError| {
        assert_eq!(error.code, sqlstate, "{error}");
        assert!(error.hint.is_some());
        error.message
    };
    let other = Report {
        protocol: 99,
        ..report.clone()
    };
    let words = refused("0A000", rig.send(other).await.unwrap_err());
    assert!(words.contains("99") && words.contains('1'), "{words}");
    let other = Report {
        node: NodeId(77),
        ..report.clone()
    };
    refused("42704", rig.send(other).await.unwrap_err());
    let other = Report {
        lineage: Some(Lineage(3)),
        ..report.clone()
    };
    refused("55000", rig.send(other).await.unwrap_err());
    let other = Report {
        group: GroupId(4),
        ..report.clone()
    };
    refused("42P17", rig.send(other).await.unwrap_err());
}

#[tokio::test]
async fn a_removed_node_is_told_so_explicitly_whenever_it_comes() {
    let mut rig = Rig::pair().await;
    let remove = Call::RemoveNode {
        node: NodeRef::Id(2),
        force: false,
    };
    rig.call(remove).await.unwrap();
    rig.until("single/single").await;
    let answer = rig.send(rig.nodes.report(NodeId(2))).await.unwrap();
    assert_eq!(answer.goal.state, NodeState::Dropped);
    assert_eq!(answer.goal.order, Order::Drop);
    let mut rig = rig.restart(Continuation::Proven).await;
    let late = rig.nodes.report(NodeId(2));
    let answer = rig.send(late.clone()).await.unwrap();
    assert_eq!(answer.goal.order, Order::Drop);
    assert!(answer.goal.stamp > late.seen);
}

#[tokio::test]
async fn registering_again_with_the_same_token_gives_the_same_node() {
    let rig = Rig::new().await;
    let first = rig.register(wish("t", 1)).await.unwrap();
    let again = rig.register(wish("t", 1)).await.unwrap();
    assert_eq!(first.node, again.node);
    let taken = rig.register(wish("other", 1)).await.unwrap_err();
    assert_eq!(taken.code, "23505");
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_goes_on_answering() {
    let mut rig = Rig::pair().await;
    rig.round().await;
    let full = StoreError::Full {
        reason: "test".into(),
    };
    rig.store.fail_with(Some(full));
    let refused = rig.call(failover(false)).await.unwrap_err();
    assert_eq!(refused.code, "53100");
    assert!(refused.hint.is_some());
    let refused = rig.register(wish("three", 9)).await.unwrap_err();
    assert_eq!(refused.code, "53100");
    let answer = rig.send(rig.nodes.report(NodeId(1))).await.unwrap();
    assert!(
        answer.lease.is_some(),
        "an unchanged heartbeat is answered in full"
    );
    assert_eq!(rig.snapshot().await.nodes.len(), 2);
    let waiting = &rig.explain().await[0].waiting;
    assert_eq!(waiting[0].id, "monitor-disk");
    rig.store.fail_with(None);
    rig.call(failover(false)).await.unwrap();
    rig.until("secondary/secondary primary/primary").await;
    assert!(
        rig.explain().await[0]
            .waiting
            .iter()
            .all(|w| w.id != "monitor-disk")
    );
}

#[tokio::test]
async fn nothing_is_told_that_could_not_be_stored() {
    let mut rig = Rig::pair().await;
    rig.round().await;
    rig.store.fail_with(Some(StoreError::ReadOnly {
        reason: "test".into(),
    }));
    rig.kill(NodeId(1)).await;
    for _ in 0..5 {
        rig.round().await;
    }
    let goal = rig.nodes.get(NodeId(2)).goal.unwrap();
    assert_eq!(
        goal.stamp.term,
        Term(1),
        "a promise was asked for without a durable term"
    );
    rig.store.fail_with(None);
    let began = Instant::now();
    while !rig.states().await.ends_with("wait_primary/wait_primary") {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{}",
            rig.states().await
        );
        rig.round().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn settings_are_kept_and_those_of_the_file_stand_above_them() {
    let rig = Rig::pair().await;
    let set = |name: &str, value: Option<&str>| Call::SetSetting {
        name: name.into(),
        value: value.map(Into::into),
    };
    rig.call(set("pgautofailover.startup_grace_period", Some("7000")))
        .await
        .unwrap();
    rig.call(set("lease", Some("4000"))).await.unwrap();
    assert_eq!(
        rig.call(set("lease", Some("5"))).await.unwrap_err().code,
        "22023"
    );
    assert_eq!(
        rig.call(set("nonsense", None)).await.unwrap_err().code,
        "42704"
    );
    let mut rig = rig.restart(Continuation::Proven).await;
    let lease = rig.send(rig.nodes.report(NodeId(1))).await.unwrap().lease;
    assert_eq!(lease.unwrap().duration_ms, 4000);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let file = vec![("lease".to_owned(), "3000".to_owned())];
    rig.handle.tell(Input::Reload { file, reply }).await;
    assert!(answer.await.unwrap().is_empty());
    let lease = rig.send(rig.nodes.report(NodeId(1))).await.unwrap().lease;
    assert_eq!(lease.unwrap().duration_ms, 3000);
    assert_eq!(
        rig.call(set("lease", None)).await.unwrap_err().code,
        "55000"
    );
    let rows = rig.snapshot().await;
    let shown = |name: &str| {
        rows.settings
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    assert_eq!(shown("lease").as_deref(), Some("3000"));
    assert_eq!(shown("startup_grace_period").as_deref(), Some("7000"));
}

#[tokio::test]
async fn the_longest_lease_is_stored_before_it_is_granted_and_never_becomes_shorter() {
    let mut rig = Rig::pair().await;
    let file = async |rig: &Rig, value: &str| {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let file = vec![("lease".to_owned(), value.to_owned())];
        rig.handle.tell(Input::Reload { file, reply }).await;
        assert!(answer.await.unwrap().is_empty());
    };
    let stored = async |rig: &Rig| {
        let values = rig.store.load_all().await.unwrap();
        let meta: serde_json::Value = serde_json::from_str(&values["monitor"].value).unwrap();
        meta["longest_lease_ms"].as_u64().unwrap()
    };
    assert_eq!(stored(&rig).await, 5000);
    // Nothing can be stored: no longer lease is granted.
    rig.store.fail_with(Some(StoreError::Full {
        reason: "test".into(),
    }));
    file(&rig, "9000").await;
    let lease = rig.send(rig.nodes.report(NodeId(1))).await.unwrap().lease;
    assert_eq!(lease.unwrap().duration_ms, 5000);
    rig.store.fail_with(None);
    let lease = rig.send(rig.nodes.report(NodeId(1))).await.unwrap().lease;
    assert_eq!(lease.unwrap().duration_ms, 9000);
    assert_eq!(stored(&rig).await, 9000);
    file(&rig, "1000").await;
    let rig = rig.restart(Continuation::Proven).await;
    assert_eq!(
        stored(&rig).await,
        9000,
        "a restarted monitor waits that out"
    );
}

#[tokio::test]
async fn a_silent_primary_makes_the_monitor_ask_its_standby_for_a_look() {
    let mut rig = Rig::pair().await;
    rig.round().await;
    let began = Instant::now();
    let look = loop {
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "nobody asks for a look"
        );
        let answer = rig.send(rig.nodes.report(NodeId(2))).await.unwrap();
        rig.nodes.obey(NodeId(2), &answer);
        let (_, _, queue) = rig.sessions.get_mut(&NodeId(2)).unwrap();
        let pushed = queue.try_next();
        let answer = pushed.map(|p| serde_json::from_str::<Answer>(&p.payload).unwrap());
        if let Some((number, peer)) = answer.and_then(|a| a.look) {
            break (number, peer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(look.1.node, NodeId(1));
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "two heartbeats may be late"
    );
}

#[tokio::test]
async fn every_input_is_answered_though_more_come_than_one_turn_takes() {
    let rig = Rig::new().await;
    let asks = (0..TURN * 2 + 1).map(|_| rig.handle.ask(|reply| Input::Verifier { reply }));
    let answers = futures::future::join_all(asks).await;
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn what_if_is_answered_and_the_sources_of_settings_are_named() {
    let rig = Rig::pair().await;
    let ask = |name: &str, fault: &str| Question::WhatIf {
        formation: "default".into(),
        node_name: name.into(),
        fault: fault.into(),
    };
    let text = rig.ask(ask("node_1", "down")).await.unwrap();
    let told: WhatIf = serde_json::from_str(&text).unwrap();
    assert_eq!((told.winner, told.bytes_at_risk), (Some(NodeId(2)), 0));
    assert_eq!(
        rig.ask(ask("nope", "down")).await.unwrap_err().code,
        "42704"
    );
    assert_eq!(
        rig.ask(ask("node_1", "on fire")).await.unwrap_err().code,
        "22023"
    );
    let set = Call::SetSetting {
        name: "lease".into(),
        value: Some("4000".into()),
    };
    rig.call(set).await.unwrap();
    let text = rig.ask(Question::Settings).await.unwrap();
    let settings: Vec<SettingView> = serde_json::from_str(&text).unwrap();
    let lease = settings.iter().find(|s| s.name == "lease").unwrap();
    assert_eq!((lease.value, lease.source.as_str()), (4000, "set"));
    assert!(settings.iter().any(|s| s.source == "default"));
}
