use super::*;

/// A file as the old program 2.0 wrote it for a node.
const OLD_KEEPER: &str = include_str!("../../tests/data/old-keeper.cfg");
/// A file as the old program 2.0 wrote it for a monitor.
const OLD_MONITOR: &str = include_str!("../../tests/data/old-monitor.cfg");

fn read(text: &str) -> Config {
    Config::from_entries(ini::parse(text).unwrap()).unwrap()
}

#[test]
fn a_keeper_file_of_the_old_program_is_written_back_with_real_defaults() {
    let expected = OLD_KEEPER
        .replace(
            "listen_notifications_timeout = 0",
            "listen_notifications_timeout = 60",
        )
        .replace("lock_cooldown = 0", "lock_cooldown = 10000")
        .replace("wait_max_retries = 0", "wait_max_retries = 100")
        .replace("wait_timeout = 0", "wait_timeout = 300");
    assert_eq!(read(OLD_KEEPER).to_ini(), expected);
}

#[test]
fn a_monitor_file_of_the_old_program_is_written_back_unchanged() {
    assert_eq!(read(OLD_MONITOR).to_ini(), OLD_MONITOR);
    assert_eq!(read(OLD_MONITOR).role(), Role::Monitor);
}

#[test]
fn unknown_keys_and_odd_characters_survive() {
    let text = "[pg_autoctl]\nrole = keeper\nmonitor = postgres://a:b\\'\"%20@h/x?a=1#b\nfuture = 1\n\n[later]\nkey = a = b\n";
    let config = read(text);
    let again = read(&config.to_ini());
    assert_eq!(again.to_ini(), config.to_ini());
    assert_eq!(
        config.text("pg_autoctl", "monitor"),
        Some("postgres://a:b\\'\"%20@h/x?a=1#b")
    );
    assert!(config.to_ini().contains("future = 1\n"));
    assert!(config.to_ini().contains("[later]\nkey = a = b\n"));
}

#[test]
fn the_old_spelling_of_hostname_is_read() {
    let config = read("[pg_autoctl]\nrole = keeper\nnodename = h\n");
    assert_eq!(config.text("pg_autoctl", "hostname"), Some("h"));
}

#[test]
fn values_are_checked_when_they_are_set() {
    let mut config = read(OLD_KEEPER);
    assert_eq!(
        config
            .set("timeout.network_partition_timeout", " 7")
            .unwrap(),
        "7"
    );
    assert_eq!(config.set("ssl.active", "on").unwrap(), "1");
    assert!(
        config
            .set("timeout.network_partition_timeout", "x")
            .is_err()
    );
    assert!(config.set("postgresql.hba_level", "none").is_err());
    assert!(config.set("postgresql.pgdata", "/x").is_err());
    assert!(config.set("pg_autoctl.name", "a\n[x]").is_err());
    assert!(matches!(
        config.set("nope", "1"),
        Err(ConfigError::NoDot(_))
    ));
    assert!(matches!(
        config.set("a.b", "1"),
        Err(ConfigError::UnknownKey(_))
    ));
    assert_eq!(config.get("pg_autoctl.name").unwrap(), "node1");
    assert_eq!(config.get("replication.password").unwrap(), "");
}

#[test]
fn numbers_are_json_numbers_and_text_is_text() {
    let json = read(OLD_KEEPER).to_json();
    assert_eq!(json["postgresql"]["port"], 15501);
    assert_eq!(json["ssl"]["active"], 1);
    assert_eq!(json["pg_autoctl"]["name"], "node1");
    assert!(json["replication"].get("password").is_none());
}

#[test]
fn debug_output_shows_no_value() {
    let mut config = read(OLD_KEEPER);
    config.put("replication", "password", "s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_monitor_takes_settings_by_their_new_and_old_names() {
    let mut config = read(OLD_MONITOR);
    let path = "pgautofailover.unhealthy_timeout";
    assert_eq!(config.get(path).unwrap(), "2500");
    config
        .set("pgautofailover.node_considered_unhealthy_timeout", "4000")
        .unwrap();
    assert_eq!(config.get(path).unwrap(), "4000");
    config.set(path, "5000").unwrap();
    assert_eq!(
        config.settings(),
        [("unhealthy_timeout".to_owned(), "5000".to_owned())]
    );
    assert!(
        config
            .to_ini()
            .ends_with("\n[pgautofailover]\nunhealthy_timeout = 5000\n")
    );
    assert!(config.set(path, "1").is_err());
    assert!(config.set("pgautofailover.nope", "1").is_err());
    assert!(read(OLD_KEEPER).set(path, "5000").is_err());
}
