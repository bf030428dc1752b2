//! The quick start as local processes: two coordinators, six workers and a monitor, each on a network of its
//! own, or, for the demo, on free ports of the loopback.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Venue, docker};
use crate::cluster::free_ports;
use crate::command::{self, Captured};
use crate::console;
use crate::host::{Host, Place, Programs};
use crate::network::Network;

const NODES: [&str; 8] = [
    "coord0a", "coord0b", "worker1a", "worker1b", "worker2a", "worker2b", "worker3a", "worker3b",
];

/// One command; a planned move on a busy machine takes the longest.
const COMMAND: Duration = Duration::from_secs(120);

/// The formation's processes. Dropping it ends them.
pub(crate) struct Formation {
    top: PathBuf,
    programs: Arc<Programs>,
    isolated: bool,
    scaled: bool,
    rounds: u32,
    // Hosts before their network.
    hosts: Vec<Host>,
    network: Option<Network>,
}

impl Formation {
    /// With a network namespace for each node.
    pub(super) fn isolated(top: &Path, programs: &Arc<Programs>) -> Self {
        Self::new(top, programs, true)
    }

    /// On free ports of the loopback.
    pub(crate) fn on_loopback(top: &Path, programs: &Arc<Programs>) -> Self {
        Self::new(top, programs, false)
    }

    fn new(top: &Path, programs: &Arc<Programs>, isolated: bool) -> Self {
        Self {
            top: top.to_owned(),
            programs: Arc::clone(programs),
            isolated,
            scaled: false,
            rounds: 0,
            hosts: Vec::new(),
            network: None,
        }
    }

    fn host(&self, name: &str) -> Result<&Host> {
        let found = self.hosts.iter().find(|host| host.name == name);
        // Without names, the quick start asks "coord": the names given may differ from the hosts'.
        found
            .or_else(|| self.hosts.iter().find(|host| name.starts_with(&host.name)))
            .with_context(|| format!("there is no host {name}"))
    }

    fn plug(&mut self, top: &Path) -> Result<()> {
        self.programs.account.make_dir(top)?;
        let network = self.isolated.then(Network::create).transpose()?;
        let ports = free_ports(NODES.len() + 1)?;
        for (index, name) in (0_u8..).zip(std::iter::once("monitor").chain(NODES)) {
            let (place, port) = match &network {
                Some(network) => (
                    Place::Namespace(network.plug(name, index)?),
                    5500 + u16::from(index),
                ),
                None => (Place::Loopback, ports[usize::from(index)]),
            };
            let host = Host::new(top, name, port, place, &self.programs)?;
            self.hosts.push(host);
        }
        self.network = network;
        Ok(())
    }

    /// The environment that docker-compose.yml gives to its services, and where a process must differ.
    fn equip(&mut self, scaled: bool) -> Result<()> {
        let monitor = self.host("monitor")?;
        let uri = format!(
            "postgresql://autoctl_node@{}:{}/pg_auto_failover",
            monitor.address(),
            monitor.port
        );
        let yes = || "true".to_owned();
        for host in &mut self.hosts {
            host.variables = vec![("PGPORT", host.port.to_string())];
            if host.name != "monitor" {
                host.variables.extend([
                    ("PGUSER", "citus".to_owned()),
                    ("PGDATABASE", "citus".to_owned()),
                    ("PG_AUTOCTL_MONITOR", uri.clone()),
                ]);
            }
            if !scaled {
                host.variables.extend([
                    ("PG_AUTOCTL_HBA_LAN", yes()),
                    ("PG_AUTOCTL_AUTH_METHOD", "trust".to_owned()),
                    ("PG_AUTOCTL_SSL_SELF_SIGNED", yes()),
                ]);
                if host.name != "monitor" {
                    let name = host.name.clone();
                    host.variables.push(("PG_AUTOCTL_NODE_NAME", name));
                }
            }
        }
        Ok(())
    }

    /// The hosts and the ports of the coordinators, as the application's environment names them.
    fn coordinators(&self) -> Result<(String, String)> {
        let both = [self.host("coord0a")?, self.host("coord0b")?];
        let ports = both.map(|host| host.port.to_string()).join(",");
        Ok((both.map(Host::address).join(","), ports))
    }
}

impl Venue for Formation {
    fn up(&mut self, scaled: bool) -> Result<()> {
        self.rounds += 1;
        self.scaled = scaled;
        let top = self.top.join(format!("round{}", self.rounds));
        self.plug(&top)?;
        self.equip(scaled)?;
        for host in &mut self.hosts {
            let kind = match host.name.get(..5) {
                Some("coord") => "coordinator",
                Some("worke") => "worker",
                _ => "monitor",
            };
            let address = host.address().to_owned();
            let mut words = vec!["create", kind, "--hostname", &address];
            let group = host
                .name
                .chars()
                .nth(6)
                .map(String::from)
                .unwrap_or_default();
            if scaled {
                words.extend(["--ssl-self-signed", "--auth", "trust"]);
                if kind != "monitor" {
                    words.push("--pg-hba-lan");
                }
            } else if kind == "worker" {
                words.extend(["--group", &group]);
            }
            words.push("--run");
            console::note(&format!("{}: pg_autoctl {}", host.name, words.join(" ")));
            host.start(&words)?;
        }
        Ok(())
    }

    fn exec(&mut self, service: &str, words: &[&str]) -> Result<Captured> {
        let Some((program, args)) = words.split_first() else {
            bail!("nothing to run");
        };
        command::capture(&mut self.host(service)?.program(program, args)?, COMMAND)
    }

    fn psql(&mut self, script: &str) -> Result<Captured> {
        let path = self.hand_over("script.sql", script)?;
        let (hosts, ports) = self.coordinators()?;
        // On the monitor's host: the application's is not one of the formation's nodes.
        let mut shell = self.host("monitor")?.program(
            "sh",
            &["-c", "exec psql -v ON_ERROR_STOP=1 < \"$1\"", "sh", &path],
        )?;
        shell.envs([
            ("PGUSER", "citus"),
            ("PGDATABASE", "citus"),
            ("PGHOST", &hosts),
            ("PGPORT", &ports),
            ("PGSSLMODE", "require"),
            ("PGTARGETSESSIONATTRS", "read-write"),
            ("PGCONNECT_TIMEOUT", "2"),
        ]);
        command::capture(&mut shell, COMMAND)
    }

    fn hand_over(&mut self, name: &str, text: &str) -> Result<String> {
        let path = self.top.join(name);
        std::fs::write(&path, text)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path.display().to_string())
    }

    fn watch(&mut self, wanted: &str) -> Result<String> {
        let host = self.host("monitor")?;
        let command = host.autoctl(&["watch"])?;
        let variables: Vec<_> = host
            .environment()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let line = format!(
            "env -i TERM=xterm {} {}",
            variables.join(" "),
            command::shown(&command)
        );
        docker::screen(&line, wanted)
    }

    fn shown(&self, service: &str, words: &[&str]) -> String {
        format!("{service}: {}", words.join(" "))
    }

    fn peculiar(&mut self) -> Result<()> {
        console::skipped(
            "stopped and re-created containers",
            "the nodes are local processes",
        );
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        for host in &mut self.hosts {
            host.kill()?;
        }
        self.hosts.clear();
        self.network = None;
        Ok(())
    }

    fn pgdata(&self, service: &str) -> String {
        let host = self.host(service);
        host.map(|host| host.pgdata.display().to_string())
            .unwrap_or_default()
    }

    fn address(&self, service: &str) -> String {
        let host = self.host(service);
        host.map(|host| format!("{}:{}", host.address(), host.port))
            .unwrap_or_default()
    }
}
