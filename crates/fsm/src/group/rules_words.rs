//! The words of the rules, for tables, drawings and JSON.

use alloc::format;
use alloc::string::String;

use super::rules::{Condition, Kind, Section};

impl Condition {
    /// Its name in words, `caught up`.
    #[must_use]
    pub fn word(self) -> String {
        words(&format!("{self:?}"))
    }
}

impl Kind {
    /// Its name, `lead`.
    #[must_use]
    pub fn word(self) -> String {
        words(&format!("{self:?}"))
    }

    /// Whether the goal stays what it was.
    #[must_use]
    pub fn keeps(self) -> bool {
        self == Self::Keep
    }
}

impl Section {
    /// Its name in words, `old primary`.
    #[must_use]
    pub fn word(self) -> String {
        words(&format!("{self:?}"))
    }

    /// The phase in which it is looked at; the steady rows count while a move is prepared, too.
    #[must_use]
    pub fn phase(self) -> &'static str {
        match self {
            Self::Primary | Self::Standby => "steady",
            Self::OldPrimary | Self::Voter => "collecting",
            Self::Candidate | Self::Bystander => "promoting",
        }
    }

    /// Which nodes it is for.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Primary => {
                "The primary while no change is under way, or a switchover is prepared."
            }
            Self::Standby => "Every other node then.",
            Self::OldPrimary => "The old primary while promises are collected for a new one.",
            Self::Voter => "Every other node then.",
            Self::Candidate => "The candidate while it is promoted.",
            Self::Bystander => "Every other node then.",
        }
    }
}

/// `AsyncWithStandby` → `async with standby`.
fn words(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_words() {
        assert_eq!(Condition::AsyncWithStandby.word(), "async with standby");
        assert_eq!(Kind::Keep.word(), "keep");
        assert_eq!(Section::OldPrimary.word(), "old primary");
    }
}
