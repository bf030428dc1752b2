//! `create formation` and `drop formation`.

use super::{Context, block_on};
use crate::error::{ExitCode, Failure};
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::target::Target;

const CREATE: &str = "SELECT * FROM pgautofailover.create_formation($1, $2, $3, $4, $5)";
const DROP: &str = "SELECT pgautofailover.drop_formation($1)";

/// The database of a formation when none is named. Source: the old program.
const DATABASE: &str = "postgres";

/// Creates a formation.
pub(crate) fn create(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let name = mandatory(context, parsed, "formation")?;
    let kind = mandatory(context, parsed, "kind")?;
    let (enable, disable) = (
        parsed.flag("enable-secondary"),
        parsed.flag("disable-secondary"),
    );
    if enable && disable {
        return Err(context.misuse(Failure::bad_args(
            "Use either --enable-secondary or --disable-secondary, not both",
        )));
    }
    let number = match parsed.value("number-sync-standbys") {
        None => 0,
        Some(text) => values::integer("--number-sync-standbys", text, 0, i64::from(i32::MAX))?,
    };
    let dbname = parsed.value("dbname").unwrap_or(DATABASE);
    let target = Target::resolve(parsed)?;
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let params = [
            Param::Text(&name),
            Param::Text(&kind),
            Param::Text(dbname),
            Param::Bool(!disable),
            Param::Int(number),
        ];
        client.query(CREATE, &params).await.map(std::mem::drop)
    })?;
    let secondary = if disable { "disabled" } else { "enabled" };
    tracing::info!(
        "Created formation \"{name}\" of kind \"{kind}\" on the monitor, with secondary {secondary}."
    );
    Ok(())
}

/// Drops a formation without nodes.
pub(crate) fn drop(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let name = mandatory(context, parsed, "formation")?;
    let target = Target::resolve(parsed)?;
    block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let params = [Param::Text(&name)];
        client.query(DROP, &params).await.map(std::mem::drop)
    })?;
    tracing::info!("Dropped formation \"{name}\" on the monitor");
    Ok(())
}

fn mandatory(context: &Context<'_>, parsed: &Parsed, option: &str) -> Result<String, Failure> {
    parsed.value(option).map(str::to_owned).ok_or_else(|| {
        context.misuse(Failure::error(
            ExitCode::BadArgs,
            format!("Option --{option} is mandatory"),
        ))
    })
}
