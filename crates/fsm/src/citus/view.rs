//! What a worker's group may know of the coordinator.

use pgaf_protocol::{GroupId, Held, MetadataSeen};

use crate::group::{Formation, LiveGroup};

/// How long a planned move of a worker waits, with writes going on, for its update to be held, in
/// milliseconds (`safety.md` §9.1: deadline 1 s). Then it goes on without.
pub const HOLD_DEADLINE_MS: u64 = 1000;

/// The coordinator, as one group of its formation needs to know it. Only planned moves and removals
/// ask: no promotion ever waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coordinator {
    /// Its primary takes writes, and its keeper looks after the node metadata.
    pub present: bool,
    /// The update of this group that is prepared.
    pub held: Option<Held>,
    /// This group has a row.
    pub lists: bool,
}

impl Coordinator {
    /// Looks at group 0 on behalf of `group`.
    #[must_use]
    pub fn of(formation: &Formation, live: Option<&LiveGroup>, group: GroupId) -> Self {
        let seen = metadata(formation, live);
        Self {
            present: seen.is_some(),
            held: seen.and_then(|s| s.held.iter().copied().find(|h| h.group == group)),
            lists: seen.is_some_and(|s| s.rows.iter().any(|r| r.group == group)),
        }
    }
}

/// What the primary of group 0 said last, on a session that is open.
pub(super) fn metadata<'a>(
    formation: &Formation,
    live: Option<&'a LiveGroup>,
) -> Option<&'a MetadataSeen> {
    let leader = formation.groups.get(&GroupId(0))?.primary?;
    let report = live?.report(leader.node)?;
    report
        .metadata
        .as_ref()
        .filter(|_| report.postgres.is_primary())
}
