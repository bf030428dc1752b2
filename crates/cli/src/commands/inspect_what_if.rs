//! `inspect what-if`: what would become of a group without a node.

use std::fmt::Write;

use pgaf_protocol::{Fault, WhatIf};

use super::{Context, block_on, print_line};
use crate::error::Failure;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::render::out;
use crate::target::Target;

const WHAT_IF: &str = "SELECT pgautofailover.what_if($1, $2, $3)";

/// Prints what would happen; nothing is changed.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let Some(name) = parsed.value("name") else {
        return Err(context.misuse(
            Failure::bad_args("option --name is missing: which node would be gone?")
                .hint("`pg_autoctl show state` lists the nodes"),
        ));
    };
    let word = parsed.value("fault").unwrap_or(Fault::Down.word());
    if Fault::of(word).is_none() {
        return Err(
            Failure::bad_args(format!("--fault argument is not valid: \"{word}\""))
                .hint("use down or silent"),
        );
    }
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let text = block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let asked = [
            Param::Text(&formation),
            Param::Text(name),
            Param::Text(word),
        ];
        Ok(client.value(WHAT_IF, &asked).await?.unwrap_or_default())
    })?;
    if context.json {
        print_line(&text);
        return Ok(());
    }
    let told = serde_json::from_str(&text).map_err(|error| {
        Failure::monitor("the monitor's answer cannot be read")
            .because(&error)
            .hint("`--json` prints it as it is")
    })?;
    out::stdout(&layout(&told));
    Ok(())
}

fn layout(told: &WhatIf) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "formation {}, group {}: {}",
        told.formation, told.group, told.summary
    );
    let mut row = |name: &str, value: String| _ = writeln!(text, "  {name:<18} {value}");
    let wins = told.winner.map_or_else(
        || "nobody, until what blocks is gone".to_owned(),
        |node| format!("node {node}"),
    );
    row("primary then", wins);
    let seconds = told.estimated_ms.map_or_else(
        || "not by itself".to_owned(),
        |ms| format!("after about {}.{:02} s", ms / 1000, ms % 1000 / 10),
    );
    row("commits go on", seconds);
    row("bytes at risk", told.bytes_at_risk.to_string());
    if let Some(bytes) = told.bytes_at_risk_forced {
        row("if forced", format!("{bytes} bytes, by the last reports"));
    }
    if let Some(automatic) = &told.automatic_failover_afterwards {
        row("automatic failover", format!("{automatic} afterwards"));
    }
    for wait in &told.blocks {
        let _ = writeln!(text, "  blocked by {}: {}", wait.id, wait.why);
        if let Some(way_out) = &wait.way_out {
            let _ = writeln!(text, "    way out: {way_out}");
        }
    }
    for (number, step) in told.steps.iter().enumerate() {
        let _ = writeln!(text, "  step {}: {step}", number + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_outcome_the_price_and_what_blocks() {
        let told: WhatIf = serde_json::from_value(serde_json::json!({
            "formation": "default", "group": 0, "node": 1, "name": "node1", "fault": "down",
            "is_primary": true, "summary": "if node 1 \"node1\" were down, nobody would be promoted: why",
            "winner": null, "estimated_ms": null, "bytes_at_risk": 0, "bytes_at_risk_forced": 168,
            "blocks": [{"id": "promise", "nodes": [1], "why": "why", "way_out": "a command"}],
            "steps": ["one"]
        }))
        .unwrap();
        insta::assert_snapshot!(layout(&told));
    }
}
