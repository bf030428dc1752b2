//! Times and thresholds: each with its unit, bounds, default, reason and old name.

use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

/// The monitor's settings, all reloadable. Milliseconds unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// See [`Setting::ALL`] for this and all others.
    pub heartbeat_interval_ms: u64,
    /// Silence before a node is gone.
    pub unhealthy_timeout_ms: u64,
    /// For one probe.
    pub probe_deadline_ms: u64,
    /// For one promise by reload.
    pub promise_deadline_ms: u64,
    /// For a crashed Postgres to come back in place.
    pub restart_budget_ms: u64,
    /// Of a primary.
    pub lease_ms: u64,
    /// Listening before judging, after the monitor was away.
    pub grace_ms: u64,
    /// For an old primary to stream again after a planned move, before `''`.
    pub return_wait_ms: u64,
    /// For a planned move to finish before the old primary is re-opened.
    pub move_deadline_ms: u64,
    /// Bytes: a crashed primary with more to redo is replaced at once.
    pub long_redo_bytes: u64,
    /// Bytes: a standby nearer than this to its primary is caught up.
    pub enable_sync_wal_log_threshold: u64,
    /// Bytes: asynchronous groups promote within this distance.
    pub promote_wal_log_threshold: u64,
}

/// One row of the settings table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Setting {
    /// The name, as in `config get` and `inspect settings`.
    pub name: &'static str,
    /// The old program's name for it (without `pgautofailover.`), if it had one.
    pub old_name: Option<&'static str>,
    /// `ms` or `bytes`.
    pub unit: &'static str,
    /// The default.
    pub default: u64,
    /// The smallest value that is accepted.
    pub min: u64,
    /// The largest value that is accepted.
    pub max: u64,
    /// Why it is there, and why that default.
    pub why: &'static str,
}

/// A setting that cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No such name.
    #[error("there is no setting `{0}`")]
    Unknown(String),
    /// Not a number.
    #[error("`{value}` is not a number for `{name}`")]
    NotANumber {
        /// The setting.
        name: &'static str,
        /// The text.
        value: String,
    },
    /// Outside its bounds.
    #[error("`{name}` must be between {min} and {max} {unit}, not {value}")]
    OutOfBounds {
        /// The setting.
        name: &'static str,
        /// The number.
        value: u64,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Unit.
        unit: &'static str,
    },
}

macro_rules! settings {
    ($($field:ident, $name:literal, $old:expr, $unit:literal, $default:literal, $min:literal..=$max:literal, $why:literal;)*) => {
        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Setting {
            /// Every setting. Source of the defaults: `design.md` §4 "Times", unless `why` says more.
            pub const ALL: &'static [Self] = &[$(Self {
                name: $name, old_name: $old, unit: $unit, default: $default,
                min: $min, max: $max, why: $why,
            },)*];
        }

        impl Settings {
            /// The value of a setting, by its name or the old program's.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<u64> {
                match Setting::find(name)?.name {
                    $($name => Some(self.$field),)*
                    _ => None,
                }
            }

            /// Sets a setting by name.
            ///
            /// # Errors
            /// When there is no such setting, or the value is no number within its bounds.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
                let row = Setting::find(name)
                    .ok_or_else(|| SettingsError::Unknown(name.to_string()))?;
                let number: u64 = value.trim().parse().map_err(|_| SettingsError::NotANumber {
                    name: row.name,
                    value: value.to_string(),
                })?;
                if number < row.min || number > row.max {
                    return Err(SettingsError::OutOfBounds {
                        name: row.name, value: number, min: row.min, max: row.max, unit: row.unit,
                    });
                }
                match row.name {
                    $($name => self.$field = number,)*
                    _ => return Err(SettingsError::Unknown(name.to_string())),
                }
                Ok(())
            }
        }
    };
}

settings! {
    heartbeat_interval_ms, "heartbeat_interval", None, "ms", 500, 100..=60000,
        "a keeper reports at least this often; a changed fact is reported at once";
    unhealthy_timeout_ms, "unhealthy_timeout", Some("node_considered_unhealthy_timeout"), "ms", 2500, 1000..=600000,
        "silence of a node before it counts as gone, if evidence agrees: five heartbeats";
    probe_deadline_ms, "probe_deadline", Some("health_check_timeout"), "ms", 1000, 100..=60000,
        "a fresh connection to a node's Postgres that takes longer has failed";
    promise_deadline_ms, "promise_deadline", None, "ms", 1000, 100..=60000,
        "a standby that cannot stop receiving by a reload within this is restarted (usual: 50 ms)";
    restart_budget_ms, "restart_budget", None, "ms", 2000, 100..=600000,
        "a crashed Postgres that is not back within this is replaced, if a standby can take over";
    lease_ms, "lease", None, "ms", 5000, 1000..=600000,
        "a primary that heard nothing for this long, and whose standbys do not stream, fences itself; 10 % drift is added by the monitor";
    grace_ms, "grace", Some("startup_grace_period"), "ms", 5000, 0..=600000,
        "a monitor that was away listens this long before it judges silence";
    return_wait_ms, "return_wait", None, "ms", 200, 0..=60000,
        "after a planned move the old primary mostly streams within this; then writes need no asynchronous moment";
    move_deadline_ms, "move_deadline", Some("primary_demote_timeout"), "ms", 10000, 1000..=600000,
        "a planned move that has not got its promise by then stops the old primary at once; chosen, no evidence";
    long_redo_bytes, "long_redo", None, "bytes", 67_108_864, 0..=1_099_511_627_776,
        "a crashed primary with more WAL to redo is replaced rather than restarted";
    enable_sync_wal_log_threshold, "enable_sync_wal_log_threshold", Some("enable_sync_wal_log_threshold"), "bytes", 16_777_216, 1..=1_099_511_627_776,
        "a standby this near to its primary is caught up: one WAL segment, the old program's value";
    promote_wal_log_threshold, "promote_wal_log_threshold", Some("promote_wal_log_threshold"), "bytes", 16_777_216, 1..=1_099_511_627_776,
        "how much an asynchronous group may lose by an automatic failover; the old program's value";
}

impl Setting {
    /// The row of a name, of the old program's name, or of either with `pgautofailover.` before.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = name.strip_prefix("pgautofailover.").unwrap_or(name);
        Self::ALL
            .iter()
            .find(|s| s.name == name || s.old_name == Some(name))
    }
}

/// A setting as it is at a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Its name.
    pub name: String,
    /// The old program's name, if it had one.
    pub old_name: Option<String>,
    /// The value in force.
    pub value: u64,
    /// `ms` or `bytes`.
    pub unit: String,
    /// The default.
    pub default: u64,
    /// The smallest value that is accepted.
    pub min: u64,
    /// The largest value that is accepted.
    pub max: u64,
    /// `default`, `set` (by a call, kept by the monitor), or `configuration file`.
    pub source: String,
    /// Why it is there, and why that default.
    pub why: String,
}

impl SettingView {
    /// A row of the table, with its value and where that comes from.
    #[must_use]
    pub fn of(row: &Setting, settings: &Settings, source: &str) -> Self {
        Self {
            name: row.name.to_string(),
            old_name: row.old_name.map(ToString::to_string),
            value: settings.get(row.name).unwrap_or(row.default),
            unit: row.unit.to_string(),
            default: row.default,
            min: row.min,
            max: row.max,
            source: source.to_string(),
            why: row.why.to_string(),
        }
    }
}

/// What a keeper needs of the monitor's settings, sent with every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeeperSettings {
    /// Milliseconds between reports when nothing happens.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds: what counts as fresh.
    pub unhealthy_timeout_ms: u64,
    /// Milliseconds for a promise by reload.
    pub promise_deadline_ms: u64,
    /// Milliseconds for a crashed Postgres to come back.
    pub restart_budget_ms: u64,
    /// Milliseconds of a primary's lease.
    pub lease_ms: u64,
}

impl From<&Settings> for KeeperSettings {
    fn from(s: &Settings) -> Self {
        Self {
            heartbeat_interval_ms: s.heartbeat_interval_ms,
            unhealthy_timeout_ms: s.unhealthy_timeout_ms,
            promise_deadline_ms: s.promise_deadline_ms,
            restart_budget_ms: s.restart_budget_ms,
            lease_ms: s.lease_ms,
        }
    }
}

impl Default for KeeperSettings {
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_default_within_its_bounds_and_can_be_set() {
        for row in Setting::ALL {
            let mut settings = Settings::default();
            assert_eq!(settings.get(row.name), Some(row.default), "{}", row.name);
            assert!(
                row.min <= row.default && row.default <= row.max,
                "{}",
                row.name
            );
            settings.set(row.name, &row.max.to_string()).unwrap();
            assert_eq!(settings.get(row.name), Some(row.max));
            assert!(settings.set(row.name, &(row.max + 1).to_string()).is_err());
            if let Some(old) = row.old_name {
                assert_eq!(
                    settings.get(&alloc::format!("pgautofailover.{old}")),
                    Some(row.max)
                );
            }
        }
        assert!(Settings::default().set("nonsense", "1").is_err());
        assert!(Settings::default().set("lease", "soon").is_err());
    }
}
