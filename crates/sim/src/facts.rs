//! The fake is not kinder than the real Postgres: each fact of the list, as a test.
//!
//! No monitor and no keepers here, only servers and what a test does to them.

mod ends;
mod names;
mod standbys;
mod timelines;

use pgaf_fsm::node::{Conf, Names, Replication};
use pgaf_protocol::{CopyId, Member, NodeId, Peer, SyncConfig};

use crate::pg::{Disk, Doing, Server};
use crate::world::World;

use ends::*;
use names::*;
use standbys::*;
use timelines::*;

/// One test for each fact of the list that the fake models.
macro_rules! on_the_fake {
    ($($fact:ident $section:literal $says:literal $(left $why:literal)?;)*) => {
        mod holds {
            $(on_the_fake! { one $fact $says $(left $why)? })*
        }
    };
    (one $fact:ident $says:literal) => {
        #[doc = $says]
        #[test]
        fn $fact() {
            for seed in 1..=20 {
                super::$fact(seed);
            }
        }
    };
    (one $fact:ident $says:literal left $why:literal) => {};
}

facts!(on_the_fake);

/// `''`.
const NOBODY_COUNTS: &[u32] = &[];

/// Hosts with copies of one new cluster, in the slots of each other, and no servers.
fn copies(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, nodes);
    let ids: Vec<NodeId> = (1..).map(NodeId).take(nodes).collect();
    for (host, id) in world.hosts.iter_mut().zip(&ids) {
        let mut disk = Disk::new(CopyId(id.0.unsigned_abs()), 7);
        disk.slots.extend(&ids);
        host.journal.node = *id;
        host.pg.disk = Some(disk);
    }
    world
}

/// `ANY number (nodes)`; nobody: `''`.
fn any(number: u32, nodes: &[u32]) -> Names {
    Names::Sync(SyncConfig::any(
        number,
        nodes.iter().map(|n| Member {
            node: NodeId(i64::from(*n)),
            copy: CopyId(u64::from(*n)),
        }),
    ))
}

fn leads(names: Names) -> Conf {
    Conf {
        names,
        replication: Replication::Primary,
    }
}

fn follows(upstream: usize) -> Conf {
    let node = NodeId(i64::try_from(upstream).unwrap() + 1);
    Conf {
        names: Names::Nobody,
        replication: Replication::Follow(Peer {
            node,
            name: format!("node{node}"),
            host: format!("node{node}"),
            port: 5432,
        }),
    }
}

/// A standby that has promised.
fn receives_nothing() -> Conf {
    Conf {
        names: Names::Nobody,
        replication: Replication::Promise,
    }
}

impl World {
    fn server(&self, host: usize) -> &Server {
        self.hosts[host].pg.server.as_ref().unwrap()
    }

    fn disk(&mut self, host: usize) -> &mut Disk {
        self.hosts[host].pg.disk.as_mut().unwrap()
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        self.run_until(end);
        assert_eq!(self.failed, None, "{}", self.trace());
    }

    /// Lets time pass until something holds, a minute at most.
    #[track_caller]
    fn until(&mut self, mut holds: impl FnMut(&World) -> bool) {
        let end = self.now + 60_000;
        while !holds(self) {
            assert!(self.now < end, "it does not come:\n{}", self.trace());
            self.pass(1);
        }
    }

    fn starts(&mut self, host: usize, conf: &Conf) {
        let standby = !matches!(conf.replication, Replication::Primary);
        self.start_server(host, standby, conf, false);
        self.until(|w| w.server(host).doing == Doing::Running);
    }

    /// A standby of `upstream` that streams.
    fn streams(&mut self, host: usize, upstream: usize) {
        self.starts(host, &follows(upstream));
        self.until(|w| w.server(host).receiver.is_some());
    }

    fn loads(&mut self, host: usize, conf: &Conf) {
        let file = self.conf_file(conf);
        self.reload(host, file);
    }

    fn acknowledged(&self) -> usize {
        self.ledger.acknowledged.len()
    }

    /// Commits now and then until one waits.
    fn until_commits_wait(&mut self, host: usize) {
        for _ in 0..100 {
            if !self.server(host).waiters.is_empty() {
                return;
            }
            self.commit(host);
            self.pass(10);
        }
        panic!("no commit waits");
    }

    fn caught_up(&mut self, host: usize, upstream: usize) {
        self.until(|w| {
            let upstream = w.hosts[upstream].pg.disk.as_ref().unwrap();
            let mine = w.hosts[host].pg.disk.as_ref().unwrap();
            mine.flushed >= upstream.flushed && w.server(host).replayed >= upstream.flushed
        });
    }
}
