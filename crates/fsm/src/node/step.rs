//! The single actions a keeper can take: each may be repeated, each says how it is known to be done.

use alloc::collections::BTreeSet;
use alloc::string::String;

use pgaf_protocol::{CopyId, NodeId, Peer, Position, Stamp, SyncConfig, Time, TimelineId};
use serde::{Deserialize, Serialize};

use super::Entry;

/// The value of `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Names {
    /// A name nobody has: what standbys run with (`safety.md` §2.7).
    Nobody,
    /// A configuration; `''` when it is asynchronous.
    Sync(SyncConfig),
}

/// The part of the configuration that differs between roles.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Replication {
    /// A primary.
    Primary,
    /// A standby of this node.
    Follow(Peer),
    /// A standby that takes no WAL from anywhere.
    Promise,
}

/// What has to be in our configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conf {
    /// `synchronous_standby_names`.
    pub names: Names,
    /// Upstream.
    pub replication: Replication,
}

/// How Postgres is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMode {
    /// Sessions are ended, a checkpoint is written, standbys get it all.
    Fast,
    /// At once.
    Immediate,
}

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Step {
    /// Change the journal. Done when file and folder are on disk.
    Journal(Entry),
    /// End and await every process of the cluster. Done when none is left.
    EndCluster,
    /// Make a cluster with this copy id. Done when the data directory has that id.
    Initdb {
        /// Its name.
        copy: CopyId,
    },
    /// Give the copy that is there this name, and reset what `ALTER SYSTEM` holds for settings of
    /// ours. Done when the data directory has that id.
    NameCopy {
        /// The name.
        copy: CopyId,
    },
    /// Write configuration, HBA rules and `standby.signal`, and start Postgres. Done when its
    /// process exists; whether it answers is observed.
    Start {
        /// As a standby.
        standby: bool,
        /// Its configuration.
        conf: Conf,
        /// Only replication and keepers are let in.
        closed: bool,
    },
    /// Stop Postgres and await every process of the cluster. Done when none is left.
    Stop {
        /// How.
        mode: StopMode,
    },
    /// Read the end of valid WAL of the stopped copy. Done with [`Outcome::Position`].
    ReadPosition,
    /// Load this configuration without a restart. Done when a new session has seen it.
    Load {
        /// The configuration.
        conf: Conf,
    },
    /// Load this configuration, whose upstream is gone, and see that no WAL can arrive any more.
    /// Done with [`Outcome::Position`].
    StopReceiving {
        /// The configuration.
        conf: Conf,
    },
    /// Load `''`. Done with [`Outcome::Confirmed`].
    LoadEmpty {
        /// The configuration.
        conf: Conf,
        /// Its place on the list.
        stamp: Stamp,
    },
    /// Turn waiting on, then load the names. Done with [`Outcome::Confirmed`].
    TurnWaitingOn {
        /// The configuration.
        conf: Conf,
        /// Its place on the list.
        stamp: Stamp,
    },
    /// Load the names and see them in force. Done with [`Outcome::Confirmed`].
    Confirm {
        /// The configuration.
        conf: Conf,
        /// Its place on the list.
        stamp: Stamp,
    },
    /// Make our slots exactly these. Done when they are.
    EnsureSlots {
        /// Nodes that may stream.
        admitted: BTreeSet<NodeId>,
        /// Nodes whose WAL is only held.
        expected: BTreeSet<NodeId>,
    },
    /// End the walsender of a node that may not stream. Done when it is gone.
    EndSender {
        /// The node.
        node: NodeId,
    },
    /// Create roles, database and extensions that are missing. Done when they are there.
    EnsureObjects,
    /// Make our HBA rules those of the journaled peers. Done when they are loaded.
    WriteHba {
        /// Only replication and keepers are let in.
        closed: bool,
    },
    /// Run a checkpoint. Done when it is over.
    Checkpoint {
        /// The goal that asked for it.
        stamp: Stamp,
    },
    /// Replay everything, mark the numbers below `timeline` as used, promote. Done when Postgres
    /// takes writes on `timeline`.
    Promote {
        /// The number of the new timeline.
        timeline: TimelineId,
        /// What must be replayed.
        position: Position,
    },
    /// Run `pg_rewind` against this node. Done with [`Outcome::Rewound`].
    Rewind {
        /// The primary.
        upstream: Peer,
        /// The copy's name afterwards.
        copy: CopyId,
    },
    /// Take a base backup into a second directory. Done when it is whole and on disk.
    BaseBackup {
        /// The primary.
        upstream: Peer,
        /// The name of the new copy.
        copy: CopyId,
    },
    /// Put the second directory in the place of PGDATA. Done when PGDATA has that copy's id.
    SwapIn {
        /// The new copy.
        copy: CopyId,
    },
    /// Look at the journaled peers' Postgres. Done with [`Outcome::Peers`].
    AskPeers,
    /// Start the process that ends Postgres when the lease does, and that is told of each new lease.
    /// Done when it guards this data directory.
    StartFencer {
        /// The end of the present lease.
        until: Time,
    },
    /// End that process. Done when it is gone.
    EndFencer,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// Done.
    Done,
    /// Done, and this is the position.
    Position {
        /// How far the copy has received WAL.
        position: Position,
    },
    /// The copy has no position that can be read.
    NoPosition {
        /// Why.
        why: String,
        /// What it has received for certain, though it is not consistent there: enough to be
        /// checked against a primary's history, never enough for a promise.
        #[serde(default)]
        at_least: Option<Position>,
    },
    /// Done, and in force in this run of the postmaster.
    Confirmed {
        /// When that started.
        postmaster_start: i64,
    },
    /// What the peers say.
    Peers {
        /// A primary on a newer timeline was seen, or one with a newer timeline than ours.
        newer: bool,
    },
    /// How a rewind ended.
    Rewound {
        /// How.
        end: RewindEnd,
    },
    /// Waiting is on and the names are loaded, and not seen in force yet.
    Loaded {
        /// What it waits for.
        why: String,
    },
    /// Not done yet; repeat it.
    NotYet {
        /// What it waits for.
        why: String,
    },
    /// It failed; repeat it later.
    Failed {
        /// Why.
        why: String,
    },
}

/// How `pg_rewind` ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewindEnd {
    /// The copy can follow as it is.
    NotNeeded,
    /// It has been rewound and has its new name.
    Done,
    /// It was refused; the copy is what it was.
    Refused {
        /// What was said.
        why: String,
    },
    /// The copy is broken.
    Broken {
        /// What was said.
        why: String,
    },
}

impl Names {
    /// The text that Postgres shows; `None` for nobody's name, which the shell chooses.
    #[must_use]
    pub fn setting(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Sync(config) => Some(config.to_setting()),
        }
    }

    /// Whether both mean the same to Postgres: copies are ours alone.
    #[must_use]
    pub fn same_setting(&self, other: &Self) -> bool {
        self.setting() == other.setting()
    }
}

impl Conf {
    /// A primary's.
    #[must_use]
    pub fn primary(sync: &SyncConfig) -> Self {
        Self {
            names: Names::Sync(sync.clone()),
            replication: Replication::Primary,
        }
    }

    /// A standby's that follows.
    #[must_use]
    pub fn follow(peer: &Peer) -> Self {
        Self {
            names: Names::Nobody,
            replication: Replication::Follow(peer.clone()),
        }
    }

    /// A standby's that has promised.
    #[must_use]
    pub fn promise() -> Self {
        Self {
            names: Names::Nobody,
            replication: Replication::Promise,
        }
    }

    /// Whether both are the same to Postgres.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.names.same_setting(&other.names) && self.replication == other.replication
    }
}

impl Step {
    /// A word for logs, progress and back-off.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Journal(_) => "journal",
            Self::EndCluster => "end-cluster",
            Self::Initdb { .. } => "initdb",
            Self::NameCopy { .. } => "name-copy",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::ReadPosition => "read-position",
            Self::Load { .. } => "load",
            Self::StopReceiving { .. } => "stop-receiving",
            Self::LoadEmpty { .. } => "load-empty-names",
            Self::TurnWaitingOn { .. } => "turn-waiting-on",
            Self::Confirm { .. } => "confirm-names",
            Self::EnsureSlots { .. } => "ensure-slots",
            Self::EndSender { .. } => "end-walsender",
            Self::EnsureObjects => "ensure-objects",
            Self::WriteHba { .. } => "write-hba",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Promote { .. } => "promote",
            Self::Rewind { .. } => "rewind",
            Self::BaseBackup { .. } => "base-backup",
            Self::SwapIn { .. } => "swap-in",
            Self::AskPeers => "ask-peers",
            Self::StartFencer { .. } => "start-fencer",
            Self::EndFencer => "end-fencer",
        }
    }

    /// Whether it may be dropped half-way for another step: it changes nothing that is not
    /// repeated or undone by the next one.
    #[must_use]
    pub fn may_be_dropped(&self) -> bool {
        match self {
            Self::BaseBackup { .. }
            | Self::TurnWaitingOn { .. }
            | Self::Confirm { .. }
            | Self::EnsureSlots { .. }
            | Self::EndSender { .. }
            | Self::EnsureObjects
            | Self::Checkpoint { .. }
            | Self::AskPeers
            | Self::Stop { .. }
            | Self::Load { .. }
            | Self::Promote { .. } => true,
            Self::Journal(_)
            | Self::EndCluster
            | Self::Initdb { .. }
            | Self::NameCopy { .. }
            | Self::Start { .. }
            | Self::ReadPosition
            | Self::StopReceiving { .. }
            | Self::LoadEmpty { .. }
            | Self::WriteHba { .. }
            | Self::Rewind { .. }
            | Self::SwapIn { .. }
            | Self::StartFencer { .. }
            | Self::EndFencer => false,
        }
    }
}
