//! A scenario file, run in the simulator: the same grammar and the same claims as on real Postgres.

use std::time::Duration;

use pgaf_fsm::group::{FormationView, explain};
use pgaf_protocol::{FormationId, NodeState, Time};

use crate::coverage::Coverage;
use crate::monitor::{GROUP, Operation};
use crate::net::Place;
use crate::script::{Condition, Expectation, Host, Link, Node, Script, Step};
use crate::seed::{bring_up, check_copies, wait};
use crate::world::World;

/// A first commit must be acknowledged within this after `write start`.
const FIRST_WRITE: u64 = 30_000;
/// An operation that waits for its end has ended by then.
const OPERATION: u64 = 60_000;
/// Between two looks at a condition.
const LOOK: u64 = 10;

/// What became of a scenario.
#[derive(Debug, Clone)]
pub struct Played {
    /// What went wrong, with the line, if anything did.
    pub broken: Option<String>,
    /// Everything that happened.
    pub trace: String,
    /// What fired.
    pub coverage: Coverage,
    /// The outages that were claimed about, in milliseconds, with their lines.
    pub outages: Vec<(usize, u64)>,
}

struct Player {
    world: World,
    fault: u64,
    /// The server of each host when the last fault began.
    boots: Vec<Option<u64>>,
    outages: Vec<(usize, u64)>,
}

/// Runs a scenario with a seed.
#[must_use]
pub fn play(script: &Script, seed: u64) -> Played {
    let mut world = World::new(seed, usize::from(script.nodes));
    world.pace = 10;
    world.said = Some(Vec::new());
    bring_up(&mut world);
    let mut player = Player {
        fault: world.now,
        boots: Vec::new(),
        outages: Vec::new(),
        world,
    };
    let mut broken = player.world.failed.clone();
    for line in &script.steps {
        if broken.is_some() {
            break;
        }
        player
            .world
            .note(|| format!("LINE {}: {}", line.number, line.step));
        let done = player.step(&line.step, line.number);
        let failed = player.world.failed.clone().map_or(done, Err);
        broken = failed
            .err()
            .map(|why| format!("line {}: {}: {why}", line.number, line.step));
    }
    if broken.is_some() {
        let summary = player.world.summary();
        player.world.note(|| summary);
    }
    Played {
        broken,
        trace: player.world.trace().to_owned(),
        coverage: player.world.coverage.clone(),
        outages: player.outages,
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Player {
    fn step(&mut self, step: &Step, line: usize) -> Result<(), String> {
        if step.is_fault() {
            self.fault = self.world.now;
            self.boots = self
                .world
                .hosts
                .iter()
                .map(|h| h.pg.server.as_ref().map(|s| s.boot))
                .collect();
        }
        match step {
            Step::WriteStart => {
                self.world.writing = true;
                let start = self.world.now;
                if !wait(&mut self.world, FIRST_WRITE, |w| {
                    w.ledger.wrote_since(start)
                }) {
                    return Err("no write is acknowledged".into());
                }
                self.pass(500);
            }
            Step::WriteStop => self.world.writing = false,
            Step::Perform { words, refused } => self.perform(words, *refused)?,
            Step::Set { words, refused } => self.set(words, *refused)?,
            Step::Drop(node) => {
                let host = self.host(*node);
                self.world
                    .operate(&Operation::Drop { host, force: false })?;
            }
            Step::Maintain { node, refused } => self.maintain(*node, true, *refused)?,
            Step::Resume(node) => self.maintain(*node, false, false)?,
            Step::KillPostgres(node) => {
                let host = self.host(*node);
                self.world.behead(host);
            }
            Step::KillKeeper(node) => {
                let host = self.host(*node);
                self.world.end_keeper(host, true);
            }
            Step::KillHost(whom) => {
                for whose in whom {
                    self.each(*whose, World::kill_host_processes, World::kill_monitor);
                }
            }
            Step::StartHost(whose) => self.each(*whose, World::start_host, World::start_monitor),
            Step::Freeze(whose) => self.each(*whose, World::freeze, World::freeze_monitor),
            Step::FreezeKeeper(node) => {
                let host = self.host(*node);
                self.world.hosts[host].keeper_frozen = true;
            }
            Step::Thaw(whose) => self.each(*whose, World::thaw, World::thaw_monitor),
            Step::Cut(link) => self.link(*link, false),
            Step::Mend(link) => self.link(*link, true),
            Step::Wait { until, within } => self.wait(until, ms(*within))?,
            Step::Expect(expectation) => self.expect(expectation, line)?,
        }
        Ok(())
    }

    fn pass(&mut self, ms: u64) {
        let end = self.world.now + ms;
        self.world.run_until(end);
    }

    fn each(
        &mut self,
        whose: Host,
        node: impl Fn(&mut World, usize),
        monitor: impl Fn(&mut World),
    ) {
        match whose {
            Host::Node(which) => {
                let host = self.host(which);
                node(&mut self.world, host);
            }
            Host::Monitor => monitor(&mut self.world),
            Host::All => {
                monitor(&mut self.world);
                for host in 0..self.world.hosts.len() {
                    node(&mut self.world, host);
                }
            }
        }
    }

    fn host(&self, node: Node) -> usize {
        match node {
            Node::Number(number) => usize::from(number) - 1,
            Node::Primary => self.primary().unwrap_or(0),
            Node::Standby => {
                let primary = self.primary();
                let secondary = self.world.monitor.group().and_then(|group| {
                    let settled = |n: &&pgaf_fsm::group::Node| {
                        n.reported == NodeState::Secondary && n.goal.state == NodeState::Secondary
                    };
                    let names = group.nodes.values().filter(settled).map(|n| &n.name);
                    self.world.host_of(names.min()?)
                });
                let mut hosts = 0..self.world.hosts.len();
                secondary
                    .or_else(|| hosts.find(|h| Some(*h) != primary))
                    .unwrap_or(0)
            }
        }
    }

    fn primary(&self) -> Option<usize> {
        let group = self.world.monitor.group()?;
        let leader = group.nodes.get(&group.primary?.node)?;
        self.world.host_of(&leader.host)
    }

    fn link(&mut self, link: Link, up: bool) {
        let places = |player: &Self, whose: Host| match whose {
            Host::Monitor => vec![Place::Monitor],
            Host::Node(node) => vec![Place::Node(player.host(node))],
            Host::All => player.world.places(),
        };
        let (ones, others) = (places(self, link.one), places(self, link.other));
        for (one, other) in ones
            .iter()
            .flat_map(|one| others.iter().map(move |other| (*one, *other)))
            .filter(|(one, other)| one != other)
        {
            let back = (!link.one_way).then_some((other, one));
            for (from, to) in [Some((one, other)), back].into_iter().flatten() {
                if up {
                    self.world.net.mend(from, to);
                } else {
                    self.world.net.cut(from, to);
                }
            }
        }
    }

    /// As `pg_autoctl set`.
    fn set(&mut self, words: &[String], refused: bool) -> Result<(), String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let host = |name: &str| {
            let host = self.world.host_of(name);
            host.ok_or_else(|| format!("there is no node {name}"))
        };
        let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
        let operation = match words[..] {
            ["node", "candidate-priority", "--name", name, priority] => Operation::Priority {
                host: host(name)?,
                priority: number(priority)?,
            },
            [
                "node",
                "replication-quorum",
                "--name",
                name,
                quorum @ ("true" | "false"),
            ] => Operation::Quorum {
                host: host(name)?,
                quorum: quorum == "true",
            },
            ["formation", "number-sync-standbys", count] => Operation::NumberSync(number(count)?),
            _ => return Err("the simulator does not know this setting".to_owned()),
        };
        match (self.world.operate(&operation), refused) {
            (Ok(()), true) => Err("it was not refused".to_owned()),
            (Err(why), false) => Err(why),
            (Ok(()), false) | (Err(_), true) => Ok(()),
        }
    }

    /// As `pg_autoctl perform`, which waits until the group is steady again.
    fn perform(&mut self, words: &[String], refused: bool) -> Result<(), String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let allow_data_loss = words.contains(&"--allow-data-loss");
        let name = words
            .iter()
            .position(|w| *w == "--name")
            .and_then(|i| words.get(i + 1));
        let operation = match (words.first(), name) {
            (Some(&"promotion"), Some(name)) if !allow_data_loss => {
                Operation::Promotion((*name).to_owned())
            }
            _ => Operation::Failover { allow_data_loss },
        };
        match (self.world.operate(&operation), refused) {
            (Err(_), true) => Ok(()),
            (Ok(()), true) => Err("it was not refused".into()),
            (Err(why), false) => Err(why),
            (Ok(()), false) => {
                let over = |w: &World| {
                    w.monitor.group().is_some_and(|g| {
                        g.phase == pgaf_fsm::group::Phase::Steady
                            && g.primary
                                .and_then(|l| g.nodes.get(&l.node))
                                .is_some_and(|n| n.reported == n.goal.state)
                    })
                };
                if wait(&mut self.world, OPERATION, over) {
                    Ok(())
                } else {
                    Err("it does not end".into())
                }
            }
        }
    }

    /// As `pg_autoctl enable maintenance` and `disable maintenance`, which wait for the end.
    fn maintain(&mut self, node: Node, start: bool, refused: bool) -> Result<(), String> {
        let host = self.host(node);
        match (
            self.world.operate(&Operation::Maintain { host, start }),
            refused,
        ) {
            (Err(_), true) => return Ok(()),
            (Ok(()), true) => return Err("it was not refused".into()),
            (Err(why), false) => return Err(why),
            (Ok(()), false) => {}
        }
        let name = format!("node{}", host + 1);
        let over = |w: &World| {
            let node = w
                .monitor
                .group()
                .and_then(|g| g.nodes.values().find(|n| n.name == name));
            node.is_some_and(|n| {
                n.reported == n.goal.state
                    && if start {
                        n.rests()
                    } else {
                        matches!(n.reported, NodeState::Secondary | NodeState::Primary)
                    }
            })
        };
        if wait(&mut self.world, OPERATION, over) {
            Ok(())
        } else {
            Err("it does not end".into())
        }
    }

    fn wait(&mut self, until: &Condition, within: u64) -> Result<(), String> {
        let start = self.world.now;
        let end = start + within;
        if *until == Condition::Time {
            self.pass(within);
            return Ok(());
        }
        while self.world.now < end && self.world.failed.is_none() {
            if self.holds(until, start) {
                return Ok(());
            }
            self.pass(LOOK);
        }
        if self.holds(until, start) {
            Ok(())
        } else {
            Err("it does not hold in time".into())
        }
    }

    fn holds(&self, until: &Condition, start: u64) -> bool {
        let row = |node: Node| {
            let name = &self.world.hosts[self.host(node)].name;
            let group = self.world.monitor.group()?;
            group.nodes.values().find(|n| n.name == *name)
        };
        match until {
            Condition::Time => true,
            Condition::Settled => self.world.is_settled(),
            Condition::Writes => self.world.ledger.wrote_since(start),
            Condition::Gone(node) => row(*node).is_none(),
            Condition::State(node, state) => row(*node).is_some_and(|n| {
                state
                    .parse::<NodeState>()
                    .is_ok_and(|s| n.reported == s && n.goal.state == s)
            }),
        }
    }

    fn expect(&mut self, expectation: &Expectation, line: usize) -> Result<(), String> {
        match expectation {
            Expectation::Primary(node) => {
                let (wanted, found) = (self.host(*node), self.primary());
                if found != Some(wanted) {
                    return Err(format!("the primary is {:?}", found.map(|h| h + 1)));
                }
            }
            Expectation::OutageBelow(limit) => {
                let outage = self.world.ledger.outage(self.fault, self.world.now);
                self.outages.push((line, outage));
                if outage >= ms(*limit) {
                    return Err(format!("no write was acknowledged for {outage} ms"));
                }
            }
            Expectation::NoFailover(time) => {
                let before = self.primary();
                let end = self.world.now + ms(*time);
                while self.world.now < end && self.world.failed.is_none() {
                    self.pass(LOOK);
                    if self.primary() != before {
                        return Err("there was a failover".into());
                    }
                }
            }
            Expectation::NoWrites(time) => {
                let start = self.world.now;
                self.pass(ms(*time));
                if self.world.ledger.wrote_since(start) {
                    return Err("a write was acknowledged".into());
                }
            }
            Expectation::NothingLost => self.nothing_lost()?,
            // A session lives as long as its server and nobody ends it, and a closed server's are ended.
            Expectation::PostgresKept(node) | Expectation::SessionKept(node) => {
                let host = self.host(*node);
                if matches!(expectation, Expectation::SessionKept(_))
                    && self.world.hosts[host].pg.closed
                {
                    return Err("its sessions were ended".into());
                }
                let now = self.world.hosts[host].pg.server.as_ref().map(|s| s.boot);
                if now.is_none() || self.boots.get(host).copied().flatten() != now {
                    return Err("its Postgres is another one".into());
                }
            }
            Expectation::ExplainSays(text) => {
                let said = self.explained();
                if !said.contains(text) {
                    return Err(format!("it says: {said}"));
                }
            }
            Expectation::EventSays(text) => {
                let said = self.world.said.as_deref().unwrap_or_default();
                if !said.iter().any(|event| event.contains(text)) {
                    return Err(format!("they say: {}", said.join("; ")));
                }
            }
        }
        Ok(())
    }

    /// The primary has every acknowledged commit; when the group is settled, so have its standbys.
    fn nothing_lost(&mut self) -> Result<(), String> {
        let was = core::mem::replace(&mut self.world.writing, false);
        self.pass(300);
        let settled = self.world.is_settled();
        if settled {
            check_copies(&mut self.world);
        } else if let Some(host) = self.primary()
            && let Some(disk) = &self.world.hosts[host].pg.disk
            && let Some((branch, lsn)) = self.world.ledger.missing(&disk.path)
        {
            return Err(format!("b{} up to {lsn:x} is lost", branch.0));
        }
        self.world.writing = was;
        Ok(())
    }

    fn explained(&self) -> String {
        let monitor = &self.world.monitor;
        let formation = monitor.cluster.formations.get(&FormationId::default());
        let Some((view, group)) =
            formation.and_then(|f| Some((FormationView::from(f), f.groups.get(&GROUP)?)))
        else {
            return String::new();
        };
        let now = Time(self.world.now);
        let said = explain(&view, group, &monitor.live, &monitor.settings, now);
        let mut text = said.summary;
        for waiting in said.waiting {
            for node in &waiting.nodes {
                let name = group.nodes.get(node).map(|n| n.name.as_str());
                text.push_str(&format!(" [{}]", name.unwrap_or_default()));
            }
            text.push_str(&format!(
                " {} {}",
                waiting.why,
                waiting.way_out.unwrap_or_default()
            ));
        }
        text
    }
}
