//! What happens to whole hosts and processes, and how it is mended.

use super::*;

impl World {
    /// Every process of a host is killed; `power`: its kernel too.
    pub(crate) fn kill_host(&mut self, host: usize, power: bool) {
        self.note(|| format!("FAULT kill-host n{} power={power}", host + 1));
        self.thaw(host);
        self.end_server(host, power);
        self.end_keeper(host, !power);
        self.hosts[host].fencer = None;
        if power && self.is_sabotaged(Sabotage::PromiseNotFsynced) {
            self.lose_promise(host);
        }
        self.hosts[host].up = !power;
        self.hosts[host].deferred.clear();
        self.hosts[host].hung.clear();
    }

    pub(crate) fn kill_host_processes(&mut self, host: usize) {
        self.kill_host(host, false);
    }

    pub(crate) fn start_host(&mut self, host: usize) {
        self.hosts[host].up = true;
        self.start_keeper(host);
    }

    pub(crate) fn freeze(&mut self, host: usize) {
        self.note(|| format!("FAULT freeze n{}", host + 1));
        self.hosts[host].frozen = true;
    }

    /// Everything that waited happens now, each session's messages in their order.
    pub(crate) fn thaw(&mut self, host: usize) {
        if !self.hosts[host].frozen && !self.hosts[host].keeper_frozen {
            return;
        }
        self.note(|| format!("thaw n{}", host + 1));
        if self.hosts[host].frozen {
            self.hosts[host].thawed = self.now;
        }
        self.hosts[host].frozen = false;
        self.hosts[host].keeper_frozen = false;
        let waiting = core::mem::take(&mut self.hosts[host].deferred);
        self.replay_deferred(waiting);
    }

    /// Processes wake up one after the other, in any order.
    pub(super) fn replay_deferred(&mut self, waiting: Vec<Event>) {
        for event in waiting {
            let late = if self.rng.one_in(3) {
                self.rng.between(0, 20)
            } else {
                0
            };
            self.after(late, event);
        }
    }

    pub(crate) fn hang_postgres(&mut self, host: usize) {
        self.note(|| format!("FAULT hang postgres n{}", host + 1));
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.hung = true;
        }
    }

    pub(crate) fn thaw_postgres(&mut self, host: usize) {
        if let Some(server) = self.hosts[host].pg.server.as_mut() {
            server.hung = false;
        }
        let waiting = core::mem::take(&mut self.hosts[host].hung);
        self.replay_deferred(waiting);
    }

    pub(crate) fn freeze_monitor(&mut self) {
        self.note(|| "FAULT freeze monitor".to_owned());
        self.monitor.frozen = true;
    }

    pub(crate) fn thaw_monitor(&mut self) {
        if !self.monitor.frozen {
            return;
        }
        self.note(|| "thaw monitor".to_owned());
        self.monitor.frozen = false;
        self.monitor_was_away();
        let waiting = core::mem::take(&mut self.monitor_deferred);
        self.replay_deferred(waiting);
    }

    pub(crate) fn kill_monitor(&mut self) {
        self.note(|| "FAULT kill monitor".to_owned());
        self.monitor.frozen = false;
        self.monitor_deferred.clear();
        self.end_monitor(true);
    }

    pub(crate) fn heal(&mut self, heal: &Heal) {
        self.note(|| format!("heal {heal:?}"));
        self.stir(10_000);
        match heal {
            Heal::StartHost(host) => self.start_host(*host),
            Heal::StartKeeper(host) => {
                if self.hosts[*host].up {
                    self.start_keeper(*host);
                }
            }
            Heal::StartMonitor => self.start_monitor(),
            Heal::Thaw(host) => self.thaw(*host),
            Heal::ThawPostgres(host) => self.thaw_postgres(*host),
            Heal::ThawMonitor => self.thaw_monitor(),
            Heal::Mend(pairs) => {
                for (from, to) in pairs {
                    self.net.mend(*from, *to);
                }
            }
            Heal::Hasten => {
                self.net.slow = 0;
                self.net.lag.clear();
                self.net.loss = 0;
            }
        }
    }

    /// Ends every fault at once.
    pub(crate) fn heal_all(&mut self) {
        self.note(|| "heal everything".to_owned());
        self.net.heal();
        self.thaw_monitor();
        self.monitor.crash_in = None;
        self.start_monitor();
        for host in 0..self.hosts.len() {
            self.thaw(host);
            self.thaw_postgres(host);
            self.hosts[host].crash_in = None;
            self.hosts[host].pg.bad_starts = 0;
            if self.hosts[host].journal.dropped {
                self.join_later(host);
            } else {
                self.start_host(host);
            }
        }
    }
}
