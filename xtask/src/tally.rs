//! Counting tests: what passed, failed and was skipped, and the one line at the end.

use std::fmt;
use std::time::Duration;

use crate::console;

/// What a test prints that leaves itself out, before the reason.
const LEFT_OUT: &str = "SKIPPED: ";

/// How many tests ended how.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl Tally {
    /// Adds another count.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Counts one test that is not cargo's, and says how it ended.
    pub(crate) fn record(&mut self, name: &str, took: Duration, result: &anyhow::Result<()>) {
        let took = console::human(took);
        match result {
            Ok(()) => {
                self.passed += 1;
                console::good(&format!("{name} ({took})"));
            }
            Err(error) => {
                self.failed += 1;
                console::bad(&format!("{name} ({took}): {error:#}"));
            }
        }
    }

    /// Counts tests that were left out, loudly.
    pub(crate) fn skip(&mut self, count: usize, what: &str, reason: &str) {
        self.skipped += count;
        console::skipped(what, reason);
    }

    /// Reads the summary line of `cargo nextest run`; none when it never got to run tests.
    pub(crate) fn of_nextest(output: &str) -> Option<Self> {
        let line = output
            .lines()
            .rfind(|line| line.trim_start().starts_with("Summary ["))?;
        let (_, counts) = line.split_once("run:")?;
        let mut tally = Self::default();
        for part in counts.split(',') {
            let mut words = part.split_whitespace();
            let count: usize = words.next()?.parse().ok()?;
            match words.next()? {
                "passed" => tally.passed += count,
                "skipped" => tally.skipped += count,
                // "failed", "timed out", "exec failed": none of them is a pass.
                _ => tally.failed += count,
            }
        }
        Some(tally)
    }

    /// Counts as skipped the tests that passed by leaving themselves out, loudly. They print
    /// [`LEFT_OUT`] and the reason; `junit` is nextest's report, which holds what each test printed.
    pub(crate) fn leave_out(&mut self, junit: &str) {
        for case in junit.split("<testcase ").skip(1) {
            let name = case
                .split("name=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            let Some((_, said)) = case.split_once(LEFT_OUT) else {
                continue;
            };
            let reason = said.lines().next().unwrap_or_default();
            self.passed = self.passed.saturating_sub(1);
            self.skip(1, name.unwrap_or("a test"), reason.trim());
        }
    }

    /// Adds up the result lines of `cargo test`; none when there is not one.
    pub(crate) fn of_cargo_test(output: &str) -> Option<Self> {
        let mut tally = None;
        for line in output
            .lines()
            .filter(|line| line.starts_with("test result:"))
        {
            let counts = tally.get_or_insert_with(Self::default);
            for part in line.split([';', '.']) {
                let words: Vec<_> = part.split_whitespace().collect();
                let [count, kind] = words[..] else { continue };
                let Ok(count) = count.parse::<usize>() else {
                    continue;
                };
                match kind {
                    "passed" => counts.passed += count,
                    "failed" => counts.failed += count,
                    "ignored" => counts.skipped += count,
                    _ => {}
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: usize, failed: usize, skipped: usize) -> Option<Tally> {
        Some(Tally {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn nextest_summaries_are_read_in_all_their_forms() {
        let read = |text: &str| Tally::of_nextest(text);
        assert_eq!(
            read("x\n     Summary [   0.047s] 7 tests run: 7 passed, 0 skipped\n"),
            tally(7, 0, 0)
        );
        assert_eq!(
            read(
                "  Summary [ 2.1s] 9 tests run: 6 passed (1 slow), 2 failed, 1 timed out, 4 skipped"
            ),
            tally(6, 3, 4)
        );
        assert_eq!(
            read("  Summary [ 2.1s] 3/9 tests run: 2 passed, 1 failed, 0 skipped"),
            tally(2, 1, 0)
        );
        assert_eq!(read("error: could not compile"), None);
    }

    #[test]
    fn cargo_test_results_add_up() {
        let output = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            noise\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Tally::of_cargo_test(output), tally(4, 2, 1));
        assert_eq!(Tally::of_cargo_test("error"), None);
    }

    #[test]
    fn tests_that_leave_themselves_out_are_skipped() {
        let mut all = Tally {
            passed: 3,
            failed: 0,
            skipped: 0,
        };
        all.leave_out(
            "<testcase name=\"a\" classname=\"x\"><system-err>SKIPPED: no Postgres\nmore</system-err></testcase>\n\
             <testcase name=\"b\"><system-err>fine</system-err></testcase><testcase name=\"c\"/>",
        );
        assert_eq!(
            all,
            Tally {
                passed: 2,
                failed: 0,
                skipped: 1
            }
        );
    }

    #[test]
    fn the_last_line_has_one_form() {
        let all = Tally {
            passed: 12,
            failed: 0,
            skipped: 3,
        };
        assert_eq!(all.to_string(), "12 passed, 0 failed, 3 skipped");
    }
}
