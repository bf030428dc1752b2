//! Starting, ending and promoting servers.

use pgaf_fsm::node::{Conf, Replication, Work};
use pgaf_protocol::{Fork, Lsn, TimelineId};

use super::{ConfFile, Doing, Server, SyncNames};
use crate::event::{Event, PgEvent};
use crate::faults::Moment;
use crate::sabotage::Sabotage;
use crate::wal::{Branch, BranchId};
use crate::world::World;

impl World {
    /// What our configuration file says for a plan's configuration.
    pub(crate) fn conf_file(&self, conf: &Conf) -> ConfFile {
        let mut names = SyncNames::of(&conf.names);
        if self.is_sabotaged(Sabotage::OpensUnderNobody)
            && conf.replication == Replication::Promise
            && names != SyncNames::Nobody
        {
            names = SyncNames::Off;
        }
        ConfFile {
            names,
            upstream: match &conf.replication {
                Replication::Primary | Replication::Promise => None,
                Replication::Follow(peer) => self.host_of(&peer.host),
            },
        }
    }

    /// Starts a server on a copy that is there.
    pub(crate) fn start_server(&mut self, host: usize, standby: bool, conf: &Conf, closed: bool) {
        let file = self.conf_file(conf);
        self.boots += 1;
        let boot = self.boots;
        let since = i64::try_from(self.now).unwrap_or(0) * 1000 + 1;
        let takes = self.rng.between(20, 250);
        let slow_replay = self.rng.one_in(4);
        let pg = &mut self.hosts[host].pg;
        let Some(disk) = pg.disk.as_mut() else { return };
        disk.conf = file.clone();
        if standby {
            disk.primary = false;
        }
        // [run]: an empty history file above its own timeline holds it for ever.
        let stuck = standby
            && disk
                .histories
                .iter()
                .any(|(n, h)| h.is_none() && *n > disk.path.timeline());
        disk.clean = false;
        disk.backup_label = false;
        let end = disk.path.end();
        let replayed = if standby && slow_replay {
            disk.redo
        } else {
            end
        };
        pg.closed = closed;
        pg.server = Some(Server {
            boot,
            since,
            doing: Doing::Starting,
            recovery: standby,
            headless: false,
            hung: false,
            waiting_on: !file.names.is_off(),
            names: file.names,
            upstream: file.upstream,
            connecting: None,
            received: None,
            replayed,
            branch: None,
            senders: Vec::new(),
            receiver: None,
            waiters: Vec::new(),
            promoting: false,
            client: false,
            replay_held: 0,
            shutdown_end: None,
            next_tick: 0,
        });
        self.note(|| {
            format!(
                "n{} postgres starts standby={standby} boot={boot}",
                host + 1
            )
        });
        if !stuck {
            self.pg_event(host, takes, PgEvent::Ready);
        }
    }

    /// The server answers.
    pub(crate) fn server_ready(&mut self, host: usize) {
        let held = self.rng.between(5, 400);
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return;
        };
        if server.doing != Doing::Starting {
            return;
        }
        server.doing = Doing::Running;
        if server.recovery {
            if server.replayed < disk.path.end() {
                self.pg_event(host, held, PgEvent::Replay);
            }
        } else {
            disk.redo = disk.path.end();
            disk.control_timeline = disk.path.timeline();
            self.open(host);
        }
        self.tick_in(host, 10);
        self.rouse_keeper(host);
    }

    /// The server takes writes from here on: a new branch.
    fn open(&mut self, host: usize) {
        // A promotion that was begun is of its own term, whatever goal came since.
        let journal = &self.hosts[host].journal;
        let term = match journal.work {
            Some(Work::Promote { term }) => Some(term),
            Some(Work::Initdb { .. } | Work::Rewind { .. } | Work::Replace { .. }) | None => {
                journal
                    .opened()
                    .or_else(|| journal.goal.as_ref().map(|goal| goal.stamp.term))
            }
        };
        let branch = BranchId(self.branches.len());
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return;
        };
        disk.primary = true;
        let timeline = disk.path.timeline();
        server.recovery = false;
        server.branch = Some(branch);
        server.received = None;
        self.branches.push(Branch {
            copy: disk.copy.unwrap_or_default(),
            term: term.unwrap_or_default(),
            timeline,
        });
        let names = server.names.text();
        self.note(|| {
            format!(
                "n{} opens for writing on timeline {timeline} as b{} under `{names}`",
                host + 1,
                branch.0
            )
        });
        self.moment(Moment::Opened, host);
        self.write_wal(host, 100, None);
        self.pg_event(host, 10, PgEvent::Client);
    }

    /// `pg_promote`: what becomes of it does not depend on the keeper. The server waits for a query that
    /// replay conflicts with.
    pub(crate) fn promote_now(&mut self, host: usize) {
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return;
        };
        if !server.recovery || server.doing != Doing::Running {
            return;
        }
        if self.now < server.replay_held && server.replayed < disk.path.end() {
            // It opens when everything is replayed, and that waits for a conflicting query.
            let left = server.replay_held - self.now;
            return self.pg_event(host, left + 1, PgEvent::Promoted);
        }
        let (number, mut history) = disk.next_timeline();
        let at = disk.path.end();
        history.parents.push(Fork {
            timeline: history.timeline,
            at: Lsn(at),
        });
        history.timeline = TimelineId(number);
        disk.histories.insert(number, Some(history));
        disk.flushed = at;
        disk.redo = at;
        server.promoting = false;
        server.upstream = None;
        let conns: Vec<(u64, usize)> = server.senders.drain(..).map(|s| (s.conn, s.host)).collect();
        let receiver = server.receiver.take();
        let branch = BranchId(self.branches.len());
        // The end-of-recovery record is the first one of the new timeline.
        disk.path.append(branch, number, at + 40);
        disk.flushed = at + 40;
        for (conn, other) in conns {
            self.hang_up(host, other, conn);
        }
        if let Some(receiver) = receiver {
            self.hang_up(host, receiver.host, receiver.conn);
        }
        self.open(host);
        let checkpoint = self.rng.between(50, 3000);
        self.pg_event(host, checkpoint, PgEvent::Checkpointed);
        self.check_promotion(host);
        self.rouse_keeper(host);
    }

    /// Every process ends. `power`: the disk loses what was not flushed.
    pub(crate) fn end_server(&mut self, host: usize, power: bool) {
        let share = self.rng.between(0, 100);
        let pg = &mut self.hosts[host].pg;
        let Some(server) = pg.server.take() else {
            return;
        };
        if let Some(disk) = pg.disk.as_mut() {
            let (flushed, end) = (disk.flushed, disk.path.end());
            let kept = if power {
                flushed
            } else {
                flushed + end.saturating_sub(flushed) * share / 100
            };
            disk.crash(kept);
        }
        if !power {
            for sender in server.senders {
                self.hang_up(host, sender.host, sender.conn);
            }
            if let Some(receiver) = server.receiver {
                self.hang_up(host, receiver.host, receiver.conn);
            }
        }
        self.note(|| format!("n{} postgres is gone (boot {})", host + 1, server.boot));
    }

    /// SIGKILL to the postmaster: its children live on for a moment and still acknowledge.
    pub(crate) fn behead(&mut self, host: usize) {
        let left = self.rng.between(1, 80);
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.headless = true;
            server.doing = Doing::Running;
            self.pg_event(host, left, PgEvent::Gone);
            self.rouse_keeper(host);
        }
    }

    /// A fast stop begins: sessions end, waits are cancelled, the shutdown record is written.
    pub(crate) fn begin_fast_stop(&mut self, host: usize) {
        let pg = &mut self.hosts[host].pg;
        let Some(server) = pg.server.as_mut() else {
            return;
        };
        if server.doing == Doing::Stopping {
            return;
        }
        let writes = server.doing == Doing::Running && !server.recovery;
        server.doing = Doing::Stopping;
        server.waiters.clear();
        server.client = false;
        if let Some(receiver) = server.receiver.take() {
            self.hang_up(host, receiver.host, receiver.conn);
        }
        self.tick_in(host, 20);
        if writes {
            self.write_wal(host, 120, None);
            let pg = &mut self.hosts[host].pg;
            if let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) {
                disk.flushed = disk.path.end();
                server.shutdown_end = Some(disk.flushed);
            }
            self.ship(host);
        }
    }

    /// Whether a fast stop can end: every walsender has sent everything.
    pub(crate) fn end_fast_stop(&mut self, host: usize) -> bool {
        let pg = &self.hosts[host].pg;
        let Some(server) = &pg.server else {
            return true;
        };
        if let Some(end) = server.shutdown_end
            && server.senders.iter().any(|s| s.flushed < end)
        {
            return false;
        }
        let replayed = server.replayed;
        let recovery = server.recovery;
        self.end_server(host, false);
        if let Some(disk) = self.hosts[host].pg.disk.as_mut() {
            disk.clean = true;
            disk.control_timeline = disk.path.timeline_at(disk.path.end().min(if recovery {
                replayed
            } else {
                u64::MAX
            }));
            disk.redo = if recovery { replayed } else { disk.path.end() };
        }
        true
    }

    /// An event for the server that runs now.
    pub(crate) fn pg_event(&mut self, host: usize, after: u64, what: PgEvent) {
        let Some(boot) = self.hosts[host].pg.server.as_ref().map(|s| s.boot) else {
            return;
        };
        self.after(after, Event::Pg { host, boot, what });
    }
}
