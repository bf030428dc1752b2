//! What a developer reads: headings, progress and the last line. The only place that prints.

#![expect(
    clippy::print_stdout,
    reason = "this is where xtask talks to the terminal"
)]

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Prints a heading that stands out between the output of the tools that run below it.
pub(crate) fn heading(text: &str) {
    say(&format!("\n{}", paint("1;36", &format!("=== {text}"))));
}

/// Prints one line of progress.
pub(crate) fn note(text: &str) {
    say(&format!("    {text}"));
}

/// Prints one line about something that went well.
pub(crate) fn good(text: &str) {
    say(&format!("{} {text}", paint("32", "ok ")));
}

/// Prints one line about something that did not go well.
pub(crate) fn bad(text: &str) {
    say(&format!("{} {text}", paint("1;31", "BAD")));
}

/// Prints one line about something that was left out, which must not be overlooked.
pub(crate) fn skipped(what: &str, reason: &str) {
    say(&paint("1;33", &format!("SKIPPED {what}: {reason}")));
}

/// Prints text as it is.
pub(crate) fn say(text: &str) {
    println!("{text}");
    // The reader may be a pipe: a long step should show its heading when it begins.
    let _ = std::io::stdout().flush();
}

/// Prints text, each line under a bar, as the output of another program.
pub(crate) fn quote(text: &str) {
    for line in text.trim_end().lines() {
        say(&format!("    | {line}"));
    }
}

/// A duration as people say it: `0.31 s`, `12.4 s`, `3 min 5 s`.
pub(crate) fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 120.0 => format!("{s:.1} s"),
        _ => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(human(Duration::from_millis(312)), "0.31 s");
        assert_eq!(human(Duration::from_millis(12_440)), "12.4 s");
        assert_eq!(human(Duration::from_secs(185)), "3 min 5 s");
    }
}
