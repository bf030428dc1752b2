//! A Postgres that lies as the real one does.
//!
//! Owns data directories, servers, and what they do by themselves: [`serve`] starts and ends them,
//! [`sync`] makes commits wait, [`stream`] replicates. Facts marked `[run]` in `safety.md` are modelled, each shown by a test in `facts`:
//! names take effect in the checkpointer and in each walsender on their own time; a receiver reports
//! its replay position as flushed when it connects; after a restart what was received is not known; the
//! control file names an old timeline until the next checkpoint. Kinder than the real one: WAL is
//! never recycled, disks are never full.

pub(crate) mod serve;
pub(crate) mod stream;
pub(crate) mod sync;

use std::collections::{BTreeMap, BTreeSet};

use pgaf_fsm::node::{Contents, Directory, Names, Receiver as SeenReceiver, Server as SeenServer};
use pgaf_protocol::{
    CopyId, GateSettings, History, Lsn, NodeId, Position, Postgres, StandbySeen, TimelineId,
};

use crate::wal::{BranchId, Path};

/// The size of a WAL segment.
pub(crate) const SEGMENT: u64 = 16 << 20;
/// `wal_receiver_timeout`: twice the default `unhealthy_timeout`.
pub(crate) const RECEIVER_TIMEOUT: u64 = 5000;
/// `wal_sender_timeout`, as our configuration sets it.
pub(crate) const SENDER_TIMEOUT: u64 = 30_000;
/// What counts as fresh: the default `unhealthy_timeout`.
pub(crate) const FRESH: u64 = 2500;

/// The value of `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum SyncNames {
    /// `''`.
    #[default]
    Off,
    /// A name nobody has.
    Nobody,
    /// `ANY number (nodes)`.
    Any {
        number: usize,
        nodes: BTreeSet<NodeId>,
        text: String,
    },
}

impl SyncNames {
    pub(crate) fn of(names: &Names) -> Self {
        match names {
            Names::Nobody => Self::Nobody,
            Names::Sync(config) if config.is_asynchronous() => Self::Off,
            Names::Sync(config) => Self::Any {
                number: usize::try_from(config.number).unwrap_or(usize::MAX),
                nodes: config.nodes(),
                text: config.to_setting(),
            },
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Off => String::new(),
            Self::Nobody => "pgaf_nobody".to_owned(),
            Self::Any { text, .. } => text.clone(),
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        *self == Self::Off
    }

    pub(crate) fn has(&self, node: NodeId) -> bool {
        matches!(self, Self::Any { nodes, .. } if nodes.contains(&node))
    }
}

/// Our configuration file in PGDATA.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConfFile {
    pub(crate) names: SyncNames,
    /// The host that `primary_conninfo` points at.
    pub(crate) upstream: Option<usize>,
}

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) copy: Option<CopyId>,
    pub(crate) system: u64,
    /// It was open for writing last, and has no `standby.signal`.
    pub(crate) primary: bool,
    /// The last stop was a clean one.
    pub(crate) clean: bool,
    pub(crate) path: Path,
    /// Everything up to here survives a power failure.
    pub(crate) flushed: u64,
    /// Where recovery begins.
    pub(crate) redo: u64,
    /// The timeline of the last checkpoint or restart point.
    pub(crate) control_timeline: u32,
    /// `.history` files; `None`: an empty one.
    pub(crate) histories: BTreeMap<u32, Option<History>>,
    pub(crate) slots: BTreeSet<NodeId>,
    pub(crate) conf: ConfFile,
    /// A base backup that was never started.
    pub(crate) backup_label: bool,
}

impl Disk {
    /// What `initdb` makes.
    pub(crate) fn new(copy: CopyId, system: u64) -> Self {
        Self {
            copy: Some(copy),
            system,
            primary: true,
            clean: true,
            path: Path::default(),
            flushed: crate::wal::START,
            redo: crate::wal::START,
            control_timeline: 1,
            histories: BTreeMap::new(),
            slots: BTreeSet::new(),
            conf: ConfFile::default(),
            backup_label: false,
        }
    }

    /// The history of a timeline, if its file is a true one.
    pub(crate) fn history(&self, timeline: u32) -> Option<History> {
        if timeline == 1 {
            return Some(History::first());
        }
        self.histories.get(&timeline).cloned().flatten()
    }

    /// The number that a promotion takes, and the history of the timeline that becomes its parent. As in
    /// Postgres, numbers are probed one by one, and a true history file of the last one found makes
    /// that timeline the parent if this copy could have followed it.
    pub(crate) fn next_timeline(&self) -> (u32, History) {
        let own = self.path.timeline();
        let mut newest = own;
        while self.histories.contains_key(&(newest + 1)) {
            newest += 1;
        }
        let fits = |h: &History| newest > own && h.fits(self.position());
        let parent = self.history(newest).filter(fits);
        let parent = parent.or_else(|| self.history(own));
        (newest + 1, parent.unwrap_or_else(History::first))
    }

    pub(crate) fn position(&self) -> Position {
        Position {
            timeline: TimelineId(self.path.timeline()),
            lsn: Lsn(self.path.end()),
        }
    }

    /// What survives the end of the processes, or of the power.
    pub(crate) fn crash(&mut self, end: u64) {
        self.path.truncate(end.max(self.flushed));
        self.flushed = self.path.end();
    }
}

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Starting,
    Running,
    /// A fast stop: no sessions any more, walsenders are waited for.
    Stopping,
}

/// A walsender.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) conn: u64,
    /// Its `application_name` and slot.
    pub(crate) node: NodeId,
    pub(crate) host: usize,
    /// The standby's word for what it flushed, and replayed.
    pub(crate) flushed: u64,
    pub(crate) reply_at: u64,
    /// The configuration this walsender works with.
    pub(crate) names: SyncNames,
    /// The signal to read the file came, and whether one reply was handled since.
    pub(crate) signalled: Option<bool>,
    /// It has flushed a record of this server's present timeline.
    pub(crate) on_timeline: bool,
}

/// A WAL receiver.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) conn: u64,
    pub(crate) host: usize,
    pub(crate) last_message: u64,
    pub(crate) pinged: u64,
    pub(crate) status_at: u64,
    pub(crate) timeline: u32,
}

/// A commit that waits for its standbys.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    pub(crate) commit: u64,
    pub(crate) lsn: u64,
}

/// Processes.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Which run of a server this is, in the whole world.
    pub(crate) boot: u64,
    pub(crate) since: i64,
    pub(crate) doing: Doing,
    pub(crate) recovery: bool,
    /// The postmaster is gone; its children live on for a moment.
    pub(crate) headless: bool,
    /// SIGSTOPped, or on a disk that does not answer.
    pub(crate) hung: bool,
    /// What a new session sees.
    pub(crate) names: SyncNames,
    /// The checkpointer's flag: commits wait.
    pub(crate) waiting_on: bool,
    /// What the startup process has read of `primary_conninfo`.
    pub(crate) upstream: Option<usize>,
    pub(crate) connecting: Option<(u64, u64)>,
    pub(crate) received: Option<u64>,
    pub(crate) replayed: u64,
    pub(crate) branch: Option<BranchId>,
    pub(crate) senders: Vec<Sender>,
    pub(crate) receiver: Option<Receiver>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) promoting: bool,
    /// A client session exists (it was let in while the server was open).
    pub(crate) client: bool,
    /// Replay waits for a conflicting query until then.
    pub(crate) replay_held: u64,
    /// A fast stop has written its shutdown record up to here.
    pub(crate) shutdown_end: Option<u64>,
    /// When it looks after its connections next.
    pub(crate) next_tick: u64,
}

/// Postgres on one host: directory, second directory, processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pg {
    pub(crate) disk: Option<Disk>,
    /// Why it is no whole copy, when it is not.
    pub(crate) broken: Option<String>,
    pub(crate) staged: Option<Disk>,
    pub(crate) server: Option<Server>,
    /// The HBA rules admit only replication and keepers.
    pub(crate) closed: bool,
    /// So many starts fail.
    pub(crate) bad_starts: u32,
}

impl Pg {
    /// The server, if it takes sessions.
    pub(crate) fn running(&self) -> Option<(&Disk, &Server)> {
        let server = self.server.as_ref()?;
        let takes = server.doing == Doing::Running && !server.headless && !server.hung;
        takes.then_some(())?;
        Some((self.disk.as_ref()?, server))
    }

    /// Whether clients' commits can be made.
    pub(crate) fn writes(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|s| s.doing == Doing::Running && !s.recovery && !s.hung)
    }

    /// The state as the keeper's observation names it.
    pub(crate) fn postgres(&self) -> Postgres {
        let Some(server) = &self.server else {
            return if self.disk.is_some() || self.broken.is_some() {
                Postgres::Down { crashed: true }
            } else {
                Postgres::Absent
            };
        };
        if server.headless {
            return Postgres::Down { crashed: true };
        }
        if server.hung {
            return Postgres::Unresponsive;
        }
        match server.doing {
            Doing::Starting => Postgres::Starting,
            Doing::Running => Postgres::Running {
                since: server.since,
                in_recovery: server.recovery,
            },
            Doing::Stopping => Postgres::Unresponsive,
        }
    }

    pub(crate) fn directory(&self) -> Directory {
        if let Some(why) = &self.broken {
            return Directory::Broken { why: why.clone() };
        }
        let Some(disk) = &self.disk else {
            return Directory::Absent;
        };
        Directory::Present(Contents {
            copy: disk.copy,
            system_identifier: disk.system,
            was_primary: disk.primary,
            clean: disk.clean && self.server.is_none(),
            timeline: TimelineId(disk.control_timeline),
            history: disk.history(disk.control_timeline),
        })
    }

    /// The timeline that a session is told: of what is received, or of what was.
    fn shown_timeline(disk: &Disk, server: &Server) -> u32 {
        match &server.receiver {
            Some(receiver) if server.recovery => receiver.timeline,
            Some(_) | None => disk.path.timeline(),
        }
    }

    /// What a session is told, `None` when there is no answer.
    pub(crate) fn look(&self, now: u64) -> Option<SeenServer> {
        let (disk, server) = self.running()?;
        let timeline = Self::shown_timeline(disk, server);
        let lsn = if server.recovery {
            server.replayed.max(server.received.unwrap_or(0))
        } else {
            disk.flushed
        };
        Some(SeenServer {
            in_recovery: server.recovery,
            timeline: TimelineId(timeline),
            lsn: Lsn(lsn),
            received: server.received.filter(|_| server.recovery).map(Lsn),
            replayed: server.recovery.then_some(Lsn(server.replayed)),
            names: server.names.text(),
            names_overridden: None,
            senders: server.senders.iter().map(|s| seen(s, disk, now)).collect(),
            receiver: server.receiver.as_ref().map(|r| SeenReceiver {
                streaming: true,
                fresh: now.saturating_sub(r.last_message) < FRESH,
            }),
            gate: GateSettings::default(),
            history: disk.history(timeline),
            system_identifier: disk.system,
        })
    }
}

fn seen(sender: &Sender, disk: &Disk, now: u64) -> StandbySeen {
    StandbySeen {
        node: sender.node,
        streaming: true,
        flushed: Lsn(sender.flushed),
        lag_bytes: disk.flushed.saturating_sub(sender.flushed),
        fresh: now.saturating_sub(sender.reply_at) < FRESH,
        synchronous: sender.names.has(sender.node),
    }
}
