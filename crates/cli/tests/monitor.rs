//! A real monitor, run by the real binary: it needs no Postgres and no special user.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Home;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A monitor that runs until the test is over.
struct Monitor {
    home: Home,
    pgdata: String,
    port: u16,
    service: Option<Child>,
}

impl Monitor {
    /// Creates a monitor on a free port.
    fn create(extra: &[&str]) -> Self {
        let home = Home::new();
        let pgdata = home.path("mon").display().to_string();
        let port = common::free_port();
        let text = port.to_string();
        let words = ["create", "monitor", "--pgdata", &pgdata, "--pgport", &text];
        let words = [&words[..], &["--hostname", "127.0.0.1"], extra].concat();
        home.run(&words)
            .expect(0, &["Monitor has been successfully initialized."]);
        Self {
            home,
            pgdata,
            port,
            service: None,
        }
    }

    fn start(&mut self) {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("pg_autoctl"));
        command
            .args(["run", "--pgdata", &self.pgdata])
            .env_clear()
            .env("HOME", self.home.path(""))
            .env("XDG_RUNTIME_DIR", self.home.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.service = Some(command.spawn().unwrap());
        self.until("it serves", |monitor| monitor.run(&["status"]).code == 0);
    }

    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn run(&self, words: &[&str]) -> common::Ran {
        self.home
            .run(&[words, &["--pgdata", &self.pgdata]].concat())
    }

    /// Waits for the end of the service; answers its exit code.
    fn ended(&mut self) -> i32 {
        let mut service = self.service.take().unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = service.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(start.elapsed() < PATIENCE, "the service goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(service) = &mut self.service {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

#[test]
fn a_new_monitor_answers_every_show_command() {
    let mut monitor = Monitor::create(&["--auth", "trust", "--ssl-self-signed"]);
    monitor.start();
    let uri = format!(
        "postgres://autoctl_node@127.0.0.1:{}/pg_auto_failover?sslmode=require",
        monitor.port
    );
    let show = |words: &[&str]| {
        let ran = monitor.run(words);
        ran.expect(0, &[]);
        ran.stdout
    };
    assert_eq!(
        show(&["show", "uri", "--formation", "monitor"]),
        format!("{uri}\n")
    );
    assert!(show(&["show", "uri"]).contains(&format!("     monitor | monitor | {uri}\n")));
    assert!(show(&["show", "state"]).starts_with("Name |  Node |  Host:Port |"));
    assert_eq!(show(&["show", "state", "--json"]), "[\n]\n");
    assert!(show(&["show", "events"]).ends_with("-+-----------\n\n"));
    assert_eq!(
        show(&["show", "events", "--group", "0", "--json"]),
        "[\n]\n"
    );
    assert!(show(&["show", "settings"]).contains("formation | default | number_sync_standbys | 0"));
    assert_eq!(show(&["get", "formation", "number-sync-standbys"]), "0\n");
    show(&["inspect", "explain"]);
    assert!(show(&["inspect", "settings"]).contains("unhealthy_timeout"));
    let settings: serde_json::Value =
        serde_json::from_str(&show(&["inspect", "settings", "--json"])).unwrap();
    assert_eq!(settings[0]["source"], "default");
    let fsm = monitor.home.run(&["inspect", "fsm", "--json"]).stdout;
    let fsm: serde_json::Value = serde_json::from_str(&fsm).unwrap();
    assert_eq!(fsm[0]["section"], "primary");
    show(&["config", "check"]);
    let status: serde_json::Value = serde_json::from_str(&show(&["status", "--json"])).unwrap();
    assert_eq!(status["pg_autoctl"]["services"][0]["name"], "listener");
    let from_afar = monitor
        .home
        .run(&["show", "uri", "--formation", "monitor", "--monitor", &uri]);
    assert_eq!(from_afar.stdout, format!("{uri}\n"));
}

#[test]
fn what_the_monitor_refuses_is_exit_code_six_or_three() {
    let mut monitor = Monitor::create(&["--auth", "trust", "--no-ssl"]);
    monitor.start();
    let run = |words: &[&str]| monitor.run(words);
    run(&["show", "settings", "--formation", "nope"]).expect(6, &["\"nope\"", "HINT"]);
    run(&["show", "uri", "--formation", "default"]).expect(6, &["ERROR", "HINT"]);
    run(&["inspect", "explain", "--group", "7"]).expect(6, &["no group 7", "HINT"]);
    run(&["inspect", "what-if"]).expect(1, &["--name", "usage:"]);
    run(&["inspect", "what-if", "--name", "x"]).expect(6, &["no node \"x\"", "HINT"]);
    run(&["inspect", "what-if", "--name", "x", "--fault", "bad"]).expect(1, &["down or silent"]);
    run(&["show", "standby-names"]).expect(3, &["FATAL", "no Postgres nodes registered"]);
    run(&["perform", "failover"]).expect(3, &["FATAL"]);
    run(&["perform", "failover", "--group", "0"]).expect(6, &["Monitor ERROR:"]);
    run(&["perform", "promotion", "--name", "x"]).expect(1, &["Failed to find node \"x\""]);
    run(&["drop", "node", "--name", "x"]).expect(6, &["Failed to find", "HINT"]);
    run(&["get", "node", "candidate-priority", "--name", "x"]).expect(6, &["no node \"x\""]);
    run(&["set", "node", "candidate-priority", "5", "--name", "x"]).expect(6, &["Monitor ERROR:"]);
    run(&["set", "formation", "number-sync-standbys", "3"]).expect(6, &["Monitor ERROR:"]);
    // Quotes in names stay in their literals.
    run(&["show", "state", "--formation", "a'; select 1 --\\"]).expect(0, &[]);
    run(&["drop", "node", "--name", "a' or 'a' = 'a"]).expect(6, &["Failed to find"]);
}

#[test]
fn one_service_runs_at_a_time_and_stop_ends_it() {
    let mut monitor = Monitor::create(&["--auth", "trust", "--no-ssl"]);
    monitor.start();
    let pid = monitor.run(&["show", "file", "--pid", "--contents"]).stdout;
    assert_eq!(pid.lines().nth(1), Some(monitor.pgdata.as_str()));
    monitor.run(&["run"]).expect(
        12,
        &["FATAL pg_autoctl is already running with pid", "HINT"],
    );
    monitor
        .run(&["create", "monitor", "--auth", "trust", "--no-ssl"])
        .expect(3, &["FATAL pg_autoctl is already running with pid"]);
    let ran = monitor.run(&["stop"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert_eq!(monitor.ended(), 0);
    monitor.run(&["status"]).expect(3, &[]);
    monitor.run(&["stop"]).expect(12, &[]);
    for how in ["--fast", "--immediate"] {
        monitor.start();
        monitor.run(&["stop", how]).expect(0, &[]);
        assert_eq!(monitor.ended(), 0);
    }
}

#[test]
fn a_reload_takes_settings_over_and_survives_a_broken_file() {
    let mut monitor = Monitor::create(&["--auth", "trust", "--no-ssl"]);
    monitor.start();
    let key = "pgautofailover.unhealthy_timeout";
    let ran = monitor.run(&["config", "set", key, "4000"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "4000\n"));
    assert_eq!(monitor.run(&["config", "get", key]).stdout, "4000\n");
    monitor
        .run(&["config", "set", key, "1"])
        .expect(2, &["must be between", "HINT"]);
    monitor
        .run(&["config", "set", "pgautofailover.nope", "1"])
        .expect(2, &["nope"]);
    let file = monitor.run(&["show", "file", "--config"]).stdout;
    let text = std::fs::read_to_string(file.trim()).unwrap();
    std::fs::write(file.trim(), "nonsense").unwrap();
    monitor
        .home
        .run(&["reload", "--pgdata", &monitor.pgdata])
        .expect(0, &[]);
    std::fs::write(file.trim(), text).unwrap();
    monitor.run(&["show", "state"]).expect(0, &[]);
}

#[test]
fn creating_again_changes_nothing_and_run_goes_with_create() {
    let monitor = Monitor::create(&["--auth", "trust", "--ssl-self-signed"]);
    let before = monitor.home.files();
    let certificate = monitor.home.path("mon/server.crt");
    monitor
        .run(&["create", "monitor", "--auth", "trust", "--ssl-self-signed"])
        .expect(0, &["Monitor has been successfully initialized."]);
    let after = monitor.home.files();
    assert_eq!(before.get(&certificate), after.get(&certificate));
    assert!(before.contains_key(&certificate));
    monitor
        .run(&[
            "create",
            "postgres",
            "--auth",
            "trust",
            "--no-ssl",
            "--monitor",
            "postgres://h/x",
        ])
        .expect(if nix_is_root() { 1 } else { 2 }, &["FATAL"]);
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|file| {
        use std::os::unix::fs::MetadataExt;
        file.uid() == 0
    })
}

#[test]
fn a_directory_of_something_else_and_a_taken_port_are_refused() {
    let home = Home::new();
    std::fs::create_dir(home.path("other")).unwrap();
    std::fs::write(home.path("other/letter.txt"), "dear").unwrap();
    let before = home.files();
    let pgdata = home.path("other").display().to_string();
    let words = [
        "create", "monitor", "--pgdata", &pgdata, "--auth", "trust", "--no-ssl",
    ];
    let words = [&words[..], &["--hostname", "127.0.0.1"]].concat();
    home.run(&words).expect(2, &["FATAL", "letter.txt", "HINT"]);
    assert_eq!(home.files(), before);

    let monitor = Monitor::create(&["--auth", "trust", "--no-ssl", "--listen", "127.0.0.1"]);
    let taken = TcpListener::bind(("127.0.0.1", monitor.port)).unwrap();
    monitor
        .run(&["run"])
        .expect(12, &["FATAL", "in use", "HINT"]);
    drop(taken);
}

#[test]
fn dropping_a_monitor_keeps_its_files_unless_told_otherwise() {
    let mut monitor = Monitor::create(&["--auth", "trust", "--no-ssl"]);
    monitor.start();
    monitor
        .run(&["drop", "monitor"])
        .expect(0, &["WARN  Preserving", "HINT"]);
    assert_eq!(monitor.ended(), 0);
    assert!(monitor.home.path("mon/pgaf_monitor.db").exists());
    monitor
        .run(&["drop", "monitor", "--destroy"])
        .expect(0, &["Removing"]);
    assert!(!monitor.home.path("mon").exists());
    monitor
        .run(&["drop", "monitor", "--destroy"])
        .expect(1, &["FATAL"]);
}
