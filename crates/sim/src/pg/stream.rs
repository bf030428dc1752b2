//! Streaming replication between two fakes.

use pgaf_protocol::NodeId;

use super::{Doing, RECEIVER_TIMEOUT, Receiver, SEGMENT, SENDER_TIMEOUT, Sender};
use crate::event::{Event, PgEvent};
use crate::net::Place;
use crate::wal::Path;
use crate::world::World;

/// How often a standby tries again: `wal_retrieve_retry_interval`, as our configuration sets it.
const RETRY: u64 = 100;
/// How often a server that streams looks after its connections.
const IDLE: u64 = 500;
/// Between two restart points or checkpoints, on average.
const RESTART_POINT: u64 = 10_000;
/// `wal_receiver_status_interval`, as our configuration sets it.
const STATUS: u64 = 1000;

/// The start of the segment that the byte at `lsn` is in.
fn segment_of(lsn: u64) -> u64 {
    lsn - lsn % SEGMENT
}

/// How long a standby past the fork stays connected each time. Chosen: a few milliseconds.
const TURNED_BACK: u64 = 20;

impl World {
    /// The next tick comes then, and no other one before it.
    pub(crate) fn tick_in(&mut self, host: usize, ms: u64) {
        let at = self.now + ms;
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.next_tick = at;
            self.pg_event(host, ms, PgEvent::Tick);
        }
    }

    /// What a server does by itself: often while it looks for its upstream or stops, seldom otherwise.
    pub(crate) fn pg_tick(&mut self, host: usize) {
        let now = self.now;
        let Some(server) = self.hosts[host].pg.server.as_mut() else {
            return;
        };
        if server.doing == Doing::Starting || now < server.next_tick {
            return;
        }
        let seeks = server.upstream.is_some() && server.receiver.is_none();
        let ms = if seeks || server.doing == Doing::Stopping {
            RETRY
        } else {
            IDLE
        };
        self.tick_in(host, ms);
        let Some(server) = self.hosts[host].pg.server.as_mut() else {
            return;
        };
        if server.doing == Doing::Stopping {
            if self.end_fast_stop(host) {
                self.rouse_keeper(host);
            }
            return;
        }
        let old: Vec<(u64, usize)> = server
            .senders
            .extract_if(.., |s| now.saturating_sub(s.reply_at) > SENDER_TIMEOUT)
            .map(|s| (s.conn, s.host))
            .collect();
        for (conn, other) in old {
            self.hang_up(host, other, conn);
        }
        if self.hosts[host]
            .pg
            .server
            .as_ref()
            .is_some_and(|s| s.recovery)
        {
            self.receiver_tick(host);
        }
        self.ship(host);
        let restart_point = self.rng.one_in(RESTART_POINT / ms);
        let pg = &mut self.hosts[host].pg;
        if let (true, Some(disk), Some(server)) =
            (restart_point, pg.disk.as_mut(), pg.server.as_ref())
        {
            let upto = if server.recovery {
                server.replayed
            } else {
                disk.flushed
            };
            disk.redo = upto;
            disk.control_timeline = disk.path.timeline_at(upto);
        }
    }

    fn receiver_tick(&mut self, host: usize) {
        let now = self.now;
        let Some(server) = self.hosts[host].pg.server.as_mut() else {
            return;
        };
        if server.doing != Doing::Running {
            return;
        }
        if let Some(receiver) = server.receiver.as_mut() {
            let silent = now.saturating_sub(receiver.last_message);
            if silent > RECEIVER_TIMEOUT {
                self.end_receiver(host);
            } else {
                let ping = silent > RECEIVER_TIMEOUT / 2
                    && now.saturating_sub(receiver.pinged) > RECEIVER_TIMEOUT / 2;
                if ping {
                    receiver.pinged = now;
                }
                if ping || now >= receiver.status_at + STATUS {
                    receiver.status_at = now;
                    self.reply(host, ping);
                }
            }
            return;
        }
        let waits = server
            .connecting
            .is_some_and(|(_, since)| now.saturating_sub(since) < 1000);
        let end = self.hosts[host]
            .pg
            .disk
            .as_ref()
            .map_or(0, |d| d.path.end());
        let Some(server) = self.hosts[host].pg.server.as_mut() else {
            return;
        };
        // The startup process asks for a receiver, and does nothing while a query holds it up.
        let replaying =
            (server.received.is_none() && server.replayed < end) || now < server.replay_held;
        if let (Some(upstream), false, false) =
            (server.upstream, waits, replaying || server.promoting)
        {
            self.conns += 1;
            let conn = self.conns;
            if let Some(server) = self.hosts[host].pg.server.as_mut() {
                server.connecting = Some((conn, now));
                // [run]: NULL until now, and no more than where reception would begin.
                server.received.get_or_insert(segment_of(end));
            }
            let node = self.hosts[host].journal.node;
            let Some(path) = self.hosts[host].pg.disk.as_ref().map(|d| d.path.clone()) else {
                return;
            };
            let connect = PgEvent::Connect {
                conn,
                from: host,
                node,
                path,
            };
            self.tell_pg(host, upstream, connect);
        }
    }

    /// Sends an event to whatever server runs on another host when it arrives.
    pub(crate) fn tell_pg(&mut self, from: usize, to: usize, what: PgEvent) {
        let event = Event::Pg {
            host: to,
            boot: 0,
            what,
        };
        self.send(Place::Node(from), Place::Node(to), event);
    }

    /// A standby asks to stream.
    pub(crate) fn stream_wanted(
        &mut self,
        host: usize,
        conn: u64,
        from: usize,
        node: NodeId,
        theirs: &Path,
    ) {
        let refused = self.refusal(host, node, theirs);
        if let Some(why) = refused {
            self.note(|| format!("n{} refuses n{}: {why}", host + 1, from + 1));
            self.tell_pg(host, from, PgEvent::Refused { conn });
            return;
        }
        let now = self.now;
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_ref(), pg.server.as_mut()) else {
            return;
        };
        server.senders.push(Sender {
            conn,
            node,
            host: from,
            flushed: 0,
            reply_at: now,
            names: server.names.clone(),
            signalled: None,
            on_timeline: false,
        });
        let histories = disk.histories.clone();
        let timeline = disk.path.timeline();
        self.note(|| {
            format!(
                "n{} streams to n{} (timeline {timeline})",
                host + 1,
                from + 1
            )
        });
        let accepted = PgEvent::Accepted {
            conn,
            host,
            timeline,
            histories,
        };
        self.tell_pg(host, from, accepted);
    }

    fn refusal(&self, host: usize, node: NodeId, theirs: &Path) -> Option<&'static str> {
        let pg = &self.hosts[host].pg;
        let Some((disk, server)) = pg.running() else {
            return Some("not running");
        };
        if !disk.slots.contains(&node) {
            return Some("no slot");
        }
        if server.senders.iter().any(|s| s.node == node) {
            return Some("slot is active");
        }
        // [run]: what is asked for is the segment that holds the end, so a copy that is ahead, or past
        // the fork, is let in.
        let (tl, begin) = (theirs.timeline(), segment_of(theirs.end()));
        if tl == disk.path.timeline() {
            return (begin > disk.flushed).then_some("ahead of the flush position");
        }
        let history = disk.history(disk.path.timeline());
        let fork = history.and_then(|h| h.end_of(pgaf_protocol::TimelineId(tl)).flatten());
        match fork {
            Some(at) if begin <= at.0 => None,
            Some(_) => Some("forked off before"),
            None => Some("not in the history"),
        }
    }

    /// The standby's connection stands.
    pub(crate) fn stream_accepted(
        &mut self,
        host: usize,
        (conn, upstream): (u64, usize),
        timeline: u32,
        histories: std::collections::BTreeMap<u32, Option<pgaf_protocol::History>>,
    ) {
        let now = self.now;
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return self.hang_up(host, upstream, conn);
        };
        let expected = server.connecting.is_some_and(|(c, _)| c == conn)
            && server.recovery
            && server.upstream == Some(upstream)
            && server.receiver.is_none();
        server.connecting = None;
        if !expected {
            return self.hang_up(host, upstream, conn);
        }
        for (number, history) in histories {
            disk.histories.entry(number).or_insert(history);
        }
        if disk.path.timeline() != timeline && disk.history(timeline).is_none() {
            return self.hang_up(host, upstream, conn);
        }
        // Streaming begins on the timeline that the point where it begins belongs to.
        let end = disk.path.end();
        let fork = disk.history(timeline).and_then(|h| {
            h.end_of(pgaf_protocol::TimelineId(disk.path.timeline()))
                .flatten()
        });
        let timeline = match fork {
            Some(at) if end < at.0 => disk.path.timeline(),
            Some(_) | None => timeline,
        };
        // [run]: on connecting, a receiver reports its own replay position as flushed.
        let first = PgEvent::Reply {
            conn,
            flushed: server.replayed,
            timeline: disk.path.timeline(),
            ping: false,
        };
        if fork.is_some_and(|at| end > at.0) {
            self.tell_pg(host, upstream, first);
            return self.turned_back(host, upstream, conn);
        }
        server.receiver = Some(Receiver {
            conn,
            host: upstream,
            last_message: now,
            pinged: now,
            status_at: now,
            timeline,
        });
        self.tell_pg(host, upstream, first);
        // The segment comes again from its start.
        self.pg_event(host, 2, PgEvent::StandbyFlush { upto: end });
    }

    /// Tried: a standby past the fork is let in, has said how far it is, hears that its timeline ended,
    /// and is back soon.
    fn turned_back(&mut self, host: usize, upstream: usize, conn: u64) {
        let closed = Event::Pg {
            host: upstream,
            boot: 0,
            what: PgEvent::Closed { conn },
        };
        let event = Event::Retry {
            from: Place::Node(host),
            to: Place::Node(upstream),
            tries: 0,
            event: Box::new(closed),
        };
        self.after(TURNED_BACK, event);
    }

    pub(crate) fn stream_refused(&mut self, host: usize, conn: u64) {
        if let Some(server) = self.hosts[host].pg.server.as_mut()
            && server.connecting.is_some_and(|(c, _)| c == conn)
        {
            server.connecting = None;
        }
    }

    /// Walsenders send what is flushed.
    pub(crate) fn ship(&mut self, host: usize) {
        let pg = &self.hosts[host].pg;
        let (Some(disk), Some(server)) = (&pg.disk, &pg.server) else {
            return;
        };
        if server.senders.is_empty() || server.doing == Doing::Starting || server.hung {
            return;
        }
        let mut path = disk.path.clone();
        path.truncate(disk.flushed);
        let behind = server.senders.iter().filter(|s| s.flushed < disk.flushed);
        let to: Vec<(u64, usize)> = behind.map(|s| (s.conn, s.host)).collect();
        for (conn, other) in to {
            let path = path.clone();
            self.tell_pg(host, other, PgEvent::Wal { conn, path });
        }
    }

    /// WAL arrives.
    pub(crate) fn wal_arrives(&mut self, host: usize, conn: u64, sent: &Path) {
        let now = self.now;
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return;
        };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.conn == conn) else {
            return;
        };
        receiver.last_message = now;
        let source = receiver.host;
        let before = disk.path.end();
        let same = disk.path.receive(sent);
        let end = disk.path.end();
        if end > before {
            receiver.timeline = disk.path.timeline();
        }
        let fresh: Vec<_> = disk.path.branches_after(before).collect();
        if !same {
            let (mine, theirs) = (disk.path.text(), sent.text());
            self.fail(format!(
                "follows-wrongly: n{} takes WAL that does not continue its own: has {mine}, gets {theirs}",
                host + 1
            ));
        }
        if end > before {
            self.check_promise(host, source, &fresh);
            let flush = self.rng.between(1, 3);
            self.pg_event(host, flush, PgEvent::StandbyFlush { upto: end });
        }
    }

    /// A standby has flushed what it received, tells, and replays it.
    pub(crate) fn standby_flushed(&mut self, host: usize, upto: u64) {
        let replay = self.rng.between(0, 15);
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_mut(), pg.server.as_mut()) else {
            return;
        };
        if !server.recovery {
            return;
        }
        disk.flushed = disk.flushed.max(upto.min(disk.path.end()));
        server.received = Some(server.received.unwrap_or(0).max(disk.flushed));
        self.reply(host, false);
        self.pg_event(host, replay, PgEvent::Replay);
    }

    pub(crate) fn replay(&mut self, host: usize) {
        let now = self.now;
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_ref(), pg.server.as_mut()) else {
            return;
        };
        if now < server.replay_held {
            let left = server.replay_held - now;
            self.pg_event(host, left, PgEvent::Replay);
            return;
        }
        server.replayed = server.replayed.max(disk.flushed);
    }

    /// The standby's word to its walsender.
    fn reply(&mut self, host: usize, ping: bool) {
        let pg = &self.hosts[host].pg;
        let (Some(disk), Some(server)) = (&pg.disk, &pg.server) else {
            return;
        };
        let Some(receiver) = &server.receiver else {
            return;
        };
        let reply = PgEvent::Reply {
            conn: receiver.conn,
            flushed: disk.flushed,
            timeline: disk.path.timeline(),
            ping,
        };
        let to = receiver.host;
        self.tell_pg(host, to, reply);
    }

    pub(crate) fn keep_alive(&mut self, host: usize, conn: u64) {
        let now = self.now;
        if let Some(server) = self.hosts[host].pg.server.as_mut()
            && let Some(receiver) = server.receiver.as_mut().filter(|r| r.conn == conn)
        {
            receiver.last_message = now;
        }
    }

    /// Queries on a standby conflict with replay for so long.
    pub(crate) fn hold_replay(&mut self, host: usize, ms: u64) {
        let until = self.now + ms;
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.replay_held = until;
        }
    }

    /// The sessions that hold replay up are ended.
    pub(crate) fn release_replay(&mut self, host: usize) {
        if let Some(server) = self.hosts[host].pg.server.as_mut()
            && self.now < server.replay_held
        {
            server.replay_held = self.now;
            self.pg_event(host, 1, PgEvent::Replay);
            self.pg_event(host, 1, PgEvent::Startup);
        }
    }

    /// SIGTERM to the WAL receiver.
    pub(crate) fn end_receiver(&mut self, host: usize) {
        if let Some(receiver) = self.receiver_ends(host) {
            self.hang_up(host, receiver.host, receiver.conn);
        }
    }

    /// Before a WAL receiver is gone it has flushed what it has written (`WalRcvDie` of `walreceiver.c`).
    fn receiver_ends(&mut self, host: usize) -> Option<Receiver> {
        let pg = &mut self.hosts[host].pg;
        let (disk, server) = (pg.disk.as_mut()?, pg.server.as_mut()?);
        let receiver = server.receiver.take()?;
        if disk.flushed < disk.path.end() {
            disk.flushed = disk.path.end();
            server.received = Some(server.received.unwrap_or(0).max(disk.flushed));
            self.pg_event(host, 1, PgEvent::Replay);
        }
        Some(receiver)
    }

    /// The startup process looks at the file: another `primary_conninfo`, perhaps. While a query holds it up
    /// it does not, and the receiver goes on (tried).
    pub(crate) fn startup_looks(&mut self, host: usize) {
        let now = self.now;
        let pg = &mut self.hosts[host].pg;
        let (Some(disk), Some(server)) = (pg.disk.as_ref(), pg.server.as_mut()) else {
            return;
        };
        if now < server.replay_held {
            let left = server.replay_held - now;
            return self.pg_event(host, left, PgEvent::Startup);
        }
        let upstream = disk.conf.upstream;
        if server.upstream == upstream {
            return;
        }
        server.upstream = upstream;
        server.connecting = None;
        self.end_receiver(host);
        // The setting that is read wakes the startup process.
        self.tick_in(host, 5);
    }

    /// One side of a connection ends; the other hears of it, if the network lets it.
    pub(crate) fn hang_up(&mut self, host: usize, other: usize, conn: u64) {
        self.tell_pg(host, other, PgEvent::Closed { conn });
    }

    pub(crate) fn hung_up(&mut self, host: usize, conn: u64) {
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.senders.retain(|s| s.conn != conn);
            if server.receiver.as_ref().is_some_and(|r| r.conn == conn) {
                self.receiver_ends(host);
                let again = self.rng.between(1, RETRY);
                self.tick_in(host, again);
            }
        }
    }
}
