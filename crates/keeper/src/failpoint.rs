//! Places where a test can kill the keeper: `PGAF_FAILPOINT=name` aborts the process there.
//!
//! Only in builds with debug assertions; a release build does not read the variable. Unit tests
//! have one process for many keepers: there a keeper ends by a panic, at each name once.

/// Aborts when the test asked for it.
#[cfg(debug_assertions)]
pub(crate) fn hit(name: &str) {
    use std::sync::OnceLock;
    #[cfg(test)]
    chaos::hit(name);
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

#[cfg(test)]
pub(crate) mod chaos {
    //! Keepers that end wherever they can.

    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    tokio::task_local! {
        /// The node whose keeper runs, and where it has ended already.
        pub(crate) static KILLED: Rc<RefCell<BTreeSet<String>>>;
    }

    /// What a keeper that ends at a failpoint panics with.
    #[derive(Debug)]
    pub(crate) struct Killed;

    /// Ends the keeper, when it runs within [`KILLED`] and has not ended here before.
    pub(super) fn hit(name: &str) {
        let fresh = KILLED.try_with(|killed| killed.borrow_mut().insert(name.to_owned()));
        if fresh == Ok(true) {
            tracing::warn!(failpoint = name, "the keeper is killed");
            std::panic::panic_any(Killed);
        }
    }
}
