//! The old program's own command line against our endpoint.

use super::support::{Printed, Server, start_with};

/// Debian's package puts it here.
const OLD_PROGRAM: &str = "/usr/bin/pg_autoctl";

async fn old(server: &Server, words: &[&str]) -> Printed {
    let output = tokio::process::Command::new(OLD_PROGRAM)
        .args(words)
        .args(["--monitor", &server.uri("")])
        .env("HOME", "/nonexistent")
        .env("PGDATA", "")
        .env_remove("PGDATA")
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output)
        .await
        .unwrap()
        .unwrap();
    Printed {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        ok: output.status.success(),
    }
}

#[tokio::test]
async fn the_old_command_line_shows_what_we_serve() {
    if !std::path::Path::new(OLD_PROGRAM).exists() {
        println!("SKIPPED: no pg_autoctl 2.0 at {OLD_PROGRAM}");
        return;
    }
    let mut config = super::support::config();
    config.extension_version = "2.0".to_owned();
    let server = start_with(config).await;
    for (words, expected) in [
        (
            &["show", "state"][..],
            "node_1 |     1 | host1:5432 |   1: 16/B374D848",
        ),
        (&["show", "state", "--json"], "\"node_id\": 1"),
        (&["show", "events"], "event 20"),
        (
            &["show", "events", "--json"],
            "\"description\": \"event 20\"",
        ),
        (&["show", "settings"], "number_sync_standbys"),
        (
            &["show", "settings", "--json"],
            "\"context\": \"formation\"",
        ),
        (
            &["show", "uri", "--formation", "default"],
            "postgres://host1:5432,host2:5432/postgres",
        ),
        (
            &["show", "standby-names"],
            "ANY 1 (pgautofailover_standby_2)",
        ),
        (&["get", "formation", "number-sync-standbys"], "1"),
        (&["set", "formation", "number-sync-standbys", "1"], "1"),
    ] {
        let printed = old(&server, words).await;
        assert!(
            printed.out.contains(expected),
            "{words:?}: {}\n{}",
            printed.out,
            printed.err
        );
        assert!(!printed.err.contains("ERROR"), "{words:?}: {}", printed.err);
    }
}
