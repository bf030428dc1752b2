//! Our replication slots, nobody else's.

/// What [`super::Server::ensure_slots`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotChanges {
    /// Made.
    pub created: Vec<String>,
    /// Removed.
    pub dropped: Vec<String>,
    /// To be removed, and still in use: repeat.
    pub busy: Vec<String>,
}
