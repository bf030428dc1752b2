//! Children, one owner each: what a process with PID 1 in a container has to do.
//!
//! Owns the list of children that have an owner, and the reaping of those that have none: orphans
//! that the kernel gave to PID 1, such as the backends of a killed postmaster. It must never reap a
//! child that somebody waits for: its exit status would be lost.

/// Reaps orphans for ever when this process is PID 1 (or a subreaper); returns at once otherwise.
/// Children that this crate starts are left to their owners. Run it once, as a task.
///
/// # Errors
/// When SIGCHLD cannot be watched.
pub async fn reap_orphans() -> std::io::Result<()> {
    todo!()
}
