//! An abstract small Postgres: what a copy holds, and what its processes are about.
//!
//! Against the simulator's fake: no time, no unflushed tail, replay at once. What makes it dangerous stays:
//! timelines that only look alike, names that the checkpointer and each walsender take up late, replies
//! that are still on their way when their standby has promised, processes that outlive their postmaster.

use pgaf_fsm::node::{
    Conf, Contents, Directory, Names as ConfNames, Observation, Receiver, Replication,
    Server as SeenServer,
};
use pgaf_protocol::{
    CopyId, Fork, GateSettings, History, Lsn, Member, NodeId, Position, Postgres, StandbySeen,
    SyncConfig, TimelineId,
};

use super::names::{Names, Numbered};

/// Where the WAL of a new cluster ends. A record is one byte.
pub(super) const START: u8 = 16;

/// A stretch of WAL: the records up to `end` that one copy wrote on one timeline. Two copies that both
/// open timeline 2 write different stretches, though Postgres cannot tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stretch {
    pub(super) copy: CopyId,
    pub(super) timeline: u8,
    pub(super) term: u8,
    pub(super) end: u8,
}

/// Everything a copy holds, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Path(pub(super) Vec<Stretch>);

/// A record: whose, on which timeline, where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) copy: CopyId,
    pub(super) timeline: u8,
    pub(super) term: u8,
    pub(super) end: u8,
}

impl Path {
    pub(super) fn end(&self) -> u8 {
        self.0.last().map_or(START, |s| s.end)
    }

    pub(super) fn timeline(&self) -> u8 {
        self.0.last().map_or(1, |s| s.timeline)
    }

    pub(super) fn position(&self) -> Position {
        Position {
            timeline: TimelineId(u32::from(self.timeline())),
            lsn: Lsn(u64::from(self.end())),
        }
    }

    /// Writes one more record on the branch that is open.
    pub(super) fn write(&mut self) {
        if let Some(last) = self.0.last_mut() {
            last.end += 1;
        }
    }

    pub(super) fn contains(&self, record: Record) -> bool {
        let mut begin = 0;
        for stretch in &self.0 {
            if stretch.copy == record.copy
                && stretch.timeline == record.timeline
                && begin < record.end
                && record.end <= stretch.end
            {
                return true;
            }
            begin = stretch.end;
        }
        false
    }

    /// Whether everything here is at the beginning of `longer`.
    pub(super) fn is_beginning_of(&self, longer: &Self) -> bool {
        let last = self.0.len().saturating_sub(1);
        self.0.len() <= longer.0.len()
            && self.0.iter().zip(&longer.0).enumerate().all(|(i, (a, b))| {
                let same = a.copy == b.copy && a.timeline == b.timeline;
                same && if i < last {
                    a.end == b.end
                } else {
                    a.end <= b.end
                }
            })
    }

    /// The true history of a timeline on the way.
    pub(super) fn history(&self, timeline: u8) -> History {
        let parents = self
            .0
            .iter()
            .zip(self.0.iter().skip(1))
            .take_while(|(a, _)| a.timeline < timeline)
            .filter(|(a, b)| a.timeline != b.timeline)
            .map(|(a, _)| Fork {
                timeline: TimelineId(u32::from(a.timeline)),
                at: Lsn(u64::from(a.end)),
            })
            .collect();
        History {
            timeline: TimelineId(u32::from(timeline)),
            parents,
        }
    }
}

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub(super) copy: Option<CopyId>,
    pub(super) primary: bool,
    pub(super) clean: bool,
    pub(super) path: Path,
    /// The timeline that the control file names.
    pub(super) control: u8,
    /// Slots, one bit per node.
    pub(super) slots: u8,
    /// A base backup that was never started.
    pub(super) label: bool,
}

/// `synchronous_standby_names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum SyncNames {
    #[default]
    Off,
    Nobody,
    Any {
        number: u8,
        nodes: u8,
    },
}

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    Starting,
    Running,
    /// A fast stop.
    Stopping,
    /// The postmaster is gone; its children live on.
    Headless,
}

/// A walsender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    pub(super) node: u8,
    /// The last reply that it has handled: place and timeline.
    pub(super) flushed: (u8, u8),
    /// The last reply that its standby has sent.
    pub(super) told: (u8, u8),
    /// The names it works with.
    pub(super) names: SyncNames,
}

/// Processes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) boot: i64,
    pub(super) doing: Doing,
    pub(super) recovery: bool,
    /// What a new session sees.
    pub(super) names: SyncNames,
    /// The checkpointer's flag: commits wait.
    pub(super) waits: bool,
    pub(super) upstream: Option<u8>,
    pub(super) receiver: Option<u8>,
    /// `pg_promote` was called, for this term and timeline.
    pub(super) promoting: Option<(u8, u8)>,
    pub(super) senders: Vec<Sender>,
    /// A commit that waits for its standbys ends here.
    pub(super) waiter: Option<u8>,
}

/// Postgres on one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Pg {
    pub(super) disk: Option<Disk>,
    /// A rewind is under way, or was when it was killed.
    pub(super) broken: bool,
    pub(super) staged: Option<Disk>,
    pub(super) server: Option<Server>,
    /// The HBA rules admit only replication and keepers.
    pub(super) closed: bool,
}

impl SyncNames {
    pub(super) fn of(names: &ConfNames) -> Self {
        match names {
            ConfNames::Nobody => Self::Nobody,
            ConfNames::Sync(sync) if sync.is_asynchronous() => Self::Off,
            ConfNames::Sync(sync) => Self::Any {
                number: u8::try_from(sync.number).unwrap_or(u8::MAX),
                nodes: bits(sync.nodes().iter()),
            },
        }
    }

    pub(super) fn has(self, node: u8) -> bool {
        matches!(self, Self::Any { nodes, .. } if nodes & (1 << node) != 0)
    }

    fn text(self) -> String {
        match self {
            Self::Off => String::new(),
            Self::Nobody => "pgaf_nobody".to_owned(),
            Self::Any { number, nodes } => {
                let members = (0..8).filter(|n| nodes & (1 << n) != 0).map(|n| Member {
                    node: NodeId(n + 1),
                    copy: CopyId(0),
                });
                SyncConfig::any(u32::from(number), members).to_setting()
            }
        }
    }
}

pub(super) fn bits<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> u8 {
    nodes.fold(0, |mask, node| mask | bit(*node))
}

pub(super) fn bit(node: NodeId) -> u8 {
    1_u8 << super::names::index(node)
}

pub(super) fn place(node: NodeId) -> u8 {
    u8::try_from(super::names::index(node)).unwrap_or(0)
}

impl Disk {
    /// What a base backup or a rewind makes of a source.
    pub(super) fn copied(&self, copy: CopyId, label: bool) -> Self {
        Self {
            copy: Some(copy),
            primary: false,
            clean: false,
            path: self.path.clone(),
            control: self.path.timeline(),
            slots: 0,
            label,
        }
    }
}

/// Where a configuration file sends a standby.
pub(super) fn upstream_of(conf: &Conf) -> Option<u8> {
    match &conf.replication {
        Replication::Primary | Replication::Promise => None,
        Replication::Follow(peer) => Some(place(peer.node)),
    }
}

impl Pg {
    /// The server, if it takes sessions.
    pub(super) fn running(&self) -> Option<(&Disk, &Server)> {
        let server = self.server.as_ref()?;
        (server.doing == Doing::Running).then_some(())?;
        Some((self.disk.as_ref()?, server))
    }

    /// Whether its processes can send WAL and end waits.
    pub(super) fn serves(&self) -> Option<(&Disk, &Server)> {
        let server = self.server.as_ref()?;
        (server.doing != Doing::Starting).then_some(())?;
        Some((self.disk.as_ref()?, server))
    }

    /// One look; `away` are the nodes from which nothing comes any more.
    pub(super) fn observe(&self, away: u8) -> Observation {
        Observation {
            postgres: self.postgres(),
            leftovers: self
                .server
                .as_ref()
                .is_some_and(|s| s.doing == Doing::Headless),
            directory: self.directory(),
            server: self.look(away),
            ..Observation::default()
        }
    }

    pub(super) fn postgres(&self) -> Postgres {
        let Some(server) = &self.server else {
            return if self.disk.is_some() || self.broken {
                Postgres::Down { crashed: true }
            } else {
                Postgres::Absent
            };
        };
        match server.doing {
            Doing::Starting => Postgres::Starting,
            Doing::Running => Postgres::Running {
                since: server.boot,
                in_recovery: server.recovery,
            },
            Doing::Stopping => Postgres::Unresponsive,
            Doing::Headless => Postgres::Down { crashed: true },
        }
    }

    fn directory(&self) -> Directory {
        if self.broken {
            return Directory::Broken { why: String::new() };
        }
        let Some(disk) = &self.disk else {
            return Directory::Absent;
        };
        Directory::Present(Contents {
            copy: disk.copy,
            system_identifier: 1,
            was_primary: disk.primary,
            clean: disk.clean && self.server.is_none(),
            timeline: TimelineId(u32::from(disk.control)),
            history: Some(disk.path.history(disk.control)),
        })
    }

    fn look(&self, away: u8) -> Option<SeenServer> {
        let (disk, server) = self.running()?;
        let here = disk.path.position();
        let senders = server.senders.iter().map(|s| StandbySeen {
            node: NodeId(i64::from(s.node) + 1),
            streaming: true,
            flushed: Lsn(u64::from(s.flushed.0)),
            lag_bytes: 0,
            fresh: away & (1 << s.node) == 0,
            synchronous: s.names.has(s.node),
        });
        Some(SeenServer {
            in_recovery: server.recovery,
            timeline: here.timeline,
            lsn: here.lsn,
            received: server.recovery.then_some(here.lsn),
            replayed: server.recovery.then_some(here.lsn),
            names: server.names.text(),
            names_overridden: None,
            senders: senders.collect(),
            receiver: server.receiver.map(|up| Receiver {
                streaming: true,
                fresh: away & (1 << up) == 0,
            }),
            gate: GateSettings::default(),
            history: Some(disk.path.history(disk.path.timeline())),
            system_identifier: 1,
        })
    }

    /// All processes end.
    pub(super) fn end(&mut self) {
        self.server = None;
    }
}

impl Numbered for Path {
    fn visit(&mut self, names: &mut Names) {
        for stretch in &mut self.0 {
            names.copy(&mut stretch.copy);
        }
    }
}

impl Numbered for Disk {
    fn visit(&mut self, names: &mut Names) {
        if let Some(copy) = &mut self.copy {
            names.copy(copy);
        }
        self.path.visit(names);
    }
}

/// Postgres of a node, as one part of a state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct NodePg {
    pub(super) node: NodeIndex,
    pub(super) pg: Pg,
}

/// The place of a node in a state.
pub(super) type NodeIndex = u8;

impl Numbered for NodePg {
    fn visit(&mut self, names: &mut Names) {
        let node = NodeId(i64::from(self.node) + 1);
        if let Some(disk) = &mut self.pg.disk {
            disk.visit(names);
        }
        if let Some(disk) = &mut self.pg.staged {
            disk.visit(names);
        }
        if let Some(server) = &mut self.pg.server {
            names.boot(node, &mut server.boot);
        }
    }
}
