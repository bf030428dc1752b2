//! `cargo xtask test`: cargo's tests, then the scenarios on real Postgres; one line of counts at the end.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::tally::Tally;
use crate::{bench, command, console, machine, model, quiet, scenario, verify, walk, workspace};

/// A test that is a command of its own.
type LongTest = (&'static str, fn() -> Result<()>);

/// The one among them that needs more than Postgres.
const WALK: &str = "cargo xtask walk";

/// Runs the tests. The last line of the output is `N passed, N failed, N skipped`.
///
/// # Errors
/// When a test fails, or the tests cannot be built.
pub(crate) fn run(long: bool) -> Result<()> {
    let start = Instant::now();
    let mut all = Tally::default();
    let ended = parts(long, &mut all);
    if let Err(error) = &ended {
        console::bad(&format!("{error:#}"));
        all.failed += 1;
    }
    console::note(&format!("took {}", console::human(start.elapsed())));
    console::say(&all.to_string());
    // The counts stay the last line: what failed was said above.
    if all.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

fn parts(long: bool, all: &mut Tally) -> Result<()> {
    console::heading("machine");
    if let Err(error) = machine::install_missing(scenario::PROGRAMS) {
        console::bad(&format!("{error:#}"));
    }
    console::heading("unit, table and integration tests");
    all.add(&cargo_tests()?);
    console::heading("scenarios on real Postgres");
    if machine::postgres_programs().is_none() {
        all.skip(
            scenario::names()?.len(),
            "the scenarios",
            "there is no Postgres on this machine",
        );
    } else {
        scenario::run_all(long, all)?;
    }
    let long_tests: [LongTest; 4] = [
        ("cargo xtask bench failover", || {
            bench::failover(&bench::Failover::default())
        }),
        (WALK, || walk::run(&walk::Walk::default())),
        ("cargo xtask quiet", || quiet::run(&quiet::Quiet::default())),
        ("cargo xtask model --from-nothing", model::long),
    ];
    if long {
        for (name, test) in long_tests {
            if name == WALK && walk::find(None)?.is_none() {
                all.skip(1, name, &walk::without());
                continue;
            }
            console::heading(name);
            let start = Instant::now();
            let result = test();
            all.record(name, start.elapsed(), &result);
        }
    } else {
        all.skip(
            long_tests.len(),
            "bench, quick start, quiet run and model check",
            "they take longer: `cargo xtask test --long`",
        );
    }
    Ok(())
}

fn cargo_tests() -> Result<Tally> {
    let nextest = machine::find_program("cargo-nextest").is_some();
    let profile = if std::env::var_os("CI").is_some() {
        "ci"
    } else {
        "default"
    };
    let mut cargo = workspace::cargo();
    if nextest {
        cargo.args([
            "nextest",
            "run",
            "--workspace",
            "--no-tests",
            "pass",
            "--profile",
            profile,
        ]);
    } else {
        console::note(
            "cargo-nextest is not installed: `cargo test` runs the tests, one crate after the other",
        );
        cargo.args(["test", "--workspace", "--no-fail-fast"]);
    }
    let (status, output) = command::tee(&mut cargo)?;
    let tally = if nextest {
        Tally::of_nextest(&output)
    } else {
        Tally::of_cargo_test(&output)
    };
    let mut tally = tally.context("the tests did not run")?;
    if nextest {
        let report = workspace::target()?
            .join("nextest")
            .join(profile)
            .join("junit.xml");
        let report = std::fs::read_to_string(&report)
            .with_context(|| format!("cannot read `{}`", report.display()))?;
        tally.leave_out(&report);
    }
    // They ran, inside others.
    tally.skipped = tally.skipped.saturating_sub(verify::inner_tests()?);
    if !status.success() && tally.failed == 0 {
        bail!("the test run ended with {status}, though no test failed");
    }
    Ok(tally)
}
