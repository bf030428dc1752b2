//! Roles, databases, extensions.

use pgaf_postgres::conninfo::Secret;
use pgaf_postgres::server::{Extension, Objects};

use crate::cluster::{Cluster, LIMIT};

#[tokio::test]
async fn objects_are_made_once_and_the_replication_role_is_no_superuser() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let objects = Objects {
        username: Some("own\"er".into()),
        dbname: "app db".into(),
        replication_password: Some(Secret::new("it's \\secret")),
        extensions: vec![
            Extension {
                name: "pg_stat_statements".into(),
                required: false,
            },
            Extension {
                name: "no_such_extension".into(),
                required: false,
            },
        ],
    };
    for _ in 0..2 {
        primary
            .server
            .ensure_objects(&objects, LIMIT)
            .await
            .unwrap();
    }
    let role = "SELECT rolsuper::text || rolreplication || rolcanlogin FROM pg_roles WHERE rolname = 'pgautofailover_replicator'";
    assert_eq!(primary.ask(role).await, "falsetruetrue");
    let owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'app db'";
    assert_eq!(primary.ask(owner).await, "\"own\"\"er\"");
    let rewind = "SELECT has_function_privilege('pgautofailover_replicator', 'pg_read_binary_file(text)', 'execute')";
    assert_eq!(primary.ask(rewind).await, "t");
    let log = std::fs::read_to_string(primary.dir.path().join("log")).unwrap();
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn the_old_programs_limit_of_one_connection_is_lifted() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    primary
        .client()
        .await
        .batch(
            "ALTER ROLE pgautofailover_monitor CONNECTION LIMIT 1",
            LIMIT,
        )
        .await
        .unwrap();
    let objects = Objects {
        username: None,
        dbname: "postgres".into(),
        replication_password: None,
        extensions: Vec::new(),
    };
    primary
        .server
        .ensure_objects(&objects, LIMIT)
        .await
        .unwrap();
    let limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'pgautofailover_monitor'";
    assert_eq!(primary.ask(limit).await, "-1");
}

#[tokio::test]
async fn a_role_that_does_not_wait_for_standbys_is_named() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let sql = "CREATE ROLE fast; CREATE ROLE slow; \
               ALTER ROLE fast IN DATABASE postgres SET synchronous_commit = local; \
               ALTER ROLE slow SET synchronous_commit = remote_apply";
    primary.client().await.batch(sql, LIMIT).await.unwrap();
    let found = primary.server.lowered_commits(LIMIT).await.unwrap();
    assert_eq!(
        found,
        ["role fast in database postgres: synchronous_commit=local"]
    );
}
