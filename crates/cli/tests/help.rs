//! The help of the whole program is a snapshot: a change of it is seen in review.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{COMMANDS, Home};

#[test]
fn the_tree_of_commands_is_printed_to_stdout() {
    let ran = Home::new().run(&["help"]);
    ran.expect(0, &[]);
    assert_eq!(ran.stderr, "");
    insta::assert_snapshot!(ran.stdout);
}

#[test]
fn the_tree_of_developers_has_do_instead_of_activate() {
    let ran = Home::new().run_with(&[("PG_AUTOCTL_DEBUG", "")], &["help"]);
    assert!(ran.stdout.contains("+ do "));
    // `do coordinator` has an `activate` of its own: only the list of the program itself counts.
    let top = ran.stdout.split("\n\n").next().unwrap();
    assert!(top.contains("+ do ") && !top.contains("activate"), "{top}");
}

#[test]
fn every_command_has_a_help_on_stderr() {
    let home = Home::new();
    let mut all = String::new();
    for command in COMMANDS {
        let mut words: Vec<&str> = command.split(' ').collect();
        words.push("--help");
        let ran = home.run(&words);
        ran.expect(0, &["usage: pg_autoctl"]);
        assert_eq!(ran.stdout, "");
        all.push_str(&ran.stderr);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn every_group_has_a_help_on_stderr() {
    let home = Home::new();
    for group in [
        "create", "drop", "config", "show", "get", "get node", "perform", "inspect",
    ] {
        let mut words: Vec<&str> = group.split(' ').collect();
        words.push("-h");
        let ran = home.run(&words);
        ran.expect(
            0,
            &["Available commands:", &format!("  pg_autoctl {group}\n")],
        );
    }
    home.run(&["--help"])
        .expect(0, &["Available commands:\n  pg_autoctl\n  + create"]);
}

#[test]
fn help_wins_over_a_mistake_on_the_same_line() {
    Home::new()
        .run(&["show", "state", "--bogus", "--help"])
        .expect(0, &["usage: pg_autoctl show state"]);
}
