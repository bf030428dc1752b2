//! What Postgres does by itself: starting, promoting, replicating, making commits wait.

use pgaf_protocol::TimelineId;

use super::moves::{Move, Next, node8};
use super::postgres::{Doing, Pg, Record, Sender, Server, Stretch, SyncNames};
use super::world::{Misc, State, World};

impl World {
    pub(super) fn server_moves(
        &mut self,
        state: &State,
        misc: &Misc,
        node: usize,
        out: &mut Vec<Next>,
    ) {
        let Some(server) = self.pg(state, node).server.clone() else {
            return;
        };
        let n = node8(node);
        match server.doing {
            Doing::Starting => self.ready(state, node, out),
            Doing::Running if server.promoting.is_some() => self.promoted(state, node, out),
            Doing::Stopping => self.fast_stop_ends(state, &server, node, out),
            Doing::Headless => {
                self.with_pg(state, node, Move::ChildrenEnd(n), out, Pg::end);
            }
            Doing::Running => {}
        }
        if server.doing == Doing::Starting {
            return;
        }
        if !server.recovery && server.waits != (server.names != SyncNames::Off) {
            self.flag_taken(state, node, out);
        }
        if server.recovery && server.doing == Doing::Running {
            self.standby_moves(state, misc, &server, node, out);
        }
        for sender in &server.senders {
            self.sender_moves(state, misc, &server, sender, node, out);
        }
        if misc.writes > 0
            && server.doing == Doing::Running
            && !server.recovery
            && server.waiter.is_none()
            && !self.pg(state, node).closed
        {
            self.write(state, misc, node, out);
        }
    }

    fn with_pg(
        &mut self,
        state: &State,
        node: usize,
        what: Move,
        out: &mut Vec<Next>,
        change: impl FnOnce(&mut Pg),
    ) {
        let mut pg = self.pg(state, node).clone();
        change(&mut pg);
        let mut next = *state;
        self.put_pg(&mut next, node, pg);
        self.settle_streams(&mut next);
        let broken = None;
        out.push(Next {
            what,
            state: next,
            broken,
        });
    }

    fn ready(&mut self, state: &State, node: usize, out: &mut Vec<Next>) {
        self.with_pg(state, node, Move::Ready(node8(node)), out, |pg| {
            if let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) {
                server.doing = Doing::Running;
                disk.control = disk.path.timeline();
                disk.primary = !server.recovery;
            }
        });
    }

    fn promoted(&mut self, state: &State, node: usize, out: &mut Vec<Next>) {
        self.with_pg(state, node, Move::Promoted(node8(node)), out, |pg| {
            let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
                return;
            };
            let (term, timeline) = server.promoting.take().unwrap_or((0, 0));
            let end = disk.path.end() + 1;
            disk.path.0.push(Stretch {
                copy: disk.copy.unwrap_or_default(),
                timeline,
                term,
                end,
            });
            disk.primary = true;
            server.recovery = false;
            server.receiver = None;
            server.upstream = None;
            server.senders.clear();
        });
        if let Some(next) = out.last_mut() {
            let after = next.state;
            next.broken = self.check_promotion(&after, node);
        }
    }

    fn fast_stop_ends(&mut self, state: &State, server: &Server, node: usize, out: &mut Vec<Next>) {
        let end = self
            .pg(state, node)
            .disk
            .as_ref()
            .map_or(0, |d| d.path.end());
        if !server.recovery && server.senders.iter().any(|s| s.flushed.0 < end) {
            return;
        }
        self.with_pg(state, node, Move::FastStopEnds(node8(node)), out, |pg| {
            pg.end();
            if let Some(disk) = &mut pg.disk {
                disk.clean = true;
                disk.control = disk.path.timeline();
            }
        });
    }

    /// The checkpointer looks at the file: waiting is turned on, or off for all.
    fn flag_taken(&mut self, state: &State, node: usize, out: &mut Vec<Next>) {
        let mut freed = None;
        self.with_pg(state, node, Move::FlagTaken(node8(node)), out, |pg| {
            if let Some(server) = &mut pg.server {
                server.waits = server.names != SyncNames::Off;
                if !server.waits {
                    freed = server.waiter.take();
                }
            }
        });
        self.acknowledged(node, freed, out);
    }

    /// The last move of `out` ended a wait: its record is acknowledged.
    fn acknowledged(&mut self, node: usize, end: Option<u8>, out: &mut [Next]) {
        let (Some(end), Some(next)) = (end, out.last_mut()) else {
            return;
        };
        let mut after = next.state;
        let broken = self.acknowledge(&mut after, node, end);
        next.state = after;
        next.broken = next.broken.or(broken);
    }

    fn write(&mut self, state: &State, misc: &Misc, node: usize, out: &mut Vec<Next>) {
        let mut spent = *state;
        spent.misc = self.miscs.put(Misc {
            writes: misc.writes - 1,
            ..misc.clone()
        });
        let mut alone = None;
        self.with_pg(&spent, node, Move::Write(node8(node)), out, |pg| {
            if let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) {
                disk.path.write();
                if server.waits {
                    server.waiter = Some(disk.path.end());
                } else {
                    alone = Some(disk.path.end());
                }
            }
        });
        self.acknowledged(node, alone, out);
    }

    fn standby_moves(
        &mut self,
        state: &State,
        misc: &Misc,
        server: &Server,
        node: usize,
        out: &mut Vec<Next>,
    ) {
        let n = node8(node);
        if let Some(upstream) = server.receiver {
            let gone = !self.sends_to(state, usize::from(upstream), node);
            let away = self.away(misc, node) & (1 << upstream) != 0;
            if gone || away {
                self.with_pg(state, node, Move::ReceiverEnds(n), out, |pg| {
                    if let Some(server) = &mut pg.server {
                        server.receiver = None;
                    }
                });
            }
            if !gone && !away {
                self.ship(state, usize::from(upstream), node, out);
            }
        } else if let Some(upstream) = server.upstream {
            let upstream = usize::from(upstream);
            if self.away(misc, node) & (1 << upstream) == 0 && server.promoting.is_none() {
                self.connect(state, upstream, node, out);
            }
        }
    }

    fn sends_to(&self, state: &State, from: usize, to: usize) -> bool {
        self.pg(state, from)
            .serves()
            .is_some_and(|(_, s)| s.senders.iter().any(|s| usize::from(s.node) == to))
    }

    /// A standby connects: through its slot, from a place on the upstream's way.
    fn connect(&mut self, state: &State, from: usize, to: usize, out: &mut Vec<Next>) {
        let Some(here) = self.pg(state, to).disk.as_ref().map(|d| d.path.position()) else {
            return;
        };
        let told = self
            .pg(state, to)
            .disk
            .as_ref()
            .map_or((0, 1), |d| (d.path.end(), d.path.timeline()));
        let mut upstream = self.pg(state, from).clone();
        let Some((disk, server)) = upstream.running() else {
            return;
        };
        let theirs = disk.path.position();
        let history = disk.path.history(disk.path.timeline());
        let fits = if here.timeline == theirs.timeline {
            here.lsn <= theirs.lsn
        } else {
            matches!(history.end_of(TimelineId(here.timeline.0)), Some(Some(fork)) if here.lsn <= fork)
        };
        let slot = disk.slots & (1 << to) != 0;
        if !fits || !slot || self.sends_to(state, from, to) || server.promoting.is_some() {
            return;
        }
        let sender = Sender {
            node: node8(to),
            flushed: (0, 0),
            // [run]: on connecting, a receiver reports its own replay position as flushed.
            told,
            names: server.names,
        };
        if let Some(server) = &mut upstream.server {
            server.senders.push(sender);
            server.senders.sort_unstable_by_key(|s| s.node);
        }
        let mut next = *state;
        self.put_pg(&mut next, from, upstream);
        let mut standby = self.pg(state, to).clone();
        if let Some(server) = &mut standby.server {
            server.receiver = Some(node8(from));
        }
        self.put_pg(&mut next, to, standby);
        out.push(Next {
            what: Move::Connect(node8(to)),
            state: next,
            broken: None,
        });
    }

    /// A standby receives, flushes and replays everything there is, and its reply is on its way.
    fn ship(&mut self, state: &State, from: usize, to: usize, out: &mut Vec<Next>) {
        let (Some(source), Some(target)) = (&self.pg(state, from).disk, &self.pg(state, to).disk)
        else {
            return;
        };
        if source.path.end() <= target.path.end() {
            return;
        }
        let before = target.path.clone();
        let path = source.path.clone();
        let told = (path.end(), path.timeline());
        let broken = self.check_ship(state, from, to, &before, &path);
        let mut next = *state;
        let mut standby = self.pg(state, to).clone();
        if let Some(disk) = &mut standby.disk {
            disk.path = path;
        }
        self.put_pg(&mut next, to, standby);
        let mut upstream = self.pg(state, from).clone();
        if let Some(server) = &mut upstream.server {
            for sender in server
                .senders
                .iter_mut()
                .filter(|s| usize::from(s.node) == to)
            {
                sender.told = told;
            }
        }
        self.put_pg(&mut next, from, upstream);
        out.push(Next {
            what: Move::Ship(node8(to)),
            state: next,
            broken,
        });
    }

    fn sender_moves(
        &mut self,
        state: &State,
        misc: &Misc,
        server: &Server,
        sender: &Sender,
        node: usize,
        out: &mut Vec<Next>,
    ) {
        let (n, to) = (node8(node), sender.node);
        if sender.names != server.names {
            let names = server.names;
            self.with_sender(state, node, to, Move::NamesTaken(n, to), out, |s| {
                s.names = names
            });
        }
        let away = self.away(misc, node) & (1 << to) != 0;
        let lost = misc.apart & (1 << super::world::pair(node, usize::from(to))) != 0;
        // What a standby has sent arrives though it is stopped since.
        if sender.flushed != sender.told && !lost {
            let told = sender.told;
            self.with_sender(state, node, to, Move::Reply(n, to), out, |s| {
                s.flushed = told
            });
        }
        let receives = self
            .pg(state, usize::from(to))
            .server
            .as_ref()
            .is_some_and(|s| s.receiver == Some(n));
        if !receives || away {
            self.with_pg(state, node, Move::SenderEnds(n, to), out, |pg| {
                if let Some(server) = &mut pg.server {
                    server.senders.retain(|s| s.node != to);
                }
            });
        }
    }

    /// A walsender does something, and looks whether waits end.
    fn with_sender(
        &mut self,
        state: &State,
        node: usize,
        to: u8,
        what: Move,
        out: &mut Vec<Next>,
        change: impl FnOnce(&mut Sender),
    ) {
        let mut freed = None;
        self.with_pg(state, node, what, out, |pg| {
            let Some(server) = &mut pg.server else { return };
            if let Some(sender) = server.senders.iter_mut().find(|s| s.node == to) {
                change(sender);
            }
            if ends_waits(server, to) {
                freed = server.waiter.take();
            }
        });
        self.acknowledged(node, freed, out);
    }

    /// A receiver whose upstream's processes are gone hears of it at once, if the network lets it.
    pub(super) fn settle_streams(&mut self, state: &mut State) {
        let misc = self.misc(state).clone();
        for node in 0..self.nodes {
            let receiver = self
                .pg(state, node)
                .server
                .as_ref()
                .and_then(|s| s.receiver);
            let Some(upstream) = receiver.map(usize::from) else {
                continue;
            };
            let silent = self.away(&misc, node) & (1 << upstream) != 0;
            if silent || self.sends_to(state, upstream, node) {
                continue;
            }
            let mut pg = self.pg(state, node).clone();
            if let Some(server) = &mut pg.server {
                server.receiver = None;
            }
            self.put_pg(state, node, pg);
        }
    }

    /// The record at `end` of a node's WAL.
    pub(super) fn record(&self, state: &State, node: usize, end: u8) -> Option<Record> {
        let disk = self.pg(state, node).disk.as_ref()?;
        let stretch = disk.path.0.iter().find(|s| end <= s.end)?;
        Some(Record {
            copy: stretch.copy,
            timeline: stretch.timeline,
            term: stretch.term,
            end,
        })
    }
}

/// `SyncRepReleaseWaiters` of one walsender, with the names that it knows.
fn ends_waits(server: &Server, to: u8) -> bool {
    let Some(waiter) = server.waiter.filter(|_| !server.recovery) else {
        return false;
    };
    let Some(me) = server.senders.iter().find(|s| s.node == to) else {
        return false;
    };
    let SyncNames::Any { number, .. } = me.names else {
        return false;
    };
    let flushed = server
        .senders
        .iter()
        .filter(|s| s.names.has(s.node) && s.flushed.0 >= waiter)
        .count();
    me.names.has(to) && flushed >= usize::from(number)
}
