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

/// What an operator should know beside a table of states: whom a group waits for, and whether the
/// loss of its primary would be answered without a hand. Empty for the old program's monitor, which
/// explains nothing.
pub(crate) async fn notes(
    client: &MonitorClient,
    formation: &str,
    group: Option<i32>,
) -> Vec<String> {
    let asked = client.value(OF_FORMATION, &[Param::Text(formation)]).await;
    let text = asked.ok().flatten().unwrap_or_default();
    read(&text)
        .unwrap_or_default()
        .iter()
        .filter(|explanation| group.is_none_or(|group| group == explanation.group.0))
        .flat_map(noteworthy)
        .collect()
}

fn noteworthy(explanation: &Explanation) -> Vec<String> {
    let group = explanation.group;
    let waiting = explanation.waiting.iter().map(|wait| {
        let way_out = wait.way_out.iter().map(|way| format!("; way out: {way}"));
        format!(
            "group {group} waits: {}{}",
            wait.why,
            way_out.collect::<String>()
        )
    });
    // A lone node has nobody to fail over to, by choice.
    let off = explanation
        .facts
        .iter()
        .filter(|fact| explanation.nodes.len() > 1 && fact.name == "automatic-failover")
        .filter_map(|fact| fact.value.strip_prefix("off: "))
        .map(|why| format!("group {group}: automatic failover is off: {why}"));
    waiting.chain(off).collect()
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
    if let Some(waiting) = explanation.waiting.first() {
        let _ = writeln!(text, "  more: pg_autoctl inspect error {}", waiting.id);
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
