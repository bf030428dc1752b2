use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Conninfo {
    Conninfo::parse(text).unwrap()
}

#[test]
fn the_monitor_uri_of_the_old_program_survives_unchanged() {
    for uri in [
        "postgres://autoctl_node@monitor:5432/pg_auto_failover",
        "postgres://autoctl_node@monitor:5432/pg_auto_failover?sslmode=require",
        "postgres://autoctl_node:s%40crt@h1:5432,h2:5433/pg_auto_failover?sslmode=verify-full&sslrootcert=/etc/ca.crt",
        "postgres://u@[::1]:6000/db",
        "postgres://u@%2Ftmp/db",
    ] {
        assert_eq!(parse(uri).to_uri(), uri);
    }
}

#[test]
fn a_missing_port_and_sslmode_stay_missing() {
    let c = parse("postgresql://monitor/pg_auto_failover");
    assert_eq!(
        c.endpoints,
        [Endpoint {
            host: Some("monitor".into()),
            ..Endpoint::default()
        }]
    );
    assert_eq!((c.sslmode, c.sslmode()), (None, SslMode::Prefer));
    assert_eq!(c.endpoints[0].port(), 5432);
}

#[test]
fn keyword_text_is_read_as_libpq_reads_it() {
    let c = parse(r"host = 'a b' port=5 user=o\'k password='p\'w\\' dbname=''");
    assert_eq!(c.endpoints[0].host.as_deref(), Some("a b"));
    assert_eq!(c.user.as_deref(), Some("o'k"));
    assert_eq!(c.password.as_ref().unwrap().expose(), r"p'w\");
    assert_eq!(c.dbname, None);
}

#[test]
fn one_port_serves_all_hosts_and_two_do_not_serve_three() {
    let c = parse("host=a,b,c port=7");
    assert!(c.endpoints.iter().all(|e| e.port == Some(7)));
    assert!(Conninfo::parse("host=a,b,c port=7,8").is_err());
    assert_eq!(parse("host=a,b port=,8").endpoints[0].port, None);
}

#[test]
fn unknown_and_unsupported_keywords_are_refused_by_name() {
    assert_eq!(
        Conninfo::parse("host=a colour=red"),
        Err(ConninfoError::UnknownKeyword("colour".into()))
    );
    assert_eq!(
        Conninfo::parse("postgres://a/b?service=x"),
        Err(ConninfoError::UnsupportedKeyword("service".into()))
    );
    assert_eq!(
        Conninfo::parse("gssencmode=require")
            .unwrap_err()
            .to_string(),
        "connection option `gssencmode=require` is not supported"
    );
    assert!(matches!(
        Conninfo::parse("sslmode=on"),
        Err(ConninfoError::InvalidValue { .. })
    ));
}

#[test]
fn broken_text_is_refused_without_repeating_it() {
    for text in [
        "postgres://[::1",
        "postgres://[]/x",
        "postgres://[::1]x/y",
        "postgres://a/%zz",
        "postgres://a/%00",
        "postgres://a/b?x",
        "postgres://a/b?sslmode=a=b",
        "host='a",
        "PassW0rd!",
        "port=0",
        "port=70000",
        "hostaddr=nonsense",
    ] {
        let error = Conninfo::parse(text).unwrap_err().to_string();
        assert!(!error.contains("PassW0rd"), "{error}");
    }
}

#[test]
fn no_rendering_but_the_real_ones_shows_the_password() {
    let c = parse("host=h user=u password=hunter2 dbname=d");
    for text in [
        format!("{c:?}"),
        c.redacted(),
        c.redacted_keywords(),
        format!("{c:#?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("****"), "{text}");
    }
    assert_eq!(c.redacted(), "postgres://u:****@h/d");
    assert_eq!(
        c.redacted_keywords(),
        "host=h user=u password=**** dbname=d"
    );
}

#[test]
fn the_environment_fills_only_what_is_missing() {
    let get = |name: &str| match name {
        "PGPASSWORD" => Some("pw".to_owned()),
        "PGSSLMODE" => Some("require".to_owned()),
        "PGUSER" => Some("other".to_owned()),
        "PGPORT" => Some("7".to_owned()),
        _ => None,
    };
    let c = parse("host=h user=u").with_variables(get).unwrap();
    assert_eq!(c.user.as_deref(), Some("u"));
    assert_eq!(c.password.as_ref().unwrap().expose(), "pw");
    assert_eq!(c.sslmode, Some(SslMode::Require));
    assert_eq!(c.endpoints[0].port, Some(7));
}

#[test]
fn the_password_file_is_matched_by_line_and_needs_to_be_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgpass");
    std::fs::write(
        &path,
        "# c\nother:*:*:*:no\nh:5432:d\\:b:u:p\\:w\\\\\n*:*:*:*:any\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut c = parse("host=h user=u dbname=d:b");
    c.passfile = Some(path.clone());
    assert_eq!(c.password_for(&c.endpoints[0]).unwrap().expose(), "p:w\\");
    c.user = Some("x".into());
    assert_eq!(c.password_for(&c.endpoints[0]).unwrap().expose(), "any");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(c.password_for(&c.endpoints[0]).is_none());
}

fn word() -> impl Strategy<Value = String> {
    // No NUL, which libpq cannot hold.
    "[^\u{0}]{1,12}"
}

fn path() -> impl Strategy<Value = PathBuf> {
    "[a-z/ %&=?'\\\\]{1,12}".prop_map(PathBuf::from)
}

prop_compose! {
    fn endpoint()(
        host in prop_oneof!["[a-z][a-z0-9.-]{0,9}", Just("::1".to_owned()), Just("/tmp/x y".to_owned())],
        hostaddr in proptest::option::of(any::<IpAddr>()),
        port in proptest::option::of(1u16..),
    ) -> Endpoint {
        Endpoint { host: Some(host), hostaddr, port }
    }
}

prop_compose! {
    fn conninfo()(
        endpoints in proptest::collection::vec(endpoint(), 0..4),
        user in proptest::option::of(word()),
        password in proptest::option::of(word()),
        dbname in proptest::option::of(word()),
        sslmode in proptest::option::of(proptest::sample::select(SslMode::ALL.to_vec())),
        sslrootcert in proptest::option::of(path()),
        application_name in proptest::option::of(word()),
        options in proptest::option::of(word()),
        connect_timeout in proptest::option::of((1u64..1000).prop_map(Duration::from_secs)),
        target in proptest::option::of(proptest::sample::select(TargetSessionAttrs::ALL.to_vec())),
        keepalives in proptest::option::of(0..100),
    ) -> Conninfo {
        Conninfo {
            endpoints,
            user,
            password: password.map(Secret::new),
            dbname,
            sslmode,
            sslrootcert,
            application_name,
            options,
            connect_timeout,
            target_session_attrs: target,
            passive: keepalives
                .map(|k: i32| ("keepalives_idle".to_owned(), k.to_string()))
                .into_iter()
                .collect(),
            ..Conninfo::default()
        }
    }
}

proptest! {
    #[test]
    fn keyword_text_leads_back_to_what_it_was_made_from(c in conninfo()) {
        prop_assert_eq!(Conninfo::parse(&c.to_keywords()).unwrap(), c);
    }

    #[test]
    fn a_uri_leads_back_to_what_it_was_made_from(c in conninfo()) {
        prop_assert_eq!(Conninfo::parse(&c.to_uri()).unwrap(), c);
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in "\\PC{0,60}") {
        let _ = Conninfo::parse(&text);
        let _ = Conninfo::parse(&format!("postgres://{text}"));
    }
}
