//! The command tree: names, one-line descriptions, options, and what runs.
//!
//! Owns the order of `help`. Data only, and long for that reason; `dispatch` walks it.

mod debug;

use crate::commands::{self, Context};
use crate::error::Failure;
use crate::options::parse::Parsed;
use crate::options::{Opt, tables};
use crate::watch;
use debug::DO;

/// What a leaf of the tree does.
pub(crate) type Action = fn(&Context<'_>, &Parsed) -> Result<(), Failure>;

/// One word of the tree.
#[derive(Debug)]
pub(crate) struct Command {
    /// The word.
    pub(crate) name: &'static str,
    /// Its line in lists.
    pub(crate) summary: &'static str,
    /// What it is.
    pub(crate) body: Body,
}

/// A group of commands, or a command.
#[derive(Debug)]
pub(crate) enum Body {
    /// Sub-commands, in the order of help.
    Group(&'static [Command]),
    /// A command.
    Leaf(Leaf),
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// What follows the command in the usage line.
    pub(crate) usage: &'static str,
    /// Its option tables.
    pub(crate) options: &'static [&'static [Opt]],
    /// How many arguments that are no options it takes at most.
    pub(crate) arguments: usize,
    /// What it does.
    pub(crate) run: Action,
}

const fn group(name: &'static str, summary: &'static str, children: &'static [Command]) -> Command {
    Command {
        name,
        summary,
        body: Body::Group(children),
    }
}

const fn leaf(
    name: &'static str,
    summary: &'static str,
    usage: &'static str,
    options: &'static [&'static [Opt]],
    run: Action,
) -> Command {
    Command {
        name,
        summary,
        body: Body::Leaf(Leaf {
            usage,
            options,
            arguments: 0,
            run,
        }),
    }
}

const fn with_arguments(
    name: &'static str,
    summary: &'static str,
    usage: &'static str,
    options: &'static [&'static [Opt]],
    arguments: usize,
    run: Action,
) -> Command {
    Command {
        name,
        summary,
        body: Body::Leaf(Leaf {
            usage,
            options,
            arguments,
            run,
        }),
    }
}

/// The word before all others.
pub(crate) const PROGRAM: &str = "pg_autoctl";

/// The tree of users.
pub(crate) static ROOT: &[Command] = &[
    CREATE, DROP, CONFIG, SHOW, ENABLE, DISABLE, GET, SET, PERFORM, INSPECT, ACTIVATE, RUN, WATCH,
    STOP, RELOAD, UPGRADE, STATUS, HELP, VERSION,
];

/// The tree while `PG_AUTOCTL_DEBUG` is set: `do` in the place of `activate`.
pub(crate) static DEBUG_ROOT: &[Command] = &[
    CREATE, DROP, CONFIG, SHOW, ENABLE, DISABLE, GET, SET, PERFORM, INSPECT, DO, RUN, WATCH, STOP,
    RELOAD, UPGRADE, STATUS, HELP, VERSION,
];

const CREATE: Command = group(
    "create",
    "Create a pg_auto_failover node, or formation",
    &[
        leaf(
            "monitor",
            "Initialize a pg_auto_failover monitor node",
            "[ --pgdata --pgport --hostname --auth --run ] and a choice of SSL",
            &[tables::CREATE_MONITOR, tables::SSL],
            commands::create_monitor::run,
        ),
        leaf(
            "postgres",
            "Initialize a pg_auto_failover standalone postgres node",
            "[ --pgdata --pgport --hostname --monitor --auth --run ] and a choice of SSL",
            &[tables::CREATE_POSTGRES, tables::SSL],
            commands::create_postgres::run,
        ),
        leaf(
            "coordinator",
            "Initialize a pg_auto_failover citus coordinator node",
            "",
            &[tables::CREATE_COORDINATOR, tables::SSL],
            commands::create_postgres::coordinator,
        ),
        leaf(
            "worker",
            "Initialize a pg_auto_failover citus worker node",
            "",
            &[tables::CREATE_WORKER, tables::SSL],
            commands::create_postgres::worker,
        ),
        leaf(
            "formation",
            "Create a new formation on the pg_auto_failover monitor",
            "[ --pgdata --monitor ] --formation --kind [ --dbname ]",
            &[tables::CREATE_FORMATION],
            commands::formation::create,
        ),
    ],
);

const DROP: Command = group(
    "drop",
    "Drop a pg_auto_failover node, or formation",
    &[
        leaf(
            "monitor",
            "Drop the pg_auto_failover monitor",
            "[ --pgdata --destroy ]",
            &[tables::DROP_NODE],
            commands::drop::monitor,
        ),
        leaf(
            "node",
            "Drop a node from the pg_auto_failover monitor",
            "[ --pgdata --destroy --force ] | --monitor [ --hostname --pgport | --formation --name ]",
            &[tables::DROP_NODE],
            commands::drop::node,
        ),
        leaf(
            "formation",
            "Drop a formation on the pg_auto_failover monitor",
            "[ --pgdata --monitor ] --formation",
            &[tables::DROP_FORMATION],
            commands::formation::drop,
        ),
    ],
);

const CONFIG: Command = group(
    "config",
    "Manages the pg_autoctl configuration",
    &[
        leaf(
            "check",
            "Check pg_autoctl configuration",
            "[ --pgdata --json ]",
            &[tables::PGDATA_JSON],
            commands::config_check::run,
        ),
        with_arguments(
            "get",
            "Get the value of a given pg_autoctl configuration variable",
            "[ --pgdata --json ] [ section.option ]",
            &[tables::PGDATA_JSON],
            1,
            commands::config::get,
        ),
        with_arguments(
            "set",
            "Set the value of a given pg_autoctl configuration variable",
            "[ --pgdata --json ] section.option value",
            &[tables::PGDATA_JSON],
            2,
            commands::config::set,
        ),
    ],
);

const SHOW: Command = group(
    "show",
    "Show pg_auto_failover information",
    &[
        leaf(
            "uri",
            "Show the postgres uri to use to connect to pg_auto_failover nodes",
            "[ --pgdata --monitor --formation --citus-cluster --json ]",
            &[tables::SHOW_URI],
            commands::show_uri::run,
        ),
        leaf(
            "events",
            "Prints monitor's state of nodes in a given formation and group",
            "[ --pgdata --monitor --formation --group --count --json ]",
            &[tables::SHOW_STATE],
            commands::show_events::run,
        ),
        leaf(
            "state",
            "Prints monitor's state of nodes in a given formation and group",
            "[ --pgdata --monitor --formation --group --local --json ]",
            &[tables::SHOW_STATE],
            commands::show_state::run,
        ),
        leaf(
            "settings",
            "Print replication settings for a formation from the monitor",
            "[ --pgdata --monitor --formation --json ]",
            &[tables::PROPERTY],
            commands::show_settings::run,
        ),
        leaf(
            "standby-names",
            "Prints synchronous_standby_names for a given group",
            "[ --pgdata --monitor --formation --group --json ]",
            &[tables::SHOW_STANDBY_NAMES],
            commands::show_standby_names::run,
        ),
        leaf(
            "file",
            "List pg_autoctl internal files (config, state, pid)",
            "[ --pgdata --all | --config | --state | --init | --pid [ --contents ] ]",
            &[tables::SHOW_FILE],
            commands::show_file::run,
        ),
        leaf(
            "systemd",
            "Print systemd service file for this node",
            "[ --pgdata ]",
            &[tables::ONLY_PGDATA],
            commands::show_systemd::run,
        ),
    ],
);

const ENABLE: Command = group(
    "enable",
    "Enable a feature on a formation",
    &[
        leaf(
            "secondary",
            "Enable secondary nodes on a formation",
            "[ --pgdata ] --formation",
            &[tables::SECONDARY],
            commands::unbuilt::run,
        ),
        leaf(
            "maintenance",
            "Enable Postgres maintenance mode on this node",
            "[ --pgdata --allow-failover ]",
            &[tables::ENABLE_MAINTENANCE],
            commands::maintenance::enable,
        ),
        leaf(
            "ssl",
            "Enable SSL configuration on this node",
            "[ --pgdata ] and a choice of SSL",
            &[tables::ONLY_PGDATA, tables::SSL],
            commands::unbuilt::run,
        ),
        with_arguments(
            "monitor",
            "Enable a monitor for this node to be orchestrated from",
            "[ --pgdata ] connection-string",
            &[tables::ENABLE_MONITOR],
            1,
            commands::unbuilt::run,
        ),
    ],
);

const DISABLE: Command = group(
    "disable",
    "Disable a feature on a formation",
    &[
        leaf(
            "secondary",
            "Disable secondary nodes on a formation",
            "[ --pgdata ] --formation",
            &[tables::SECONDARY],
            commands::unbuilt::run,
        ),
        leaf(
            "maintenance",
            "Disable Postgres maintenance mode on this node",
            "[ --pgdata ]",
            &[tables::ONLY_PGDATA],
            commands::maintenance::disable,
        ),
        leaf(
            "ssl",
            "Disable SSL configuration on this node",
            "[ --pgdata --json ]",
            &[tables::PGDATA_JSON],
            commands::unbuilt::run,
        ),
        leaf(
            "monitor",
            "Disable the monitor for this node",
            "[ --pgdata --force ]",
            &[tables::DISABLE_MONITOR_OPTIONS],
            commands::unbuilt::run,
        ),
    ],
);

const GET: Command = group(
    "get",
    "Get a pg_auto_failover node, or formation setting",
    &[
        group(
            "node",
            "get a node property from the pg_auto_failover monitor",
            &[
                leaf(
                    "replication-quorum",
                    "get replication-quorum property from the monitor",
                    "[ --pgdata --monitor --formation --name --json ]",
                    &[tables::PROPERTY],
                    commands::properties::get_replication_quorum,
                ),
                leaf(
                    "candidate-priority",
                    "get candidate property from the monitor",
                    "[ --pgdata --monitor --formation --name --json ]",
                    &[tables::PROPERTY],
                    commands::properties::get_candidate_priority,
                ),
            ],
        ),
        group(
            "formation",
            "get a formation property from the pg_auto_failover monitor",
            &[
                leaf(
                    "settings",
                    "get replication settings for a formation from the monitor",
                    "[ --pgdata --monitor --formation --json ]",
                    &[tables::PROPERTY],
                    commands::show_settings::run,
                ),
                leaf(
                    "number-sync-standbys",
                    "get number_sync_standbys for a formation from the monitor",
                    "[ --pgdata --monitor --formation --json ]",
                    &[tables::PROPERTY],
                    commands::properties::get_number_sync_standbys,
                ),
            ],
        ),
    ],
);

const SET: Command = group(
    "set",
    "Set a pg_auto_failover node, or formation setting",
    &[
        group(
            "node",
            "set a node property on the monitor",
            &[
                leaf(
                    "metadata",
                    "set metadata on the monitor",
                    "[ --pgdata --name --hostname --pgport --json ]",
                    &[tables::NODE_METADATA],
                    commands::metadata::run,
                ),
                with_arguments(
                    "replication-quorum",
                    "set replication-quorum property on the monitor",
                    "[ --pgdata --monitor --formation --name --json ] <true|false>",
                    &[tables::PROPERTY],
                    1,
                    commands::properties::set_replication_quorum,
                ),
                with_arguments(
                    "candidate-priority",
                    "set candidate property on the monitor",
                    "[ --pgdata --monitor --formation --name --json ] <priority: 0..100>",
                    &[tables::PROPERTY],
                    1,
                    commands::properties::set_candidate_priority,
                ),
            ],
        ),
        group(
            "formation",
            "set a formation property on the monitor",
            &[with_arguments(
                "number-sync-standbys",
                "set number-sync-standbys for a formation on the monitor",
                "[ --pgdata --monitor --formation --json ] <number_sync_standbys>",
                &[tables::PROPERTY],
                1,
                commands::properties::set_number_sync_standbys,
            )],
        ),
    ],
);

const PERFORM: Command = group(
    "perform",
    "Perform an action orchestrated by the monitor",
    &[
        leaf(
            "failover",
            "Perform a failover for given formation and group",
            "[ --pgdata --monitor --formation --group --wait --allow-data-loss ]",
            &[tables::PERFORM_FAILOVER],
            commands::perform::failover,
        ),
        leaf(
            "switchover",
            "Perform a switchover for given formation and group",
            "[ --pgdata --monitor --formation --group --wait --allow-data-loss ]",
            &[tables::PERFORM_FAILOVER],
            commands::perform::failover,
        ),
        leaf(
            "promotion",
            "Perform a failover that promotes a target node",
            "[ --pgdata --monitor --formation --wait ] --name <node name>",
            &[tables::PERFORM_PROMOTION],
            commands::perform::promotion,
        ),
    ],
);

const INSPECT: Command = group(
    "inspect",
    "Look into the decisions of the monitor",
    &[
        leaf(
            "explain",
            "Explain why a group is as it is, what it waits for, and the way out",
            "[ --pgdata --monitor --formation --group --json ]",
            &[tables::INSPECT_EXPLAIN],
            commands::inspect::explain,
        ),
        leaf(
            "what-if",
            "Tell what would become of a group without a node; nothing is changed",
            "[ --pgdata --monitor --formation --fault --json ] --name <node name>",
            &[tables::INSPECT_WHAT_IF],
            commands::inspect_what_if::run,
        ),
        Command {
            name: "error",
            summary: "Explain the code in brackets behind an error, or what a group waits for",
            body: Body::Leaf(Leaf {
                usage: "[ --json ] [ code ]",
                options: &[tables::INSPECT_ERROR],
                arguments: 1,
                run: commands::inspect_error::run,
            }),
        },
        leaf(
            "fsm",
            "Print the rules that goals come from",
            "[ --mermaid --json ]",
            &[tables::INSPECT_FSM],
            commands::inspect_fsm::run,
        ),
        leaf(
            "settings",
            "Print the monitor's settings: value, unit, default, bounds, source",
            "[ --pgdata --monitor --json ]",
            &[tables::INSPECT_SETTINGS],
            commands::inspect_settings::run,
        ),
    ],
);

const ACTIVATE: Command = leaf(
    "activate",
    "Activate a Citus worker from the Citus coordinator",
    "[ --pgdata ]",
    &[tables::PGDATA_JSON],
    commands::activate::run,
);

const RUN: Command = leaf(
    "run",
    "Run the pg_autoctl service (monitor or keeper)",
    "[ --pgdata --name --hostname --pgport ]",
    &[tables::RUN_OPTIONS],
    commands::run::run,
);

const WATCH: Command = leaf(
    "watch",
    "Display a dashboard to watch monitor's events and state",
    "[ --pgdata --monitor --formation --group ]",
    &[tables::WATCH],
    watch::run,
);

const STOP: Command = leaf(
    "stop",
    "signal the pg_autoctl service for it to stop",
    "[ --pgdata --fast --immediate ]",
    &[tables::STOP],
    commands::stop::run,
);

const RELOAD: Command = leaf(
    "reload",
    "signal the pg_autoctl for it to reload its configuration",
    "[ --pgdata --json ]",
    &[tables::PGDATA_JSON],
    commands::stop::reload,
);

const UPGRADE: Command = leaf(
    "upgrade",
    "let the running pg_autoctl take over with the program that is installed now",
    "[ --pgdata --wait --json ]",
    &[tables::UPGRADE],
    commands::upgrade::run,
);

const STATUS: Command = leaf(
    "status",
    "Display the current status of the pg_autoctl service",
    "[ --pgdata --json ]",
    &[tables::PGDATA_JSON],
    commands::status::run,
);

const HELP: Command = leaf("help", "print help message", "", &[], commands::help::run);

const VERSION: Command = leaf(
    "version",
    "print pg_autoctl version",
    "",
    &[tables::VERSION],
    commands::version::run,
);
