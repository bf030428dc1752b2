//! Places where a test can kill the keeper: `PGAF_FAILPOINT=name` aborts the process there.
//!
//! Only in builds with debug assertions; a release build does not read the variable.

/// Aborts when the test asked for it.
#[cfg(debug_assertions)]
pub(crate) fn hit(name: &str) {
    use std::sync::OnceLock;
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("PGAF_FAILPOINT").ok());
    if wanted.as_deref() == Some(name) {
        tracing::warn!(failpoint = name, "aborts at a failpoint");
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn hit(_name: &str) {}
