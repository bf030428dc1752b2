//! `inspect fsm`: the rules that goals come from, as tables, as a drawing, as JSON.

use std::fmt::Write;

use pgaf_fsm::group::rules::{Rule, Section};
use pgaf_protocol::NodeState;
use serde_json::{Value, json};

use super::{Context, print_line};
use crate::error::Failure;
use crate::options::parse::Parsed;
use crate::render::out;

/// Prints the rules of this program; no monitor is asked.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    if context.json {
        let sections: Vec<Value> = Section::ALL.iter().map(|s| as_json(*s)).collect();
        print_line(&serde_json::Value::Array(sections).to_string());
    } else if parsed.flag("mermaid") {
        out::stdout(&mermaid());
    } else {
        out::stdout(&tables());
    }
    Ok(())
}

fn as_json(section: Section) -> Value {
    let rules: Vec<Value> = section
        .rules()
        .iter()
        .map(|rule| {
            let when: Vec<Value> = rule
                .when
                .iter()
                .map(|(condition, holds)| json!({"condition": condition.word(), "holds": holds}))
                .collect();
            json!({
                "id": rule.id, "when": when, "goal": rule.state.to_string(),
                "order": rule.kind.word(), "why": rule.why
            })
        })
        .collect();
    json!({"section": section.word(), "about": section.about(), "rules": rules})
}

/// What must hold, in words.
fn when(rule: &Rule) -> String {
    let words: Vec<String> = rule
        .when
        .iter()
        .map(|(condition, holds)| {
            let not = if *holds { "" } else { "not " };
            format!("{not}{}", condition.word())
        })
        .collect();
    if words.is_empty() {
        "otherwise".to_owned()
    } else {
        words.join(", ")
    }
}

fn goal(state: NodeState, rule: &Rule) -> String {
    if rule.kind.keeps() {
        "as it was".to_owned()
    } else {
        state.to_string()
    }
}

/// Markdown, so that a terminal and a page show the same. Writing to a String cannot fail.
fn tables() -> String {
    let mut text = String::from(
        "The first row of a section whose conditions hold gives a node its goal. Conditions are about that node.\n",
    );
    for section in Section::ALL {
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\n| Rule | When | Goal | Order | Why |\n|---|---|---|---|---|\n",
            section.word(),
            section.about()
        );
        for rule in section.rules() {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                rule.id,
                when(rule),
                goal(rule.state, rule),
                rule.kind.word(),
                rule.why
            );
        }
    }
    text
}

/// The phases of a group, and the goals that each section may give.
fn mermaid() -> String {
    let mut text = String::from(
        "stateDiagram-v2\n    [*] --> steady\n    steady --> preparing: switchover\n    \
         steady --> collecting: the primary is gone\n    preparing --> collecting: checkpoint done, candidate near\n    \
         preparing --> steady: nobody caught up in time\n    collecting --> promoting: enough has promised\n    \
         collecting --> steady: nobody else can, the old primary goes on\n    promoting --> steady: reported done\n",
    );
    for section in Section::ALL {
        let mut goals: Vec<String> = Vec::new();
        for rule in section.rules() {
            let goal = goal(rule.state, rule);
            if !goals.contains(&goal) {
                goals.push(goal);
            }
        }
        let _ = writeln!(
            text,
            "    note right of {}: {}: {}",
            section.phase(),
            section.word(),
            goals.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_printed_with_its_reason() {
        let (text, drawing) = (tables(), mermaid());
        for section in Section::ALL {
            assert!(drawing.contains(&section.word()));
            for rule in section.rules() {
                assert!(text.contains(&format!("| `{}` |", rule.id)), "{}", rule.id);
                assert!(text.contains(rule.why) && !rule.why.contains('|'));
            }
        }
        assert!(drawing.starts_with("stateDiagram-v2\n"));
    }
}
