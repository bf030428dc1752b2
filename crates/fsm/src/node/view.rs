//! What the keeper's brain looks at.

use alloc::string::String;
use alloc::vec::Vec;

use pgaf_protocol::{
    CopyId, GateSettings, History, Lsn, Position, Postgres, Progress, StandbySeen, Time, TimelineId,
};
use serde::{Deserialize, Serialize};

use super::{Journal, Memory};

/// Everything a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    /// What is on disk.
    pub journal: &'a Journal,
    /// What this run of the keeper knows.
    pub memory: &'a Memory,
    /// What was seen just now.
    pub observation: &'a Observation,
    /// The time.
    pub now: Time,
}

/// One look at Postgres and at its data directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observation {
    /// Postgres itself.
    pub postgres: Postgres,
    /// Its postmaster is gone, and processes of the cluster may live on.
    pub leftovers: bool,
    /// The data directory. While Postgres runs this is the last look before.
    pub directory: Directory,
    /// What Postgres says; only while it answers.
    pub server: Option<Server>,
    /// Bytes of WAL that crash recovery would have to redo.
    pub redo_bytes: Option<u64>,
    /// How often, in this run of the keeper, Postgres ended before it answered.
    pub starts_failed: u32,
    /// What it said when it did so last.
    pub start_words: Option<String>,
    /// Those words say that the copy is damaged: starting it again does not help.
    pub start_hopeless: bool,
    /// The WAL that this standby needs next is not kept by its upstream any more.
    pub wal_gone: bool,
    /// This minor version of Postgres may miss the wait of the first commits after its start
    /// (`safety.md` §2.7).
    pub may_miss_first_wait: bool,
    /// What is being done at the moment and takes long.
    pub progress: Option<Progress>,
    /// A fencer guards this data directory.
    pub fencer: bool,
    /// Less than a WAL segment is free where the data directory or its WAL is.
    #[serde(default)]
    pub disk_full: bool,
}

/// PGDATA.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Directory {
    /// Missing or empty.
    #[default]
    Absent,
    /// No whole copy: no control file, or a rewind that was interrupted.
    Broken {
        /// What is wrong.
        why: String,
    },
    /// A copy.
    Present(Contents),
}

/// A copy on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The name in its file; `None` when it has none yet.
    pub copy: Option<CopyId>,
    /// The cluster.
    pub system_identifier: u64,
    /// The control file says that it was open for writing last, and nothing makes it a standby.
    pub was_primary: bool,
    /// The last stop was a clean one.
    pub clean: bool,
    /// The timeline of its last checkpoint.
    pub timeline: TimelineId,
    /// The history of that timeline, when it is known.
    pub history: Option<History>,
}

/// What a running Postgres says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Server {
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The timeline it writes, receives or replays.
    pub timeline: TimelineId,
    /// Primary: end of flushed WAL. Standby: the greater of received and replayed.
    pub lsn: Lsn,
    /// Standby: received since its start; `None` when nothing was.
    pub received: Option<Lsn>,
    /// Standby: replayed.
    pub replayed: Option<Lsn>,
    /// `synchronous_standby_names` in force.
    pub names: String,
    /// Where that value stands, when it is not our file.
    pub names_overridden: Option<String>,
    /// Walsenders with one of our names.
    pub senders: Vec<StandbySeen>,
    /// Standby: the WAL receiver.
    pub receiver: Option<Receiver>,
    /// Settings that a standby must not have lower than its primary.
    pub gate: GateSettings,
    /// The history of its timeline, when it is known.
    pub history: Option<History>,
    /// The cluster.
    pub system_identifier: u64,
}

/// A standby's WAL receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// Its status is `streaming`.
    pub streaming: bool,
    /// A message came within `unhealthy_timeout`.
    pub fresh: bool,
}

impl Directory {
    /// The copy, when there is a whole one.
    #[must_use]
    pub fn contents(&self) -> Option<&Contents> {
        match self {
            Self::Present(contents) => Some(contents),
            Self::Absent | Self::Broken { .. } => None,
        }
    }
}

impl Observation {
    /// Whether nothing of Postgres runs.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.postgres, Postgres::Absent | Postgres::Down { .. })
    }

    /// When the postmaster that answers started.
    #[must_use]
    pub fn since(&self) -> Option<i64> {
        match self.postgres {
            Postgres::Running { since, .. } => Some(since),
            Postgres::Absent
            | Postgres::Down { .. }
            | Postgres::Starting
            | Postgres::Unresponsive => None,
        }
    }
}

impl NodeView<'_> {
    /// How far the copy has received, or written, WAL.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        let running = self.observation.server.as_ref().map(|server| Position {
            timeline: server.timeline,
            lsn: server.lsn,
        });
        if self.observation.postgres.is_primary() {
            return running;
        }
        // What was read from disk before the start stands until more has been received.
        let known = self.memory.end.max(self.memory.disk);
        if self.observation.postgres.is_standby() {
            let trusted = running.filter(|_| self.memory.settled);
            return known.max(trusted);
        }
        known
    }

    /// How far it has received WAL for certain, consistent or not: for the check against the
    /// primary's history, never for a promise.
    #[must_use]
    pub fn received(&self) -> Option<Position> {
        let at_least = self
            .memory
            .at_least
            .filter(|_| !self.observation.postgres.is_running());
        self.position().or(at_least)
    }

    /// The history of the copy's timeline.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        match &self.observation.server {
            Some(server) => server.history.as_ref(),
            None => self.observation.directory.contents()?.history.as_ref(),
        }
    }
}
