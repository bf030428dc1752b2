//! Loading and confirming configurations, and slots.

use super::*;

impl World {
    /// Writes the file and reloads; over when a new session has seen it.
    pub(super) fn load(&mut self, host: usize, doing: &Doing, conf: &Conf, done: Outcome) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let file = self.conf_file(conf);
        if doing.phase == 0 {
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        if self.sees(host, &file) {
            return Next::Over(done);
        }
        self.again_or_not(doing, "no new session has seen the reload")
    }

    pub(super) fn again_or_not(&self, doing: &Doing, why: &str) -> Next {
        if self.now.saturating_sub(doing.since) > STEP_DEADLINE {
            return not_yet(why);
        }
        Next::Again(5)
    }

    pub(super) fn sees(&self, host: usize, file: &ConfFile) -> bool {
        self.hosts[host]
            .pg
            .server
            .as_ref()
            .is_some_and(|s| s.names == file.names)
    }

    pub(super) fn stop_receiving(&mut self, host: usize, doing: &Doing, conf: &Conf) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let file = self.conf_file(conf);
        if doing.phase == 0 {
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        let pg = &self.hosts[host].pg;
        let (Some(disk), Some(server)) = (&pg.disk, &pg.server) else {
            return failed("Postgres is gone");
        };
        let gone = server.upstream.is_none() && server.receiver.is_none();
        // Nothing was received since the start: what is on the disk is replayed first.
        let on_the_way = server.received.is_none() && server.replayed < disk.path.end();
        let waits = on_the_way && !self.is_sabotaged(Sabotage::PositionOnTheWay);
        if gone && !waits && self.sees(host, &file) {
            // As the daemon: what a session is told, the greater of received and replayed.
            let lsn = server.replayed.max(server.received.unwrap_or(0));
            return Next::Over(Outcome::Position {
                position: Position {
                    timeline: TimelineId(disk.path.timeline_at(lsn)),
                    lsn: Lsn(lsn),
                },
            });
        }
        let since = self.now.saturating_sub(doing.since);
        if since > STEP_DEADLINE {
            return failed("the WAL receiver lives, or replay is not over");
        }
        if since > RECEIVER_LEAVES {
            self.end_receiver(host);
        }
        if since > RECEIVER_LEAVES + CONFLICT_LASTS {
            self.release_replay(host);
        }
        Next::Again(5)
    }

    pub(super) fn turn_on(&mut self, host: usize, doing: &Doing, conf: &Conf) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let mut file = self.conf_file(conf);
        if doing.phase == 0 {
            file.names = SyncNames::Nobody;
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        if self.is_sabotaged(Sabotage::ConfirmedByShow) && doing.note == 0 {
            self.set_note(host, u64::from(doing.phase) + 1);
            return Next::Again(1);
        }
        let waits = self.hosts[host]
            .pg
            .server
            .as_ref()
            .is_some_and(|s| s.waiting_on);
        if doing.note == 0 {
            if waits
                && self.hosts[host]
                    .pg
                    .server
                    .as_ref()
                    .is_some_and(|s| s.names == SyncNames::Nobody)
            {
                // The probe waits: the flag is on, for all.
                self.set_note(host, u64::from(doing.phase) + 1);
                return Next::Again(1);
            }
            if self.now.saturating_sub(doing.since) > TURN_DEADLINE / 2 {
                file.names = SyncNames::Off;
                self.reload(host, file);
                return not_yet("no commit waits for a standby");
            }
            return Next::Again(5);
        }
        let first = u32::try_from(doing.note).unwrap_or(u32::MAX);
        match self.confirm(host, doing, conf, first) {
            Next::Over(Outcome::NotYet { .. })
                if self.now.saturating_sub(doing.since) < TURN_DEADLINE =>
            {
                Next::Again(5)
            }
            Next::Over(Outcome::NotYet { why }) => Next::Over(Outcome::Loaded { why }),
            next @ (Next::Again(_) | Next::Over(_)) => next,
        }
    }

    /// Two records, each flushed by every walsender's standby, the second one by a quorum.
    pub(super) fn confirm(&mut self, host: usize, doing: &Doing, conf: &Conf, first: u32) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        let file = self.conf_file(conf);
        if doing.phase == first {
            self.reload(host, file);
            return Next::Again(self.rng.between(8, 20));
        }
        if !self.sees(host, &file) {
            return self.again_or_not(doing, "no new session has seen the reload");
        }
        let since = self.since(host);
        if self.is_sabotaged(Sabotage::ConfirmedByShow) {
            return Next::Over(Outcome::Confirmed {
                postmaster_start: since,
            });
        }
        let key = (host, doing.number);
        let (mut one, mut two) = self.confirming.get(&key).copied().unwrap_or((0, 0));
        if one == 0 {
            one = self.write_wal(host, 60, None);
        } else if two == 0 && self.all_flushed(host, one) {
            two = self.write_wal(host, 60, None);
        } else if two > 0 && self.all_flushed(host, two) {
            let needed = match &file.names {
                SyncNames::Any { number, .. } => *number,
                SyncNames::Off | SyncNames::Nobody => 0,
            };
            if self.flushed_by(host, &file.names, two) >= needed {
                self.confirming.remove(&key);
                return Next::Over(Outcome::Confirmed {
                    postmaster_start: since,
                });
            }
        }
        self.confirming.insert(key, (one, two));
        self.again_or_not(doing, "not flushed after the reload")
    }

    pub(super) fn all_flushed(&self, host: usize, lsn: u64) -> bool {
        self.hosts[host]
            .pg
            .server
            .as_ref()
            .is_some_and(|s| s.senders.iter().all(|s| s.flushed >= lsn))
    }

    pub(super) fn ensure_slots(
        &mut self,
        host: usize,
        doing: &Doing,
        admitted: &BTreeSet<pgaf_protocol::NodeId>,
    ) -> Next {
        if !self.answers(host) {
            return failed("Postgres does not answer");
        }
        if doing.phase == 0 {
            return Next::Again(self.rng.between(3, 25));
        }
        let pg = &mut self.hosts[host].pg;
        let busy: Vec<(u64, usize)> = pg
            .server
            .iter()
            .flat_map(|s| s.senders.iter())
            .filter(|s| !admitted.contains(&s.node))
            .map(|s| (s.conn, s.host))
            .collect();
        let disk = pg.disk.as_mut();
        if busy.is_empty() {
            if let Some(disk) = disk {
                disk.slots.clone_from(admitted);
            }
            return Next::Over(Outcome::Done);
        }
        if let Some(disk) = disk {
            disk.slots.extend(admitted.iter().copied());
        }
        for (conn, other) in busy {
            self.hung_up(host, conn);
            self.hang_up(host, other, conn);
        }
        not_yet("slots are still in use")
    }

    pub(super) fn end_sender(
        &mut self,
        host: usize,
        doing: &Doing,
        node: pgaf_protocol::NodeId,
    ) -> Next {
        let next = self.simple(host, doing, 3, 20);
        if matches!(next, Next::Over(Outcome::Done)) {
            let conns: Vec<(u64, usize)> = self.hosts[host]
                .pg
                .server
                .iter()
                .flat_map(|s| s.senders.iter())
                .filter(|s| s.node == node)
                .map(|s| (s.conn, s.host))
                .collect();
            for (conn, other) in conns {
                self.hung_up(host, conn);
                self.hang_up(host, other, conn);
            }
        }
        next
    }
}
