//! `show uri`.

use serde_json::{Map, Value};

use super::{Context, block_on, print_line};
use crate::error::Failure;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::render::table::{Column, table};
use crate::render::{json, out};
use crate::target::Target;

/// The Citus cluster that takes writes.
const DEFAULT_CLUSTER: &str = "default";
/// `--formation monitor` stands for the monitor itself.
const MONITOR: &str = "monitor";

const ALL: &str = "SELECT 'monitor', 'monitor', $1 \
 UNION ALL \
 SELECT 'formation', formationid, formation_uri \
   FROM pgautofailover.formation, \
        pgautofailover.formation_uri(formation.formationid, 'default', $2, $3, $4) \
 UNION ALL \
 SELECT 'read-replica', nodecluster, formation_uri \
   FROM pgautofailover.formation \
        JOIN pgautofailover.node using(formationid), \
        pgautofailover.formation_uri(formation.formationid, nodecluster, $2, $3, $4) \
  WHERE node.groupid = 0 and node.nodecluster <> 'default'";

const ONE: &str = "SELECT formation_uri FROM pgautofailover.formation_uri($1, $2, $3, $4, $5)";

/// Prints connection strings.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let target = Target::resolve(parsed)?;
    let cluster = parsed.value("citus-cluster");
    match (target.named_formation(), cluster) {
        (Some(MONITOR), _) => {
            monitor(context, &target);
            Ok(())
        }
        (None, None) => block_on(every(context, &target)),
        (Some(_), _) | (None, Some(_)) => block_on(formation(
            context,
            &target,
            cluster.unwrap_or(DEFAULT_CLUSTER),
        )),
    }
}

fn monitor(context: &Context<'_>, target: &Target) {
    if context.json {
        let mut object = Map::new();
        object.insert(MONITOR.to_owned(), Value::from(target.uri.as_str()));
        out::stdout(&json::pretty(&object));
    } else {
        print_line(&target.uri);
    }
}

async fn formation(context: &Context<'_>, target: &Target, cluster: &str) -> Result<(), Failure> {
    let name = target.formation();
    let ssl = &target.ssl;
    let params = [
        Param::Text(&name),
        Param::Text(cluster),
        Param::Text(&ssl.mode),
        Param::Text(&ssl.root),
        Param::Text(&ssl.crl),
    ];
    let client = MonitorClient::connect(target).await?;
    let uri = client.value(ONE, &params).await?.ok_or_else(|| {
        Failure::monitor(format!(
            "Formation \"{name}\" has no node in the Citus cluster \"{cluster}\", or does not exist"
        ))
        .hint("`pg_autoctl show uri` lists the formations that the monitor knows")
    })?;
    if context.json {
        let mut object = Map::new();
        object.insert(MONITOR.to_owned(), Value::from(target.uri.as_str()));
        object.insert(name, Value::from(uri));
        out::stdout(&json::pretty(&object));
    } else {
        print_line(&uri);
    }
    Ok(())
}

async fn every(context: &Context<'_>, target: &Target) -> Result<(), Failure> {
    let ssl = &target.ssl;
    let params = [
        Param::Text(&target.uri),
        Param::Text(&ssl.mode),
        Param::Text(&ssl.root),
        Param::Text(&ssl.crl),
    ];
    let client = MonitorClient::connect(target).await?;
    if context.json {
        let text = format!(
            "WITH formation(type, name, uri) AS ({ALL}) \
             SELECT jsonb_pretty(jsonb_agg(row_to_json(formation))) FROM formation"
        );
        print_line(&client.value(&text, &params).await?.unwrap_or_default());
        return Ok(());
    }
    let rows: Vec<Vec<String>> = client
        .query(ALL, &params)
        .await?
        .iter()
        .map(|row| (0..3).map(|index| row.text(index)).collect())
        .collect();
    out::stdout(&layout(&rows));
    Ok(())
}

fn layout(rows: &[Vec<String>]) -> String {
    let columns = [
        Column::fixed("Type", 12),
        Column::growing("Name", 7),
        Column::free("Connection String", 30),
    ];
    table(&columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_print_as_in_the_old_program() {
        let row = |kind: &str, name: &str, uri: &str| {
            vec![kind.to_owned(), name.to_owned(), uri.to_owned()]
        };
        insta::assert_snapshot!(layout(&[
            row(
                "monitor",
                "monitor",
                "postgres://autoctl_node@m:5432/pg_auto_failover"
            ),
            row("formation", "a long name", "postgres://a:1,b:2/postgres"),
            row("formation", "empty", ""),
        ]));
    }
}
