//! What a keeper remembers on its disk, and every change that can be made to it.

use alloc::string::String;
use alloc::vec::Vec;

use pgaf_protocol::{
    CopyId, CopyRole, FormationId, Goal, GroupId, Incarnation, KeeperSettings, Lineage, NodeId,
    NodeState, Order, Peer, Registered, Stamp, SyncConfig, Term,
};
use serde::{Deserialize, Serialize};

/// A keeper's journal: durable (file and folder) before anything that follows from it is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Journal {
    /// Written before the node registers: a killed `create` goes on with the same one.
    pub token: String,
    /// The formation.
    pub formation: FormationId,
    /// The node's id; 0 until it is registered.
    pub node: NodeId,
    /// Its group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// The monitor's store, pinned.
    #[serde(default)]
    pub lineage: Option<Lineage>,
    /// The monitor's run that is obeyed.
    #[serde(default)]
    pub incarnation: Option<Incarnation>,
    /// The highest (term, sequence) ever seen: older goals are refused.
    #[serde(default)]
    pub seen: Stamp,
    /// The goal that is obeyed.
    #[serde(default)]
    pub goal: Option<Goal>,
    /// The last goal that was carried out in full.
    #[serde(default)]
    pub reached: Stamp,
    /// Its state, which is the one reported.
    #[serde(default)]
    pub state: NodeState,
    /// The highest term a promise was given for: nothing older is received or acknowledged.
    #[serde(default)]
    pub promise: Option<Term>,
    /// The copy in PGDATA.
    #[serde(default)]
    pub copy: Option<CopyId>,
    /// What it was used as last.
    #[serde(default)]
    pub role: CopyRole,
    /// Postgres' system identifier.
    #[serde(default)]
    pub system_identifier: Option<u64>,
    /// A step that must not be taken for something else when the keeper is killed within it.
    #[serde(default)]
    pub work: Option<Work>,
    /// Roles, database and extensions are there.
    #[serde(default)]
    pub prepared: bool,
    /// The copy was promoted, and no checkpoint says so yet: until then `pg_rewind` takes it to be
    /// on its old timeline.
    #[serde(default)]
    pub checkpoint_due: bool,
    /// Whom it followed last.
    #[serde(default)]
    pub upstream: Option<Peer>,
    /// The other nodes of the group, for HBA rules and for asking when the monitor is away.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// The monitor's settings.
    #[serde(default)]
    pub settings: KeeperSettings,
    /// The name and address that the monitor knows of this node.
    #[serde(default)]
    pub announced: Option<Peer>,
    /// The node has been removed.
    #[serde(default)]
    pub dropped: bool,
}

/// What is being done to the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Work {
    /// A new cluster is being made; it will be this copy.
    Initdb {
        /// Its name.
        copy: CopyId,
    },
    /// PGDATA is being rewound in place; until its file says this name it is no copy.
    Rewind {
        /// Its name afterwards.
        copy: CopyId,
    },
    /// A whole new copy is being put in the place of the old one.
    Replace {
        /// Its name.
        copy: CopyId,
    },
    /// `pg_promote` may have been called.
    Promote {
        /// For this term.
        term: Term,
    },
}

impl Work {
    /// The name of the copy that results.
    #[must_use]
    pub fn copy(self) -> Option<CopyId> {
        match self {
            Self::Initdb { copy } | Self::Rewind { copy } | Self::Replace { copy } => Some(copy),
            Self::Promote { .. } => None,
        }
    }
}

/// One change of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum Entry {
    /// The monitor has registered the node.
    Registered(Registered),
    /// A goal is accepted; a goal to promise is a promise at once.
    Obey {
        /// The goal.
        goal: Goal,
        /// The monitor's store.
        lineage: Lineage,
        /// Its run.
        incarnation: Incarnation,
    },
    /// The monitor's other words.
    Surroundings {
        /// Its store.
        lineage: Lineage,
        /// Its run.
        incarnation: Incarnation,
        /// Other nodes.
        peers: Vec<Peer>,
        /// Settings.
        settings: KeeperSettings,
    },
    /// From here on nothing older than this term is received or acknowledged.
    Promise {
        /// The term.
        term: Term,
    },
    /// The copy is opened for writing in this term.
    Open {
        /// The term.
        term: Term,
    },
    /// The copy is started as a standby.
    Standby,
    /// A step begins that changes what the data directory is.
    Begin {
        /// Which.
        work: Work,
    },
    /// That step is over, and nothing has changed.
    Over,
    /// The data directory is this copy.
    Copied {
        /// Its name.
        copy: CopyId,
        /// What it is.
        role: CopyRole,
        /// The cluster.
        system_identifier: u64,
        /// Whether roles and database are known to be there.
        prepared: bool,
    },
    /// Roles, database and extensions are there.
    Prepared,
    /// The checkpoint after a promotion was done.
    Checkpointed,
    /// The monitor knows this name and address.
    Announced {
        /// This node, as others see it.
        as_peer: Peer,
    },
    /// The goal has been carried out.
    Reached {
        /// Which.
        stamp: Stamp,
        /// Its state.
        state: NodeState,
    },
    /// The node has been removed.
    Dropped,
}

impl Entry {
    /// A stable word for it, for logs, failpoints and what a search has seen.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Registered(_) => "registered",
            Self::Obey { .. } => "obey",
            Self::Surroundings { .. } => "surroundings",
            Self::Promise { .. } => "promise",
            Self::Open { .. } => "open",
            Self::Standby => "standby",
            Self::Begin { .. } => "begin",
            Self::Over => "over",
            Self::Copied { .. } => "copied",
            Self::Prepared => "prepared",
            Self::Checkpointed => "checkpointed",
            Self::Announced { .. } => "announced",
            Self::Reached { .. } => "reached",
            Self::Dropped => "dropped",
        }
    }
}

impl Journal {
    /// The journal of a node that is about to register.
    #[must_use]
    pub fn new(token: String, formation: FormationId) -> Self {
        Self {
            token,
            formation,
            ..Self::default()
        }
    }

    /// Makes one change. The shell writes the result before it acts on it.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Registered(r) => {
                self.node = r.node;
                self.group = r.group;
                self.name = r.name;
                self.lineage = Some(r.lineage);
                // Nothing has been done yet: the state it is to reach comes with its first goal.
                self.state = NodeState::Init;
                self.dropped = false;
            }
            Entry::Obey {
                goal,
                lineage,
                incarnation,
            } => self.obey(goal, lineage, incarnation),
            Entry::Surroundings {
                lineage,
                incarnation,
                peers,
                settings,
            } => {
                self.lineage = Some(lineage);
                self.incarnation = Some(incarnation);
                self.peers = peers;
                self.settings = settings;
            }
            Entry::Promise { term } => self.promise = self.promise.max(Some(term)),
            Entry::Open { term } => {
                self.role = CopyRole::Primary { term };
                self.checkpoint_due |= matches!(self.work, Some(Work::Promote { .. }));
                self.work = None;
            }
            Entry::Standby => {
                self.checkpoint_due = false;
                self.role = CopyRole::Standby;
                self.prepared = true;
            }
            Entry::Begin { work } => self.work = Some(work),
            Entry::Over => self.work = None,
            Entry::Copied {
                copy,
                role,
                system_identifier,
                prepared,
            } => {
                self.copy = Some(copy);
                self.role = role;
                self.system_identifier = Some(system_identifier);
                self.prepared = prepared;
                self.work = None;
            }
            Entry::Prepared => self.prepared = true,
            Entry::Checkpointed => self.checkpoint_due = false,
            Entry::Announced { as_peer } => {
                self.name.clone_from(&as_peer.name);
                self.announced = Some(as_peer);
            }
            Entry::Reached { stamp, state } => {
                self.reached = stamp;
                self.state = state;
            }
            Entry::Dropped => self.dropped = true,
        }
    }

    fn obey(&mut self, goal: Goal, lineage: Lineage, incarnation: Incarnation) {
        debug_assert!(goal.stamp >= self.seen, "invariant 3: stamps never go back");
        self.lineage = Some(lineage);
        self.incarnation = Some(incarnation);
        self.seen = self.seen.max(goal.stamp);
        match &goal.order {
            Order::Promise { .. } => self.promise = self.promise.max(Some(goal.stamp.term)),
            Order::Follow(follow) => self.upstream = Some(follow.upstream.clone()),
            Order::Fetch(fetch) => {
                self.promise = self.promise.max(Some(goal.stamp.term));
                self.upstream = Some(fetch.source.clone());
            }
            Order::Wait
            | Order::Lead(_)
            | Order::Reach(_)
            | Order::Promote(_)
            | Order::Stop
            | Order::Drop => {}
        }
        self.goal = Some(goal);
    }

    /// The configuration the goal asks a primary for, and when it was put on the list.
    #[must_use]
    pub fn sync(&self) -> Option<(&SyncConfig, Stamp)> {
        match &self.goal.as_ref()?.order {
            Order::Lead(lead) => Some((&lead.sync, lead.sync_stamp)),
            Order::Promote(promote) => Some((&promote.sync, promote.sync_stamp)),
            Order::Wait
            | Order::Follow(_)
            | Order::Promise { .. }
            | Order::Reach(_)
            | Order::Fetch(_)
            | Order::Stop
            | Order::Drop => None,
        }
    }

    /// The statement of `safety.md` §5.2: the monitor promotes nobody without this copy. It stands
    /// as long as the goal obeyed is to lead under `''`, and not in lease mode.
    #[must_use]
    pub fn stated_alone(&self) -> bool {
        match self.goal.as_ref().map(|goal| &goal.order) {
            Some(Order::Lead(lead)) => lead.sync.is_asynchronous() && lead.lease.is_none(),
            Some(
                Order::Wait
                | Order::Follow(_)
                | Order::Promise { .. }
                | Order::Reach(_)
                | Order::Fetch(_)
                | Order::Promote(_)
                | Order::Stop
                | Order::Drop,
            )
            | None => false,
        }
    }

    /// Lease mode, and since when (`safety.md` §5.3).
    #[must_use]
    pub fn lease(&self) -> Option<Stamp> {
        match &self.goal.as_ref()?.order {
            Order::Lead(lead) => lead.lease,
            Order::Wait
            | Order::Follow(_)
            | Order::Promise { .. }
            | Order::Reach(_)
            | Order::Fetch(_)
            | Order::Promote(_)
            | Order::Stop
            | Order::Drop => None,
        }
    }

    /// The term the copy was opened for writing in, unless it has been a standby since.
    #[must_use]
    pub fn opened(&self) -> Option<Term> {
        match self.role {
            CopyRole::Primary { term } => Some(term),
            CopyRole::None | CopyRole::Standby => None,
        }
    }

    /// Whether a later promise forbids the copy to be open for writing in its term.
    #[must_use]
    pub fn promised_away(&self) -> bool {
        match (self.opened(), self.promise) {
            (Some(opened), Some(promise)) => {
                // A goal to lead in the promise's term or a later one lifts it.
                promise > opened
                    && !self.goal.as_ref().is_some_and(|goal| {
                        goal.stamp.term >= promise && matches!(goal.order, Order::Lead(_))
                    })
            }
            (None, Some(_) | None) | (Some(_), None) => false,
        }
    }
}
