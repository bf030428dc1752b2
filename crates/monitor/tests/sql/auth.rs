//! Who may connect: roles, databases, TLS, SCRAM.

use std::sync::{Arc, PoisonError};

use pgaf_monitor::sql::{AuthMethod, EndpointConfig, ScramVerifier, TlsConfig};

use tokio::io::AsyncWriteExt;

use super::support::{config, start, start_with};

fn tls() -> TlsConfig {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let der = certificate.der().clone();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let rustls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key.into())
        .unwrap();
    TlsConfig {
        rustls: Arc::new(rustls),
        certificate: Some(der.to_vec()),
    }
}

#[tokio::test]
async fn other_roles_and_databases_are_refused_with_their_codes() {
    let server = start().await;
    for (uri, text) in [
        (
            "postgres://nobody@127.0.0.1:PORT/pg_auto_failover",
            "role \"nobody\" does not exist",
        ),
        (
            "postgres://autoctl_node@127.0.0.1:PORT/postgres",
            "database \"postgres\" does not exist",
        ),
        (
            "postgres://autoctl_node@127.0.0.1:PORT/pg_auto_failover?replication=1",
            "no replication connections",
        ),
    ] {
        let uri = uri.replace("PORT", &server.port.to_string());
        let printed = server.psql_with(&uri, &["-c", "select 1"], &[]).await;
        assert!(
            !printed.ok && printed.err.contains(text),
            "{uri}: {}",
            printed.err
        );
    }
    assert!(server.fake.log().is_empty());
}

#[tokio::test]
async fn tls_is_used_when_it_is_there_and_demanded_when_required() {
    let server = start().await;
    let printed = server
        .psql_with(&server.uri("sslmode=require"), &["-c", "select 1"], &[])
        .await;
    assert!(
        printed.err.contains("server does not support SSL"),
        "{}",
        printed.err
    );

    let server = start_with(EndpointConfig {
        tls: Some(tls()),
        require_tls: true,
        ..config()
    })
    .await;
    let info = "\\conninfo";
    let printed = server
        .psql_with(&server.uri("sslmode=require"), &["-c", info], &[])
        .await;
    assert!(
        printed.out.contains("SSL connection (protocol: TLSv1.3"),
        "{}{}",
        printed.out,
        printed.err
    );
    let printed = server
        .psql_with(&server.uri("sslmode=disable"), &["-c", info], &[])
        .await;
    assert!(
        printed.err.contains("encrypted connections only"),
        "{}",
        printed.err
    );
    let printed = server
        .psql_with(
            &server.uri("sslmode=require"),
            &["-Atc", "select count(*) from pg_proc"],
            &[],
        )
        .await;
    assert!(printed.ok);
}

fn scram(tls: Option<TlsConfig>) -> EndpointConfig {
    EndpointConfig {
        auth: AuthMethod::Scram,
        tls,
        ..config()
    }
}

#[tokio::test]
async fn the_right_password_opens_and_a_wrong_one_does_not() {
    let server = start_with(scram(None)).await;
    let login = |password: &'static str| {
        let server = &server;
        async move {
            server
                .psql_with(
                    &server.uri(""),
                    &["-Atc", "select 1", "-w"],
                    &[("PGPASSWORD", password)],
                )
                .await
        }
    };
    // No password is set: nobody gets in.
    assert!(
        login("x")
            .await
            .err
            .contains("password authentication failed for user \"autoctl_node\"")
    );
    let set = |verifier| {
        *server
            .fake
            .verifier
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = verifier;
    };
    set(ScramVerifier::from_password("s3cret ä"));
    assert_eq!(login("s3cret ä").await.out, "1\n");
    assert!(
        login("wrong")
            .await
            .err
            .contains("password authentication failed")
    );
    assert!(login("").await.err.contains("no password supplied"));
    // Postgres' own verifier of "foo", from its regression tests' form.
    assert_eq!(
        server
            .fake
            .log()
            .iter()
            .filter(|line| line.starts_with("opened"))
            .count(),
        1
    );
}

#[tokio::test]
async fn channel_binding_works_over_tls() {
    let server = start_with(scram(Some(tls()))).await;
    *server
        .fake
        .verifier
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = ScramVerifier::from_password("pw");
    for (options, works) in [
        ("sslmode=require&channel_binding=require", true),
        ("sslmode=require&channel_binding=disable", true),
        ("sslmode=disable", true),
        ("sslmode=disable&channel_binding=require", false),
    ] {
        let uri = server.uri(options);
        let printed = server
            .psql_with(&uri, &["-Atc", "select 1"], &[("PGPASSWORD", "pw")])
            .await;
        assert_eq!(printed.ok, works, "{options}: {}", printed.err);
    }
}

#[tokio::test]
async fn a_password_is_set_by_alter_user_and_kept_as_a_verifier() {
    let server = start().await;
    let verifier = || {
        let guard = server
            .fake
            .verifier
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(ScramVerifier::to_text)
    };
    assert_eq!(
        server
            .one("ALTER USER autoctl_node PASSWORD 'h4ckm3'")
            .await,
        "ALTER ROLE"
    );
    let first = verifier().unwrap();
    assert!(first.starts_with("SCRAM-SHA-256$4096:") && !first.contains("h4ckm3"));
    assert_eq!(
        server
            .one(&format!(
                "alter role autoctl_node with encrypted password '{first}'"
            ))
            .await,
        "ALTER ROLE"
    );
    assert_eq!(verifier().unwrap(), first);
    assert_eq!(
        server.one("alter user autoctl_node password null").await,
        "ALTER ROLE"
    );
    assert_eq!(verifier(), None);
    let md5 = "md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let error = server
        .error(&format!("alter user autoctl_node password '{md5}'"))
        .await;
    assert!(error.starts_with("ERROR:  0A000: md5 passwords"), "{error}");
}

#[tokio::test]
async fn the_unix_socket_needs_no_tls() {
    let server = start_with(EndpointConfig {
        tls: Some(tls()),
        require_tls: true,
        ..config()
    })
    .await;
    let folder = server.socket.path().display();
    let uri = format!(
        "host={folder} port={} user=autoctl_node dbname=pg_auto_failover",
        server.port
    );
    let printed = server.psql_with(&uri, &["-Atc", "select 1"], &[]).await;
    assert_eq!(printed.out, "1\n", "{}", printed.err);
}

#[tokio::test]
async fn a_killed_tls_client_ended_without_goodbye() {
    let server = start_with(EndpointConfig {
        tls: Some(tls()),
        ..config()
    })
    .await;
    let uri = server.uri("sslmode=require&application_name=killed");
    let mut child = tokio::process::Command::new("psql")
        .args(["-X", "-d", &uri])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // It must have read everything: what it leaves unread makes its kernel send a reset.
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(b"listen state;\nselect pg_backend_pid();\n")
        .await
        .unwrap();
    server.fake.wait_for("subscribe state=true").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    child.kill().await.unwrap();
    server.fake.wait_for("closed Eof killed").await;
}
