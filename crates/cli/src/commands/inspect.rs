//! `inspect explain`: why a group is as it is.

use std::fmt::Write;

use pgaf_protocol::Explanation;

use super::{Context, block_on, print_line};
use crate::error::Failure;
use crate::monitor_client::{MonitorClient, Param};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::render::out;
use crate::target::Target;

const OF_FORMATION: &str = "SELECT pgautofailover.explain($1)";
const OF_GROUP: &str = "SELECT pgautofailover.explain($1, $2)";

/// Prints the explanation of a formation's groups.
pub(crate) fn explain(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let group = parsed.value("group").map(values::group).transpose()?;
    let target = Target::resolve(parsed)?;
    let formation = target.formation();
    let text = block_on(async {
        let client = MonitorClient::connect(&target).await?;
        let value = match group {
            Some(group) => {
                client
                    .value(
                        OF_GROUP,
                        &[Param::Text(&formation), Param::Int(group.into())],
                    )
                    .await?
            }
            None => {
                client
                    .value(OF_FORMATION, &[Param::Text(&formation)])
                    .await?
            }
        };
        Ok(value.unwrap_or_default())
    })?;
    if context.json {
        print_line(&text);
        return Ok(());
    }
    for explanation in read(&text)? {
        out::stdout(&layout(&explanation));
    }
    Ok(())
}

/// One explanation, or a list of them.
fn read(text: &str) -> Result<Vec<Explanation>, Failure> {
    serde_json::from_str::<Vec<Explanation>>(text)
        .or_else(|_| serde_json::from_str(text).map(|one| vec![one]))
        .map_err(|error| {
            Failure::monitor("the monitor's explanation cannot be read")
                .because(&error)
                .hint("`--json` prints it as it is")
        })
}

fn layout(explanation: &Explanation) -> String {
    let Explanation {
        formation,
        group,
        term,
        phase,
        since_ms,
        summary,
        ..
    } = explanation;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "formation {formation}, group {group}: {summary}");
    let seconds = since_ms / 1000;
    let _ = writeln!(text, "  phase {phase}, since {seconds} s, term {term}");
    for node in &explanation.nodes {
        let _ = writeln!(
            text,
            "  node {} \"{}\": {}, goal {} ({}: {}), health {}",
            node.node, node.name, node.reported, node.goal, node.rule, node.why, node.health
        );
        if let Some(trouble) = &node.trouble {
            let _ = writeln!(text, "    trouble: {trouble}");
        }
    }
    if explanation.waiting.is_empty() {
        text.push_str("  waits for nothing\n");
    }
    for waiting in &explanation.waiting {
        let _ = writeln!(text, "  waits for {}: {}", waiting.id, waiting.why);
        if let Some(way_out) = &waiting.way_out {
            let _ = writeln!(text, "    way out: {way_out}");
        }
    }
    for fact in &explanation.facts {
        let whose = fact
            .node
            .map(|node| format!("node {node}: "))
            .unwrap_or_default();
        let _ = writeln!(text, "  fact {whose}{} = {}", fact.name, fact.value);
    }
    text.push('\n');
    text
}
