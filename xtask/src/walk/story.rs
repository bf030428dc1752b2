//! The commands of the quick start in their order, and what each must show.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Venue;
use crate::command::Captured;
use crate::{console, wait};

/// How long a formation may take to settle, from nothing or after a fault. Goal: 30 s on two free cores;
/// a busy machine gets more.
const SETTLED: Duration = Duration::from_secs(240);

/// The columns of `show state`.
const STATE: &[&str] = &[
    "Name",
    "Node",
    "Host:Port",
    "TLI: LSN",
    "Connection",
    "Reported State",
    "Assigned State",
];

/// The columns of the table that `perform failover` prints while it waits.
const EVENTS: &[&str] = &[
    "Time",
    "Name",
    "Node",
    "Host:Port",
    "Current State",
    "Assigned State",
];

/// The columns of `show uri`.
const URIS: &[&str] = &["Type", "Name", "Connection String"];

/// Rows of the sample data.
const COMPANIES: usize = 75;

const SHOW_STATE: &[&str] = &["pg_autoctl", "show", "state"];

const WORKERS: &str = "select * from citus_get_active_worker_nodes()";

const SCHEMA: &str = "CREATE TABLE companies
(
  id         bigserial PRIMARY KEY,
  name       text NOT NULL,
  image_url  text,
  created_at timestamp without time zone NOT NULL,
  updated_at timestamp without time zone NOT NULL
);
SELECT create_distributed_table('companies', 'id');
";

/// A row of `show state`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    name: String,
    group: u32,
    id: u32,
    address: String,
    connection: String,
    reported: String,
    assigned: String,
}

impl Node {
    fn is(&self, state: &str, connection: &str) -> bool {
        self.reported == state && self.assigned == state && self.connection == connection
    }

    fn leads(&self) -> bool {
        self.is("primary", "read-write")
    }
}

/// Walks, and writes down what was said.
pub(super) struct Story<'a> {
    venue: &'a mut dyn Venue,
    transcript: String,
}

/// What a bare `cargo xtask demo --citus` shows: the second half of the quick start.
///
/// # Errors
/// At the first thing that does not work.
pub(crate) fn demo(formation: &mut super::Formation) -> Result<()> {
    let mut story = Story::new(formation);
    story.named()?;
    story.data()?;
    story.worker_fails()?;
    story.coordinator_fails()
}

impl<'a> Story<'a> {
    pub(super) fn new(venue: &'a mut dyn Venue) -> Self {
        Self {
            venue,
            transcript: String::new(),
        }
    }

    /// Everything; answers the transcript.
    pub(super) fn tell(mut self) -> Result<String> {
        self.scaled()?;
        self.named()?;
        self.failover()?;
        self.data()?;
        self.worker_fails()?;
        self.coordinator_fails()?;
        self.venue.peculiar()?;
        Ok(self.transcript)
    }

    /// The first cluster: eight nodes whose names and places are the monitor's.
    fn scaled(&mut self) -> Result<()> {
        console::heading("walk: two coordinators and six workers, without a name");
        let start = Instant::now();
        self.venue.up(true)?;
        wait::until("a monitor that answers", SETTLED, || {
            Ok(self.venue.exec("monitor", SHOW_STATE)?.status.success())
        })?;
        let screen = self.venue.watch("coord0a")?;
        for wanted in ["Name", "Reported State", "Assigned State", "coord0a"] {
            ensure!(screen.contains(wanted), "watch does not show `{wanted}`");
        }
        let first = self.typed("monitor", SHOW_STATE)?;
        columns(&first, STATE)?;
        let nodes = self.settled(start)?;
        let names: BTreeSet<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        let expected: BTreeSet<_> = ["coord0", "worker1", "worker2", "worker3"]
            .iter()
            .flat_map(|group| ["a", "b"].map(|letter| format!("{group}{letter}")))
            .collect();
        ensure!(
            names == expected.iter().map(String::as_str).collect(),
            "names: {names:?}"
        );
        self.uris(&nodes)?;
        let active = format!("{WORKERS};");
        let coordinator = leader(&nodes, 0)?.name.clone();
        self.workers(&coordinator, &active, &nodes)?;
        self.venue.down()
    }

    /// The second one: every node by name, and an application.
    fn named(&mut self) -> Result<()> {
        console::heading("walk: the same by name, with an application");
        let start = Instant::now();
        self.venue.up(false)?;
        let nodes = self.settled(start)?;
        for node in &nodes {
            let address = self.venue.address(&node.name);
            ensure!(node.address == address, "{}: {}", node.name, node.address);
        }
        self.uris(&nodes)?;
        let coordinator = leader(&nodes, 0)?.name.clone();
        self.workers(&coordinator, WORKERS, &nodes)
    }

    /// A planned move of a worker, then every *a* node is made the primary.
    fn failover(&mut self) -> Result<()> {
        console::heading("walk: a worker moves");
        let before = leader(&self.state()?, 2)?.name.clone();
        self.moved(2)?;
        ensure!(
            leader(&self.state()?, 2)?.name != before,
            "group 2 did not move"
        );
        for group in 0..4 {
            if leader(&self.state()?, group)?.name.ends_with('b') {
                self.moved(group)?;
            }
        }
        let nodes = self.state()?;
        ensure!(
            (0..4).all(|group| leader(&nodes, group).is_ok_and(|node| node.name.ends_with('a'))),
            "the a nodes are not the primaries: {nodes:?}"
        );
        self.workers("coord0a", WORKERS, &nodes)
    }

    fn moved(&mut self, group: u32) -> Result<()> {
        let start = Instant::now();
        let group = group.to_string();
        let words = ["pg_autoctl", "perform", "failover", "--group", &group];
        let said = self.typed("monitor", &words)?;
        columns(&said, EVENTS)?;
        ensure!(
            said.lines()
                .filter(|line| line.contains('|'))
                .any(|line| line.trim_end().ends_with("| primary")
                    || line.split('|').any(|cell| cell.trim() == "primary")),
            "perform failover does not show a new primary"
        );
        console::good(&format!(
            "group {group} has moved: {}",
            console::human(start.elapsed())
        ));
        self.settled(Instant::now()).map(drop)
    }

    /// A distributed table, and the sample data.
    fn data(&mut self) -> Result<()> {
        console::heading("walk: data");
        let path = self.venue.hand_over("companies.csv", &companies())?;
        let said = self.sql(SCHEMA)?;
        ensure!(said.contains("create_distributed_table"), "{said}");
        let copy = format!("\\copy companies from program 'cat {path}' with csv\n");
        let said = self.sql(&copy)?;
        ensure!(said.contains(&format!("COPY {COMPANIES}")), "{said}");
        self.count()
    }

    fn worker_fails(&mut self) -> Result<()> {
        console::heading("walk: a worker breaks, and heals");
        let nodes = self.settled(Instant::now())?;
        let broken = leader(&nodes, 1)?.name.clone();
        let start = Instant::now();
        self.wreck(&broken)?;
        let active = "select * from master_get_active_worker_nodes();";
        let address = self.venue.address(&broken);
        wait::until("another worker in its stead", SETTLED, || {
            let said = self.venue.psql(active)?.success("psql")?;
            let hosts = listed(&said);
            Ok(hosts.len() == 3 && !hosts.contains(&address))
        })?;
        console::good(&format!(
            "replaced after {}",
            console::human(start.elapsed())
        ));
        self.sql(active)?;
        self.count()?;
        let nodes = self.settled(start)?;
        ensure!(
            leader(&nodes, 1)?.name != broken,
            "{broken} is the primary again"
        );
        Ok(())
    }

    fn coordinator_fails(&mut self) -> Result<()> {
        console::heading("walk: the coordinator breaks, and heals");
        let nodes = self.settled(Instant::now())?;
        let broken = leader(&nodes, 0)?.name.clone();
        let start = Instant::now();
        self.wreck(&broken)?;
        wait::until("another coordinator", SETTLED, || {
            let nodes = self.state()?;
            Ok(leader(&nodes, 0).is_ok_and(|node| node.name != broken))
        })?;
        let nodes = self.settled(start)?;
        ensure!(
            leader(&nodes, 0)?.name != broken,
            "{broken} is the primary again"
        );
        self.count()
    }

    /// Takes `pg_control` away, and stops Postgres behind the keeper's back.
    fn wreck(&mut self, service: &str) -> Result<()> {
        let pgdata = self.venue.pgdata(service);
        let control = format!("{pgdata}/global/pg_control");
        self.typed(service, &["rm", &control])?;
        // Its last checkpoint finds no control file: pg_ctl may say either that it worked or not.
        let words = ["pg_ctl", "stop", "-D", &pgdata];
        let ended = self.venue.exec(service, &words)?;
        self.write(service, &words, &ended);
        Ok(())
    }

    fn count(&mut self) -> Result<()> {
        let said = self.sql("select count(*) from companies;")?;
        ensure!(
            said.lines()
                .any(|line| line.trim() == COMPANIES.to_string()),
            "count: {said}"
        );
        console::good(&format!("{COMPANIES} companies"));
        Ok(())
    }

    /// Waits for a primary and a secondary in each of four groups, and shows them.
    fn settled(&mut self, since: Instant) -> Result<Vec<Node>> {
        wait::until(
            "four groups, each with a primary and a secondary",
            SETTLED,
            || Ok(settled(&self.state()?)),
        )?;
        let said = self.typed("monitor", SHOW_STATE)?;
        columns(&said, STATE)?;
        console::good(&format!(
            "settled after {}",
            console::human(since.elapsed())
        ));
        console::quote(&said);
        nodes(&said)
    }

    fn state(&mut self) -> Result<Vec<Node>> {
        nodes(
            &self
                .venue
                .exec("monitor", SHOW_STATE)?
                .success("show state")?,
        )
    }

    fn uris(&mut self, nodes: &[Node]) -> Result<()> {
        let said = self.typed("monitor", &["pg_autoctl", "show", "uri"])?;
        columns(&said, URIS)?;
        let of = |kind: &str| {
            let row = said.lines().map(cells).find(|row| row[0] == kind);
            row.and_then(|row| row.get(2).cloned())
                .with_context(|| format!("show uri has no {kind}: {said}"))
        };
        let monitor = of("monitor")?;
        ensure!(
            monitor.starts_with("postgres://autoctl_node@")
                && monitor.ends_with("/pg_auto_failover?sslmode=require"),
            "{monitor}"
        );
        let formation = of("formation")?;
        for node in nodes.iter().filter(|node| node.group == 0) {
            ensure!(formation.contains(&node.address), "{formation}");
        }
        let end = "/citus?target_session_attrs=read-write&sslmode=require";
        ensure!(formation.ends_with(end), "{formation}");
        Ok(())
    }

    /// The coordinator knows the primaries, and nobody else.
    fn workers(&mut self, coordinator: &str, query: &str, nodes: &[Node]) -> Result<()> {
        let words = ["psql", "-d", "citus", "-c", query];
        let expected: BTreeSet<_> = nodes
            .iter()
            .filter(|node| node.group > 0 && node.leads())
            .map(|node| node.address.clone())
            .collect();
        wait::until("the primaries in the node metadata", SETTLED, || {
            let said = self.venue.exec(coordinator, &words)?.success("psql")?;
            Ok(listed(&said) == expected)
        })?;
        let said = self.typed(coordinator, &words)?;
        ensure!(said.contains("(3 rows)"), "{said}");
        console::quote(&said);
        Ok(())
    }

    /// Types a command, which must succeed.
    fn typed(&mut self, service: &str, words: &[&str]) -> Result<String> {
        let ended = self.venue.exec(service, words)?;
        self.write(service, words, &ended);
        let both = format!("{}{}", ended.stdout, ended.stderr);
        ended.success(&words.join(" "))?;
        Ok(both)
    }

    fn write(&mut self, service: &str, words: &[&str], ended: &Captured) {
        let line = self.venue.shown(service, words);
        console::note(&format!("$ {line}"));
        self.transcript
            .push_str(&format!("$ {line}\n{}{}\n", ended.stderr, ended.stdout));
    }

    fn sql(&mut self, script: &str) -> Result<String> {
        console::note(&format!(
            "app$ psql <<< {}",
            script.lines().next().unwrap_or_default()
        ));
        let said = self.venue.psql(script)?.success("psql")?;
        self.transcript
            .push_str(&format!("app$ psql\n{script}\n{said}\n"));
        Ok(said)
    }
}

fn settled(nodes: &[Node]) -> bool {
    nodes.len() == 8
        && (0..4).all(|group| {
            let of = |wanted: fn(&Node) -> bool| {
                let members = nodes.iter().filter(|node| node.group == group);
                members.filter(|node| wanted(node)).count()
            };
            of(Node::leads) == 1 && of(|node| node.is("secondary", "read-only")) == 1
        })
}

fn leader(nodes: &[Node], group: u32) -> Result<&Node> {
    let mut leaders = nodes.iter().filter(|n| n.group == group && n.leads());
    match (leaders.next(), leaders.next()) {
        (Some(node), None) => Ok(node),
        _ => bail!("group {group} has not one primary: {nodes:?}"),
    }
}

fn cells(line: &str) -> Vec<String> {
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// # Errors
/// When no line has exactly these columns.
fn columns(said: &str, wanted: &[&str]) -> Result<()> {
    ensure!(
        said.lines().any(|line| cells(line) == wanted),
        "no line with the columns {}:\n{said}",
        wanted.join(" | ")
    );
    Ok(())
}

fn nodes(said: &str) -> Result<Vec<Node>> {
    let rows = said
        .lines()
        .map(cells)
        .filter(|row| row.len() == STATE.len());
    let data = rows.skip_while(|row| row != STATE).skip(1);
    data.map(|row| {
        let (group, id) = row[1].split_once('/').context("no group in `Node`")?;
        Ok(Node {
            name: row[0].clone(),
            group: group.trim().parse().context("group")?,
            id: id.trim().parse().context("node id")?,
            address: row[2].clone(),
            connection: row[4].clone(),
            reported: row[5].clone(),
            assigned: row[6].clone(),
        })
    })
    .collect()
}

/// The workers that psql prints, as host:port.
fn listed(said: &str) -> BTreeSet<String> {
    let rows = said.lines().map(cells).filter(|row| row.len() == 2);
    rows.skip(1).map(|row| row.join(":")).collect()
}

/// Sample data of the shape that the quick start downloads.
fn companies() -> String {
    (1..=COMPANIES)
        .map(|id| {
            let day = id % 28 + 1;
            format!(
                "{id},\"Company {id}, Ltd.\",https://example.com/logo/{id}.png,\
                 2016-08-{day:02} 01:02:03.456789,2016-09-{day:02} 04:05:06.789012\n"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   Name |  Node |    Host:Port |     TLI: LSN | Connection | Reported State | Assigned State\n\
        --------+-------+--------------+--------------+------------+----------------+---------------\n\
        coord0a |   0/3 | coord0a:5432 | 1: 0/312B040 | read-write | primary | primary\n\
        coord0b |   0/4 | coord0b:5432 | 1: 0/312B040 | read-only | secondary | catchingup\n\n";

    #[test]
    fn a_table_of_states_is_read_by_its_columns() {
        let rows = nodes(TABLE).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[1].group, rows[1].id), (0, 4));
        assert_eq!(leader(&rows, 0).unwrap().address, "coord0a:5432");
        assert!(!settled(&rows) && leader(&rows, 1).is_err());
        columns(TABLE, STATE).unwrap();
        columns(TABLE, URIS).unwrap_err();
    }

    #[test]
    fn what_psql_lists_is_read_without_its_head() {
        let said =
            " node_name | node_port \n-----------+-----------\n worker1a  |      5432\n(1 row)\n";
        assert_eq!(listed(said), BTreeSet::from(["worker1a:5432".to_owned()]));
    }

    #[test]
    fn the_sample_has_seventy_five_rows_of_five_fields() {
        let text = companies();
        assert_eq!(text.lines().count(), 75);
        assert!(text.lines().all(|line| line.matches(',').count() == 5));
    }
}
