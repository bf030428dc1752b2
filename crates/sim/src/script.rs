//! The scenario grammar: a fault told as a story, one step a line.
//!
//! Owns the words of `scenarios/*.txt`: their meaning as values ([`Script`], [`Step`]) and the
//! [`parse`](Script::parse) that reads them. It must never run anything: the same value is run on
//! real Postgres by `cargo xtask scenario`, and by the simulator.
//!
//! ```text
//! # The primary's host dies, the standby takes over, the host comes back.
//! cluster 2 nodes
//! write start
//! kill-host node1
//! wait node2 wait_primary 20s
//! expect outage < 4s
//! start-host node1
//! wait settled 60s
//! expect primary node2
//! expect nothing lost
//! ```
//!
//! There are fifteen verbs, listed in [`VERBS`]. Nodes are called `node1`, `node2`, … in the order
//! of their creation, so `node1` is the primary at the start; `primary` and `standby` are looked
//! up when their step runs.

mod parse;
#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;

pub use parse::ScriptError;

/// Every verb of the grammar with its form and meaning, for messages and documentation.
pub const VERBS: &[(&str, &str, &str)] = &[
    (
        "cluster",
        "cluster N nodes",
        "a monitor and N nodes, settled; the first line",
    ),
    (
        "write",
        "write start|stop",
        "one writer per node, for as long as that node takes writes",
    ),
    (
        "perform",
        "perform \"…\" [refused]",
        "`pg_autoctl perform …`, waits for its end; with `refused` it must fail",
    ),
    (
        "set",
        "set \"…\"|NODE maintenance|NODE online [refused]",
        "`pg_autoctl set …`, or on the node `pg_autoctl enable maintenance --allow-failover` or `disable maintenance` and wait for its end; with `refused` it must fail",
    ),
    (
        "drop",
        "drop NODE",
        "`pg_autoctl drop node --name NODE` on the monitor",
    ),
    (
        "kill-postgres",
        "kill-postgres NODE",
        "SIGKILL to the postmaster alone",
    ),
    (
        "kill-keeper",
        "kill-keeper NODE",
        "SIGKILL to pg_autoctl; Postgres goes on",
    ),
    (
        "kill-host",
        "kill-host NODE …|monitor|all",
        "SIGKILL to every process of the host, or of the hosts, at once",
    ),
    (
        "start-host",
        "start-host NODE|monitor|all",
        "`pg_autoctl run` on a host where it does not run",
    ),
    (
        "freeze",
        "freeze NODE [keeper]|monitor",
        "SIGSTOP to every process of the host, or to its pg_autoctl alone",
    ),
    (
        "thaw",
        "thaw NODE|monitor",
        "SIGCONT to every process of the host",
    ),
    (
        "cut",
        "cut NODE|monitor from|to NODE|monitor|all",
        "lose every packet between them, with `to` only what the first sends",
    ),
    (
        "mend",
        "mend NODE|monitor from|to NODE|monitor|all",
        "undo the same cut",
    ),
    (
        "wait",
        "wait settled|writes|NODE STATE|NODE gone|TIME …",
        "until it holds, or fail after the time at the end of the line",
    ),
    (
        "expect",
        "expect primary NODE | outage < TIME | no-failover TIME | no-writes TIME | nothing lost | postgres-kept NODE | session-kept NODE | explain says \"…\" | event says \"…\"",
        "a claim that is checked",
    ),
];

/// A whole scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The comment at the top of the file: what happens and what is to be seen.
    pub story: String,
    /// How many Postgres nodes there are beside the monitor (2 to 9).
    pub nodes: u8,
    /// What happens, in order.
    pub steps: Vec<Line>,
}

/// A step and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1, for messages.
    pub number: usize,
    /// What to do.
    pub step: Step,
}

/// One Postgres node, by its number or by the role it has when the step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// `node1` is the one that was created first.
    Number(u8),
    /// The node that the monitor both hears and wants as the primary.
    Primary,
    /// The secondary with the lowest number.
    Standby,
}

/// Whose processes a fault of a host takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The host of a Postgres node.
    Node(Node),
    /// The monitor's host.
    Monitor,
    /// Every host at once.
    All,
}

/// One line of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `write start`
    WriteStart,
    /// `write stop`
    WriteStop,
    /// `perform "promotion --name node2" [refused]`
    Perform {
        /// The words after `pg_autoctl perform`, split at blanks.
        words: Vec<String>,
        /// The command must fail, and leave the group as it was.
        refused: bool,
    },
    /// `set "node candidate-priority --name node3 0" [refused]`
    Set {
        /// The words after `pg_autoctl set`, split at blanks.
        words: Vec<String>,
        /// The command must fail, and leave the settings as they were.
        refused: bool,
    },
    /// `drop node2`
    Drop(Node),
    /// `set node2 maintenance [refused]`
    Maintain {
        /// Which node.
        node: Node,
        /// The command must fail, and leave the group as it was.
        refused: bool,
    },
    /// `set node2 online`
    Resume(Node),
    /// `kill-postgres primary`
    KillPostgres(Node),
    /// `kill-keeper primary`
    KillKeeper(Node),
    /// `kill-host node1 node2`
    KillHost(Vec<Host>),
    /// `start-host all`
    StartHost(Host),
    /// `freeze node1`
    Freeze(Host),
    /// `freeze node1 keeper`
    FreezeKeeper(Node),
    /// `thaw node1`
    Thaw(Host),
    /// `cut node1 from all`
    Cut(Link),
    /// `mend node1 from all`
    Mend(Link),
    /// `wait settled 30s`
    Wait {
        /// What is waited for.
        until: Condition,
        /// How long; for [`Condition::Time`] the time itself.
        within: Duration,
    },
    /// `expect nothing lost`
    Expect(Expectation),
}

/// What `cut` cuts and `mend` mends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Who is cut off; never [`Host::All`].
    pub one: Host,
    /// From whom; [`Host::All`] takes the monitor too.
    pub other: Host,
    /// Only what `one` sends to `other` is lost; what it receives from there comes through.
    pub one_way: bool,
}

/// What `wait` waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// One primary, every other node secondary, nothing else wanted, every standby has replayed all.
    Settled,
    /// A write is acknowledged that was sent after this step began.
    Writes,
    /// Reported and goal state of a node are this one.
    State(Node, String),
    /// The monitor does not list the node any more.
    Gone(Node),
    /// Nothing: time passes.
    Time,
}

/// What `expect` claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// The monitor's primary is this node, or becomes it within the few seconds that a report may take.
    Primary(Node),
    /// The longest time without an acknowledged write that ended after the last fault is below this.
    OutageBelow(Duration),
    /// For this long the primary stays the same.
    NoFailover(Duration),
    /// For this long no write is acknowledged.
    NoWrites(Duration),
    /// Every acknowledged row is on the primary, standbys that are settled have the same rows, and no
    /// node acknowledged a write sent after another had taken over.
    NothingLost,
    /// The node's Postgres is the process that it was at the last fault.
    PostgresKept(Node),
    /// The read session that `write start` opened on this node is the same one and answers.
    SessionKept(Node),
    /// `pg_autoctl inspect explain` says this.
    ExplainSays(String),
    /// An event in `pg_autoctl show events` says this.
    EventSays(String),
}

impl Step {
    /// Whether this step does harm or moves the primary: outages are counted from the last such step.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Perform { .. }
            | Self::Drop(_)
            | Self::Maintain { .. }
            | Self::KillPostgres(_)
            | Self::KillKeeper(_)
            | Self::KillHost(_)
            | Self::Freeze(_)
            | Self::FreezeKeeper(_)
            | Self::Cut(_) => true,
            Self::WriteStart
            | Self::WriteStop
            | Self::StartHost(_)
            | Self::Thaw(_)
            | Self::Mend(_)
            | Self::Set { .. }
            | Self::Resume(_)
            | Self::Wait { .. }
            | Self::Expect(_) => false,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "node{n}"),
            Self::Primary => f.write_str("primary"),
            Self::Standby => f.write_str("standby"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Monitor => f.write_str("monitor"),
            Self::All => f.write_str("all"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteStart => f.write_str("write start"),
            Self::WriteStop => f.write_str("write stop"),
            Self::Perform { words, refused } => {
                write!(f, "perform \"{}\"", words.join(" "))?;
                f.write_str(if *refused { " refused" } else { "" })
            }
            Self::Set { words, refused } => {
                write!(f, "set \"{}\"", words.join(" "))?;
                f.write_str(if *refused { " refused" } else { "" })
            }
            Self::Drop(node) => write!(f, "drop {node}"),
            Self::Maintain { node, refused } => {
                write!(f, "set {node} maintenance")?;
                f.write_str(if *refused { " refused" } else { "" })
            }
            Self::Resume(node) => write!(f, "set {node} online"),
            Self::KillPostgres(node) => write!(f, "kill-postgres {node}"),
            Self::KillKeeper(node) => write!(f, "kill-keeper {node}"),
            Self::KillHost(hosts) => {
                f.write_str("kill-host")?;
                hosts.iter().try_for_each(|host| write!(f, " {host}"))
            }
            Self::StartHost(host) => write!(f, "start-host {host}"),
            Self::Freeze(host) => write!(f, "freeze {host}"),
            Self::FreezeKeeper(node) => write!(f, "freeze {node} keeper"),
            Self::Thaw(host) => write!(f, "thaw {host}"),
            Self::Cut(link) => write!(f, "cut {link}"),
            Self::Mend(link) => write!(f, "mend {link}"),
            Self::Wait { until, within } => write!(f, "wait {until}{}", Time(*within)),
            Self::Expect(expectation) => write!(f, "expect {expectation}"),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.one_way { "to" } else { "from" };
        write!(f, "{} {word} {}", self.one, self.other)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled => f.write_str("settled "),
            Self::Writes => f.write_str("writes "),
            Self::State(node, state) => write!(f, "{node} {state} "),
            Self::Gone(node) => write!(f, "{node} gone "),
            Self::Time => Ok(()),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary(node) => write!(f, "primary {node}"),
            Self::OutageBelow(limit) => write!(f, "outage < {}", Time(*limit)),
            Self::NoFailover(time) => write!(f, "no-failover {}", Time(*time)),
            Self::NoWrites(time) => write!(f, "no-writes {}", Time(*time)),
            Self::NothingLost => f.write_str("nothing lost"),
            Self::PostgresKept(node) => write!(f, "postgres-kept {node}"),
            Self::SessionKept(node) => write!(f, "session-kept {node}"),
            Self::ExplainSays(text) => write!(f, "explain says \"{text}\""),
            Self::EventSays(text) => write!(f, "event says \"{text}\""),
        }
    }
}

/// A duration in the words of the grammar.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}
