//! JSON as Postgres' `jsonb` prints it: keys ordered by length, then bytewise; duplicates gone.

use std::fmt::Write as _;

use serde_json::Value;

/// Spaces per level of `jsonb_pretty`.
const INDENT: usize = 4;

/// `jsonb_pretty(text::jsonb)`; `None` when the text is not JSON.
pub(super) fn pretty(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    print(&mut out, &value, Some(0));
    Some(out)
}

/// `text::jsonb::text`; `None` when the text is not JSON.
pub(super) fn canonical(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(text.len());
    print(&mut out, &value, None);
    Some(out)
}

fn print(out: &mut String, value: &Value, level: Option<usize>) {
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| (None, item)).collect();
            print_container(out, '[', items, ']', level);
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            let members = members
                .into_iter()
                .map(|(key, item)| (Some(key), item))
                .collect();
            print_container(out, '{', members, '}', level);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn print_container(
    out: &mut String,
    open: char,
    items: Vec<(Option<&String>, &Value)>,
    close: char,
    level: Option<usize>,
) {
    let line = |out: &mut String, level: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', level * INDENT));
    };
    out.push(open);
    for (index, (key, item)) in items.into_iter().enumerate() {
        match level {
            Some(level) => {
                if index > 0 {
                    out.push(',');
                }
                line(out, level + 1);
            }
            None if index > 0 => out.push_str(", "),
            None => {}
        }
        if let Some(key) = key {
            let _ = write!(out, "{}: ", Value::String(key.clone()));
        }
        print(out, item, level.map(|level| level + 1));
    }
    if let Some(level) = level {
        line(out, level);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_has_the_layout_of_postgres() {
        let text = r#"[{"long":1,"b":"x\"","a":[]},null]"#;
        let expected = "[\n    {\n        \"a\": [\n        ],\n        \"b\": \"x\\\"\",\n        \
                        \"long\": 1\n    },\n    null\n]";
        assert_eq!(pretty(text).as_deref(), Some(expected));
        assert_eq!(pretty("[]").as_deref(), Some("[\n]"));
        assert_eq!(
            canonical(text).as_deref(),
            Some(r#"[{"a": [], "b": "x\"", "long": 1}, null]"#)
        );
        assert_eq!(pretty("{"), None);
    }
}
