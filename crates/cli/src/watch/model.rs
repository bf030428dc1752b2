//! What the dashboard shows, as text: one value, replaced as a whole.

use crate::commands::show_state::NodeRow;

/// Everything on the screen but the clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    /// The formation.
    pub(super) formation: String,
    /// Its `number_sync_standbys`; `None` when there is no such formation.
    pub(super) number_sync: Option<String>,
    /// Its nodes.
    pub(super) nodes: Vec<NodeLine>,
    /// What its groups wait for.
    pub(super) notes: Vec<String>,
    /// Its events, newest first.
    pub(super) events: Vec<EventRow>,
    /// Why what is shown may be out of date.
    pub(super) trouble: Option<String>,
}

/// A node's cells, in the order of [`COLUMNS`].
#[derive(Debug, Clone)]
pub(super) struct NodeLine {
    /// One text per column.
    pub(super) cells: [String; COLUMNS.len()],
    /// Whether the monitor reaches it, or holds it for gone.
    pub(super) well: bool,
    /// Whether it has reached its goal.
    pub(super) settled: bool,
}

/// A row of the list of events.
#[derive(Debug, Clone)]
pub(super) struct EventRow {
    /// Its number.
    pub(super) id: String,
    /// When, on this machine's clock.
    pub(super) time: String,
    /// The node's name.
    pub(super) name: String,
    /// What happened.
    pub(super) description: String,
}

/// A column of the table of nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Its heading.
    pub(super) title: &'static str,
    /// Columns of a higher rank are left out first when the terminal is narrow.
    pub(super) rank: u8,
}

const fn column(title: &'static str, rank: u8) -> Column {
    Column { title, rank }
}

/// The old dashboard's columns.
pub(super) const COLUMNS: [Column; 11] = [
    column("Name", 0),
    column("Node", 1),
    column("Quorum", 6),
    column("Priority", 6),
    column("Host:Port", 3),
    column("TLI: LSN", 4),
    column("Last Check", 7),
    column("Connection", 2),
    column("Last Report", 5),
    column("Reported State", 0),
    column("Assigned State", 0),
];

impl NodeLine {
    /// The cells of a row of `show state`.
    pub(super) fn of(row: &NodeRow) -> Self {
        let [name, node, host, lsn, connection, reported, goal] = row.cells();
        let settled = reported == goal;
        Self {
            cells: [
                name,
                node,
                if row.quorum { "yes" } else { "no" }.to_owned(),
                row.priority.clone(),
                host,
                lsn,
                age(row.check_age),
                connection,
                age(row.report_age),
                reported,
                goal,
            ],
            well: row.health != 0,
            settled,
        }
    }
}

/// Seconds as `4s`, `12m`, `3h`, `2d`; nothing for what never happened.
fn age(seconds: Option<f64>) -> String {
    const STEPS: [(f64, &str); 3] = [(86_400.0, "d"), (3600.0, "h"), (60.0, "m")];
    let Some(seconds) = seconds.filter(|s| s.is_finite() && *s >= 0.0) else {
        return String::new();
    };
    for (length, unit) in STEPS {
        // Below two of a unit the smaller one says more.
        if seconds >= 2.0 * length {
            return format!("{:.0}{unit}", (seconds / length).floor());
        }
    }
    format!("{:.0}s", seconds.floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let shown = |seconds| age(Some(seconds));
        assert_eq!(shown(0.4), "0s");
        assert_eq!(shown(119.0), "119s");
        assert_eq!(shown(125.0), "2m");
        assert_eq!(shown(9000.0), "2h");
        assert_eq!(shown(400_000.0), "4d");
        assert_eq!(age(None), "");
        assert_eq!(shown(f64::NAN), "");
    }
}
