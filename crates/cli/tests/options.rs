//! Every option of every command is accepted or refused as the old program does, with the real
//! binary. `--version` ends a command line that was understood with exit code 0.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{COMMANDS, Home};

/// `name/letter=`: `=` takes a value; without `/letter` there is no letter.
struct Row {
    command: &'static str,
    options: &'static str,
    /// Letters that stand in the old program's tables and that it refuses all the same.
    refused: &'static str,
}

const SSL: &str =
    " ssl-self-signed/s no-ssl/N ssl-mode= ssl-ca-file= ssl-crl-file= server-cert= server-key=";

const TABLE: &[Row] = &[
    Row {
        command: "create monitor",
        options: "pgctl/C= pgdata/D= pgport/p= listen/l= hostname/n= auth/A= skip-pg-hba/S run/x SSL",
        refused: "HUdafmMILPRrgzZy",
    },
    Row {
        command: "create postgres",
        options: "pgctl/C= pgdata/D= pghost/H= pgport/p= listen/l= username/U= auth/A= skip-pg-hba/S \
            pg-hba-lan/L dbname/d= name/a= hostname/n= formation/f= monitor/m= disable-monitor/M \
            node-id/I= candidate-priority/P= replication-quorum/r= maximum-backup-rate= run/x SSL",
        refused: "gzZy",
    },
    Row {
        command: "create coordinator",
        options: "pgctl/C= pgdata/D= pghost/H= pgport/p= listen/l= username/U= auth/A= skip-pg-hba/S \
            pg-hba-lan/L dbname/d= name/a= hostname/n= formation/f= monitor/m= disable-monitor/M \
            candidate-priority/P= replication-quorum/r= citus-secondary/z citus-cluster/Z= run/x SSL",
        refused: "gy",
    },
    Row {
        command: "create worker",
        options: "pgctl/C= pgdata/D= pghost/H= pgport/p= listen/l= proxyport/y= username/U= auth/A= \
            skip-pg-hba/S pg-hba-lan/L dbname/d= name/a= hostname/n= formation/f= group= monitor/m= \
            disable-monitor/M candidate-priority/P= replication-quorum/r= citus-secondary/z \
            citus-cluster/Z= run/x SSL",
        refused: "g",
    },
    Row {
        command: "create formation",
        options: "pgdata/D= monitor= formation/f= kind/k= dbname= enable-secondary/s \
            disable-secondary/S number-sync-standbys/n=",
        refused: "md",
    },
    Row {
        command: "drop formation",
        options: "pgdata/D= monitor= formation/f=",
        refused: "m",
    },
    Row {
        command: "drop monitor",
        options: "pgdata/D= monitor= destroy/d force hostname/n= pgport/p= formation= name= wait=",
        refused: "mfaFw",
    },
    Row {
        command: "drop node",
        options: "pgdata/D= monitor= destroy/d force hostname/n= pgport/p= formation= name= wait=",
        refused: "mfaFw",
    },
    Row {
        command: "config check",
        options: "pgdata/D= json/J",
        refused: "m",
    },
    Row {
        command: "config get",
        options: "pgdata/D= json/J",
        refused: "m",
    },
    Row {
        command: "config set",
        options: "pgdata/D= json/J",
        refused: "m",
    },
    Row {
        command: "show uri",
        options: "pgdata/D= monitor= formation= citus-cluster= json",
        refused: "mfZJ",
    },
    Row {
        command: "show events",
        options: "pgdata/D= monitor= formation/f= group/g= count/n= local watch json",
        refused: "mLwJ",
    },
    Row {
        command: "show state",
        options: "pgdata/D= monitor= formation/f= group/g= count/n= local watch json",
        refused: "mLwJ",
    },
    Row {
        command: "show settings",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "show standby-names",
        options: "pgdata/D= monitor= formation/f= group/g= json",
        refused: "mJ",
    },
    Row {
        command: "show file",
        options: "pgdata/D= all/a config/c state/s init/i pid/p contents/C json",
        refused: "J",
    },
    Row {
        command: "show systemd",
        options: "pgdata/D=",
        refused: "J",
    },
    Row {
        command: "enable secondary",
        options: "pgdata/D= formation/f=",
        refused: "m",
    },
    Row {
        command: "disable secondary",
        options: "pgdata/D= formation/f=",
        refused: "m",
    },
    Row {
        command: "enable maintenance",
        options: "pgdata/D= allow-failover/A",
        refused: "m",
    },
    Row {
        command: "disable maintenance",
        options: "pgdata/D=",
        refused: "m",
    },
    Row {
        command: "enable ssl",
        options: "pgdata/D= SSL",
        refused: "m",
    },
    Row {
        command: "disable ssl",
        options: "pgdata/D= json/J",
        refused: "m",
    },
    Row {
        command: "enable monitor",
        options: "pgdata/D= allow-failover/A",
        refused: "f",
    },
    Row {
        command: "disable monitor",
        options: "pgdata/D= force/F",
        refused: "m",
    },
    Row {
        command: "get node replication-quorum",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "get node candidate-priority",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "get formation settings",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "get formation number-sync-standbys",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "set node metadata",
        options: "pgdata/D= name/n= hostname/H= pgport/p= json/J",
        refused: "mf",
    },
    Row {
        command: "set node replication-quorum",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "set node candidate-priority",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "set formation number-sync-standbys",
        options: "pgdata/D= monitor= formation/f= name= json",
        refused: "mgnaJ",
    },
    Row {
        command: "perform failover",
        options: "pgdata/D= monitor= formation/f= group/g= wait= allow-data-loss",
        refused: "mw",
    },
    Row {
        command: "perform switchover",
        options: "pgdata/D= monitor= formation/f= group/g= wait= allow-data-loss",
        refused: "mw",
    },
    Row {
        command: "perform promotion",
        options: "pgdata/D= monitor= formation/f= name= wait= json",
        refused: "mwgaJ",
    },
    Row {
        command: "inspect explain",
        options: "pgdata/D= monitor= formation/f= group/g= json/J",
        refused: "m",
    },
    Row {
        command: "inspect what-if",
        options: "pgdata/D= monitor= formation/f= name= fault= json/J",
        refused: "mgn",
    },
    Row {
        command: "inspect error",
        options: "json/J",
        refused: "Dmfg",
    },
    Row {
        command: "inspect fsm",
        options: "mermaid json/J",
        refused: "Dmfg",
    },
    Row {
        command: "inspect settings",
        options: "pgdata/D= monitor= json/J",
        refused: "mfg",
    },
    Row {
        command: "activate",
        options: "pgdata/D= json/J",
        refused: "m",
    },
    Row {
        command: "run",
        options: "pgdata/D= name/n= hostname/H= pgport/p= json/J restored",
        refused: "mf",
    },
    Row {
        command: "watch",
        options: "pgdata/D= monitor= formation/f= group/g= json",
        refused: "mJ",
    },
    Row {
        command: "stop",
        options: "pgdata/D= fast/f immediate/i sigkill",
        refused: "mJ9",
    },
    Row {
        command: "upgrade",
        options: "pgdata/D= wait= json/J",
        refused: "mfg",
    },
    Row {
        command: "reload",
        options: "pgdata/D= json/J",
        refused: "m",
    },
    Row {
        command: "status",
        options: "pgdata/D= json/J",
        refused: "m",
    },
    Row {
        command: "help",
        options: "",
        refused: "DJ",
    },
    Row {
        command: "version",
        options: "json/J",
        refused: "D",
    },
];

struct Option_ {
    long: String,
    letter: Option<char>,
    value: bool,
}

fn options(row: &Row) -> Vec<Option_> {
    let common = " version/V verbose/v quiet/q";
    let text = row.options.replace("SSL", SSL) + common;
    text.split_whitespace()
        .map(|word| {
            let (word, value) = word
                .strip_suffix('=')
                .map_or((word, false), |word| (word, true));
            let (long, letter) = match word.split_once('/') {
                Some((long, letter)) => (long, letter.chars().next()),
                None => (word, None),
            };
            Option_ {
                long: long.to_owned(),
                letter,
                value,
            }
        })
        .collect()
}

/// The words of a command line that ends in `--version`, unless it ends otherwise before.
fn line(row: &Row, words: &[String]) -> Vec<String> {
    let mut line: Vec<String> = row.command.split(' ').map(str::to_owned).collect();
    line.extend_from_slice(words);
    line.push("--version".to_owned());
    line
}

fn code(home: &Home, line: &[String]) -> (i32, String) {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let ran = home.run(&words);
    (ran.code, ran.stderr)
}

fn accepted(home: &Home, row: &Row, words: &[String]) {
    let line = line(row, words);
    let (code, stderr) = code(home, &line);
    assert_eq!(code, 0, "{line:?} is refused:\n{stderr}");
}

fn refused(home: &Home, row: &Row, words: &[String], why: &str) {
    let line = line(row, words);
    let (code, stderr) = code(home, &line);
    assert_eq!(code, 1, "{line:?} is accepted");
    let leaf = row.command.split(' ').next_back().unwrap();
    assert!(
        stderr.starts_with(&format!("{leaf}: {why}")),
        "{line:?}:\n{stderr}"
    );
    assert!(
        stderr.contains(&format!("usage: pg_autoctl {}", row.command)),
        "{line:?}:\n{stderr}"
    );
}

#[test]
fn the_table_names_every_command() {
    let named: Vec<&str> = TABLE.iter().map(|row| row.command).collect();
    for command in COMMANDS {
        assert!(named.contains(command), "{command} is not in the table");
    }
    assert_eq!(named.len(), COMMANDS.len());
}

#[test]
fn every_documented_option_is_accepted() {
    let home = Home::new();
    for row in TABLE {
        let options = options(row);
        // All long options at once, in both forms, then all letters at once.
        let long = |option: &Option_| match option.value {
            true => vec![format!("--{}", option.long), "1".to_owned()],
            false => vec![format!("--{}", option.long)],
        };
        accepted(
            &home,
            row,
            &options.iter().flat_map(long).collect::<Vec<_>>(),
        );
        let equals = |option: &&Option_| option.value;
        let joined: Vec<String> = options
            .iter()
            .filter(equals)
            .map(|option| format!("--{}=1", option.long))
            .collect();
        accepted(&home, row, &joined);
        let letters: Vec<String> = options
            .iter()
            .filter_map(|option| {
                let letter = option.letter?;
                Some(if option.value {
                    format!("-{letter}1")
                } else {
                    format!("-{letter}")
                })
            })
            .collect();
        accepted(&home, row, &letters);
    }
}

#[test]
fn an_option_that_takes_a_value_needs_one() {
    let home = Home::new();
    for row in TABLE {
        for option in options(row).iter().filter(|option| option.value) {
            let words = [
                row.command.split(' ').map(str::to_owned).collect(),
                vec![format!("--{}", option.long)],
            ]
            .concat();
            let (code, stderr) = code(&home, &words);
            assert_eq!(code, 1, "{words:?}");
            let text = format!("option '--{}' requires an argument", option.long);
            assert!(stderr.contains(&text), "{words:?}:\n{stderr}");
        }
    }
}

#[test]
fn a_flag_takes_no_value() {
    let home = Home::new();
    for row in TABLE {
        for option in options(row).iter().filter(|option| !option.value) {
            let words = [format!("--{}=1", option.long)];
            let why = format!("option '--{}' doesn't allow an argument", option.long);
            refused(&home, row, &words, &why);
        }
    }
}

#[test]
fn letters_that_the_old_program_refuses_are_refused() {
    let home = Home::new();
    for row in TABLE {
        for letter in row.refused.chars() {
            let why = format!("invalid option -- '{letter}'");
            refused(&home, row, &[format!("-{letter}")], &why);
        }
    }
}

#[test]
fn unknown_options_are_refused_with_the_usage_of_the_command() {
    let home = Home::new();
    for row in TABLE {
        refused(
            &home,
            row,
            &["--bogus".to_owned()],
            "unrecognized option '--bogus'",
        );
    }
}

#[test]
fn unique_prefixes_are_accepted_and_ambiguous_ones_are_refused() {
    let home = Home::new();
    let row = |command| TABLE.iter().find(|row| row.command == command).unwrap();
    accepted(
        &home,
        row("show state"),
        &["--form=f".to_owned(), "--js".to_owned()],
    );
    accepted(
        &home,
        row("create postgres"),
        &["--ssl-s".to_owned(), "--cand=1".to_owned()],
    );
    refused(
        &home,
        row("create postgres"),
        &["--pg=1".to_owned()],
        "option '--pg' is ambiguous",
    );
    refused(
        &home,
        row("create monitor"),
        &["--ssl".to_owned()],
        "option '--ssl' is ambiguous",
    );
}
