//! One network namespace per host, on a bridge in yet another one: a host's firewall has no say there,
//! links can be cut, and all processes of a "host" are found by the namespace that they are in.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{command, console, process, wait};

/// The first part of the names of all namespaces of this harness.
const PREFIX: &str = "pgaf-";

/// The network of every run; namespaces keep the runs apart. RFC 5737 keeps it for documentation.
const SUBNET: &str = "198.51.100";

/// A link-layer address that nobody has: what is sent there is lost without a word, as on a cut wire.
const NOWHERE: &str = "02:00:00:00:ff:ff";

const LIMIT: Duration = Duration::from_secs(20);

/// The bridge that the hosts hang on.
#[derive(Debug)]
pub(crate) struct Network {
    switch: String,
    prefix: String,
}

/// A host's end: its namespace, and a process that keeps its shared memory and mounts for all its
/// commands.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) ip: String,
    switch: String,
    veth: String,
    /// Sleeps; its namespaces are those of the host.
    holder: Option<Child>,
}

impl Network {
    /// Makes the bridge; its names carry the id of this process, so that runs do not meet.
    ///
    /// # Errors
    /// When `ip` fails, for instance without root.
    pub(crate) fn create() -> Result<Self> {
        sweep()?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let switch = format!("{prefix}net");
        ip(&["netns", "add", &switch])?;
        let network = Self { switch, prefix };
        ip(&[
            "-n",
            &network.switch,
            "link",
            "add",
            "br0",
            "type",
            "bridge",
        ])?;
        ip(&["-n", &network.switch, "link", "set", "br0", "up"])?;
        Ok(network)
    }

    /// Plugs in a host. `index` gives it its address.
    ///
    /// # Errors
    /// When `ip` fails.
    pub(crate) fn plug(&self, name: &str, index: u8) -> Result<Namespace> {
        let space = Namespace {
            name: format!("{}{name}", self.prefix),
            ip: format!("{SUBNET}.{}", index + 10),
            switch: self.switch.clone(),
            veth: format!("v{index}"),
            holder: None,
        };
        ip(&["netns", "add", &space.name])?;
        ip(&[
            "-n",
            &self.switch,
            "link",
            "add",
            &space.veth,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &space.name,
        ])?;
        ip(&[
            "-n",
            &self.switch,
            "link",
            "set",
            &space.veth,
            "master",
            "br0",
            "up",
        ])?;
        ip(&[
            "-n",
            &space.name,
            "addr",
            "add",
            &format!("{}/24", space.ip),
            "dev",
            "eth0",
        ])?;
        ip(&["-n", &space.name, "link", "set", "eth0", "up"])?;
        ip(&["-n", &space.name, "link", "set", "lo", "up"])?;
        Ok(space)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.switch);
    }
}

impl Namespace {
    /// The id of the process whose namespaces are the host's; none while the host is down.
    pub(crate) fn holder(&self) -> Option<u32> {
        self.holder.as_ref().map(Child::id)
    }

    /// Powers the host on: shared memory of its own, which goes away with the last process, however that ends.
    ///
    /// # Errors
    /// When the holder does not start.
    pub(crate) fn power_on(&mut self) -> Result<()> {
        if self.holder.is_some() {
            return Ok(());
        }
        let mount = "mount -t tmpfs pgaf /dev/shm && exec sleep infinity";
        let child = Command::new("ip")
            .args([
                "netns", "exec", &self.name, "unshare", "--ipc", "sh", "-c", mount,
            ])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the host's holder")?;
        process::own(child.id());
        let id = child.id();
        self.holder = Some(child);
        wait::until("the host's holder", LIMIT, || {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm"))?;
            Ok(name.trim() == "sleep")
        })
    }

    /// Kills every process of the host at once.
    ///
    /// # Errors
    /// When some do not go.
    pub(crate) fn power_off(&mut self) -> Result<()> {
        let ended = process::end_all(|| process::in_namespace(&self.name));
        if let Some(mut holder) = self.holder.take() {
            // It was killed with the others; this collects it.
            let _ = holder.kill();
            let _ = holder.wait();
            process::disown(holder.id());
        }
        ended
    }

    /// The words that run a command on this host, in `folder`.
    ///
    /// # Errors
    /// While the host is down.
    pub(crate) fn enter(&self, folder: &Path) -> Result<Vec<String>> {
        let holder = self
            .holder()
            .with_context(|| format!("the host of {} is down", self.name))?;
        let words = [
            "nsenter",
            "--target",
            &holder.to_string(),
            "--net",
            "--ipc",
            "--mount",
        ];
        let mut words = words.map(str::to_owned).to_vec();
        words.push(format!("--wd={}", folder.display()));
        Ok(words)
    }

    /// Plugs the host's cable in or out.
    ///
    /// # Errors
    /// When `ip` fails.
    pub(crate) fn link(&self, up: bool) -> Result<()> {
        ip(&[
            "-n",
            &self.switch,
            "link",
            "set",
            &self.veth,
            if up { "up" } else { "down" },
        ])
    }

    /// Loses, or no longer loses, what goes from this host to another one.
    ///
    /// # Errors
    /// When `ip` fails.
    pub(crate) fn lose(&self, other: &Self, lost: bool) -> Result<()> {
        let space = self.name.as_str();
        if lost {
            let entry = [
                other.ip.as_str(),
                "lladdr",
                NOWHERE,
                "nud",
                "permanent",
                "dev",
                "eth0",
            ];
            let words: Vec<_> = ["-n", space, "neigh", "replace"]
                .into_iter()
                .chain(entry)
                .collect();
            ip(&words)
        } else {
            ip(&["-n", space, "neigh", "del", &other.ip, "dev", "eth0"])
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.power_off() {
            console::bad(&format!("{}: {error:#}", self.name));
        }
        remove(&self.name);
    }
}

/// Removes what runs of xtask left behind that were killed themselves.
fn sweep() -> Result<()> {
    let spaces = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    let names: BTreeSet<String> = spaces
        .filter_map(|s| s.file_name().into_string().ok())
        .collect();
    for name in names {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        let Some(pid) = owner.and_then(|(pid, _)| pid.parse::<i32>().ok()) else {
            continue;
        };
        if process::stat(pid).is_none() {
            process::end_all(|| process::in_namespace(&name))?;
            remove(&name);
        }
    }
    Ok(())
}

fn remove(name: &str) {
    if let Err(error) = ip(&["netns", "del", name]) {
        console::bad(&format!("{error:#}"));
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let mut ip = Command::new("ip");
    ip.args(args);
    // Cleaning up goes on after an interrupt, so this does not ask for one.
    let output = ip
        .stdin(Stdio::null())
        .output()
        .context("cannot start `ip`")?;
    anyhow::ensure!(
        output.status.success(),
        "`{}`: {}",
        command::shown(&ip),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
