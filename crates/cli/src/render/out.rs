//! The two streams: data goes to stdout, everything else to stderr.
//!
//! A reader that went away (`| head`) is no error.

use std::io::Write;

/// Writes data.
pub(crate) fn stdout(text: &str) {
    let mut stream = std::io::stdout().lock();
    // Nobody is left to tell when stdout is closed.
    drop(
        stream
            .write_all(text.as_bytes())
            .and_then(|()| stream.flush()),
    );
}

/// Writes what is for people and no log line: usage and help.
pub(crate) fn stderr(text: &str) {
    let mut stream = std::io::stderr().lock();
    drop(
        stream
            .write_all(text.as_bytes())
            .and_then(|()| stream.flush()),
    );
}
