//! Sync configurations: what counts as acknowledged.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{CopyId, NodeId, Stamp};

/// A standby that a configuration names, with the copy it had then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The node, whose name Postgres sees.
    pub node: NodeId,
    /// The data directory that acknowledges.
    pub copy: CopyId,
}

/// `ANY number (members)`, or `''`: asynchronous, when there is no member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct SyncConfig {
    /// How many members must have a commit before it is acknowledged; 0 when asynchronous.
    pub number: u32,
    /// The copies that count. Sets are of copies, not of node names.
    pub members: BTreeSet<Member>,
}

impl SyncConfig {
    /// `''`: every commit is acknowledged by the primary alone.
    #[must_use]
    pub fn asynchronous() -> Self {
        Self::default()
    }

    /// `ANY number (members)`; the number is clamped to 1..=names. `''` when nobody is named.
    #[must_use]
    pub fn any(number: u32, members: impl IntoIterator<Item = Member>) -> Self {
        let mut config = Self {
            number,
            members: members.into_iter().collect(),
        };
        let names = u32::try_from(config.nodes().len()).unwrap_or(u32::MAX);
        config.number = number.clamp(1, names.max(1));
        if config.members.is_empty() {
            config.number = 0;
        }
        config
    }

    /// Whether this is `''`.
    #[must_use]
    pub fn is_asynchronous(&self) -> bool {
        self.members.is_empty()
    }

    /// The nodes that are named, in order.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.members.iter().map(|m| m.node).collect()
    }

    /// The value of `synchronous_standby_names`, as the old program writes it.
    #[must_use]
    pub fn to_setting(&self) -> String {
        use alloc::string::ToString;
        if self.is_asynchronous() {
            String::new()
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for SyncConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_asynchronous() {
            return f.write_str("''");
        }
        let names: Vec<String> = self.nodes().into_iter().map(NodeId::standby_name).collect();
        write!(f, "ANY {} ({})", self.number, names.join(", "))
    }
}

/// An entry of a group's list of possible configurations (`safety.md` §1): durable before the
/// goal that carries it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Possible {
    /// Term and sequence of the goal that carried it.
    pub stamp: Stamp,
    /// The copy that is, or may become, primary in that term.
    pub primary: CopyId,
    /// What may be in force there.
    pub config: SyncConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: i64) -> Member {
        Member {
            node: NodeId(node),
            copy: CopyId(u64::try_from(node).unwrap() * 100),
        }
    }

    #[test]
    fn the_setting_reads_as_the_old_program_writes_it() {
        assert_eq!(SyncConfig::asynchronous().to_setting(), "");
        assert_eq!(
            SyncConfig::any(1, [member(3), member(2)]).to_setting(),
            "ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)"
        );
    }

    #[test]
    fn the_number_is_clamped_to_the_names() {
        assert_eq!(SyncConfig::any(3, [member(2)]).number, 1);
        assert_eq!(SyncConfig::any(0, [member(2)]).number, 1);
        assert!(SyncConfig::any(2, []).is_asynchronous());
    }
}
