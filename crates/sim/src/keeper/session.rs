//! The session to the monitor, and what the keeper hears on it.

use super::*;

impl World {
    /// Opens a session, reports, or gives a silent session up.
    pub(super) fn keeper_speaks(&mut self, host: usize) {
        let now = self.now;
        let heartbeat = self.hosts[host].journal.settings.heartbeat_interval_ms;
        let registered = self.hosts[host].journal.node.0 > 0;
        let Some(keeper) = self.hosts[host].keeper.as_mut() else {
            return;
        };
        if let Some(link) = &keeper.link
            && let Some(asked) = link.asked
        {
            if now.saturating_sub(asked) < ANSWER_DEADLINE {
                return;
            }
            let (id, sent) = (link.id, link.sent);
            keeper.link = None;
            keeper.reconnect_at = now + RECONNECT;
            self.note(|| format!("n{} gives its session up", host + 1));
            return self.session_send(host, id, sent, Up::Close);
        }
        let mut first = false;
        if keeper.link.is_none() {
            if now < keeper.reconnect_at {
                return;
            }
            // A handshake needs both ways, also when only one of them loses what is sent.
            if !self.net.both_up(Place::Node(host), Place::Monitor) {
                keeper.reconnect_at = now + RECONNECT;
                return;
            }
            self.sessions += 1;
            first = true;
            keeper.link = Some(Link {
                id: self.sessions,
                ..Link::default()
            });
        }
        if !registered {
            return self.keeper_registers(host);
        }
        if first || keeper.unsent || now >= keeper.sent_at + heartbeat {
            keeper.unsent = false;
            keeper.sent_at = now;
            let report = keeper.report.clone();
            if report.node.0 == 0 {
                // Nothing was decided since it was registered.
                keeper.stale = true;
                keeper.unsent = true;
                return;
            }
            self.ask(host, Up::Report(Box::new(report)));
        }
    }

    pub(super) fn keeper_registers(&mut self, host: usize) {
        let name = self.hosts[host].name.clone();
        let disk = self.hosts[host].pg.disk.as_ref();
        let wish = Registration {
            protocol: PROTOCOL_VERSION,
            token: self.hosts[host].journal.token.clone(),
            name: name.clone(),
            host: name,
            port: 5432,
            dbname: "postgres".to_owned(),
            candidate_priority: 50,
            replication_quorum: !self.asynchronous,
            cluster: "default".to_owned(),
            system_identifier: disk.map(|d| d.system),
            copy: disk.and_then(|d| d.copy),
            is_standby: disk.is_some_and(|d| !d.primary),
            ..Registration::default()
        };
        self.ask(host, Up::Register(Box::new(wish)));
    }

    pub(super) fn ask(&mut self, host: usize, up: Up) {
        let now = self.now;
        if let Some(keeper) = self.hosts[host].keeper.as_mut()
            && let Some(link) = keeper.link.as_mut()
        {
            link.asked = Some(now);
            let (id, number) = (link.id, link.sent);
            link.sent += 1;
            self.session_send(host, id, number, up);
        }
    }

    pub(super) fn session_send(&mut self, host: usize, session: u64, number: u64, up: Up) {
        let event = Event::ToMonitor {
            session,
            host,
            number,
            up,
        };
        self.send(Place::Node(host), Place::Monitor, event);
    }

    /// A message of the monitor arrives; messages of one session are heard in order.
    pub(crate) fn keeper_hears(&mut self, host: usize, session: u64, number: u64, down: Down) {
        let Some(keeper) = self.hosts[host].keeper.as_mut() else {
            return;
        };
        let Some(link) = keeper.link.as_mut().filter(|l| l.id == session) else {
            return;
        };
        if number == u64::MAX {
            self.keeper_takes(host, down);
            return self.keeper_turn(host);
        }
        link.early.insert(number, down);
        loop {
            let Some(keeper) = self.hosts[host].keeper.as_mut() else {
                return;
            };
            let Some(link) = keeper.link.as_mut().filter(|l| l.id == session) else {
                break;
            };
            let Some(down) = link.early.remove(&link.received) else {
                break;
            };
            link.received += 1;
            self.keeper_takes(host, down);
        }
        self.keeper_turn(host);
    }

    pub(super) fn keeper_takes(&mut self, host: usize, down: Down) {
        let now = self.now;
        let Some(keeper) = self.hosts[host].keeper.as_mut() else {
            return;
        };
        match down {
            Down::Closed => {
                keeper.link = None;
                keeper.reconnect_at = now + RECONNECT;
            }
            Down::Refused(why) => {
                if let Some(link) = keeper.link.as_mut() {
                    link.asked = None;
                }
                keeper.link = None;
                keeper.reconnect_at = now + 1000;
                self.note(|| format!("n{} is refused: {why}", host + 1));
            }
            Down::Registered(registered) => {
                if let Some(link) = keeper.link.as_mut() {
                    link.asked = None;
                }
                let host_id = host;
                self.journal(host_id, Entry::Registered(*registered));
            }
            Down::Answer(answer) => {
                let asked = keeper.link.as_mut().and_then(|l| l.asked.take());
                let until = match (answer.lease, asked) {
                    (Some(lease), Some(asked)) => Some(Time(asked + u64::from(lease.duration_ms))),
                    (Some(_) | None, _) => None,
                };
                self.keeper_obeys(host, &answer, true, until);
            }
            Down::Push(answer) => self.keeper_obeys(host, &answer, false, None),
        }
    }

    pub(super) fn keeper_obeys(
        &mut self,
        host: usize,
        answer: &Answer,
        answers: bool,
        lease: Option<Time>,
    ) {
        let now = Time(self.now);
        let answer = &self.tampered_answer(host, answer);
        let it = &mut self.hosts[host];
        let Some(keeper) = it.keeper.as_mut() else {
            return;
        };
        let Some(link) = keeper.link.as_mut() else {
            return;
        };
        if !answers && link.incarnation.is_none() {
            return;
        }
        let session = *link.incarnation.get_or_insert(answer.incarnation);
        let accepted = match accept(&it.journal, answer, session) {
            Err(refused) => {
                self.note(|| format!("n{} refuses: {refused}", host + 1));
                return self.coverage.event("keeper.refused");
            }
            Ok(accepted) => accepted,
        };
        keeper.answered = true;
        let changed = match accepted {
            Accepted::Same => {
                keeper.memory.obeyed(false, now);
                false
            }
            Accepted::New(entry) => {
                if !self.journal(host, entry) {
                    return;
                }
                if let Some(keeper) = self.hosts[host].keeper.as_mut() {
                    keeper.memory.obeyed(true, now);
                }
                true
            }
        };
        if answers || !answer.peers.is_empty() {
            self.learn_surroundings(host, answer);
        }
        if let (Some(until), Some(keeper)) = (lease, self.hosts[host].keeper.as_mut()) {
            keeper.memory.granted(until, answer.incarnation);
            let until = keeper.memory.lease_until;
            self.renew_fencer(host, until);
        }
        if let Some((number, peer)) = &answer.look {
            self.look_at(host, *number, peer);
        }
        self.advance(host, changed);
    }

    pub(super) fn learn_surroundings(&mut self, host: usize, answer: &Answer) {
        let journal = &self.hosts[host].journal;
        let known = journal.lineage == Some(answer.lineage)
            && journal.incarnation == Some(answer.incarnation)
            && journal.peers == answer.peers
            && journal.settings == answer.settings;
        if !known {
            let entry = Entry::Surroundings {
                lineage: answer.lineage,
                incarnation: answer.incarnation,
                peers: answer.peers.clone(),
                settings: answer.settings,
            };
            self.journal(host, entry);
        }
    }

    /// A fresh look at a peer's Postgres.
    pub(super) fn look_at(&mut self, host: usize, number: u64, peer: &Peer) {
        let Some(other) = self.host_of(&peer.host) else {
            return;
        };
        let connected = self.reaches(Place::Node(host), other) == Some(true);
        let refused = self.reaches(Place::Node(host), other) == Some(false);
        let heard = self.hosts[host].pg.server.as_ref().is_some_and(|s| {
            s.receiver
                .as_ref()
                .is_some_and(|r| r.host == other && self.now.saturating_sub(r.last_message) < 2000)
        });
        let look = Look {
            number,
            node: peer.node,
            connected,
            heard,
        };
        let after = if connected || refused {
            4
        } else {
            LOOK_DEADLINE
        };
        let Some(run) = self.hosts[host].keeper.as_ref().map(|k| k.run) else {
            return;
        };
        let what = KeeperEvent::Looked(look);
        self.after(after, Event::Keeper { host, run, what });
    }

    /// Whether a fresh connection to a host's Postgres gets an answer: `None` when there is silence.
    pub(crate) fn reaches(&self, from: Place, host: usize) -> Option<bool> {
        let it = &self.hosts[host];
        if !it.up || !self.net.both_up(from, Place::Node(host)) {
            return None;
        }
        let Some(server) = &it.pg.server else {
            return Some(false);
        };
        if it.frozen || server.hung {
            return None;
        }
        Some(it.pg.running().is_some())
    }
}
