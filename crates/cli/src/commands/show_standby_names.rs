//! `show standby-names`, and which group a command means.

use serde_json::json;

use super::{Context, block_on, print_line};
use crate::error::{ExitCode, Failure};
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::render::{json, out};
use crate::target::Target;

const NAMES: &str = "select pgautofailover.synchronous_standby_names($1, $2)";
const GROUPS: &str = "SELECT groupid FROM pgautofailover.node WHERE formationid = $1";

/// Prints `synchronous_standby_names` of a group.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let group = parsed.value("group").map(values::group).transpose()?;
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let group = which_group(&client, &target, &formation, group).await?;
        let params = [Param::Text(&formation), Param::Int(group.into())];
        let names = client.value(NAMES, &params).await?.unwrap_or_default();
        if context.json {
            out::stdout(&json::pretty(&json!({
                "formation": formation,
                "group": group,
                "synchronous_standby_names": names,
            })));
        } else {
            print_line(&format!("'{names}'"));
        }
        Ok(())
    })
}

/// The group a command is about: the one named, else that of the node on this machine, else the
/// only one of the formation.
///
/// # Errors
/// Exit code 1 when there are several, 3 when there is none.
pub(crate) async fn which_group(
    client: &MonitorClient,
    target: &Target,
    formation: &str,
    named: Option<i32>,
) -> Result<i32, Failure> {
    if let Some(group) = named {
        return Ok(group);
    }
    let own = target.keeper().filter(|local| {
        local
            .config
            .text("pg_autoctl", "formation")
            .is_none_or(|own| own == formation)
    });
    let own = own
        .and_then(|local| local.config.number("pg_autoctl", "group"))
        .and_then(|group| i32::try_from(group).ok())
        .filter(|group| *group >= 0);
    if let Some(group) = own {
        tracing::info!("Targetting group {group} in formation \"{formation}\"");
        return Ok(group);
    }
    let rows = client.query(GROUPS, &[Param::Text(formation)]).await?;
    let mut groups: Vec<i64> = rows.iter().filter_map(|row| row.number(0)).collect();
    groups.sort_unstable();
    groups.dedup();
    match groups.as_slice() {
        [] => Err(Failure::fatal(
            ExitCode::BadState,
            format!(
                "The monitor currently has no Postgres nodes registered in formation \"{formation}\""
            ),
        )),
        [group] => i32::try_from(*group)
            .map_err(|error| Failure::monitor("the monitor sent an odd group").because(&error)),
        [..] => Err(Failure::bad_args(format!(
            "Please use the --group option to target a specific group: formation \"{formation}\" has {} of them",
            groups.len()
        ))),
    }
}
