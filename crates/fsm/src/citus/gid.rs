//! The name of a prepared update: it says everything that decides what becomes of it.

use alloc::format;
use alloc::string::{String, ToString};

use pgaf_protocol::{FormationId, GroupId, Term};

/// First word of each name.
const PREFIX: &str = "pgaf";

/// Longest name of a prepared transaction, in bytes. Source: Postgres, `GIDSIZE` (200, with its
/// final zero).
const LONGEST: usize = 199;

/// The name of one prepared update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gid {
    /// The formation.
    pub formation: FormationId,
    /// The group whose row it changes.
    pub group: GroupId,
    /// The term of the primary that it names.
    pub term: Term,
    /// `host:port` of that primary.
    pub target: String,
}

impl Gid {
    /// The name; `None` when it would be too long for Postgres: such an update is not prepared, but
    /// done whole after the promotion.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let text = format!(
            "{PREFIX} {}/{}/{}/{}",
            self.formation, self.group, self.term, self.target
        );
        (text.len() <= LONGEST).then_some(text)
    }

    /// Reads a name of ours; `None` for anybody else's. A formation's name may hold slashes, a
    /// target none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix(' ')?;
        let mut parts = rest.rsplitn(4, '/');
        let target = parts.next()?.to_string();
        let term = Term(parts.next()?.parse().ok()?);
        let group = parts.next()?.parse().ok()?;
        let formation = FormationId(parts.next()?.to_string());
        Some(Self {
            formation,
            group,
            term,
            target,
        })
    }
}
