//! Names of things: newtypes, so that two numbers never swap places.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct ParseIdError {
    /// The text as given.
    pub text: String,
    /// What was wanted, with its article.
    pub what: &'static str,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.trim()
                    .parse()
                    .map(Self)
                    .map_err(|_| ParseIdError { text: text.to_string(), what: $what })
            }
        }
    };
}

number!(
    /// A node, for ever: ids start at 1 and are never used twice.
    NodeId, i64, "a node id"
);
number!(
    /// A group of a formation: one primary and its standbys. 0 for plain Postgres.
    GroupId, i32, "a group number"
);
number!(
    /// One run of a monitor on its store; each start is the next one.
    Incarnation, u64, "an incarnation"
);

/// Reads hexadecimal digits where they stand: a `Cow<str>` would be a copy for each id of a report.
struct Hexadecimal(&'static str);

impl serde::de::Visitor<'_> for Hexadecimal {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        u64::from_str_radix(text.trim(), 16).map_err(|_| {
            let what = self.0;
            E::custom(ParseIdError {
                text: text.to_string(),
                what,
            })
        })
    }
}

macro_rules! random {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:016x})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                u64::from_str_radix(text.trim(), 16)
                    .map(Self)
                    .map_err(|_| ParseIdError { text: text.to_string(), what: $what })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                input.deserialize_str(Hexadecimal($what)).map(Self)
            }
        }
    };
}

random!(
    /// The contents of one data directory: a random number in the file `pgaf_copy` inside it, new
    /// after every initdb, base backup and rewind. Shown as 16 hexadecimal digits.
    CopyId, "a copy id (hexadecimal digits)"
);
random!(
    /// The life of one monitor store: a random number that a restore renews.
    Lineage, "a lineage (hexadecimal digits)"
);

/// The name of a formation: at most 63 bytes, as the old program's clients can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormationId(pub String);

impl Default for FormationId {
    fn default() -> Self {
        Self("default".to_string())
    }
}

impl fmt::Display for FormationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for FormationId {
    fn from(text: &str) -> Self {
        Self(text.to_string())
    }
}

impl NodeId {
    /// The name of this node as slot, `application_name` and synchronous standby.
    #[must_use]
    pub fn standby_name(self) -> String {
        alloc::format!("{}{}", crate::STANDBY_NAME_PREFIX, self.0)
    }

    /// The node behind a slot or `application_name`, or `None` when it is not one of ours.
    #[must_use]
    pub fn from_standby_name(name: &str) -> Option<Self> {
        name.strip_prefix(crate::STANDBY_NAME_PREFIX)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_name_leads_back_to_its_node() {
        assert_eq!(
            NodeId::from_standby_name(&NodeId(7).standby_name()),
            Some(NodeId(7))
        );
        assert_eq!(NodeId::from_standby_name("walreceiver"), None);
    }

    #[test]
    fn a_copy_id_survives_its_text() {
        let id = CopyId(0x00ab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!(id.to_string().parse::<CopyId>().unwrap(), id);
        assert!("xyz".parse::<CopyId>().is_err());
    }
}
