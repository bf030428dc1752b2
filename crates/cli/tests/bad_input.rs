//! Bad input ends with the documented exit code, says why, and changes no file.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{Home, Ran};

/// Runs a command and checks that no file appeared, changed or went.
fn unchanged(home: &Home, words: &[&str]) -> Ran {
    let before = home.files();
    let ran = home.run(words);
    assert!(
        before == home.files(),
        "{words:?} changed files:\n{}",
        ran.stderr
    );
    ran
}

#[test]
fn a_missing_or_unknown_command_lists_what_there_is() {
    let home = Home::new();
    let ran = unchanged(&home, &[]);
    ran.expect(
        1,
        &["pg_autoctl: expected a command\n\nAvailable commands:\n  pg_autoctl\n  + create"],
    );
    assert_eq!(ran.stdout, "");
    unchanged(&home, &["show"]).expect(
        1,
        &["pg_autoctl show: expected a command\n\nAvailable commands:\n  pg_autoctl show\n"],
    );
    unchanged(&home, &["show", "nope"]).expect(
        1,
        &["pg_autoctl show: nope: unknown command\n\nAvailable commands:\n"],
    );
    unchanged(&home, &["restart"]).expect(1, &["pg_autoctl: restart: unknown command"]);
    unchanged(&home, &["--bogus", "show"])
        .expect(1, &["pg_autoctl: unrecognized option '--bogus'"]);
}

#[test]
fn extra_arguments_are_refused() {
    let home = Home::new();
    unchanged(&home, &["show", "state", "extra"]).expect(1, &["unexpected argument 'extra'"]);
    unchanged(&home, &["config", "get", "a.b", "c"]).expect(1, &["unexpected argument 'c'"]);
}

#[test]
fn version_is_printed_by_every_spelling() {
    let home = Home::new();
    for words in [
        &["version"][..],
        &["--version"],
        &["-V"],
        &["show", "state", "-V"],
        &["show", "-V"],
    ] {
        let ran = home.run(words);
        ran.expect(0, &[]);
        assert!(
            ran.stdout.starts_with("pg_autoctl version "),
            "{}",
            ran.stdout
        );
        assert_eq!(ran.stdout.lines().count(), 4);
    }
    for words in [
        &["version", "--json"][..],
        &["--json", "version"],
        &["-J", "--version"],
    ] {
        let ran = home.run(words);
        ran.expect(0, &[]);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(json["pgautofailover"], "2.2");
        assert!(json["pg_version_num"].is_number());
    }
}

#[test]
fn commands_on_a_node_need_a_data_directory() {
    let home = Home::new();
    for words in [
        &["show", "state"][..],
        &["show", "file"],
        &["config", "get"],
        &["status"],
        &["run"],
        &["stop"],
        &["drop", "node"],
        &["create", "monitor", "--auth", "trust", "--no-ssl"],
    ] {
        unchanged(&home, words).expect(1, &["ERROR", "PGDATA", "FATAL", "HINT"]);
    }
    unchanged(&home, &["show", "state"]).expect(1, &["PG_AUTOCTL_MONITOR"]);
}

#[test]
fn a_missing_configuration_file_is_fatal_and_names_the_directory() {
    let home = Home::new();
    let absent = home.path("absent").display().to_string();
    let words = ["show", "state", "--pgdata", &absent];
    unchanged(&home, &words).expect(
        1,
        &[
            "WARN",
            "does not exist: is PGDATA right?",
            "FATAL",
            "pg_autoctl.cfg",
        ],
    );
    let words = ["drop", "node", "--pgdata", &absent, "--destroy", "--force"];
    unchanged(&home, &words).expect(1, &["FATAL", "HINT"]);
}

#[test]
fn home_is_needed() {
    let home = Home::new();
    let mut command = home.command(&["config", "get", "--pgdata", "/x"]);
    let output = command.env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(12));
    assert!(String::from_utf8_lossy(&output.stderr).contains("HOME is not set"));
}

#[test]
fn a_broken_configuration_is_said_so_and_kept() {
    let home = Home::new();
    let pgdata = home
        .configure("n1", "[pg_autoctl]\nrole = captain\n")
        .display()
        .to_string();
    unchanged(&home, &["config", "get", "--pgdata", &pgdata]).expect(2, &["names no role"]);
    home.configure("n1", "[pg_autoctl\nrole = keeper\n");
    unchanged(&home, &["config", "get", "--pgdata", &pgdata]).expect(2, &["cannot parse", "line "]);
}

#[test]
fn create_needs_one_choice_of_ssl() {
    let home = Home::new();
    let create = |extra: &[&str]| {
        let pgdata = home.path("new").display().to_string();
        let mut words = vec![
            "create",
            "monitor",
            "--pgdata",
            &pgdata,
            "--auth",
            "trust",
            "--hostname",
            "h",
        ];
        words.extend_from_slice(extra);
        unchanged(&home, &words)
    };
    create(&[]).expect(1, &["FATAL Explicit SSL choice is required", "HINT"]);
    create(&["--no-ssl", "--ssl-self-signed"]).expect(1, &["not both", "usage:"]);
    create(&["--no-ssl", "--server-cert", "a", "--server-key", "b"]).expect(
        1,
        &["user-provided SSL certificates is not supported", "usage:"],
    );
    create(&["--server-cert", "a"]).expect(1, &["both --server-cert and --server-key"]);
    create(&["--server-cert", "a", "--server-key", "b"]).expect(1, &["\"a\" cannot be read"]);
    create(&["--ssl-self-signed", "--ssl-mode", "verify-full"])
        .expect(1, &["not compatible with self-signed"]);
    create(&["--ssl-self-signed", "--ssl-mode", "always"]).expect(1, &["Invalid ssl mode"]);
}

#[test]
fn create_needs_a_choice_of_authentication() {
    let home = Home::new();
    let pgdata = home.path("new").display().to_string();
    let base = [
        "create",
        "monitor",
        "--pgdata",
        &pgdata,
        "--no-ssl",
        "--hostname",
        "h",
    ];
    unchanged(&home, &base).expect(1, &["FATAL Please use either --auth", "HINT"]);
    unchanged(
        &home,
        &[&base[..], &["--auth", "trust", "--skip-pg-hba"]].concat(),
    )
    .expect(1, &["either --auth or --skip-pg-hba", "usage:"]);
    unchanged(&home, &[&base[..], &["--auth", "peer"]].concat())
        .expect(1, &["unknown authentication method `peer`"]);
}

#[test]
fn create_postgres_checks_its_wishes_before_it_writes() {
    let home = Home::new();
    let pgdata = home.path("new").display().to_string();
    let uri = "postgres://autoctl_node@127.0.0.1:1/pg_auto_failover";
    let create = |extra: &[&str]| {
        let mut words = vec![
            "create", "postgres", "--pgdata", &pgdata, "--auth", "trust", "--no-ssl",
        ];
        words.extend_from_slice(extra);
        unchanged(&home, &words)
    };
    create(&[]).expect(1, &["--monitor", "PG_AUTOCTL_MONITOR", "HINT"]);
    create(&["--monitor", uri, "--candidate-priority", "101"]).expect(
        1,
        &["FATAL --candidate-priority argument is not valid: \"101\""],
    );
    create(&["--monitor", uri, "--candidate-priority", "high"]).expect(1, &["\"high\""]);
    create(&["--monitor", uri, "--replication-quorum", "maybe"]).expect(1, &["\"maybe\""]);
    create(&["--monitor", uri, "--pgport", "0"]).expect(1, &["--pgport"]);
    create(&["--monitor", uri, "--node-id", "3"])
        .expect(1, &["--node-id is only accepted with --disable-monitor"]);
    create(&["--monitor", uri, "--disable-monitor"]).expect(1, &["not both", "usage:"]);
    create(&["--disable-monitor"]).expect(1, &["needs --node-id"]);
    create(&["--disable-monitor", "--node-id", "1"]).expect(1, &["not built yet", "HINT"]);
    create(&["--monitor", "postgres://h/?nonsense=1"]).expect(1, &["FATAL", "nonsense"]);
}

#[test]
fn variables_of_the_environment_are_checked_as_options_are() {
    let home = Home::new();
    let pgdata = home.path("new").display().to_string();
    let words = ["create", "postgres", "--pgdata", &pgdata, "--auth", "trust"];
    let with = |name, value| home.run_with(&[(name, value)], &words);
    with("PG_AUTOCTL_SSL_SELF_SIGNED", "perhaps").expect(1, &["PG_AUTOCTL_SSL_SELF_SIGNED"]);
    with("PG_AUTOCTL_SSL_SELF_SIGNED", "true").expect(1, &["PG_AUTOCTL_MONITOR"]);
    with("PG_AUTOCTL_SSL_SELF_SIGNED", "false").expect(1, &["Explicit SSL choice"]);
    let variables = [
        ("PG_AUTOCTL_SSL_SELF_SIGNED", "on"),
        ("PG_AUTOCTL_CANDIDATE_PRIORITY", "-1"),
    ];
    home.run_with(&variables, &words)
        .expect(1, &["--candidate-priority", "\"-1\""]);
    assert!(home.files().is_empty());
}

#[test]
fn config_get_and_set_refuse_what_they_do_not_know() {
    let home = Home::new();
    let pgdata = home.keeper();
    let get = |path| unchanged(&home, &["config", "get", "--pgdata", &pgdata, path]);
    get("nope").expect(
        1,
        &[
            "Failed to find a dot separator in option path \"nope\"",
            "Failed to lookup option nope",
        ],
    );
    get("postgresql.nope").expect(
        1,
        &["ERROR Failed to find configuration option for path \"postgresql.nope\""],
    );
    let ran = get("postgresql.port");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "15501\n"));
    assert_eq!(get("replication.password").stdout, "\n");
    let set = |words: &[&str]| {
        unchanged(
            &home,
            &[&["config", "set", "--pgdata", &pgdata][..], words].concat(),
        )
    };
    set(&["postgresql.port"]).expect(1, &["two arguments", "usage:"]);
    set(&["postgresql.nope", "1"]).expect(2, &["HINT"]);
    set(&["postgresql.port", "many"]).expect(2, &["expected a number"]);
    set(&["postgresql.port", "70000"]).expect(2, &["out of bounds"]);
    set(&["ssl.sslmode", "always"]).expect(2, &["known words"]);
    set(&["postgresql.pgdata", "/x"]).expect(2, &["cannot be changed"]);
    set(&["postgresql.pg_ctl", "/nonexistent"]).expect(2, &["postgresql.pg_ctl", "/nonexistent"]);
}

#[test]
fn config_set_changes_one_key_and_prints_it() {
    let home = Home::new();
    let pgdata = home.keeper();
    let ran = home.run(&[
        "config",
        "set",
        "--pgdata",
        &pgdata,
        "pg_autoctl.name",
        "node a",
    ]);
    ran.expect(0, &[]);
    assert_eq!(ran.stdout, "node a\n");
    let ran = home.run(&["config", "get", "--pgdata", &pgdata, "pg_autoctl.name"]);
    assert_eq!(ran.stdout, "node a\n");
    let ran = home.run(&["config", "get", "--pgdata", &pgdata, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["postgresql"]["port"], 15501);
    assert_eq!(json["timeout"]["listen_notifications_timeout"], 60);
}

#[test]
fn a_service_that_does_not_run_is_no_service() {
    let home = Home::new();
    for pgdata in [home.keeper(), home.monitor()] {
        unchanged(&home, &["stop", "--pgdata", &pgdata]).expect(12, &["FATAL", "pid file"]);
        unchanged(
            &home,
            &["stop", "--pgdata", &pgdata, "--fast", "--immediate"],
        )
        .expect(1, &["not both"]);
        unchanged(&home, &["stop", "--pgdata", &pgdata, "--sigkill"])
            .expect(1, &["PG_AUTOCTL_DEBUG"]);
        let ran = unchanged(&home, &["reload", "--pgdata", &pgdata]);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (0, "", "")
        );
        let ran = unchanged(&home, &["status", "--pgdata", &pgdata, "--json"]);
        ran.expect(3, &["INFO  pg_autoctl is not running"]);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn show_file_tells_places_and_contents() {
    let home = Home::new();
    let (keeper, monitor) = (home.keeper(), home.monitor());
    let show = |pgdata: &str, words: &[&str]| {
        unchanged(
            &home,
            &[&["show", "file", "--pgdata", pgdata][..], words].concat(),
        )
    };
    let ran = show(&keeper, &[]);
    ran.expect(0, &[]);
    assert!(
        ran.stdout
            .starts_with("   File | Path\n--------+----------------\n Config | /")
    );
    assert!(ran.stdout.contains("\n   Init | /") && ran.stdout.ends_with("pg_autoctl.pid\n\n"));
    assert!(!show(&monitor, &["--all"]).stdout.contains("State"));
    let json: serde_json::Value =
        serde_json::from_str(&show(&monitor, &["--json"]).stdout).unwrap();
    assert_eq!(
        json.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["config", "pid"]
    );
    assert!(
        show(&keeper, &["--state"])
            .stdout
            .ends_with("pg_autoctl.state\n")
    );
    show(&monitor, &["--state"]).expect(1, &["A monitor has no state file"]);
    show(&monitor, &["--init"]).expect(1, &["A monitor has no init state file"]);
    show(&keeper, &["--init", "--contents"]).expect(3, &["pg_autoctl.init"]);
    show(&keeper, &["--state", "--contents"]).expect(3, &["pg_autoctl.state"]);
    show(&keeper, &["--pid", "--contents"]).expect(12, &["pg_autoctl.pid"]);
    show(&keeper, &["--all", "--contents"]).expect(0, &["WARN  Ignoring option --contents"]);
    show(&keeper, &["--config", "--pid"]).expect(1, &["only one of", "usage:"]);
    let text = std::fs::read_to_string(show(&keeper, &["--config"]).stdout.trim()).unwrap();
    assert_eq!(
        show(&keeper, &["--config", "--contents"]).stdout,
        text + "\n"
    );
}

#[test]
fn an_unreachable_monitor_is_an_error_that_changes_nothing() {
    let home = Home::new();
    let pgdata = home.keeper();
    for words in [
        &["show", "state"][..],
        &["show", "uri"],
        &["show", "events"],
        &["show", "settings"],
        &["perform", "failover"],
        &["drop", "node", "--destroy", "--force"],
        &["inspect", "explain"],
        &["inspect", "settings"],
        &["inspect", "what-if", "--name", "node1"],
    ] {
        let words = [words, &["--pgdata", &pgdata]].concat();
        unchanged(&home, &words).expect(6, &["ERROR", "127.0.0.1:1", "attempts", "HINT"]);
    }
}

#[test]
fn passwords_are_never_shown_in_errors() {
    let home = Home::new();
    let uri = "postgres://autoctl_node:s3cr3t@127.0.0.1:1/pg_auto_failover";
    for level in ["-v", "-vv", "-vvv"] {
        let ran = home.run(&["show", "state", level, "--monitor", uri]);
        ran.expect(6, &["****"]);
        assert!(!ran.stderr.contains("s3cr3t"), "{}", ran.stderr);
    }
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    let home = Home::new();
    let (keeper, monitor) = (home.keeper(), home.monitor());
    let run = |words: &[&str]| unchanged(&home, words);
    run(&["show", "state", "--json", "--watch", "--pgdata", &keeper]).expect(1, &["--json"]);
    run(&["show", "state", "--local", "--watch", "--pgdata", &keeper]).expect(1, &["--local"]);
    run(&["show", "state", "--local", "--pgdata", &monitor])
        .expect(6, &["not supported on a monitor"]);
    run(&["show", "events", "--local", "--pgdata", &keeper]).expect(6, &["kept by the monitor"]);
    run(&["show", "state", "--local", "--pgdata", &keeper]).expect(3, &["state file"]);
    run(&["show", "state", "--group", "x", "--pgdata", &keeper]).expect(1, &["--group"]);
    run(&["perform", "failover", "--wait", "x", "--pgdata", &keeper]).expect(1, &["--wait"]);
    run(&[
        "set",
        "node",
        "candidate-priority",
        "101",
        "--pgdata",
        &keeper,
    ])
    .expect(1, &["\"101\""]);
    run(&[
        "set",
        "node",
        "candidate-priority",
        "--pgdata",
        &keeper,
        "--",
        "-1",
    ])
    .expect(1, &["\"-1\""]);
    run(&[
        "set",
        "node",
        "replication-quorum",
        "maybe",
        "--pgdata",
        &keeper,
    ])
    .expect(1, &["maybe"]);
    run(&["set", "node", "metadata", "--pgdata", &keeper]).expect(1, &["at least one", "usage:"]);
    run(&["get", "node", "candidate-priority", "--pgdata", &monitor])
        .expect(1, &["FATAL Please use --name"]);
}

#[test]
fn drop_says_what_it_is_for() {
    let home = Home::new();
    let (keeper, monitor) = (home.keeper(), home.monitor());
    let drop = |words: &[&str]| unchanged(&home, &[&["drop"][..], words].concat());
    drop(&["node", "--name", "x", "--pgdata", &keeper])
        .expect(1, &["Only dropping the local node"]);
    drop(&[
        "node",
        "--hostname",
        "h",
        "--pgport",
        "1",
        "--pgdata",
        &keeper,
    ])
    .expect(1, &["Only dropping"]);
    drop(&["node", "--pgdata", &monitor]).expect(1, &["either --name or --hostname"]);
    drop(&[
        "node",
        "--name",
        "x",
        "--hostname",
        "h",
        "--pgport",
        "1",
        "--pgdata",
        &monitor,
    ])
    .expect(1, &["not both"]);
    drop(&["node", "--hostname", "h", "--pgdata", &monitor]).expect(1, &["together"]);
    drop(&[
        "node",
        "--hostname",
        "h",
        "--pgport",
        "1",
        "--destroy",
        "--pgdata",
        &monitor,
    ])
    .expect(1, &["from a distance"]);
    drop(&["monitor", "--pgdata", &keeper]).expect(2, &["Local node is not a monitor"]);
}

#[test]
fn a_disabled_monitor_is_named_as_the_reason() {
    let home = Home::new();
    let text = include_str!("data/old-keeper.cfg").replace(
        "postgres://autoctl_node@localhost:15500/pg_auto_failover?sslmode=require",
        "PG_AUTOCTL_DISABLED",
    );
    let pgdata = home.configure("n1", &text).display().to_string();
    unchanged(&home, &["show", "uri", "--pgdata", &pgdata]).expect(2, &["Monitor is disabled"]);
    unchanged(&home, &["perform", "failover", "--pgdata", &pgdata])
        .expect(2, &["Monitor is disabled"]);
    unchanged(&home, &["show", "state", "--pgdata", &pgdata]).expect(3, &["showing --local state"]);
    unchanged(&home, &["drop", "node", "--pgdata", &pgdata]).expect(1, &["FATAL", "--destroy"]);
}

#[test]
fn commands_that_are_not_built_say_so() {
    let home = Home::new();
    let keeper = home.keeper();
    for words in [&["enable", "ssl"][..], &["disable", "monitor"]] {
        unchanged(&home, &[words, &["--pgdata", &keeper]].concat())
            .expect(1, &["is not part of this release", "HINT"]);
    }
}

#[test]
fn the_dashboard_wants_a_terminal() {
    let home = Home::new();
    let keeper = home.keeper();
    for words in [
        &["watch"][..],
        &["show", "state", "--watch"],
        &["show", "events", "--watch"],
    ] {
        unchanged(&home, &[words, &["--pgdata", &keeper]].concat())
            .expect(1, &["needs a terminal", "HINT"]);
    }
}

#[test]
fn quiet_keeps_errors_and_json_logs_are_json() {
    let home = Home::new();
    let keeper = home.keeper();
    let ran = home.run(&["-q", "status", "--pgdata", &keeper]);
    assert_eq!((ran.code, ran.stderr.as_str()), (3, ""));
    for ran in [
        home.run(&["status", "--pgdata", &keeper, "--json-logs"]),
        home.run_with(
            &[("PG_AUTOCTL_LOG_FORMAT", "json")],
            &["status", "--pgdata", &keeper],
        ),
    ] {
        let line: serde_json::Value =
            serde_json::from_str(ran.stderr.lines().next().unwrap()).unwrap();
        assert_eq!(line["level"], "INFO");
    }
}
