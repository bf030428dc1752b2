//! The old program's 22 labels, the only states on the wire.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// A node's state, as reported by its keeper or assigned as its goal.
        ///
        /// Source: pg_auto_failover 2.2, `src/monitor/pgautofailover.sql`, in the enum's order.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum NodeState {
            $($(#[$doc])* $name,)*
        }

        impl NodeState {
            /// Every state, in the order of the old enum.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The label on the wire.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

states! {
    /// Never assigned.
    Unknown = "unknown",
    /// Registered, nothing done yet.
    #[default]
    Init = "init",
    /// Alone in its group, takes writes.
    Single = "single",
    /// Takes writes; no standby is in its sync configuration.
    WaitPrimary = "wait_primary",
    /// Takes writes; its sync configuration is in force.
    Primary = "primary",
    /// Has been told to stop for a change of primary.
    Draining = "draining",
    /// The candidate is confirmed; the old primary is given time to stop.
    DemoteTimeout = "demote_timeout",
    /// Was primary, has promised, waits for the new one.
    Demoted = "demoted",
    /// A standby that is not yet eligible.
    Catchingup = "catchingup",
    /// A standby that is eligible.
    Secondary = "secondary",
    /// The chosen candidate, being made ready.
    PreparePromotion = "prepare_promotion",
    /// Promoted; cannot acknowledge anything yet.
    StopReplication = "stop_replication",
    /// Waits until the primary accepts it.
    WaitStandby = "wait_standby",
    /// The operator owns this Postgres.
    Maintenance = "maintenance",
    /// Of the oldest versions.
    JoinPrimary = "join_primary",
    /// Settings are being read again.
    ApplySettings = "apply_settings",
    /// A primary on its way to maintenance.
    PrepareMaintenance = "prepare_maintenance",
    /// A standby on its way to maintenance.
    WaitMaintenance = "wait_maintenance",
    /// Has stopped receiving WAL and says how far it got: a promise.
    ReportLsn = "report_lsn",
    /// Fetches missing WAL from a peer.
    FastForward = "fast_forward",
    /// The election is over; waits for the new primary.
    JoinSecondary = "join_secondary",
    /// Being removed.
    Dropped = "dropped",
}

impl NodeState {
    /// Whether a node in this state takes writes (the old program's set W).
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(
            self,
            Self::Single
                | Self::WaitPrimary
                | Self::Primary
                | Self::JoinPrimary
                | Self::ApplySettings
        )
    }

    /// Whether a node in this state is, or was last, its group's primary (the old set PB).
    #[must_use]
    pub fn belongs_to_primary(self) -> bool {
        self.is_writable()
            || matches!(
                self,
                Self::Draining | Self::DemoteTimeout | Self::PrepareMaintenance
            )
    }

    /// The column `Connection` of `show state` (`cli.md` §3.5).
    #[must_use]
    pub fn connection(self) -> &'static str {
        match self {
            Self::Single
            | Self::WaitPrimary
            | Self::Primary
            | Self::JoinPrimary
            | Self::PrepareMaintenance
            | Self::ApplySettings => "read-write",
            Self::Secondary
            | Self::Catchingup
            | Self::PreparePromotion
            | Self::StopReplication
            | Self::WaitMaintenance
            | Self::FastForward
            | Self::JoinSecondary
            | Self::ReportLsn => "read-only",
            Self::Maintenance
            | Self::Draining
            | Self::Demoted
            | Self::DemoteTimeout
            | Self::WaitStandby
            | Self::Init
            | Self::Dropped => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// Text that is not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a node state")]
pub struct ParseStateError(pub String);

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

impl FromStr for NodeState {
    type Err = ParseStateError;

    fn from_str(text: &str) -> Result<Self, ParseStateError> {
        Self::ALL
            .iter()
            .copied()
            .find(|s| s.label() == text)
            .ok_or_else(|| ParseStateError(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_label() {
        assert_eq!(NodeState::ALL.len(), 22);
        for state in NodeState::ALL {
            assert_eq!(state.label().parse::<NodeState>().unwrap(), *state);
        }
    }
}
