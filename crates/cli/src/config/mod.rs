//! The configuration file: the old program's INI, key by key.
//!
//! Owns the model, reading and writing. A key that is in no table is kept as it is, so that a file
//! of a newer version survives us. Must never log a value: passwords and connection strings are
//! among them.

pub(crate) mod ini;
pub(crate) mod keys;

use std::path::{Path, PathBuf};

use ini::IniError;
use keys::{Key, Kind};
use pgaf_protocol::{Setting, Settings, SettingsError};

/// Written instead of a connection string when a node runs without a monitor.
pub(crate) const MONITOR_DISABLED: &str = "PG_AUTOCTL_DISABLED";

/// The section of a monitor's file that holds times and thresholds, as they are called in SQL.
pub(crate) const SETTINGS: &str = "pgautofailover";

/// What a configuration file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A Postgres node.
    Keeper,
    /// The monitor.
    Monitor,
}

/// Why a configuration cannot be read, written or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Reading failed.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Writing failed.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The text is no INI file.
    #[error("cannot parse `{path}`")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: IniError,
    },
    /// `pg_autoctl.role` is absent or unknown.
    #[error("`{path}` names no role that is known in pg_autoctl.role")]
    Role {
        /// The file.
        path: PathBuf,
    },
    /// Not of the form `section.option`.
    #[error("Failed to find a dot separator in option path \"{0}\"")]
    NoDot(String),
    /// No such key.
    #[error("Failed to find configuration option for path \"{0}\"")]
    UnknownKey(String),
    /// A time or threshold that the monitor does not take.
    #[error(transparent)]
    Setting(SettingsError),
    /// A value that the key does not take.
    #[error("\"{value}\" is not a valid value for {key}: {why}")]
    InvalidValue {
        /// `section.option`
        key: String,
        /// What was given; only asked of keys that hold no secret.
        value: String,
        /// What is expected.
        why: &'static str,
    },
}

/// The contents of a configuration file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Config {
    role: Role,
    /// One per row of the key table, in its order.
    values: Vec<Option<String>>,
    /// What no table knows: section, key, value.
    others: Vec<(String, String, String)>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values stay out: replication.password and connection strings are among them.
        f.debug_struct("Config")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// A configuration with the defaults of a new node.
    pub(crate) fn new(role: Role) -> Self {
        let values = keys::of(role)
            .iter()
            .map(|key| key.default.map(str::to_owned))
            .collect();
        Self {
            role,
            values,
            others: Vec::new(),
        }
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let entries = ini::parse(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })?;
        Self::from_entries(entries).ok_or_else(|| ConfigError::Role {
            path: path.to_owned(),
        })
    }

    fn from_entries(entries: Vec<(String, String, String)>) -> Option<Self> {
        let role = entries.iter().find_map(|(section, key, value)| {
            (section == "pg_autoctl" && key == "role").then_some(value.as_str())
        })?;
        let role = match role {
            "keeper" => Role::Keeper,
            "monitor" => Role::Monitor,
            _ => return None,
        };
        let mut config = Self::new(role);
        for key in 0..config.values.len() {
            // What the file lacks and has no default of old is absent, not new.
            if keys::of(role)[key].kind == Kind::Text {
                config.values[key] = None;
            }
        }
        for (section, key, value) in entries {
            match config.index(&section, &key) {
                Some(index) => {
                    config.values[index] = keys::of(role)[index].as_read(&value);
                }
                None => config.others.push((section, key, value)),
            }
        }
        Some(config)
    }

    /// The text of the file.
    pub(crate) fn to_ini(&self) -> String {
        ini::render(&self.entries())
    }

    /// Writes the file: beside it first, then renamed onto it, so that no half file is ever read.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ConfigError> {
        ini::replace(path, &self.to_ini()).map_err(|source| ConfigError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// What it is for.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    fn index(&self, section: &str, key: &str) -> Option<usize> {
        keys::of(self.role)
            .iter()
            .position(|row| row.section == section && row.answers_to(key))
    }

    fn entries(&self) -> Vec<(String, String, String)> {
        let rows = keys::of(self.role).iter().zip(&self.values);
        let known = rows.filter_map(|(key, value)| {
            let value = value.as_ref().filter(|value| !value.is_empty())?;
            Some((key.section.to_owned(), key.name.to_owned(), value.clone()))
        });
        let mut entries: Vec<(String, String, String)> = known.collect();
        for other in &self.others {
            let last = entries.iter().rposition(|entry| entry.0 == other.0);
            entries.insert(last.map_or(entries.len(), |at| at + 1), other.clone());
        }
        entries
    }

    /// The value of a key of the tables; `None` when it is unset.
    pub(crate) fn text(&self, section: &str, key: &str) -> Option<&str> {
        let index = self.index(section, key);
        debug_assert!(index.is_some(), "{section}.{key} is in no table");
        self.values
            .get(index?)?
            .as_deref()
            .filter(|value| !value.is_empty())
    }

    /// The monitor's settings that the file gives, with name and value.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let ours = self
            .others
            .iter()
            .filter(|(section, _, _)| section == SETTINGS);
        ours.map(|(_, name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The value of a key of numbers.
    pub(crate) fn number(&self, section: &str, key: &str) -> Option<i64> {
        self.text(section, key)?.parse().ok()
    }

    /// The value of a key of ports.
    pub(crate) fn port(&self) -> Option<u16> {
        u16::try_from(self.number("postgresql", "port")?).ok()
    }

    /// The value of a key of switches.
    pub(crate) fn switch(&self, section: &str, key: &str) -> bool {
        self.text(section, key) == Some("1")
    }

    /// Sets a key of the tables to a value that is known to be good.
    pub(crate) fn put(&mut self, section: &str, key: &str, value: impl Into<String>) {
        let index = self.index(section, key);
        debug_assert!(index.is_some(), "{section}.{key} is in no table");
        if let Some(slot) = index.and_then(|index| self.values.get_mut(index)) {
            *slot = Some(value.into());
        }
    }

    /// Sets a key when there is a value.
    pub(crate) fn put_some(&mut self, section: &str, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.put(section, key, value);
        }
    }

    /// `config get section.option`.
    pub(crate) fn get(&self, path: &str) -> Result<String, ConfigError> {
        if let Some(name) = self.setting(path)? {
            let given = self
                .settings()
                .into_iter()
                .find(|(key, _)| *key == name.name);
            return Ok(given.map_or_else(|| name.default.to_string(), |(_, value)| value));
        }
        let (_, index) = self.find(path)?;
        Ok(self.values[index].clone().unwrap_or_default())
    }

    /// `config set section.option value`, checked; answers the value as stored.
    pub(crate) fn set(&mut self, path: &str, value: &str) -> Result<String, ConfigError> {
        if let Some(setting) = self.setting(path)? {
            Settings::default()
                .set(setting.name, value)
                .map_err(ConfigError::Setting)?;
            let value = value.trim().to_owned();
            self.others.retain(|(section, key, _)| {
                section != SETTINGS || Setting::find(key) != Some(setting)
            });
            self.others
                .push((SETTINGS.to_owned(), setting.name.to_owned(), value.clone()));
            return Ok(value);
        }
        let (key, index) = self.find(path)?;
        let value = key.check(value)?;
        self.values[index] = Some(value.clone());
        Ok(value)
    }

    /// The monitor's setting that a path names, if it names one.
    fn setting(&self, path: &str) -> Result<Option<&'static Setting>, ConfigError> {
        match path.split_once('.') {
            Some((SETTINGS, name)) if self.role == Role::Monitor => Setting::find(name)
                .map(Some)
                .ok_or_else(|| ConfigError::UnknownKey(path.to_owned())),
            Some(_) | None => Ok(None),
        }
    }

    fn find(&self, path: &str) -> Result<(&'static Key, usize), ConfigError> {
        let (section, name) = path
            .split_once('.')
            .ok_or_else(|| ConfigError::NoDot(path.to_owned()))?;
        let index = self
            .index(section, name)
            .ok_or_else(|| ConfigError::UnknownKey(path.to_owned()))?;
        Ok((&keys::of(self.role)[index], index))
    }

    /// An object per section; numbers as JSON numbers.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut sections = serde_json::Map::new();
        for (section, name, value) in self.entries() {
            let number = self.index(&section, &name).is_some_and(|index| {
                matches!(
                    keys::of(self.role)[index].kind,
                    Kind::Number { .. } | Kind::Switch
                )
            });
            let value = match value.parse::<i64>() {
                Ok(parsed) if number => serde_json::Value::from(parsed),
                Ok(_) | Err(_) => serde_json::Value::from(value),
            };
            let object = sections
                .entry(section)
                .or_insert_with(|| serde_json::json!({}));
            if let Some(object) = object.as_object_mut() {
                object.insert(name, value);
            }
        }
        serde_json::Value::Object(sections)
    }
}

#[cfg(test)]
mod tests;
