//! Being a primary: starting as one, and everything that makes its sync configuration true.

use alloc::collections::BTreeSet;
use core::time::Duration;

use pgaf_protocol::{
    CopyRole, Goal, Lead, NodeId, NodeState, Order, Postgres, Stamp, StandbySeen, SyncConfig, Term,
};

use super::step::{Conf, Names, Step, StopMode};
use super::view::{Directory, Server};
use super::{Entry, NodeView, Plan, Work, lease};

/// After a goal, standbys that are admitted by it are looked for often for this long (a receiver
/// retries every 100 ms; chosen).
const RETURNING: Duration = Duration::from_secs(3);

/// Slots of standbys that do not stream are looked after this often: Postgres may have given up
/// their WAL (chosen; a standby in that state needs a base backup anyway).
const SLOTS_AGAIN: Duration = Duration::from_secs(10);

/// What a primary is asked for, by an order to lead or by one to promote that is done.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    pub(super) stamp: Stamp,
    pub(super) state: NodeState,
    pub(super) sync: &'a SyncConfig,
    pub(super) sync_stamp: Stamp,
    pub(super) admitted: BTreeSet<NodeId>,
    pub(super) expected: BTreeSet<NodeId>,
    pub(super) checkpoint: bool,
    /// Lease mode, and since when.
    pub(super) lease: Option<Stamp>,
    /// It has just been promoted: `''` is a goal of its own, later, so that a candidate that nobody
    /// hears of has acknowledged nothing (`safety.md` §4.6).
    pub(super) opening: bool,
}

impl<'a> Wanted<'a> {
    /// What a goal asks a primary for.
    pub(super) fn of(goal: &'a Goal) -> Option<Self> {
        let nodes = |members: &BTreeSet<pgaf_protocol::Member>| {
            members.iter().map(|m| m.node).collect::<BTreeSet<_>>()
        };
        match &goal.order {
            Order::Lead(lead) => Some(Self {
                stamp: goal.stamp,
                state: goal.state,
                sync: &lead.sync,
                sync_stamp: lead.sync_stamp,
                admitted: nodes(&lead.admitted),
                expected: lead.expected.clone(),
                checkpoint: lead.checkpoint,
                lease: lead.lease,
                opening: false,
            }),
            Order::Promote(promote) => Some(Self {
                stamp: goal.stamp,
                state: goal.state,
                sync: &promote.sync,
                sync_stamp: promote.sync_stamp,
                admitted: nodes(&promote.admitted),
                expected: BTreeSet::new(),
                checkpoint: false,
                lease: None,
                opening: true,
            }),
            Order::Wait
            | Order::Follow(_)
            | Order::Promise { .. }
            | Order::Reach(_)
            | Order::Fetch(_)
            | Order::Stop
            | Order::Drop => None,
        }
    }
}

/// Carries out an order to lead.
pub(super) fn obey(view: &NodeView, goal: &Goal, order: &Lead) -> Plan {
    let Some(wanted) = Wanted::of(goal) else {
        return Plan::wait("waits for a goal");
    };
    match view.observation.postgres {
        Postgres::Running { in_recovery, .. } => {
            if in_recovery {
                return Plan::trouble(
                    "told to lead, and Postgres runs as a standby that nobody promoted",
                );
            }
            if view.journal.opened() != Some(goal.stamp.term) {
                return Plan::act(Step::Journal(Entry::Open {
                    term: goal.stamp.term,
                }));
            }
            running(view, &wanted)
        }
        Postgres::Starting => Plan::wait("Postgres is starting").soon(view.now),
        Postgres::Unresponsive => Plan::wait("Postgres does not answer"),
        Postgres::Absent | Postgres::Down { .. } => match &view.observation.directory {
            Directory::Absent => create(view, order),
            Directory::Broken { why } => Plan::trouble(alloc::format!(
                "told to lead, and the data directory is no whole copy: {why}"
            )),
            Directory::Present(_) => down(view, &wanted),
        },
    }
}

fn create(view: &NodeView, order: &Lead) -> Plan {
    if let Some(Work::Initdb { copy }) = view.journal.work {
        return Plan::act(Step::Initdb { copy });
    }
    if view.journal.copy.is_some() {
        return Plan::trouble("told to lead, and the data directory has disappeared");
    }
    if !order.may_create {
        return Plan::trouble("told to lead, and there is no data directory");
    }
    Plan::act(Step::Journal(Entry::Begin {
        work: Work::Initdb {
            copy: view.memory.fresh,
        },
    }))
}

/// Starts a primary's copy in place.
pub(super) fn down(view: &NodeView, wanted: &Wanted) -> Plan {
    let term: Term = wanted.stamp.term;
    match view.journal.role {
        CopyRole::Standby => {
            Plan::trouble("told to lead, and the copy is a standby's that nobody promoted")
        }
        CopyRole::Primary { term: opened } if opened == term => start(view, wanted),
        CopyRole::None | CopyRole::Primary { .. } => Plan::act(Step::Journal(Entry::Open { term })),
    }
}

fn start(view: &NodeView, wanted: &Wanted) -> Plan {
    let fence = must_fence(view, wanted, None);
    if !fence && let Some(step) = lease::guard(view, wanted) {
        return Plan::act(step);
    }
    let conf = if fence && wanted.lease.is_some() {
        lease::shut()
    } else {
        opening_conf(wanted)
    };
    let mut plan = Plan::act(Step::Start {
        standby: false,
        conf,
        closed: fence || must_wait_closed(view, wanted, false),
    });
    plan.fence = fence;
    plan
}

/// What a primary starts with. A promotion that crashed before it was reported goes on as it was: it
/// never opens under `''`, which is a goal of its own (`safety.md` §4.6).
fn opening_conf(wanted: &Wanted) -> Conf {
    let mut conf = Conf::primary(wanted.sync);
    if wanted.opening && wanted.sync.is_asynchronous() {
        conf.names = Names::Nobody;
    }
    conf
}

/// Configures a primary that runs.
pub(super) fn running(view: &NodeView, wanted: &Wanted) -> Plan {
    let (Some(server), Some(since)) = (&view.observation.server, view.observation.since()) else {
        return Plan::wait("looks at Postgres").soon(view.now);
    };
    if let Some(place) = &server.names_overridden {
        return Plan::trouble(alloc::format!(
            "synchronous_standby_names is `{}`, set in {place}, not by us",
            server.names
        ));
    }
    let fence = must_fence(view, wanted, Some(server));
    let closed = view.memory.hba.as_ref().is_some_and(|hba| hba.closed);
    if fence && !closed {
        let mut plan = Plan::act(Step::Stop {
            mode: StopMode::Immediate,
        });
        plan.fence = true;
        return plan;
    }
    let conf = Conf::primary(wanted.sync);
    let loaded = server.names == wanted.sync.to_setting();
    let confirmed = view
        .memory
        .confirmed
        .is_some_and(|c| c.stamp == wanted.sync_stamp && c.postmaster_start == since);
    let in_force = loaded && confirmed;
    // Named standbys must be seen in force before the state says so; a candidate that has just
    // been promoted only needs the names loaded, `''` needs to be loaded for all.
    let alone = wanted.sync.is_asynchronous();
    let enough = if alone && wanted.opening {
        !server.names.is_empty()
    } else if alone || wanted.state == NodeState::Primary {
        in_force
    } else {
        loaded
    };
    let reached = view.journal.prepared && enough;
    let shut = fence || (closed && must_wait_closed(view, wanted, in_force));
    let mut plan = next(view, wanted, server, since, shut, in_force, &conf)
        .map_or_else(Plan::default, Plan::act);
    plan.fence = fence;
    plan.reached = reached;
    if plan.step.is_none() && !reached {
        plan.waiting = Some("waits until the sync configuration is in force".into());
    }
    plan.look_again = view.memory.lease_until.filter(|until| *until > view.now);
    if absent(wanted, server) && view.now.since(view.memory.goal_since) < RETURNING {
        // A standby that may stream does so at any moment, and the monitor waits to hear of it.
        plan = plan.again_at(view.now.plus(Duration::from_millis(20)));
    }
    plan
}

/// Whether a standby that may stream does not.
fn absent(wanted: &Wanted, server: &Server) -> bool {
    wanted.admitted.iter().any(|node| {
        !server
            .senders
            .iter()
            .any(|s| s.node == *node && s.streaming && s.fresh)
    })
}

/// The next thing a running primary lacks, most urgent first.
fn next(
    view: &NodeView,
    wanted: &Wanted,
    server: &Server,
    since: i64,
    closed: bool,
    in_force: bool,
    conf: &Conf,
) -> Option<Step> {
    let memory = view.memory;
    let stamp = wanted.sync_stamp;
    // `''` frees waiting commits, so it comes before everything else.
    let alone = wanted.sync.is_asynchronous();
    if closed && wanted.lease.is_some() {
        // Nobody's name stays loaded, and nothing is written.
        let shut = memory.hba.as_ref().is_some_and(|hba| hba.closed);
        let close = (!shut).then_some(Step::WriteHba { closed });
        return close.or_else(|| slots(view, wanted, server, since));
    }
    // Before commits are freed, somebody guards the end of the lease.
    if alone
        && !server.names.is_empty()
        && let Some(step) = lease::guard(view, wanted)
    {
        return Some(step);
    }
    if alone && !wanted.opening && (!in_force || !memory.has_loaded(conf)) {
        return Some(Step::LoadEmpty {
            conf: conf.clone(),
            stamp,
        });
    }
    if let Some(step) = slots(view, wanted, server, since) {
        return Some(step);
    }
    let settled = alone || (in_force && memory.has_loaded(conf));
    // Names come first; when they must wait for a standby, that may need the checkpoint to return.
    let stuck = memory
        .pause
        .as_ref()
        .is_some_and(|pause| pause.step == "confirm-names");
    if let Some(sender) = server.senders.iter().find(|sender| {
        !wanted.admitted.contains(&sender.node)
            || (!settled && holds_up(sender, wanted.sync, stuck))
    }) {
        return Some(Step::EndSender { node: sender.node });
    }
    if !view.journal.prepared {
        return Some(Step::EnsureObjects);
    }
    if memory
        .hba
        .as_ref()
        .is_none_or(|hba| hba.peers != view.journal.peers || hba.closed != closed)
    {
        let guard = lease::guard(view, wanted).filter(|_| !closed);
        return guard.or(Some(Step::WriteHba { closed }));
    }
    if !closed && let Some(step) = lease::guard(view, wanted) {
        return Some(step);
    }
    if wanted.checkpoint && memory.checkpointed != Some(wanted.stamp) {
        return Some(Step::Checkpoint {
            stamp: wanted.stamp,
        });
    }
    if view.journal.checkpoint_due && (settled || stuck) {
        return Some(Step::Checkpoint {
            stamp: wanted.stamp,
        });
    }
    if settled {
        return None;
    }
    let conf = conf.clone();
    Some(if memory.waits && !server.names.is_empty() {
        Step::Confirm { conf, stamp }
    } else {
        Step::TurnWaitingOn { conf, stamp }
    })
}

/// Whether a walsender keeps names from being seen in force: its standby does not answer, and it
/// would live for `wal_sender_timeout` (`safety.md` §2.2). One that is taken out goes at once; one
/// that is named may answer at any moment, and is waited for first.
fn holds_up(sender: &StandbySeen, sync: &SyncConfig, stuck: bool) -> bool {
    let silent = sender.streaming && !sender.fresh;
    silent && (stuck || !sync.nodes().contains(&sender.node))
}

/// Who may stream has a slot, and whose WAL is held.
fn slots(view: &NodeView, wanted: &Wanted, server: &Server, since: i64) -> Option<Step> {
    let absent = absent(wanted, server);
    let slots = view.memory.slots.as_ref().is_some_and(|slots| {
        // A slot whose WAL was given up is made anew, or its standby never comes back.
        let recent = view.now.since(slots.at) < SLOTS_AGAIN;
        (!absent || recent)
            && slots.since == since
            && slots.admitted == wanted.admitted
            && slots.expected == wanted.expected
    });
    (!slots).then(|| Step::EnsureSlots {
        admitted: wanted.admitted.clone(),
        expected: wanted.expected.clone(),
    })
}

/// Whether clients are kept out of a Postgres that was started under names, until those are seen in
/// force: old minor versions may let the first commits through (`safety.md` §2.7).
fn must_wait_closed(view: &NodeView, wanted: &Wanted, in_force: bool) -> bool {
    view.observation.may_miss_first_wait && !wanted.sync.is_asynchronous() && !in_force
}

/// Whether the primary may not go on serving (`safety.md` §5.1, §5.3): no lease, and no standbys that
/// satisfy the names; in lease mode no lease is enough.
pub(super) fn must_fence(view: &NodeView, wanted: &Wanted, server: Option<&Server>) -> bool {
    if wanted.lease.is_some() {
        return lease::is_over(view, server.is_some());
    }
    if wanted.sync.is_asynchronous() {
        return false;
    }
    // Names that are not in force yet revoke nothing: nobody is promoted without this copy.
    if server.is_some_and(|server| server.names.is_empty()) {
        return false;
    }
    if lease::is_held(view, server.is_some()) {
        return false;
    }
    let nodes = wanted.sync.nodes();
    let streaming = server.map_or(0, |server| {
        server
            .senders
            .iter()
            .filter(|s| s.streaming && s.fresh && nodes.contains(&s.node))
            .count()
    });
    u32::try_from(streaming).unwrap_or(u32::MAX) < wanted.sync.number
}
