//! The commands behind `PG_AUTOCTL_DEBUG`: names and descriptions as the old program shows them.
//!
//! Data only. What is not part of this release answers with the reason and what to use instead:
//! `commands::unbuilt`.

use super::{Command, group, leaf, with_arguments};
use crate::commands;
use crate::options::tables;

/// How many words a command that is not built takes before it says so: more than any of the old
/// program's has.
const ANY_ARGUMENTS: usize = 8;

const fn unbuilt(name: &'static str, summary: &'static str) -> Command {
    with_arguments(
        name,
        summary,
        "[ --pgdata ]",
        &[tables::DEBUG],
        ANY_ARGUMENTS,
        commands::unbuilt::run,
    )
}

pub(super) const DO: Command = group(
    "do",
    "Internal commands and internal QA tooling",
    &[
        leaf(
            "fencer",
            "End the local Postgres at the end of its lease (started by the keeper)",
            "[ --pgdata ]",
            &[tables::DEBUG],
            commands::fencer::run,
        ),
        group(
            "monitor",
            "Query a pg_auto_failover monitor",
            &[
                group(
                    "get",
                    "get information from the monitor",
                    &[
                        unbuilt(
                            "primary",
                            "Get the primary node from pg_auto_failover in given formation/group",
                        ),
                        unbuilt(
                            "others",
                            "Get the other nodes from the pg_auto_failover group of hostname/port",
                        ),
                        unbuilt(
                            "candidate-count",
                            "Get the failover candidate count in the group",
                        ),
                        unbuilt(
                            "coordinator",
                            "Get the coordinator node from the pg_auto_failover formation",
                        ),
                    ],
                ),
                unbuilt("register", "Register the current node with the monitor"),
                unbuilt(
                    "active",
                    "Call in the pg_auto_failover Node Active protocol",
                ),
                unbuilt(
                    "version",
                    "Check that monitor version is 2.2; alter extension update if not",
                ),
                unbuilt("parse-notification", "parse a raw notification message"),
            ],
        ),
        group(
            "coordinator",
            "Query a Citus coordinator",
            &[
                unbuilt("add", "Add this node to its formation's coordinator"),
                unbuilt("activate", "Activate this node on the coordinator"),
                unbuilt(
                    "remove",
                    "Remove this node from its formation's coordinator",
                ),
                group(
                    "update",
                    "Update current node's host:port on the coordinator",
                    &[
                        unbuilt("prepare", "UpdateNode, within a prepared transaction"),
                        unbuilt("commit", "Commit the prepared transaction"),
                        unbuilt("rollback", "Rollback the prepared transaction"),
                    ],
                ),
            ],
        ),
        group(
            "fsm",
            "Manually manage the keeper's state",
            &[
                unbuilt("init", "Initialize the keeper's state on-disk"),
                leaf(
                    "state",
                    "Print keeper's current state",
                    "[ --pgdata ]",
                    &[tables::DEBUG],
                    commands::debug::fsm_state,
                ),
                unbuilt("list", "List reachable FSM states from current state"),
                unbuilt(
                    "gv",
                    "Output the FSM as a .gv program suitable for graphviz/dot",
                ),
                unbuilt("assign", "Assign a new goal state to the keeper"),
                unbuilt(
                    "step",
                    "Make a state transition if instructed by the monitor",
                ),
                group(
                    "nodes",
                    "Manually manage the keeper's nodes list",
                    &[
                        unbuilt(
                            "get",
                            "Get the list of nodes from file (see --disable-monitor)",
                        ),
                        unbuilt(
                            "set",
                            "Set the list of nodes to file (see --disable-monitor)",
                        ),
                    ],
                ),
            ],
        ),
        group(
            "primary",
            "Manage a PostgreSQL primary server",
            &[
                group(
                    "slot",
                    "Manage replication slot on the primary server",
                    &[
                        unbuilt("create", "Create a replication slot on the primary server"),
                        unbuilt("drop", "Drop a replication slot on the primary server"),
                    ],
                ),
                group(
                    "adduser",
                    "Create users on primary",
                    &[
                        unbuilt("monitor", "add a local user for queries from the monitor"),
                        unbuilt("replica", "add a local user with replication privileges"),
                    ],
                ),
                unbuilt("defaults", "Add default settings to postgresql.conf"),
                unbuilt(
                    "identify",
                    "Run the IDENTIFY_SYSTEM replication command on given host/port",
                ),
            ],
        ),
        group(
            "standby",
            "Manage a PostgreSQL standby server",
            &[
                unbuilt("init", "Initialize the standby server using pg_basebackup"),
                unbuilt("rewind", "Rewind a demoted primary server using pg_rewind"),
                unbuilt(
                    "crash-recovery",
                    "Setup postgres for crash-recovery and start postgres",
                ),
                unbuilt("promote", "Promote a standby server to become writable"),
            ],
        ),
        group(
            "show",
            "Show some debug level information",
            &[
                unbuilt("ipaddr", "Print this node's IP address information"),
                unbuilt("cidr", "Print this node's CIDR information"),
                unbuilt("lookup", "Print this node's DNS lookup information"),
                unbuilt("hostname", "Print this node's default hostname"),
                unbuilt(
                    "reverse",
                    "Lookup given hostname and check reverse DNS setup",
                ),
                unbuilt(
                    "version",
                    "Run pg_autoctl version --json and parses the output",
                ),
            ],
        ),
        group(
            "pgsetup",
            "Manage a local Postgres setup",
            &[
                unbuilt(
                    "pg_ctl",
                    "Find a non-ambiguous pg_ctl program and Postgres version",
                ),
                leaf(
                    "discover",
                    "Discover local PostgreSQL instance, if any",
                    "[ --pgdata ]",
                    &[tables::DEBUG],
                    commands::debug::pgsetup_discover,
                ),
                leaf(
                    "ready",
                    "Return true is the local Postgres server is ready",
                    "[ --pgdata ]",
                    &[tables::DEBUG],
                    commands::debug::pgsetup_ready,
                ),
                leaf(
                    "wait",
                    "Wait until the local Postgres server is ready",
                    "[ --pgdata ]",
                    &[tables::DEBUG],
                    commands::debug::pgsetup_wait,
                ),
                unbuilt("logs", "Outputs the Postgres startup logs"),
                unbuilt("tune", "Compute and log some Postgres tuning options"),
            ],
        ),
        group(
            "pgctl",
            "Signal the pg_autoctl postgres service",
            &[
                unbuilt(
                    "on",
                    "Signal pg_autoctl postgres service to ensure Postgres is running",
                ),
                unbuilt(
                    "off",
                    "Signal pg_autoctl postgres service to ensure Postgres is stopped",
                ),
            ],
        ),
        group(
            "service",
            "Run pg_autoctl sub-processes (services)",
            &[
                group(
                    "restart",
                    "Restart pg_autoctl sub-processes (services)",
                    &[
                        unbuilt(
                            "postgres",
                            "Restart the pg_autoctl postgres controller service",
                        ),
                        unbuilt(
                            "listener",
                            "Restart the pg_autoctl monitor listener service",
                        ),
                        unbuilt(
                            "node-active",
                            "Restart the pg_autoctl keeper node-active service",
                        ),
                    ],
                ),
                group(
                    "getpid",
                    "Get the pid of pg_autoctl sub-processes (services)",
                    &[
                        unbuilt(
                            "postgres",
                            "Get the pid of the pg_autoctl postgres controller service",
                        ),
                        unbuilt(
                            "listener",
                            "Get the pid of the pg_autoctl monitor listener service",
                        ),
                        unbuilt(
                            "node-active",
                            "Get the pid of the pg_autoctl keeper node-active service",
                        ),
                    ],
                ),
                unbuilt("pgcontroller", "pg_autoctl supervised postgres controller"),
                unbuilt(
                    "postgres",
                    "pg_autoctl service that start/stop postgres when asked",
                ),
                unbuilt(
                    "listener",
                    "pg_autoctl service that listens to the monitor notifications",
                ),
                unbuilt(
                    "node-active",
                    "pg_autoctl service that implements the node active protocol",
                ),
            ],
        ),
        group(
            "tmux",
            "Set of facilities to handle tmux interactive sessions",
            &[
                group(
                    "compose",
                    "Set of facilities to handle docker compose sessions",
                    &[
                        unbuilt(
                            "config",
                            "Produce a docker compose configuration file for a demo",
                        ),
                        unbuilt("script", "Produce a tmux script for a demo"),
                        unbuilt("session", "Run a demo in a tmux session"),
                    ],
                ),
                unbuilt(
                    "script",
                    "Produce a tmux script for a demo or a test case (debug only)",
                ),
                unbuilt("session", "Run a tmux session for a demo or a test case"),
                unbuilt(
                    "stop",
                    "Stop pg_autoctl processes that belong to a tmux session",
                ),
                unbuilt(
                    "wait",
                    "Wait until a given node has been registered on the monitor",
                ),
                unbuilt("clean", "Clean-up a tmux session processes and root dir"),
            ],
        ),
        unbuilt(
            "azure",
            "Manage a set of Azure resources for a pg_auto_failover demo",
        ),
        group(
            "demo",
            "Use a demo application for pg_auto_failover",
            &[
                unbuilt("run", "Run the pg_auto_failover demo application"),
                unbuilt(
                    "uri",
                    "Grab the application connection string from the monitor",
                ),
                unbuilt("ping", "Attempt to connect to the application URI"),
                unbuilt("summary", "Display a summary of the previous demo app run"),
            ],
        ),
    ],
);
