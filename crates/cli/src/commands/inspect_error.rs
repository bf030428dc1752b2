//! `inspect error`: what a code means, and what to do.

use std::fmt::Write;

use pgaf_protocol::{Code, CodeOf};

use super::{Context, print_line};
use crate::error::Failure;
use crate::options::parse::Parsed;
use crate::render::out;

/// Prints one code, or the list of all.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let codes = match parsed.arguments().first() {
        None => Code::ALL,
        Some(id) => Code::find(id).map(std::slice::from_ref).ok_or_else(|| {
            Failure::bad_args(format!("there is no code \"{id}\""))
                .hint("`pg_autoctl inspect error` lists the codes")
        })?,
    };
    if context.json {
        let codes: Vec<serde_json::Value> = codes
            .iter()
            .map(|c| {
                serde_json::json!({
                    "code": c.id, "of": of(c.of), "means": c.means,
                    "meanwhile": c.meanwhile, "remedies": c.remedies
                })
            })
            .collect();
        print_line(&serde_json::Value::Array(codes).to_string());
    } else if let [code] = codes {
        out::stdout(&page(code));
    } else {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for code in codes {
            let _ = writeln!(text, "{:<20} {}", code.id, code.means);
        }
        out::stdout(&text);
    }
    Ok(())
}

fn of(what: CodeOf) -> &'static str {
    match what {
        CodeOf::Command => "command",
        CodeOf::Group => "group",
    }
}

fn page(code: &Code) -> String {
    let mut text = format!(
        "{}: {}\n\nMeanwhile: {}\n\nWhat to do:\n",
        code.id, code.means, code.meanwhile
    );
    for remedy in code.remedies {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - {remedy}");
    }
    text
}
