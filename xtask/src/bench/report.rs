//! The bench's figures as a page of documentation.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::Failover;
use crate::command;
use crate::host::Programs;

/// Scenarios, what they are, and the goal in seconds for the write outage of a pair.
const SCENARIOS: &[(&str, &str, f64)] = &[
    ("switchover", "planned switchover", 0.3),
    (
        "kill-postgres",
        "Postgres killed (`kill -9` of the postmaster)",
        1.0,
    ),
    (
        "kill-node",
        "every process of the primary's host killed",
        1.5,
    ),
    ("freeze-node", "the primary's host frozen (SIGSTOP)", 4.0),
    ("partition", "the primary's link cut", 4.0),
];

/// The same of a Citus formation: a group follows the name.
const CITUS_SCENARIOS: &[(&str, &str, f64)] = &[
    ("switchover:1", "planned move of a worker", 0.5),
    (
        "kill-node:1",
        "every process of a worker's host killed",
        2.0,
    ),
    ("switchover", "planned move of the coordinator", 0.5),
    (
        "kill-node",
        "every process of the coordinator's host killed",
        2.0,
    ),
];

/// Figures of a run of a Citus formation, in seconds or counts.
const CITUS_FIGURES: &[(&str, &str)] = &[
    ("last_error_s", "last failed write, s after the fault"),
    (
        "ddl_s",
        "distributed DDL works again, s after the first write",
    ),
    ("errors", "failed writes"),
    ("read_errors", "failed reads over all shards"),
];

/// Figures of the whole program: name in the bench's result, what it is, the goal.
const SETUP: &[(&str, &str, &str)] = &[
    ("up_s", "from nothing to primary and secondaries, s", "≤ 5"),
    ("monitor_mib", "memory of the monitor (PSS), MiB", "≤ 15"),
    (
        "keeper_mib",
        "memory of the largest keeper (PSS), MiB",
        "≤ 8",
    ),
    (
        "idle_cpu_pct",
        "idle CPU, all processes, % of one core",
        "≤ 0.8",
    ),
    (
        "idle_ha_cpu_pct",
        "idle CPU without Postgres, % of one core",
        "≤ 0.4",
    ),
];

/// What must be 0 in every run.
const ZEROES: &[&str] = &["lost", "two_writers", "forked", "cut_readers"];

/// The goal for an outage beside a pair at rest: on more nodes, and under load, where two are looser.
///
/// Source: the goals of the project: 1.5 times, or 0.6 s more; a switchover under load 1 s, a killed
/// Postgres 5 s.
fn goal(name: &str, pair: f64, bench: &Failover) -> f64 {
    if bench.citus.is_some() {
        return pair;
    }
    let seconds = match (name, &bench.load) {
        ("switchover", Some(_)) => 1.0,
        ("kill-postgres", Some(_)) => 5.0,
        (_, Some(_)) => pair * 1.5,
        (_, None) if bench.nodes > 2 => (pair * 1.5).max(pair + 0.6),
        (_, None) => pair,
    };
    (seconds * 100.0).round() / 100.0
}

/// The section.
pub(super) fn markdown(bench: &Failover, measured: &Value, programs: &Programs) -> String {
    let ours = programs.autoctl.display().to_string();
    let columns: Vec<(String, &Value)> = measured
        .as_object()
        .into_iter()
        .flatten()
        .map(|(folder, figures)| (label(folder, folder == &ours), figures))
        .collect();
    let mut page = String::new();
    let _ = writeln!(
        page,
        "### {}{}\n\nCommand: `cargo xtask bench failover{}`  \nMachine: {}",
        match bench.citus {
            Some(workers) => format!("Citus: 2 coordinators and {} workers", workers * 2),
            None => format!("{} nodes", bench.nodes),
        },
        match &bench.load {
            Some(_) => " under pgbench: scale 50, 16 clients, 100 idle sessions",
            None => "",
        },
        arguments(bench),
        machine(programs)
    );
    let scenarios = match bench.citus {
        Some(_) => CITUS_SCENARIOS,
        None => SCENARIOS,
    };
    header(&mut page, "Write outage, s", "Goal", &columns);
    for (name, what, goal) in scenarios {
        if columns.iter().any(|(_, figures)| figures[*name].is_array()) {
            row(
                &mut page,
                what,
                &format!("≤ {}", self::goal(name, *goal, bench)),
                &columns,
                |figures| spread(&figures[*name], "outage_s"),
            );
        }
    }
    header(&mut page, "Healed, s", "", &columns);
    for (name, what, _) in scenarios {
        if columns.iter().any(|(_, figures)| figures[*name].is_array()) {
            row(&mut page, what, "", &columns, |figures| {
                spread(&figures[*name], "healed_s")
            });
        }
    }
    if bench.citus.is_some() {
        citus(&mut page, &columns);
    }
    sums(&mut page, bench, &columns);
    header(&mut page, "The whole program", "Goal", &columns);
    for (key, what, goal) in SETUP {
        let goal = match (bench.citus, *key) {
            (None, _) => goal,
            (Some(_), "up_s") => "≤ 30",
            (Some(_), _) => "",
        };
        row(&mut page, what, goal, &columns, |figures| {
            figures[*key].to_string()
        });
    }
    page
}

/// What a client of a Citus formation notices, beside the outage.
fn citus(page: &mut String, columns: &[(String, &Value)]) {
    for (key, what) in CITUS_FIGURES {
        header(page, what, "", columns);
        for (name, scenario, _) in CITUS_SCENARIOS {
            if columns.iter().any(|(_, figures)| figures[*name].is_array()) {
                row(page, scenario, "", columns, |figures| {
                    spread(&figures[*name], key)
                });
            }
        }
    }
}

/// What happened over all runs.
fn sums(page: &mut String, bench: &Failover, columns: &[(String, &Value)]) {
    header(page, "Sums over all runs", "Goal", columns);
    for (key, what) in [
        ("acked", "acknowledged writes"),
        ("lost", "acknowledged writes lost"),
        ("two_writers", "writes acknowledged by two nodes at once"),
        ("forked", "nodes with other rows than the primary's"),
        ("cut_readers", "read sessions on standbys that were broken"),
    ] {
        let goal = if ZEROES.contains(&key) { "0" } else { "" };
        row(page, what, goal, columns, |figures| {
            sum(figures, key).to_string()
        });
    }
    if bench.load.is_some() {
        let what = "transactions a second before the fault: median (most)";
        row(page, what, "", columns, |figures| {
            let all: Vec<Value> = runs(figures).cloned().collect();
            spread(&Value::from(all), "load_tps")
        });
    }
    row(
        page,
        "runs that ended healed / runs",
        "all",
        columns,
        |figures| {
            let all: Vec<_> = runs(figures).collect();
            format!(
                "{} / {}",
                all.iter().filter(|run| run["error"].is_null()).count(),
                all.len()
            )
        },
    );
}

/// What must not have happened: lost rows, two writers, forks, runs that ended in an error.
pub(super) fn faults(figures: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if figures.is_null() || !figures["error"].is_null() {
        found.push(format!("it did not run: {}", figures["error"]));
    }
    for key in ZEROES {
        let count = sum(figures, key);
        if count > 0 {
            found.push(format!("{key} {count}"));
        }
    }
    let failed = runs(figures).filter(|run| !run["error"].is_null());
    found.extend(failed.map(|run| format!("a run failed: {}", run["error"])));
    found
}

fn header(page: &mut String, what: &str, goal: &str, columns: &[(String, &Value)]) {
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let _ = writeln!(page, "\n| {what} | {goal} | {} |", names.join(" | "));
    let _ = writeln!(page, "|---|---|{}", "---|".repeat(columns.len()));
}

fn row(
    page: &mut String,
    what: &str,
    goal: &str,
    columns: &[(String, &Value)],
    cell: impl Fn(&Value) -> String,
) {
    let cells: Vec<_> = columns.iter().map(|(_, figures)| cell(figures)).collect();
    let _ = writeln!(page, "| {what} | {goal} | {} |", cells.join(" | "));
}

/// Median and worst of a figure over the runs that have it, and how many do when not all.
fn spread(runs: &Value, key: &str) -> String {
    let runs = runs.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut known: Vec<f64> = runs.iter().filter_map(|run| run[key].as_f64()).collect();
    known.sort_by(f64::total_cmp);
    let Some(worst) = known.last() else {
        return "-".to_owned();
    };
    let middle = known.len() / 2;
    let median = if known.len() % 2 == 1 {
        known[middle]
    } else {
        f64::midpoint(known[middle - 1], known[middle])
    };
    let missing = match runs.len() - known.len() {
        0 => String::new(),
        missing => format!(", {missing} without"),
    };
    format!("{median:.2} ({worst:.2}{missing})")
}

fn runs(figures: &Value) -> impl Iterator<Item = &Value> {
    let lists = figures.as_object().into_iter().flat_map(|all| all.values());
    lists
        .filter_map(Value::as_array)
        .filter(|list| list.iter().any(Value::is_object))
        .flatten()
}

fn sum(figures: &Value, key: &str) -> u64 {
    runs(figures).filter_map(|run| run[key].as_u64()).sum()
}

fn arguments(bench: &Failover) -> String {
    let mut words = format!(
        " --nodes {} --repeat {} --idle {}",
        bench.nodes, bench.repeat, bench.idle
    );
    if let Some(workers) = bench.citus {
        let _ = write!(words, " --citus {workers}");
    }
    if let Some(load) = &bench.load {
        let _ = write!(words, " --load {load}");
    }
    for scenario in &bench.scenario {
        let _ = write!(words, " --scenario {scenario}");
    }
    for (flag, given) in [(" --compare", bench.compare), (" --write", bench.write)] {
        words.push_str(if given { flag } else { "" });
    }
    words
}

/// The program's own name for its version.
fn label(folder: &str, ours: bool) -> String {
    let mut version = Command::new(format!("{folder}/pg_autoctl"));
    let said = command::capture(version.arg("version"), Duration::from_secs(10));
    let first = said
        .ok()
        .and_then(|said| said.stdout.lines().next().map(str::to_owned));
    let whose = if ours {
        "pgaf"
    } else {
        "pg_auto_failover (Debian)"
    };
    format!(
        "{whose}: {}",
        first.unwrap_or_else(|| "no version".to_owned())
    )
}

fn machine(programs: &Programs) -> String {
    let say = |program: &str, args: &[&str]| {
        let said = command::capture(Command::new(program).args(args), Duration::from_secs(10));
        said.map(|said| said.stdout.trim().to_owned())
            .unwrap_or_default()
    };
    let cores = std::thread::available_parallelism()
        .map(usize::from)
        .unwrap_or_default();
    let postgres = say(
        &programs.postgres.join("postgres").display().to_string(),
        &["--version"],
    );
    let (kernel, day) = (say("uname", &["-sr"]), say("date", &["-u", "+%Y-%m-%d"]));
    format!("{cores} cores, {kernel}, {postgres}, {day}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn medians_worsts_and_missing_figures_are_shown() {
        let runs =
            json!([{"outage_s": 1.0}, {"outage_s": 3.0}, {"outage_s": null}, {"outage_s": 2.0}]);
        assert_eq!(spread(&runs, "outage_s"), "2.00 (3.00, 1 without)");
        assert_eq!(
            spread(&json!([{"outage_s": 1.0}, {"outage_s": 2.0}]), "outage_s"),
            "1.50 (2.00)"
        );
        assert_eq!(spread(&json!(null), "outage_s"), "-");
    }

    #[test]
    fn goals_are_looser_on_more_nodes_and_under_load() {
        let bench = |nodes, load: Option<&str>| Failover {
            nodes,
            load: load.map(str::to_owned),
            ..Failover::default()
        };
        assert_eq!(goal("switchover", 0.3, &bench(2, None)), 0.3);
        assert_eq!(goal("switchover", 0.3, &bench(3, None)), 0.9);
        assert_eq!(goal("partition", 4.0, &bench(3, None)), 6.0);
        assert_eq!(goal("switchover", 0.3, &bench(2, Some("pgbench"))), 1.0);
        assert_eq!(goal("kill-node", 1.5, &bench(2, Some("pgbench"))), 2.25);
    }

    #[test]
    fn lost_rows_and_failed_runs_are_faults() {
        let good =
            json!({"up_s": 3.1, "idle_cpu_pct": 0.5, "switchover": [{"lost": 0, "acked": 9}]});
        assert_eq!(faults(&good), Vec::<String>::new());
        let bad = json!({"switchover": [{"lost": 2}, {"error": "no primary"}]});
        assert_eq!(faults(&bad), ["lost 2", "a run failed: \"no primary\""]);
        assert_eq!(faults(&json!(null)).len(), 1);
    }
}
