//! `show settings`, also known as `get formation settings`.

use super::{Context, block_on, print_line};
use crate::error::Failure;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::render::out;
use crate::render::table::{Align, Column, table};
use crate::target::Target;

const TEXT: &str = "select context, group_id, node_id, nodename, setting, value \
 from pgautofailover.formation_settings($1) \
 order by case context when 'formation' then 0 \
 when 'primary' then 1 \
 when 'node' then 2 else 3 end, \
 setting, group_id, node_id";

const JSON: &str = "with settings as \
 ( select * from pgautofailover.formation_settings($1) ), \
 f(json) as \
 ( select jsonb_agg(row_to_json(settings)) from settings where context = 'formation' ), \
 p(json) as \
 ( select jsonb_agg(row_to_json(settings)) from settings where context = 'primary' ), \
 n(json) as \
 ( select jsonb_agg(row_to_json(settings)) from settings where context = 'node' ) \
 select jsonb_pretty(jsonb_build_object('formation', f.json, 'primary', p.json, 'nodes', n.json)) \
 from f, p, n";

/// Prints what a formation is set to.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let params = [Param::Text(&formation)];
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        if context.json {
            print_line(&client.value(JSON, &params).await?.unwrap_or_default());
            return Ok(());
        }
        let rows: Vec<Vec<String>> = client
            .query(TEXT, &params)
            .await?
            .iter()
            .map(|row| [0, 3, 4, 5].map(|index| row.text(index)).to_vec())
            .collect();
        if rows.is_empty() {
            return Err(Failure::monitor(format!(
                "Failed to get the settings of formation \"{formation}\" from the monitor"
            ))
            .hint("`pg_autoctl show uri` lists the formations that the monitor knows"));
        }
        out::stdout(&layout(&rows));
        Ok(())
    })
}

fn layout(rows: &[Vec<String>]) -> String {
    let columns = [
        Column::fixed("Context", 9),
        Column::growing("Name", 4),
        Column::growing("Setting", 7),
        Column {
            title: "Value",
            width: 5,
            grows: true,
            align: Align::Left,
        },
    ];
    table(&columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_print_as_in_the_old_program() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["formation", "default", "number_sync_standbys", "0"]),
            row([
                "primary",
                "node1",
                "synchronous_standby_names",
                "'ANY 1 (pgautofailover_standby_2)'",
            ]),
            row(["node", "node1", "candidate priority", "50"]),
        ];
        // Cells are padded on the right: the snapshot marks the end of each line.
        insta::assert_snapshot!(layout(&rows).replace('\n', "$\n"));
    }
}
