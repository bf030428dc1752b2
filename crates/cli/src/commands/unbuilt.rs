//! Commands of the old program that are not part of this release: each says so, why, and what to
//! use instead. Nothing is changed.

use super::Context;
use crate::error::Failure;
use crate::options::parse::Parsed;
use crate::tree::PROGRAM;

/// What follows `pg_autoctl`, as the beginning of the words; why; what to use instead. The first
/// row that matches counts.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "enable secondary",
        "whether a formation takes standbys is decided when it is created",
        "create another one with `pg_autoctl create formation --enable-secondary`",
    ),
    (
        "disable secondary",
        "whether a formation takes standbys is decided when it is created",
        "drop the standbys with `pg_autoctl drop node`; the primary then goes on alone",
    ),
    (
        "enable ssl",
        "a node's certificates cannot be changed after its creation yet",
        "replace the files that ssl.cert_file and ssl.key_file name (`pg_autoctl config get`), then run `pg_autoctl reload`; or set ssl.sslmode with `pg_autoctl config set`",
    ),
    (
        "disable ssl",
        "a node's certificates cannot be changed after its creation yet",
        "create a node with --no-ssl and drop this one: `pg_autoctl create postgres --no-ssl`, `pg_autoctl drop node`",
    ),
    (
        "enable monitor",
        "a node that runs cannot be given another monitor yet",
        "restore the old monitor's store and start it with `pg_autoctl run --restored`",
    ),
    (
        "disable monitor",
        "nodes of this release need a monitor: it is the arbiter of who may be primary",
        "stop the monitor for as long as you like: Postgres goes on without it, and nobody fails over",
    ),
    (
        "do fsm gv",
        "the decisions are a table of rules, not a graph of transitions",
        "read docs/state-model.md",
    ),
    (
        "do fsm",
        "nodes without a monitor are not part of this release, and no state is assigned by hand: a goal is safe only with the monitor's durable record of it",
        "read the state with `pg_autoctl do fsm state` and `pg_autoctl inspect explain`; move the primary with `pg_autoctl perform switchover`",
    ),
    (
        "do monitor get",
        "the monitor answers in SQL and by its own commands",
        "use `pg_autoctl show state --json`",
    ),
    (
        "do monitor register",
        "a node is registered by its own keeper",
        "use `pg_autoctl create postgres`",
    ),
    (
        "do monitor active",
        "a report without a keeper behind it would be a lie about a node",
        "start the keeper with `pg_autoctl run`",
    ),
    (
        "do monitor version",
        "the monitor is this program, with no extension to update",
        "use `pg_autoctl version --json` on the monitor's host",
    ),
    (
        "do monitor",
        "it was a tool for the old program's tests",
        "LISTEN on the channel `state` of the monitor, whose payload is JSON",
    ),
    (
        "do coordinator",
        "keepers change Citus' node metadata themselves, in an order that loses no transaction",
        "use `pg_autoctl activate` on a worker, and `pg_autoctl inspect explain` to see what it waits for",
    ),
    (
        "do primary identify",
        "it was a tool for the old program's tests",
        "use `psql 'replication=1' -c IDENTIFY_SYSTEM`",
    ),
    (
        "do primary",
        "slots, roles and settings are made by the keeper, and a slot made by hand would let a diverged standby in",
        "start the keeper with `pg_autoctl run`: it makes what is missing",
    ),
    (
        "do standby promote",
        "a promotion by hand goes past every check against lost commits",
        "use `pg_autoctl perform promotion --name NODE`",
    ),
    (
        "do standby",
        "base backups, rewinds and crash recovery belong to the keeper, which journals them",
        "start the keeper with `pg_autoctl run`; to begin anew, use `pg_autoctl drop node --destroy` and `pg_autoctl create postgres`",
    ),
    (
        "do show version",
        "it was a tool for the old program's tests",
        "use `pg_autoctl version --json`",
    ),
    (
        "do show",
        "addresses are given by name, not guessed",
        "use --hostname when a node is created, and `getent hosts NAME` to look names up",
    ),
    (
        "do pgsetup pg_ctl",
        "it was a tool for the old program's tests",
        "use `pg_autoctl config get postgresql.pg_ctl`",
    ),
    (
        "do pgsetup logs",
        "Postgres' own log is its own",
        "read startup.log and the folder log in the data directory",
    ),
    (
        "do pgsetup tune",
        "the tuning is written when a node is created",
        "read postgresql-auto-failover.conf in the data directory",
    ),
    (
        "do pgctl",
        "the keeper starts and stops Postgres as the monitor's goal says",
        "use `pg_autoctl enable maintenance` to have Postgres stopped and left to you",
    ),
    (
        "do service restart",
        "one process does all the work of a node, so there are no services to restart one by one",
        "restart the whole with `pg_autoctl stop` and `pg_autoctl run`; Postgres can be restarted under maintenance",
    ),
    (
        "do service",
        "one process does all the work of a node, so there are no services of their own",
        "use `pg_autoctl run`, and `pg_autoctl status --json` for its process id",
    ),
    (
        "do tmux",
        "demonstrations are no part of this program",
        "create nodes with `pg_autoctl create monitor` and `pg_autoctl create postgres`, and look at them with `pg_autoctl watch`",
    ),
    (
        "do azure",
        "the program manages nodes, not clouds",
        "create the machines with your provider's tools, then `pg_autoctl create monitor` and `pg_autoctl create postgres`",
    ),
    (
        "do demo",
        "demonstrations are no part of this program",
        "connect your application to the connection string that `pg_autoctl show uri --formation default` prints",
    ),
];

fn reason(words: &str) -> Option<(&'static str, &'static str)> {
    REASONS
        .iter()
        .find(|(begin, ..)| words == *begin || words.starts_with(&format!("{begin} ")))
        .map(|(_, why, instead)| (*why, *instead))
}

/// Says so, why, and what to use instead.
pub(crate) fn run(context: &Context<'_>, _parsed: &Parsed) -> Result<(), Failure> {
    let words = context
        .breadcrumb
        .strip_prefix(PROGRAM)
        .unwrap_or(context.breadcrumb)
        .trim();
    let (why, instead) = reason(words).unwrap_or((
        "it is not built yet",
        "`pg_autoctl help` lists the commands",
    ));
    Err(Failure::bad_args(format!(
        "`{}` is not part of this release: {why}",
        context.breadcrumb
    ))
    .coded("not-built")
    .hint(format!("{instead}; nothing was changed")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Body, Command, DEBUG_ROOT};

    fn unbuilt(before: &str, commands: &[Command], found: &mut Vec<String>) {
        for command in commands {
            let words = format!("{before} {}", command.name).trim().to_owned();
            match &command.body {
                Body::Group(children) => unbuilt(&words, children, found),
                Body::Leaf(leaf) if std::ptr::fn_addr_eq(leaf.run, run as crate::tree::Action) => {
                    found.push(words);
                }
                Body::Leaf(_) => {}
            }
        }
    }

    #[test]
    fn every_command_that_is_not_built_has_a_reason_and_every_reason_a_command() {
        let mut found = Vec::new();
        unbuilt("", DEBUG_ROOT, &mut found);
        assert!(found.len() > 40, "{found:?}");
        for words in &found {
            assert!(reason(words).is_some(), "`{words}` has no reason");
        }
        for (begin, why, _) in REASONS {
            assert!(
                found
                    .iter()
                    .any(|words| reason(words).is_some_and(|(w, _)| w == *why)
                        && words.starts_with(begin)),
                "no command answers with the reason of `{begin}`"
            );
        }
    }
}
