//! The steps of a scenario, carried out on a cluster of real processes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pgaf_sim::script::{Condition, Expectation, Host as Whose, Link, Node, Script, Step};

use crate::cluster::Cluster;
use crate::command::Captured;
use crate::console::{self, human};
use crate::host::{Host, Place, Programs};
use crate::network::Namespace;
use crate::process::{self, Pids};
use crate::sql::Session;
use crate::wait;
use crate::writer::{self, TABLE, Writers};

/// How long the standbys may take to replay the last rows before they are compared.
const CATCH_UP: Duration = Duration::from_secs(30);

/// A new primary takes writes a moment before it has reported that it does, and the monitor says so.
const VIEW: Duration = Duration::from_secs(5);

/// A first row must be acknowledged within this time of `write start`.
const FIRST_WRITE: Duration = Duration::from_secs(30);

/// A scenario under way.
pub(super) struct Run {
    cluster: Cluster,
    writers: Option<Writers>,
    fault: Instant,
    /// The postmaster of each node when the last fault began.
    postmasters: Vec<Option<i32>>,
    /// A read session on each node that answered when writing began.
    sessions: Vec<Option<Session>>,
}

impl Run {
    /// Brings up the cluster that the script wants.
    pub(super) fn start(script: &Script, folder: &Path, programs: &Arc<Programs>) -> Result<Self> {
        let start = Instant::now();
        let mut quiet = |_: &str| {};
        let cluster = Cluster::start(folder, script.nodes, true, programs, &mut quiet)?;
        console::note(&format!(
            "{} nodes settled after {}",
            script.nodes,
            human(start.elapsed())
        ));
        Ok(Self {
            cluster,
            writers: None,
            fault: Instant::now(),
            postmasters: Vec::new(),
            sessions: Vec::new(),
        })
    }

    /// Carries out every step.
    pub(super) fn play(&mut self, script: &Script) -> Result<()> {
        for line in &script.steps {
            if line.step.is_fault() {
                self.fault = Instant::now();
                self.postmasters = self
                    .cluster
                    .nodes
                    .iter()
                    .map(|node| node.postmaster().ok())
                    .collect();
            }
            let start = Instant::now();
            let said = self
                .step(&line.step)
                .with_context(|| format!("line {}: {}", line.number, line.step))?;
            let took = human(start.elapsed());
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            console::note(&format!("{:>9}  {}{said}", took, line.step));
        }
        Ok(())
    }

    /// Shows the table of states and the monitor's reasons.
    pub(super) fn show_state(&self) {
        console::quote(&self.cluster.table());
        if let Ok(explained) = self.cluster.monitor.run(&["inspect", "explain"]) {
            console::quote(&explained.stdout);
        }
    }

    /// Says how to look around in a cluster that is kept.
    pub(super) fn show_ways_in(&self) {
        for host in std::iter::once(&self.cluster.monitor).chain(&self.cluster.nodes) {
            let environment: Vec<_> = host
                .environment()
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            if let Ok(mut command) = host.autoctl(&["show", "state"]) {
                let words = crate::command::shown(&command);
                command.env_clear();
                console::note(&format!(
                    "{}: env -i {} {words}",
                    host.name,
                    environment.join(" ")
                ));
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<Option<String>> {
        match step {
            Step::WriteStart => self.write_start()?,
            Step::WriteStop => self.writers()?.stop(),
            Step::Perform { words, refused } => self.autoctl("perform", words, *refused)?,
            Step::Set { words, refused } => self.autoctl("set", words, *refused)?,
            Step::Drop(node) => self.drop_node(*node)?,
            Step::Maintain { node, refused } => self.maintain(*node, *refused)?,
            Step::Resume(node) => {
                let ended = self.node(*node)?.run(&["disable", "maintenance"])?;
                ended.success("pg_autoctl disable maintenance").map(drop)?;
            }
            Step::KillPostgres(node) => {
                let postmaster = self.node(*node)?.postmaster()?;
                process::send(&Pids::from([postmaster]), Signal::SIGKILL)?;
            }
            Step::KillKeeper(node) => {
                let index = self.index(*node)?;
                self.cluster.nodes[index].kill_keeper()?;
            }
            Step::KillHost(whom) => self.kill(whom)?,
            Step::StartHost(whose) => {
                self.hosts(*whose)?
                    .into_iter()
                    .try_for_each(|host| host.start(&["run"]))?;
            }
            Step::Freeze(whose) => self.signal(*whose, Signal::SIGSTOP)?,
            Step::FreezeKeeper(node) => {
                process::send(&self.node(*node)?.keeper_pids(), Signal::SIGSTOP)?;
            }
            Step::Thaw(whose) => self.signal(*whose, Signal::SIGCONT)?,
            Step::Cut(link) => self.link(*link, false)?,
            Step::Mend(link) => self.link(*link, true)?,
            Step::Wait { until, within } => self.wait(until, *within)?,
            Step::Expect(expectation) => return self.expect(expectation),
        }
        Ok(None)
    }

    fn write_start(&mut self) -> Result<()> {
        let start = Instant::now();
        match &mut self.writers {
            None => self.writers = Some(Writers::start(&self.cluster)?),
            Some(writers) => {
                let nodes = 0..self.cluster.nodes.len();
                writers.resume(nodes.map(|node| self.cluster.target(node)).collect())?;
            }
        }
        if self.sessions.is_empty() {
            let nodes = 0..self.cluster.nodes.len();
            self.sessions = nodes
                .map(|node| Session::open(&self.cluster.target(node)).ok())
                .collect();
        }
        let writers = self.writers()?;
        wait::until("a first write", FIRST_WRITE, || {
            Ok(writers.ledger().wrote_since(start))
        })?;
        // A little history, so that the outage has something to begin after.
        wait::pass(Duration::from_millis(500))
    }

    fn autoctl(&self, verb: &str, words: &[String], refused: bool) -> Result<()> {
        let mut args = vec![verb];
        args.extend(words.iter().map(String::as_str));
        let ended = self.cluster.monitor.run(&args)?;
        done_or_refused(ended, &format!("pg_autoctl {verb}"), refused)
    }

    fn drop_node(&self, node: Node) -> Result<()> {
        let name = &self.node(node)?.name;
        let ended = self
            .cluster
            .monitor
            .run(&["drop", "node", "--name", name])?;
        ended.success("pg_autoctl drop node").map(drop)
    }

    fn maintain(&self, node: Node, refused: bool) -> Result<()> {
        let words = ["enable", "maintenance", "--allow-failover"];
        let ended = self.node(node)?.run(&words)?;
        done_or_refused(ended, "pg_autoctl enable maintenance", refused)
    }

    /// The processes of all these hosts at one instant, and then whatever they were about to start.
    fn kill(&mut self, whom: &[Whose]) -> Result<()> {
        let mut pids = Pids::new();
        // Roles are looked up while somebody still answers.
        let whom = whom
            .iter()
            .map(|whose| match whose {
                Whose::Node(node) => {
                    let number = u8::try_from(self.index(*node)? + 1).context("so many nodes")?;
                    Ok(Whose::Node(Node::Number(number)))
                }
                Whose::Monitor | Whose::All => Ok(*whose),
            })
            .collect::<Result<Vec<_>>>()?;
        for whose in &whom {
            pids.extend(self.hosts(*whose)?.iter().flat_map(|host| host.pids()));
        }
        process::send(&pids, Signal::SIGKILL)?;
        for whose in &whom {
            self.hosts(*whose)?.into_iter().try_for_each(Host::kill)?;
        }
        Ok(())
    }

    fn signal(&mut self, whose: Whose, signal: Signal) -> Result<()> {
        self.hosts(whose)?
            .into_iter()
            .try_for_each(|host| host.signal(signal))
    }

    fn link(&mut self, link: Link, up: bool) -> Result<()> {
        if let (Whose::Node(node), Whose::All, false) = (link.one, link.other, link.one_way) {
            // The cable itself.
            return space(self.node(node)?)?.link(up);
        }
        let (ones, others) = (self.spaces(link.one)?, self.spaces(link.other)?);
        for one in &ones {
            for other in others.iter().filter(|other| other.name != one.name) {
                one.lose(other, !up)?;
                if !link.one_way {
                    other.lose(one, !up)?;
                }
            }
        }
        Ok(())
    }

    fn spaces(&self, whose: Whose) -> Result<Vec<&Namespace>> {
        let monitor = std::iter::once(&self.cluster.monitor);
        match whose {
            Whose::Monitor => monitor.map(space).collect(),
            Whose::Node(node) => Ok(vec![space(self.node(node)?)?]),
            Whose::All => monitor.chain(&self.cluster.nodes).map(space).collect(),
        }
    }

    fn wait(&mut self, until: &Condition, within: Duration) -> Result<()> {
        let start = Instant::now();
        let what = until.to_string();
        let what = what.trim_end();
        match until {
            Condition::Time => wait::pass(within)?,
            Condition::Settled => wait::until(what, within, || self.cluster.is_settled())?,
            Condition::Writes => {
                let writers = self.writers()?;
                wait::until(what, within, || Ok(writers.ledger().wrote_since(start)))?;
            }
            Condition::State(node, state) => {
                wait::until(what, within, || {
                    let name = &self.cluster.nodes[self.index_now(*node)?].name;
                    Ok(self
                        .cluster
                        .state()?
                        .iter()
                        .any(|row| row.name == *name && row.is(state)))
                })?;
            }
            Condition::Gone(node) => {
                let name = self.node(*node)?.name.clone();
                wait::until(what, within, || {
                    Ok(self.cluster.state()?.iter().all(|row| row.name != name))
                })?;
            }
        }
        Ok(())
    }

    fn expect(&mut self, expectation: &Expectation) -> Result<Option<String>> {
        match expectation {
            Expectation::Primary(node) => {
                let wanted = self.index(*node)?;
                wait::until(
                    "the primary",
                    VIEW,
                    || Ok(self.cluster.primary()? == wanted),
                )?;
            }
            Expectation::OutageBelow(limit) => {
                let fault = self.fault;
                let outage = self.writers()?.ledger().outage(fault, Instant::now());
                ensure!(
                    outage < *limit,
                    "no write was acknowledged for {}",
                    human(outage)
                );
                return Ok(Some(human(outage)));
            }
            Expectation::NoFailover(time) => self.no_failover(*time)?,
            Expectation::NoWrites(time) => {
                let start = Instant::now();
                wait::pass(*time)?;
                ensure!(
                    !self.writers()?.ledger().wrote_since(start),
                    "a write was acknowledged"
                );
            }
            Expectation::NothingLost => return self.nothing_lost().map(Some),
            Expectation::PostgresKept(node) => {
                let index = self.index(*node)?;
                let now = self.cluster.nodes[index].postmaster()?;
                let before = self.postmasters.get(index).copied().flatten();
                ensure!(
                    before == Some(now),
                    "its Postgres was {before:?} and is {now}"
                );
                ensure!(process::stat(now).is_some(), "its Postgres {now} is dead");
            }
            Expectation::SessionKept(node) => {
                let index = self.index(*node)?;
                let session = self.sessions.get_mut(index).and_then(Option::as_mut);
                session
                    .context("no read session was opened there by `write start`")?
                    .read(&format!("select count(*) from {TABLE}"))
                    .context("its read session")?;
            }
            Expectation::ExplainSays(text) => {
                let explained = self.cluster.monitor.run(&["inspect", "explain"])?;
                let said = explained.success("inspect explain")?;
                ensure!(said.contains(text), "it says:\n{said}");
            }
            Expectation::EventSays(text) => {
                let shown = self
                    .cluster
                    .monitor
                    .run(&["show", "events", "--count", "100"])?;
                let said = shown.success("show events")?;
                ensure!(said.contains(text), "they say:\n{said}");
            }
        }
        Ok(None)
    }

    fn no_failover(&self, time: Duration) -> Result<()> {
        let before = self.cluster.primary()?;
        let end = Instant::now() + time;
        while Instant::now() < end {
            let now = self.cluster.primary()?;
            ensure!(
                now == before,
                "the primary is {}",
                self.cluster.nodes[now].name
            );
            wait::pass(Duration::from_millis(200))?;
        }
        Ok(())
    }

    /// Writers are stopped while rows are compared, else there is always one more.
    fn nothing_lost(&mut self) -> Result<String> {
        let resume = self.writers()?.are_running();
        self.writers()?.stop();
        let mut primary = 0;
        wait::until("a primary", VIEW, || {
            primary = self.cluster.primary()?;
            Ok(true)
        })?;
        let rows = writer::rows(&self.cluster, primary)?;
        let (acked, missing, two_writers, warned) = {
            let writers = self.writers()?;
            let ledger = writers.ledger();
            (
                ledger.len(),
                ledger.missing_from(&rows),
                ledger.two_writers() + ledger.two_timelines(),
                writers.warned(),
            )
        };
        ensure!(
            missing == 0,
            "{missing} of {acked} acknowledged rows are not on the primary"
        );
        ensure!(
            two_writers == 0,
            "{two_writers} writes were acknowledged by two nodes at once"
        );
        if self.cluster.is_settled().unwrap_or(false) {
            wait::until("standbys that have every row", CATCH_UP, || {
                self.cluster.is_settled()
            })?;
            let states = self.cluster.state()?;
            for (index, node) in self.cluster.nodes.iter().enumerate() {
                if index != primary && states.iter().any(|row| row.name == node.name) {
                    let its = writer::rows(&self.cluster, index)?;
                    ensure!(its == rows, "{} has other rows than the primary", node.name);
                }
            }
        }
        if resume {
            self.write_start()?;
        }
        let warned = if warned > 0 {
            format!(", {warned} warned")
        } else {
            String::new()
        };
        Ok(format!("{acked} rows{warned}"))
    }

    fn writers(&mut self) -> Result<&mut Writers> {
        self.writers
            .as_mut()
            .context("nobody writes: `write start` comes first")
    }

    /// A role is taken a moment before everybody has reported it.
    fn index(&self, node: Node) -> Result<usize> {
        let mut found = 0;
        wait::until(&format!("a {node}"), VIEW, || {
            found = self.index_now(node)?;
            Ok(true)
        })?;
        Ok(found)
    }

    fn index_now(&self, node: Node) -> Result<usize> {
        match node {
            Node::Number(number) => Ok(usize::from(number) - 1),
            Node::Primary => self.cluster.primary(),
            Node::Standby => self.cluster.standby(),
        }
    }

    fn node(&self, node: Node) -> Result<&Host> {
        Ok(&self.cluster.nodes[self.index(node)?])
    }

    fn hosts(&mut self, whose: Whose) -> Result<Vec<&mut Host>> {
        Ok(match whose {
            Whose::Monitor => vec![&mut self.cluster.monitor],
            Whose::All => std::iter::once(&mut self.cluster.monitor)
                .chain(&mut self.cluster.nodes)
                .collect(),
            Whose::Node(node) => {
                let index = self.index(node)?;
                vec![&mut self.cluster.nodes[index]]
            }
        })
    }
}

/// A command that must have worked, or with `refused` must not.
fn done_or_refused(ended: Captured, what: &str, refused: bool) -> Result<()> {
    if refused {
        ensure!(
            !ended.status.success(),
            "it was not refused:\n{}",
            ended.stdout
        );
        return Ok(());
    }
    ended.success(what).map(drop)
}

fn space(host: &Host) -> Result<&Namespace> {
    match &host.place {
        Place::Namespace(space) => Ok(space),
        Place::Loopback => bail!("{} shares the loopback: it cannot be cut off", host.name),
    }
}
