//! What a keeper is told by its configuration file and command line.
//!
//! Owns the values only: the file format is the command line's. It must never print a password.

use std::path::PathBuf;
use std::time::Duration;

use pgaf_postgres::conf::SslFiles;
use pgaf_postgres::conninfo::{Conninfo, Secret, SslMode};
use pgaf_protocol::{FormationId, NodeKind};

/// How much of `pg_hba.conf` is ours. Source: the old program's `hba_level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HbaLevel {
    /// Nothing: the operator writes the rules.
    Skip,
    /// Replication, the monitor, and the node's own role.
    #[default]
    Minimal,
    /// As `Minimal`, and applications of the local network.
    App,
}

/// Everything one keeper needs to know about its node. What may change while it runs comes again
/// through the `reload` channel of [`crate::run()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperConfig {
    /// The data directory, absolute.
    pub pgdata: PathBuf,
    /// The state file (`…/pg_autoctl.state`): the keeper's journal. Its folder is made.
    pub journal: PathBuf,
    /// The monitor; `None` when it is disabled.
    pub monitor: Option<Conninfo>,
    /// The formation.
    pub formation: FormationId,
    /// The name; empty until the monitor has chosen one.
    pub name: String,
    /// The address other nodes reach this node's Postgres at.
    pub host: String,
    /// What the node is.
    pub kind: NodeKind,
    /// The Citus cluster, `default` for all others.
    pub cluster: String,
    /// `pg_ctl` of the Postgres to run.
    pub pg_ctl: PathBuf,
    /// `postgresql.host`: a socket directory to force; `None` for Postgres' own choice.
    pub socket_dir: Option<PathBuf>,
    /// Port.
    pub port: u16,
    /// `listen_addresses`.
    pub listen_addresses: String,
    /// `--username`: owner of `dbname`; `None` for the account that runs the keeper.
    pub username: Option<String>,
    /// Database of the applications.
    pub dbname: String,
    /// `--auth`.
    pub auth_method: String,
    /// Which HBA rules are ours.
    pub hba_level: HbaLevel,
    /// The network of [`HbaLevel::App`], as CIDR; `None`: the rule is left out, with a warning.
    pub lan: Option<String>,
    /// `sslmode` of connections between nodes; also decides `hostssl`.
    pub sslmode: SslMode,
    /// TLS of the local Postgres; `None` switches it off.
    pub ssl: Option<SslFiles>,
    /// `replication.password`.
    pub replication_password: Option<Secret>,
    /// `replication.maximum_backup_rate`.
    pub maximum_backup_rate: Option<String>,
    /// `replication.backup_directory`; `None`: `backup/node_<id>` beside PGDATA.
    pub backup_directory: Option<PathBuf>,
    /// `timeout.postgresql_restart_failure_max_retries`: starts that may fail in a row.
    pub max_failed_starts: u32,
    /// How long a fast stop may take before it becomes an immediate one, when the node is told to
    /// end.
    pub stop_limit: Duration,
    /// The program, with its arguments, that calls [`crate::fence()`] for this node.
    pub fencer: Vec<String>,
}

/// The wishes that are sent when the node registers, and never again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// `--candidate-priority`.
    pub candidate_priority: u32,
    /// `--replication-quorum`.
    pub replication_quorum: bool,
    /// `--group`.
    pub group: Option<pgaf_protocol::GroupId>,
}

impl Default for Joining {
    /// Source: the old program's defaults.
    fn default() -> Self {
        Self {
            candidate_priority: 50,
            replication_quorum: true,
            group: None,
        }
    }
}
