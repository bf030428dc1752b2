//! What the keeper says to the monitor.

use alloc::string::String;
use alloc::vec::Vec;

use pgaf_protocol::{
    CopyId, CopyRole, Look, MetadataSeen, Order, PROTOCOL_VERSION, Postgres, Promise, Report,
    TimelineId, UpstreamSeen,
};

use super::{Directory, NodeView, Plan, Replication, Work};

/// What only the shell knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// The answer to a wish for a look.
    pub look: Option<Look>,
    /// The keeper is stopping.
    pub leaving: bool,
    /// The answer of this run whose incarnation is obeyed has come.
    pub answered: bool,
    /// What the coordinator's node metadata says.
    pub metadata: Option<MetadataSeen>,
    /// Hosts whose sessions are refused.
    pub shut_out: Vec<String>,
}

/// Makes the report.
#[must_use]
pub fn report(view: &NodeView, plan: &Plan, extras: &Extras) -> Report {
    let journal = view.journal;
    let observation = view.observation;
    let server = observation.server.as_ref();
    let goal = journal.goal.as_ref().filter(|_| plan.reached);
    let whole = match journal.work {
        Some(Work::Initdb { .. } | Work::Rewind { .. } | Work::Replace { .. }) => false,
        Some(Work::Promote { .. }) | None => {
            observation.postgres.is_running() || observation.directory.contents().is_some()
        }
    };
    let position = view.received().filter(|_| whole);
    Report {
        protocol: PROTOCOL_VERSION,
        formation: journal.formation.clone(),
        group: journal.group,
        node: journal.node,
        lineage: journal.lineage,
        incarnation: journal.incarnation.filter(|_| extras.answered),
        seen: journal.seen,
        reached: goal.map_or(journal.reached, |goal| goal.stamp),
        state: goal.map_or(journal.state, |goal| goal.state),
        copy: journal.copy.filter(|_| whole),
        role: if whole { journal.role } else { CopyRole::None },
        system_identifier: journal.system_identifier,
        postgres: observation.postgres,
        position,
        replayed: server.and_then(|s| s.replayed),
        redo_bytes: observation.redo_bytes,
        history: view.history().filter(|_| whole).cloned(),
        promise: promise(view, plan, whole),
        confirmed: view
            .memory
            .confirmed
            .filter(|c| observation.since() == Some(c.postmaster_start)),
        checkpointed: view.memory.checkpointed,
        standbys: server.map(|s| s.senders.clone()).unwrap_or_default(),
        upstream: upstream(view),
        look: extras.look,
        gate: server.map(|s| s.gate),
        failed_starts: failed_starts(view),
        progress: observation.progress.clone(),
        trouble: plan.trouble.clone(),
        leaving: extras.leaving,
        closed: view.memory.hba.as_ref().is_some_and(|hba| hba.closed)
            && observation.postgres.is_running(),
        leased: journal.lease().filter(|_| observation.fencer),
        metadata: extras
            .metadata
            .clone()
            .filter(|_| observation.postgres.is_primary()),
        shut_out: extras.shut_out.clone(),
    }
}

/// A primary's directory that is no whole copy any more cannot be started: nobody needs to wait
/// until that has been tried.
fn failed_starts(view: &NodeView) -> u32 {
    let broken = matches!(view.observation.directory, Directory::Broken { .. });
    let hopeless = broken && view.observation.is_down() && view.journal.opened().is_some();
    view.memory.failed_starts.max(u32::from(hopeless))
}

/// The promise that stands; its position only while nothing can be received any more.
fn promise(view: &NodeView, plan: &Plan, whole: bool) -> Option<Promise> {
    let term = view.journal.promise?;
    let order = view.journal.goal.as_ref().map(|goal| &goal.order);
    let promising = match order {
        Some(Order::Promise { .. } | Order::Reach(_) | Order::Fetch(_)) => plan.reached,
        Some(Order::Promote(_)) => !view.observation.postgres.is_primary(),
        Some(Order::Wait | Order::Lead(_) | Order::Follow(_) | Order::Stop | Order::Drop)
        | None => false,
    };
    Some(Promise {
        term,
        copy: view.journal.copy.unwrap_or(CopyId(0)),
        position: view.memory.end.filter(|_| promising && whole),
    })
}

fn upstream(view: &NodeView) -> Option<UpstreamSeen> {
    let server = view.observation.server.as_ref()?;
    let Postgres::Running {
        in_recovery: true, ..
    } = view.observation.postgres
    else {
        return None;
    };
    let peer = match &view.memory.conf.as_ref()?.replication {
        Replication::Follow(peer) => peer,
        Replication::Primary | Replication::Promise => return None,
    };
    Some(UpstreamSeen {
        node: peer.node,
        streaming: server.receiver.is_some_and(|r| r.streaming),
        fresh: server.receiver.is_some_and(|r| r.fresh),
        timeline: TimelineId(server.timeline.0),
    })
}
