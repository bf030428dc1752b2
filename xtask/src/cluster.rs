//! A monitor and its Postgres nodes, run by a `pg_autoctl` of any make: ours, or the program that it replaces.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host::{Host, Place, Programs};
use crate::network::Network;
use crate::{sql, wait};

/// States in which a node is the settled primary of its group.
const PRIMARY_STATES: &[&str] = &[
    "primary",
    "wait_primary",
    "join_primary",
    "apply_settings",
    "single",
];

/// How long a daemon may take to come up; the old program needs some 10 s for a node.
const COMES_UP: Duration = Duration::from_secs(60);

/// How long all nodes may take to settle after their creation.
const FIRST_SETTLED: Duration = Duration::from_secs(120);

/// A running cluster. Dropping it ends its processes; its folder is the caller's.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Hosts first: they leave their namespaces before the network goes.
    pub(crate) monitor: Host,
    pub(crate) nodes: Vec<Host>,
    _network: Option<Network>,
    user: String,
    /// The Citus group of each node; 0 for all of a plain formation.
    pub(crate) groups: Vec<usize>,
    database: &'static str,
}

/// One row of `pg_autoctl show state --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) reported: String,
    pub(crate) goal: String,
}

impl Row {
    /// Whether the monitor hears and wants this state.
    pub(crate) fn is(&self, state: &str) -> bool {
        self.reported == state && self.goal == state
    }

    fn is_primary(&self) -> bool {
        [&self.reported, &self.goal]
            .iter()
            .all(|state| PRIMARY_STATES.contains(&state.as_str()))
    }
}

impl Cluster {
    /// Brings up a monitor and `nodes` nodes below `top`, and waits until they have settled. With
    /// `isolated`, each gets a network of its own; else they share the loopback, on free ports.
    ///
    /// # Errors
    /// When one of them ends or does not settle.
    pub(crate) fn start(
        top: &Path,
        nodes: u8,
        isolated: bool,
        programs: &Arc<Programs>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        programs.account.make_dir(top)?;
        let network = isolated.then(Network::create).transpose()?;
        let ports = free_ports(usize::from(nodes) + 1)?;
        let place = |name: &str, index: u8| -> Result<(Place, u16)> {
            Ok(match &network {
                Some(network) => (
                    Place::Namespace(network.plug(name, index)?),
                    5500 + u16::from(index),
                ),
                None => (Place::Loopback, ports[usize::from(index)]),
            })
        };
        let host = |name: &str, index: u8| -> Result<Host> {
            let (place, port) = place(name, index)?;
            Host::new(top, name, port, place, programs)
        };
        let monitor = host("monitor", 0)?;
        let nodes = (1..=nodes)
            .map(|i| host(&format!("node{i}"), i))
            .collect::<Result<Vec<_>>>()?;
        let mut cluster = Self {
            monitor,
            groups: vec![0; nodes.len()],
            nodes,
            _network: network,
            user: programs.account.name.clone(),
            database: "postgres",
        };
        cluster.create_monitor(progress)?;
        cluster.create(progress)?;
        Ok(cluster)
    }

    /// Brings up a Citus formation: a monitor, two coordinators, and two nodes for each of so many worker
    /// groups, each in a network of its own.
    ///
    /// # Errors
    /// When one of them ends or does not settle, as without the Citus extension.
    pub(crate) fn start_citus(top: &Path, workers: u8, programs: &Arc<Programs>) -> Result<Self> {
        programs.account.make_dir(top)?;
        let network = Network::create()?;
        let host = |name: &str, index: u8| -> Result<Host> {
            let place = Place::Namespace(network.plug(name, index)?);
            Host::new(top, name, 5500 + u16::from(index), place, programs)
        };
        let monitor = host("monitor", 0)?;
        let mut nodes = Vec::new();
        let mut groups = Vec::new();
        for group in 0..=workers {
            for (place, letter) in (1..).zip(["a", "b"]) {
                let kind = if group == 0 { "coord" } else { "worker" };
                nodes.push(host(&format!("{kind}{group}{letter}"), group * 2 + place)?);
                groups.push(usize::from(group));
            }
        }
        let mut cluster = Self {
            monitor,
            nodes,
            _network: Some(network),
            user: programs.account.name.clone(),
            groups,
            database: "citus",
        };
        cluster.create_monitor(&mut |_| {})?;
        cluster.create_citus()?;
        Ok(cluster)
    }

    /// Every node at once, as an operator's tool would.
    fn create_citus(&mut self) -> Result<()> {
        let uri = self.uri();
        for (node, group) in self.nodes.iter_mut().zip(&self.groups) {
            let (address, port) = (node.address().to_owned(), node.port.to_string());
            let (name, group) = (node.name.clone(), group.to_string());
            let kind = if group == "0" {
                "coordinator"
            } else {
                "worker"
            };
            let mut create = vec!["create", kind, "--pgport", &port, "--hostname", &address];
            create.extend(["--name", &name, "--monitor", &uri, "--dbname", "citus"]);
            create.extend(["--pg-hba-lan", "--auth", "trust", "--ssl-self-signed"]);
            if kind == "worker" {
                create.extend(["--group", &group]);
            }
            create.push("--run");
            node.start(&create)?;
        }
        let count = self.nodes.len();
        wait::until("a settled Citus formation", FIRST_SETTLED, || {
            for host in std::iter::once(&mut self.monitor).chain(&mut self.nodes) {
                host.must_run()?;
            }
            Ok(self.state()?.len() == count && self.is_settled()?)
        })
    }

    fn create_monitor(&mut self, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let common = ["--auth", "trust", "--ssl-self-signed", "--run"];
        let (address, port) = (
            self.monitor.address().to_owned(),
            self.monitor.port.to_string(),
        );
        let monitor = [
            "create",
            "monitor",
            "--pgport",
            &port,
            "--hostname",
            &address,
        ];
        self.monitor.start(&[&monitor[..], &common].concat())?;
        wait::until("a monitor that answers", COMES_UP, || {
            self.monitor.must_run()?;
            // The old program's commands race for its files while it creates them: ask when it listens.
            Ok(self.monitor.listens()
                && self
                    .monitor
                    .run(&["show", "uri"])?
                    .stdout
                    .contains("pg_auto_failover"))
        })?;
        progress(&format!("monitor: {}", self.uri()));
        Ok(())
    }

    fn create(&mut self, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let common = ["--auth", "trust", "--ssl-self-signed", "--run"];
        let uri = self.uri();
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let (address, port) = (node.address().to_owned(), node.port.to_string());
            let name = node.name.clone();
            let create = [
                "create",
                "postgres",
                "--pgport",
                &port,
                "--hostname",
                &address,
                "--name",
                &name,
                "--monitor",
                &uri,
            ];
            node.start(&[&create[..], &common].concat())?;
            wait::until(&format!("{name} is registered"), COMES_UP, || {
                self.nodes[index].must_run()?;
                Ok(self.state()?.len() > index)
            })?;
            progress(&format!("{name}: {address}:{port}"));
        }
        wait::until("a primary, and all others secondary", FIRST_SETTLED, || {
            for host in std::iter::once(&mut self.monitor).chain(&mut self.nodes) {
                host.must_run()?;
            }
            self.is_settled()
        })
    }

    /// How keepers reach the monitor.
    pub(crate) fn uri(&self) -> String {
        let (address, port) = (self.monitor.address(), self.monitor.port);
        format!("postgres://autoctl_node@{address}:{port}/pg_auto_failover?sslmode=require")
    }

    /// What the monitor says about its nodes.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn state(&self) -> Result<Vec<Row>> {
        let answer = self
            .monitor
            .run(&["show", "state", "--json"])?
            .success("show state")?;
        let json = answer
            .find('[')
            .map(|at| &answer[at..])
            .context("show state: no list")?;
        let rows: Vec<Value> = serde_json::from_str(json).context("show state: no JSON")?;
        let text = |row: &Value, keys: &[&str]| {
            keys.iter()
                .find_map(|key| row[*key].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        Ok(rows
            .iter()
            .map(|row| Row {
                name: text(row, &["nodename", "name"]),
                reported: text(row, &["current_group_state", "reported_state"]),
                goal: text(row, &["assigned_group_state", "assigned_state"]),
            })
            .collect())
    }

    /// The table that a user would see.
    pub(crate) fn table(&self) -> String {
        let shown = self
            .monitor
            .run(&["show", "state"])
            .and_then(|c| c.success("show state"));
        shown.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// The index of the node that the monitor both hears and wants as the primary.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub(crate) fn primary(&self) -> Result<usize> {
        self.primary_of(0)
    }

    /// As [`Self::primary`], of a Citus group.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub(crate) fn primary_of(&self, group: usize) -> Result<usize> {
        let mut primaries = Vec::new();
        for row in self.state()?.iter().filter(|row| row.is_primary()) {
            let node = self.index(&row.name)?;
            if self.groups[node] == group {
                primaries.push(node);
            }
        }
        match primaries[..] {
            [node] => Ok(node),
            _ => bail!("there are {} primaries", primaries.len()),
        }
    }

    /// How many Citus groups there are; 1 in a plain formation.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.iter().max().map_or(1, |most| most + 1)
    }

    /// The index of the first secondary.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn standby(&self) -> Result<usize> {
        let rows = self.state()?;
        let row = rows
            .iter()
            .filter(|row| row.is("secondary"))
            .min_by_key(|row| &row.name);
        self.index(&row.context("there is no secondary")?.name)
    }

    fn index(&self, name: &str) -> Result<usize> {
        let index = self.nodes.iter().position(|node| node.name == name);
        index.with_context(|| format!("the monitor lists `{name}`, which is not ours"))
    }

    /// In each group one primary, every other node that the monitor lists secondary, nothing else wanted, and
    /// every standby has replayed what its primary had written.
    ///
    /// # Errors
    /// When somebody does not answer.
    pub(crate) fn is_settled(&self) -> Result<bool> {
        let mut groups = vec![Vec::new(); self.group_count()];
        for row in self.state()? {
            groups[self.groups[self.index(&row.name)?]].push(row);
        }
        for rows in groups {
            if !self.is_group_settled(&rows)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_group_settled(&self, rows: &[Row]) -> Result<bool> {
        let (primaries, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is("primary"));
        let [primary] = primaries[..] else {
            return Ok(false);
        };
        if others.is_empty() || !others.iter().all(|row| row.is("secondary")) {
            return Ok(false);
        }
        let position = self.query(self.index(&primary.name)?, "select pg_current_wal_lsn()")?;
        let position = position
            .first()
            .and_then(|row| row.first())
            .context("no position")?
            .clone();
        let replayed =
            format!("select pg_is_in_recovery() and pg_last_wal_replay_lsn() >= '{position}'");
        for row in others {
            let answer = self.query(self.index(&row.name)?, &replayed)?;
            if answer
                .first()
                .and_then(|row| row.first())
                .is_none_or(|value| value != "t")
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How to reach a node's Postgres over its socket.
    pub(crate) fn target(&self, node: usize) -> sql::Target {
        let host = &self.nodes[node];
        sql::Target {
            sockets: host.sockets(),
            port: host.port,
            user: self.user.clone(),
            database: self.database.to_owned(),
        }
    }

    /// Runs a query on a node.
    ///
    /// # Errors
    /// When it fails or does not end.
    pub(crate) fn query(&self, node: usize, query: &str) -> Result<Vec<Vec<String>>> {
        sql::query(&self.target(node), query)
    }
}

/// Different ports of the loopback that nobody uses at the moment.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").context("cannot find a free port");
    let listeners = (0..count).map(bind).collect::<Result<Vec<_>>>()?;
    let port = |listener: &std::net::TcpListener| {
        Ok(listener
            .local_addr()
            .context("a listener without address")?
            .port())
    };
    listeners.iter().map(port).collect()
}
