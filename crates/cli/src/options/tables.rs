//! The option tables of all commands, in the order of their help.
//!
//! Source of names and letters: the old program's `getopt_long` tables; a letter that its short
//! string lacks is absent here too.

use super::{Opt, Takes, flag, long_flag, long_value, value};

/// Accepted by every command and before the first sub-command; not shown in the help.
pub(crate) const COMMON: &[Opt] = &[
    flag("version", 'V', ""),
    Opt {
        long: "verbose",
        short: Some('v'),
        takes: Takes::Count,
        help: "",
    },
    flag("quiet", 'q', ""),
    flag("help", 'h', ""),
];

/// Accepted before the first sub-command, with [`COMMON`].
pub(crate) const GLOBAL: &[Opt] = &[flag("json", 'J', "")];

/// `--pgdata`.
pub(crate) const PGDATA: Opt = value("pgdata", 'D', "path to data directory");
/// `--json` with its letter.
pub(crate) const JSON: Opt = flag("json", 'J', "output data in the JSON format");
/// `--json` where the old program has no letter for it.
const JSON_LONG: Opt = long_flag("json", "output data in the JSON format");
const MONITOR_LONG: Opt = long_value("monitor", "connection string of the monitor");
const MONITOR: Opt = value("monitor", 'm', "connection string of the monitor");
const FORMATION: Opt = value("formation", 'f', "formation, defaults to 'default'");
const FORMATION_LONG: Opt = long_value("formation", "formation, defaults to 'default'");
const GROUP: Opt = value("group", 'g', "group of the formation");
const NAME_LONG: Opt = long_value("name", "name of the node");
const WAIT: Opt = long_value("wait", "how many seconds to wait, defaults to 60");
const RUN: Opt = flag(
    "run",
    'x',
    "create the node, then run the pg_autoctl service",
);
const PGCTL: Opt = value("pgctl", 'C', "path to pg_ctl");
const PGHOST: Opt = value("pghost", 'H', "host of the local Postgres connections");
const PGPORT: Opt = value("pgport", 'p', "port number");
const LISTEN: Opt = value("listen", 'l', "listen_addresses");
const USERNAME: Opt = value("username", 'U', "user name that owns the database");
const AUTH: Opt = value("auth", 'A', "authentication method written to pg_hba.conf");
const SKIP_PG_HBA: Opt = flag("skip-pg-hba", 'S', "do not edit pg_hba.conf");
const PG_HBA_LAN: Opt = flag("pg-hba-lan", 'L', "admit the local network in pg_hba.conf");
const DBNAME: Opt = value("dbname", 'd', "database name");
const NAME: Opt = value("name", 'a', "name of the node");
const HOSTNAME: Opt = value("hostname", 'n', "host name that other nodes connect to");
const DISABLE_MONITOR: Opt = flag("disable-monitor", 'M', "run without a monitor");
const NODE_ID: Opt = value("node-id", 'I', "node id, with --disable-monitor");
const CANDIDATE_PRIORITY: Opt = value(
    "candidate-priority",
    'P',
    "0 to 100: preference when a primary is chosen, 0 is never",
);
const REPLICATION_QUORUM: Opt = value(
    "replication-quorum",
    'r',
    "true when commits may wait for this node",
);
const BACKUP_RATE: Opt = value(
    "maximum-backup-rate",
    'R',
    "maximum transfer rate of a base backup",
);
const CITUS_SECONDARY: Opt = flag(
    "citus-secondary",
    'z',
    "this node is a read replica of a Citus cluster",
);
const CITUS_CLUSTER: Opt = value(
    "citus-cluster",
    'Z',
    "name of the Citus read-replica cluster",
);

/// The choice of encryption; exactly one way must be chosen.
pub(crate) const SSL: &[Opt] = &[
    flag(
        "ssl-self-signed",
        's',
        "encrypt, with a certificate made here (no protection from MITM)",
    ),
    long_value("ssl-mode", "sslmode of connection strings"),
    long_value("ssl-ca-file", "certificate authority file"),
    long_value("ssl-crl-file", "certificate revocation list file"),
    flag(
        "no-ssl",
        'N',
        "do not encrypt (NOT recommended, prefer --ssl-self-signed)",
    ),
    long_value("server-key", "private key file of the server"),
    long_value("server-cert", "certificate file of the server"),
];

pub(crate) const CREATE_MONITOR: &[Opt] = &[
    PGCTL,
    PGDATA,
    PGPORT,
    LISTEN,
    HOSTNAME,
    AUTH,
    SKIP_PG_HBA,
    RUN,
];

pub(crate) const CREATE_POSTGRES: &[Opt] = &[
    PGCTL,
    PGDATA,
    PGHOST,
    PGPORT,
    LISTEN,
    USERNAME,
    DBNAME,
    NAME,
    HOSTNAME,
    FORMATION,
    MONITOR,
    DISABLE_MONITOR,
    NODE_ID,
    AUTH,
    SKIP_PG_HBA,
    PG_HBA_LAN,
    CANDIDATE_PRIORITY,
    REPLICATION_QUORUM,
    BACKUP_RATE,
    RUN,
];

pub(crate) const CREATE_COORDINATOR: &[Opt] = &[
    PGCTL,
    PGDATA,
    PGHOST,
    PGPORT,
    LISTEN,
    USERNAME,
    DBNAME,
    NAME,
    HOSTNAME,
    FORMATION,
    MONITOR,
    DISABLE_MONITOR,
    NODE_ID,
    AUTH,
    SKIP_PG_HBA,
    PG_HBA_LAN,
    CANDIDATE_PRIORITY,
    REPLICATION_QUORUM,
    CITUS_SECONDARY,
    CITUS_CLUSTER,
    RUN,
];

pub(crate) const CREATE_WORKER: &[Opt] = &[
    PGCTL,
    PGDATA,
    PGHOST,
    PGPORT,
    LISTEN,
    value("proxyport", 'y', "port number of the proxy"),
    USERNAME,
    DBNAME,
    NAME,
    HOSTNAME,
    FORMATION,
    long_value("group", "group id, assigned by the monitor when absent"),
    MONITOR,
    DISABLE_MONITOR,
    NODE_ID,
    AUTH,
    SKIP_PG_HBA,
    PG_HBA_LAN,
    CANDIDATE_PRIORITY,
    REPLICATION_QUORUM,
    CITUS_SECONDARY,
    CITUS_CLUSTER,
    RUN,
];

pub(crate) const CREATE_FORMATION: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    value("formation", 'f', "name of the formation to create"),
    value(
        "kind",
        'k',
        "kind of the formation, either \"pgsql\" or \"citus\"",
    ),
    long_value("dbname", "database name of this formation"),
    flag(
        "enable-secondary",
        's',
        "a formation whose groups have standbys (default)",
    ),
    flag("disable-secondary", 'S', "a formation without standbys"),
    value(
        "number-sync-standbys",
        'n',
        "how many standbys must confirm a write",
    ),
];

pub(crate) const DROP_FORMATION: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    value("formation", 'f', "name of the formation to drop"),
];

pub(crate) const DROP_NODE: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    FORMATION_LONG,
    long_value("name", "drop the node with this name"),
    value(
        "hostname",
        'n',
        "drop the node with this host name and port",
    ),
    value("pgport", 'p', "drop the node with this host name and port"),
    flag("destroy", 'd', "also remove the local data directory"),
    long_flag(
        "force",
        "remove the node at once, without waiting for its keeper",
    ),
    WAIT,
];

pub(crate) const PGDATA_JSON: &[Opt] = &[PGDATA, JSON];
pub(crate) const ONLY_PGDATA: &[Opt] = &[PGDATA];

pub(crate) const SHOW_URI: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    long_value("formation", "only the connection string of this formation"),
    long_value(
        "citus-cluster",
        "only the connection string of this read-replica cluster",
    ),
    JSON_LONG,
];

pub(crate) const SHOW_STATE: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    FORMATION,
    value("group", 'g', "only this group"),
    value("count", 'n', "how many events to show, defaults to 10"),
    long_flag(
        "local",
        "show the files of this node, do not connect to the monitor",
    ),
    long_flag("watch", "show a dashboard that updates itself"),
    JSON_LONG,
];

pub(crate) const SHOW_STANDBY_NAMES: &[Opt] = &[PGDATA, MONITOR_LONG, FORMATION, GROUP, JSON_LONG];

pub(crate) const SHOW_FILE: &[Opt] = &[
    PGDATA,
    flag("all", 'a', "show all pg_autoctl files"),
    flag("config", 'c', "show the configuration file"),
    flag("state", 's', "show the state file"),
    flag("init", 'i', "show the initialisation state file"),
    flag("pid", 'p', "show the pid file"),
    flag("contents", 'C', "show the contents of the selected file"),
    JSON_LONG,
];

pub(crate) const PROPERTY: &[Opt] = &[PGDATA, MONITOR_LONG, FORMATION, NAME_LONG, JSON_LONG];

pub(crate) const NODE_METADATA: &[Opt] = &[
    PGDATA,
    value("name", 'n', "name of the node"),
    value("hostname", 'H', "host name that other nodes connect to"),
    value("pgport", 'p', "port number"),
    JSON,
];

pub(crate) const SECONDARY: &[Opt] = &[PGDATA, FORMATION];
pub(crate) const ENABLE_MAINTENANCE: &[Opt] = &[
    PGDATA,
    flag(
        "allow-failover",
        'A',
        "fail over first when this node is the primary",
    ),
];
pub(crate) const ENABLE_MONITOR: &[Opt] = &[
    PGDATA,
    value("monitor", 'm', "connection string of the new monitor"),
    flag("allow-failover", 'A', ""),
];
pub(crate) const DISABLE_MONITOR_OPTIONS: &[Opt] = &[
    PGDATA,
    flag("force", 'F', "remove the node from the monitor first"),
];

pub(crate) const PERFORM_FAILOVER: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    FORMATION,
    GROUP,
    WAIT,
    long_flag(
        "allow-data-loss",
        "promote even when acknowledged commits may be missing",
    ),
];

pub(crate) const PERFORM_PROMOTION: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    FORMATION,
    long_value("name", "name of the node to promote, defaults to this node"),
    WAIT,
    Opt {
        help: "",
        ..JSON_LONG
    },
];

pub(crate) const INSPECT_EXPLAIN: &[Opt] = &[PGDATA, MONITOR_LONG, FORMATION, GROUP, JSON];

pub(crate) const UPGRADE: &[Opt] = &[PGDATA, WAIT, JSON];

pub(crate) const INSPECT_WHAT_IF: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    FORMATION,
    NAME_LONG,
    long_value(
        "fault",
        "down (its processes end, the default) or silent (power, link, freeze)",
    ),
    JSON,
];

pub(crate) const INSPECT_ERROR: &[Opt] = &[JSON];

pub(crate) const INSPECT_SETTINGS: &[Opt] = &[PGDATA, MONITOR_LONG, JSON];

pub(crate) const INSPECT_FSM: &[Opt] = &[
    long_flag("mermaid", "print the drawing instead of the tables"),
    JSON,
];

pub(crate) const RUN_OPTIONS: &[Opt] = &[
    PGDATA,
    value("name", 'n', "new name of the node"),
    value("hostname", 'H', "new host name that other nodes connect to"),
    value("pgport", 'p', "new port number"),
    long_flag(
        "restored",
        "the monitor's store was restored from an older copy",
    ),
    Opt { help: "", ..JSON },
];

pub(crate) const STOP: &[Opt] = &[
    PGDATA,
    flag("fast", 'f', "stop in fast mode"),
    flag("immediate", 'i', "stop in immediate mode"),
    long_flag("sigkill", ""),
];

pub(crate) const WATCH: &[Opt] = &[
    PGDATA,
    MONITOR_LONG,
    FORMATION,
    GROUP,
    Opt {
        help: "",
        ..JSON_LONG
    },
];

pub(crate) const VERSION: &[Opt] = &[Opt { help: "", ..JSON }];

/// `do …`: the large set of options that its commands share, parsed and not acted on.
pub(crate) const DEBUG: &[Opt] = &[PGDATA, JSON];
