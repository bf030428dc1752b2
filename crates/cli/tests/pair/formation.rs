//! A Citus formation of a test: nodes that the monitor names, and their coordinators.

use super::pair::{Pair, Ran, free_port};

/// Starts `create KIND --run` on a free port.
pub(crate) fn start(pair: &mut Pair, kind: &str, name: &str, extra: &[&str]) -> u16 {
    let port = free_port();
    pair.create(kind, name, port, extra);
    port
}

/// Runs SQL in the formation's database, on whichever coordinator takes writes.
pub(crate) fn ask(pair: &Pair, ports: &[u16], sql: &str) -> Ran {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let uri = format!(
        "host={hosts} port={} dbname=citus target_session_attrs=read-write connect_timeout=2",
        ports.join(",")
    );
    pair.any("monitor", &["psql", "-XAtc", sql, &uri])
}

/// Whether there are so many nodes, each primary or secondary as it was told.
pub(crate) fn settled(pair: &Pair, nodes: usize) -> bool {
    let states = pair.states();
    let well =
        |s: &(String, String, String)| s.1 == s.2 && (s.1 == "primary" || s.1 == "secondary");
    states.len() == nodes && states.iter().all(well)
}
