//! Stable codes of what may stand in the way: of a command, or of a group. The pages in
//! `docs/errors/` are made from this list, and `pg_autoctl inspect error CODE` prints it.

/// What a code is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeOf {
    /// A command or service ends with it.
    Command,
    /// A group waits with it ([`crate::Waiting::id`]).
    Group,
}

/// One code, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Words with dashes; never changes its meaning.
    pub id: &'static str,
    /// Whose it is.
    pub of: CodeOf,
    /// What it means, one sentence.
    pub means: &'static str,
    /// What is safe meanwhile, and what is not.
    pub meanwhile: &'static str,
    /// What to do, one step each.
    pub remedies: &'static [&'static str],
}

impl Code {
    /// Every code.
    pub const ALL: &'static [Self] = &[
        // What commands and services end with.
        command(
            "bad-arguments",
            "An option or argument is missing, unknown, or has a value that cannot be used (exit code 1).",
            "Nothing was changed.",
            &["Read the hint, and `pg_autoctl COMMAND --help`."],
        ),
        command(
            "bad-configuration",
            "The configuration file cannot be read, or a value in it or for it cannot be used (exit code 2).",
            "Nothing was changed; a running service goes on with what it had.",
            &[
                "`pg_autoctl config check` names what is wrong.",
                "`pg_autoctl show file --config` says which file it is.",
            ],
        ),
        command(
            "wrong-state",
            "The node, group or service is not in a state that allows the command (exit code 3).",
            "Nothing was changed.",
            &[
                "`pg_autoctl show state` shows where it is, `pg_autoctl inspect explain` what it waits for.",
                "Try again when that is over.",
            ],
        ),
        command(
            "postgres-unusable",
            "Postgres' programs or data directory cannot be used (exit code 5).",
            "Nothing was changed; a Postgres that runs goes on.",
            &[
                "`pg_autoctl config check` says what was found.",
                "`pg_autoctl config set postgresql.pg_ctl /path/to/pg_ctl` names the programs.",
            ],
        ),
        command(
            "monitor-unreachable",
            "No connection to the monitor could be made in time (exit code 6).",
            "Postgres goes on: a monitor that is away stops no primary that has its standbys. There is no failover until it is back.",
            &[
                "Is it running? On its host: `pg_autoctl status`.",
                "Is it reachable? `psql 'CONNECTION STRING' -c 'select 1'`, with the string of `pg_autoctl config get pg_autoctl.monitor`.",
                "Is its host lost? See docs/operations/monitor.md.",
            ],
        ),
        command(
            "monitor-refused",
            "The monitor was reached, and refuses (exit code 6). Its message, detail and hint stand beside the code.",
            "Nothing was changed.",
            &[
                "Follow the monitor's hint.",
                "`pg_autoctl inspect explain` says what the group waits for.",
            ],
        ),
        command(
            "coordinator-refused",
            "The Citus coordinator refuses, or does not answer (exit code 7).",
            "The node stays registered with the monitor.",
            &["Look at the coordinator's log, then `pg_autoctl activate` again."],
        ),
        command(
            "service-failed",
            "The service could not start, or waited for something in vain (exit code 12).",
            "A Postgres that runs goes on, and the next start adopts it.",
            &["Read the causes in the message; they stand after the colons."],
        ),
        command(
            "extension-missing",
            "An extension that the node needs is not installed (exit code 13).",
            "Nothing was changed.",
            &["Install the package of that extension for this version of Postgres."],
        ),
        command(
            "service-running",
            "Another pg_autoctl serves this data directory.",
            "Nothing was changed: two services on one data directory would harm it.",
            &["`pg_autoctl status` shows it, `pg_autoctl stop` ends it, with its Postgres."],
        ),
        command(
            "service-not-running",
            "No pg_autoctl serves this data directory.",
            "Nothing was changed.",
            &["`pg_autoctl run` starts it; a Postgres that still runs is adopted."],
        ),
        command(
            "upgrade-refused",
            "The program that is installed now cannot be executed, so the running one goes on.",
            "Nothing was changed: service and Postgres go on.",
            &[
                "Install a program that runs on this host; `PROGRAM version` must succeed. Then `pg_autoctl upgrade` again.",
            ],
        ),
        command(
            "node-dropped",
            "This node was removed from its formation.",
            "Its data directory is as it was; its Postgres is stopped.",
            &[
                "`pg_autoctl create postgres` makes it a node again, with the data that is there.",
                "`pg_autoctl drop node --destroy` removes its files.",
            ],
        ),
        command(
            "not-built",
            "The command is known, and its work is not written in this release.",
            "Nothing was changed.",
            &["docs/known-issues.md says what to use instead, where there is something."],
        ),
        command(
            "run-as-root",
            "Postgres refuses to run as root, and so its keeper does.",
            "Nothing was changed.",
            &[
                "Run it as the owner of the data directory, mostly `postgres`; `pg_autoctl show systemd` makes a unit that does.",
            ],
        ),
        command(
            "port-taken",
            "Another program listens on the monitor's address and port.",
            "The monitor does not serve. Nodes go on, without failover.",
            &["Stop that program, or `pg_autoctl config set postgresql.port` and tell the nodes."],
        ),
        // What groups wait for.
        group(
            "candidate",
            "The primary is gone or is to be replaced, and no standby may take its place.",
            "Nothing is lost. Without a primary, writes wait.",
            &[
                "Bring a standby back, or the old primary: `pg_autoctl show state` shows who is away.",
                "Where standbys have candidate priority 0: `pg_autoctl set node candidate-priority --name NODE 50`.",
                "`pg_autoctl inspect what-if --name NODE` shows in advance who could take over.",
            ],
        ),
        group(
            "promise",
            "Copies that may hold acknowledged commits have not said yet how far they got, so nobody is promoted.",
            "Nothing is lost as long as nobody forces it.",
            &[
                "Bring one of the named nodes back: its keeper is enough, Postgres need not run.",
                "Only when they are gone for good: `pg_autoctl perform failover --allow-data-loss`, after making sure that the old primary is off. `pg_autoctl inspect what-if` says how many bytes that may cost.",
            ],
        ),
        group(
            "checkpoint",
            "A switchover is prepared: the primary writes a checkpoint while writes go on.",
            "Nothing stands still. After the setting move_deadline it goes on without.",
            &["Wait; a slow disk makes it long."],
        ),
        group(
            "confirmation",
            "The primary has not yet confirmed that a changed list of synchronous standbys is in force.",
            "Commits go on under the list before.",
            &[
                "Wait some seconds. When it stays: the node's trouble in `pg_autoctl inspect explain` names an ALTER SYSTEM that overrides the list, or a standby that is stuck.",
            ],
        ),
        group(
            "return",
            "After a promotion the standbys that it opened under are about to stream again.",
            "Commits wait for the setting return_wait at most.",
            &["Wait."],
        ),
        group(
            "lease-mode",
            "The primary starts its fencer before its commits wait for nobody.",
            "Commits still wait for the standbys.",
            &["Wait; the node's trouble says why the fencer does not start, if it does not."],
        ),
        group(
            "maintenance",
            "A node is on its way to maintenance: its acknowledgements still count, or it is no standby yet.",
            "The group goes on as before; what cannot begin within 50 s is given up.",
            &[
                "Wait; `pg_autoctl show events` says how it ended.",
                "`pg_autoctl disable maintenance` on the node takes it back.",
            ],
        ),
        group(
            "synchronous-standby",
            "Fewer standbys stream than number_sync_standbys asks for, so commits wait.",
            "Nothing is lost; reads go on.",
            &[
                "Bring a standby back.",
                "Or accept fewer copies of each commit: `pg_autoctl set formation number-sync-standbys 0`.",
            ],
        ),
        group(
            "fetch",
            "The candidate takes the WAL that it lacks from another standby before it is promoted.",
            "Nothing is lost; writes wait for it.",
            &["Wait; its progress stands beside its node in `pg_autoctl inspect explain`."],
        ),
        group(
            "coordinator",
            "A worker's switchover waits for the Citus coordinator to hold its writes.",
            "Writes go on, and after a second the move goes on without.",
            &["Wait; look at the coordinator's group when it comes again and again."],
        ),
        group(
            "promotion",
            "A candidate was chosen and is being promoted.",
            "Nothing is lost; writes wait for it.",
            &["Wait; the candidate's trouble says what holds it up."],
        ),
        group(
            "restored-monitor",
            "The monitor's memory may be older than the group, so it waits until every member has reported.",
            "Postgres goes on. Nothing opens, shrinks or is promoted.",
            &["Start the keepers of the named nodes. See docs/operations/monitor.md."],
        ),
        group(
            "lease",
            "The primary of an asynchronous group is silent; its lease must run out before another may be promoted.",
            "The old primary fences itself at the end of its lease.",
            &["Wait for the setting lease and its drift."],
        ),
        group(
            "lease-threshold",
            "The best standby of an asynchronous group lacks more WAL than promote_wal_log_threshold allows to lose.",
            "Nothing is lost as long as nobody forces it.",
            &[
                "Bring the old primary back.",
                "Or accept the loss: `pg_autoctl perform failover --allow-data-loss`.",
            ],
        ),
        group(
            "monitor-disk",
            "The monitor cannot write its memory, so it decides nothing new.",
            "Postgres goes on, reads of the monitor are answered. There is no failover.",
            &["Make room on the monitor's disk, or make it writable; it goes on by itself."],
        ),
    ];

    /// The code of an id.
    #[must_use]
    pub fn find(id: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|code| code.id == id)
    }
}

const fn command(
    id: &'static str,
    means: &'static str,
    meanwhile: &'static str,
    remedies: &'static [&'static str],
) -> Code {
    Code {
        id,
        of: CodeOf::Command,
        means,
        meanwhile,
        remedies,
    }
}

const fn group(
    id: &'static str,
    means: &'static str,
    meanwhile: &'static str,
    remedies: &'static [&'static str],
) -> Code {
    Code {
        id,
        of: CodeOf::Group,
        means,
        meanwhile,
        remedies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_code_is_there_once_and_names_a_remedy() {
        let ids: BTreeSet<&str> = Code::ALL.iter().map(|c| c.id).collect();
        assert_eq!(ids.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert!(
                !code.remedies.is_empty() && !code.means.is_empty(),
                "{}",
                code.id
            );
            assert_eq!(Code::find(code.id), Some(code));
        }
        assert_eq!(Code::find("nonsense"), None);
    }
}
