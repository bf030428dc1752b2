//! psql's backslash commands.

use super::support::start;

#[tokio::test]
async fn backslash_commands_of_psql_work() {
    let server = start().await;
    for (command, expected) in [
        (
            "\\dt pgautofailover.*",
            "pgautofailover | node      | table",
        ),
        ("\\d pgautofailover.node", "reportedlsn"),
        ("\\d+ pgautofailover.event", "description"),
        ("\\df pgautofailover.*", "perform_failover"),
        ("\\df+ pgautofailover.get_nodes", "get_nodes"),
        ("\\l", "pg_auto_failover"),
        ("\\dn", "pgautofailover"),
        ("\\du", "autoctl_node"),
        ("\\dx", "pgautofailover"),
        (
            "\\conninfo",
            "connected to database \"pg_auto_failover\" as user \"autoctl_node\"",
        ),
        ("\\d", "Did not find any relations"),
        ("\\dt", "Did not find any relations"),
    ] {
        let printed = server
            .psql_with(&server.uri(""), &["-c", command], &[])
            .await;
        let text = format!("{}{}", printed.out, printed.err);
        assert!(text.contains(expected), "{command}: {text}");
        assert!(!text.contains("ERROR"), "{command}: {text}");
    }
}
