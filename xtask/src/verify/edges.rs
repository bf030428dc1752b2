//! Dependencies point one way: the table of allowed edges, and what the pure crates may use.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace;

/// For each crate, the crates of ours that it may use. Anything else is a wrong turn of the architecture.
const ALLOWED: &[(&str, &[&str])] = &[
    ("pgaf-protocol", &[]),
    ("pgaf-fsm", &["pgaf-protocol"]),
    ("pgaf-store", &["pgaf-protocol"]),
    ("pgaf-postgres", &["pgaf-protocol"]),
    (
        "pgaf-monitor",
        &["pgaf-protocol", "pgaf-store", "pgaf-fsm", "pgaf-postgres"],
    ),
    (
        "pgaf-keeper",
        &["pgaf-protocol", "pgaf-fsm", "pgaf-postgres"],
    ),
    (
        "pgaf-cli",
        &[
            "pgaf-protocol",
            "pgaf-fsm",
            "pgaf-store",
            "pgaf-postgres",
            "pgaf-monitor",
            "pgaf-keeper",
        ],
    ),
    ("pgaf-sim", &["pgaf-protocol", "pgaf-fsm"]),
    ("xtask", &["pgaf-protocol", "pgaf-sim", "pgaf-postgres"]),
];

/// The crates without a standard library, and all that they may use.
const PURE: &[(&str, &[&str])] = &[
    ("pgaf-protocol", &["serde", "thiserror"]),
    ("pgaf-fsm", &["serde", "thiserror", "pgaf-protocol"]),
];

/// Compares `cargo metadata` with the tables.
pub(super) fn check() -> Result<Vec<String>> {
    problems(&workspace::metadata()?)
}

fn problems(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo metadata")?;
    let members: Vec<&Value> = packages.iter().filter(|p| p["source"].is_null()).collect();
    let mut found = Vec::new();
    for package in &members {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            found.push(format!(
                "crate `{name}` is not in the table of allowed edges"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let ours = members.iter().any(|member| member["name"] == used);
            if ours && !allowed.contains(&used) {
                found.push(format!("`{name}` may not use `{used}`"));
            }
            let normal = dependency["kind"].is_null();
            let pure = PURE.iter().find(|(pure, _)| *pure == name);
            if normal && pure.is_some_and(|(_, allowed)| !allowed.contains(&used)) {
                found.push(format!(
                    "`{name}` holds no I/O, clock or allocator of its own: not `{used}`"
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, uses: &[(&str, Value)]) -> Value {
        let dependencies: Vec<_> = uses
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind}))
            .collect();
        json!({"name": name, "source": null, "dependencies": dependencies})
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_found() {
        let metadata = json!({"packages": [
            package("pgaf-fsm", &[("pgaf-protocol", Value::Null), ("tokio", Value::Null)]),
            package("pgaf-protocol", &[("proptest", json!("dev"))]),
            package("pgaf-keeper", &[("pgaf-monitor", json!("dev"))]),
            package("pgaf-monitor", &[("pgaf-store", Value::Null)]),
            package("pgaf-store", &[]),
            package("pgaf-extra", &[]),
        ]});
        assert_eq!(
            problems(&metadata).unwrap(),
            [
                "`pgaf-fsm` holds no I/O, clock or allocator of its own: not `tokio`",
                "`pgaf-keeper` may not use `pgaf-monitor`",
                "crate `pgaf-extra` is not in the table of allowed edges",
            ]
        );
    }
}
