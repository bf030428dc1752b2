//! Commits: written, flushed, and made to wait for standbys.
//!
//! As in Postgres: the checkpointer's flag decides whether a commit waits, each walsender decides with
//! its own copy of the names when waiting ends, and turning the flag off lets everybody go.

use pgaf_protocol::NodeId;

use super::{ConfFile, Doing, Sender, SyncNames, Waiter};
use crate::event::PgEvent;
use crate::world::World;

impl World {
    /// Inserts a record; a commit's is flushed and then acknowledged, or waits.
    pub(crate) fn write_wal(&mut self, host: usize, bytes: u64, commit: Option<u64>) -> u64 {
        let flush = self.rng.between(0, 2);
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_ref()) else {
            return 0;
        };
        let Some(branch) = server.branch else {
            return 0;
        };
        let timeline = disk.path.timeline();
        let timeline = self.branches.get(branch.0).map_or(timeline, |b| b.timeline);
        let lsn = disk.path.end() + bytes;
        disk.path.append(branch, timeline, lsn);
        self.pg_event(host, flush, PgEvent::Flushed { upto: lsn, commit });
        lsn
    }

    /// A client's commit.
    pub(crate) fn commit(&mut self, host: usize) {
        let bytes = self.rng.between(50, 400);
        let id = self.ledger.begin(host, self.now);
        let lsn = self.write_wal(host, bytes, Some(id));
        let branch = self.hosts[host].pg.server.as_ref().and_then(|s| s.branch);
        if let Some(branch) = branch {
            self.ledger.written(id, branch, lsn);
        }
    }

    /// Local WAL is on disk.
    pub(crate) fn flushed(&mut self, host: usize, upto: u64, commit: Option<u64>) {
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return;
        };
        disk.flushed = disk.flushed.max(upto.min(disk.path.end()));
        if let Some(commit) = commit {
            if server.doing == Doing::Stopping {
                // The session is ended with a warning.
            } else if server.waiting_on {
                server.waiters.push(Waiter { commit, lsn: upto });
            } else {
                self.acknowledge(host, commit);
            }
        }
        self.ship(host);
    }

    /// The configuration file is there and the postmaster has its signal.
    pub(crate) fn reload(&mut self, host: usize, file: ConfFile) {
        let postmaster = self.rng.between(1, 8);
        let checkpointer = postmaster + self.skew();
        let startup = postmaster + self.rng.between(1, 25);
        let pg = &mut self.hosts[host].pg;
        let Some(disk) = pg.disk.as_mut() else { return };
        disk.conf = file;
        let conns: Vec<u64> = pg
            .server
            .iter()
            .flat_map(|s| s.senders.iter().map(|s| s.conn))
            .collect();
        self.pg_event(host, postmaster, PgEvent::Postmaster);
        self.pg_event(host, checkpointer, PgEvent::Checkpointer);
        self.pg_event(host, startup, PgEvent::Startup);
        for conn in conns {
            self.pg_event(host, postmaster, PgEvent::SenderSignal(conn));
            let own = postmaster + self.skew();
            self.pg_event(host, own, PgEvent::SenderNames(conn));
        }
    }

    /// How late a process may look at its signals: mostly at once, at times long.
    fn skew(&mut self) -> u64 {
        if self.rng.one_in(8) {
            self.rng.between(50, 600)
        } else {
            self.rng.between(0, 30)
        }
    }

    /// The checkpointer looks at the file.
    pub(crate) fn checkpointer_looks(&mut self, host: usize) {
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_ref(), pg.server.as_mut()) else {
            return;
        };
        let on = !disk.conf.names.is_off();
        let was = core::mem::replace(&mut server.waiting_on, on);
        if was && !on {
            let freed = core::mem::take(&mut server.waiters);
            for waiter in freed {
                self.acknowledge(host, waiter.commit);
            }
        }
    }

    /// A walsender has had its signal; it handles it before the reply after the next one.
    pub(crate) fn sender_signal(&mut self, host: usize, conn: u64) {
        if let Some(sender) = self.sender(host, conn) {
            sender.signalled = Some(false);
        }
    }

    /// A walsender looks at the file.
    pub(crate) fn sender_looks(&mut self, host: usize, conn: u64) {
        let Some(names) = self.hosts[host]
            .pg
            .disk
            .as_ref()
            .map(|d| d.conf.names.clone())
        else {
            return;
        };
        if let Some(sender) = self.sender(host, conn) {
            sender.names = names;
            sender.signalled = None;
        }
    }

    pub(crate) fn sender(&mut self, host: usize, conn: u64) -> Option<&mut Sender> {
        let server = self.hosts[host].pg.server.as_mut()?;
        server.senders.iter_mut().find(|s| s.conn == conn)
    }

    /// A standby's reply reaches its walsender.
    pub(crate) fn sender_reply(&mut self, host: usize, conn: u64, flushed: u64, timeline: u32) {
        let now = self.now;
        let current = self.hosts[host]
            .pg
            .disk
            .as_ref()
            .map_or(0, |d| d.path.timeline());
        let Some(sender) = self.sender(host, conn) else {
            return;
        };
        match sender.signalled {
            Some(true) => self.sender_looks(host, conn),
            Some(false) => sender.signalled = Some(true),
            None => {}
        }
        let Some(sender) = self.sender(host, conn) else {
            return;
        };
        let first = sender.flushed == 0;
        sender.reply_at = now;
        sender.flushed = flushed;
        sender.on_timeline |= timeline == current;
        if first {
            self.ship(host);
        }
        self.release(host, conn);
    }

    /// `SyncRepReleaseWaiters` of one walsender.
    fn release(&mut self, host: usize, conn: u64) {
        let Some(server) = self.hosts[host].pg.server.as_mut() else {
            return;
        };
        if server.recovery || server.doing == Doing::Starting {
            return;
        }
        let Some(me) = server.senders.iter().find(|s| s.conn == conn) else {
            return;
        };
        let SyncNames::Any { number, nodes, .. } = &me.names else {
            return;
        };
        if !nodes.contains(&me.node) {
            return;
        }
        let mut flushed: Vec<u64> = server
            .senders
            .iter()
            .filter(|s| s.names.has(s.node))
            .map(|s| s.flushed)
            .collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        let Some(upto) = number.checked_sub(1).and_then(|i| flushed.get(i).copied()) else {
            return;
        };
        let (freed, left) = core::mem::take(&mut server.waiters)
            .into_iter()
            .partition(|w: &Waiter| w.lsn <= upto);
        server.waiters = left;
        for waiter in freed {
            self.acknowledge(host, waiter.commit);
        }
    }

    /// How many of these nodes have flushed `lsn`, counted as a confirmation counts them.
    pub(crate) fn flushed_by(&self, host: usize, nodes: &SyncNames, lsn: u64) -> usize {
        let pg = &self.hosts[host].pg;
        let (Some(disk), Some(server)) = (&pg.disk, &pg.server) else {
            return 0;
        };
        let counts = |node: NodeId| {
            let mine: Vec<&Sender> = server.senders.iter().filter(|s| s.node == node).collect();
            mine.len() == 1
                && mine[0].flushed >= lsn
                && mine[0].flushed <= disk.path.end()
                && mine[0].on_timeline
        };
        match nodes {
            SyncNames::Any { nodes, .. } => nodes.iter().filter(|n| counts(**n)).count(),
            SyncNames::Off | SyncNames::Nobody => 0,
        }
    }
}
