//! `show events`.

use super::show_state::{not_local, wants_dashboard};
use super::{Context, block_on, print_line};
use crate::error::Failure;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::render::out;
use crate::render::table::{Column, table};
use crate::target::Target;
use crate::watch;

/// How many events are shown unless `--count` says otherwise. Source: the old program.
const DEFAULT_COUNT: i64 = 10;
/// The old program reads 1024 rows at most.
const MAXIMUM_COUNT: i64 = 1024;

const COLUMNS: &str = "SELECT eventTime, nodeid, groupid, reportedstate, goalState, description ";
const JSON: &str = "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(event)), '[]')) ";
const OF_FORMATION: &str = "FROM pgautofailover.last_events($1, count => $2)";
const OF_GROUP: &str = "FROM pgautofailover.last_events($1, $2, $3)";

/// Prints the latest events, oldest first.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    if wants_dashboard(context, parsed)? {
        return watch::run(context, parsed);
    }
    not_local(parsed)?;
    let count = match parsed.value("count") {
        Some(text) => values::integer("--count", text, 1, MAXIMUM_COUNT)?,
        None => DEFAULT_COUNT,
    };
    let group = parsed.value("group").map(values::group).transpose()?;
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let (from, params) = match group {
        Some(group) => (
            OF_GROUP,
            vec![
                Param::Text(&formation),
                Param::Int(group.into()),
                Param::Int(count),
            ],
        ),
        None => (
            OF_FORMATION,
            vec![Param::Text(&formation), Param::Int(count)],
        ),
    };
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        if context.json {
            let text = format!("{JSON}{from} as event");
            print_line(&client.value(&text, &params).await?.unwrap_or_default());
            return Ok(());
        }
        let rows: Vec<Vec<String>> = client
            .query(&format!("{COLUMNS}{from}"), &params)
            .await?
            .iter()
            .map(|row| {
                let node = format!("{}/{}", row.text(2), row.text(1));
                vec![row.text(0), node, row.text(3), row.text(4), row.text(5)]
            })
            .collect();
        out::stdout(&layout(&rows));
        Ok(())
    })
}

fn layout(rows: &[Vec<String>]) -> String {
    let columns = [
        Column::fixed("Event Time", 30),
        Column::fixed("Node", 6),
        Column::fixed("Current State", 19),
        Column::fixed("Assigned State", 19),
        Column::free("Comment", 10),
    ];
    table(&columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_print_as_in_the_old_program() {
        let cells = [
            "2026-11-25 09:52:41.9916+00",
            "0/2",
            "catchingup",
            "secondary",
            "It caught up.",
        ];
        insta::assert_snapshot!(layout(&[cells.map(str::to_owned).to_vec()]));
    }
}
