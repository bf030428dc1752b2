//! What leaves the monitor, and only after it is durable; and its looks at the nodes.

use super::*;

impl World {
    pub(super) fn say_closed(&mut self, session: u64, host: usize) {
        let event = Event::ToKeeper {
            host,
            session,
            number: u64::MAX,
            down: Down::Closed,
        };
        self.send(Place::Monitor, Place::Node(host), event);
    }

    /// Suspects are probed, and the others asked to look at them.
    pub(super) fn look_closer(&mut self, suspects: &BTreeSet<NodeId>) {
        for node in suspects {
            let last = self.monitor.probing.get(node).copied();
            if last.is_none_or(|at| at != u64::MAX && self.now >= at + PROBE_AGAIN) {
                self.probe(*node);
                let others: Vec<NodeId> = self
                    .monitor
                    .of_node
                    .keys()
                    .copied()
                    .filter(|n| n != node)
                    .collect();
                for other in others {
                    self.monitor.saying.push(Saying::Look {
                        node: other,
                        about: *node,
                    });
                }
            }
        }
    }

    pub(super) fn probe(&mut self, node: NodeId) {
        if self.monitor.probing.get(&node) == Some(&u64::MAX) {
            return;
        }
        let Some(row) = self.monitor.group().and_then(|g| g.nodes.get(&node)) else {
            return;
        };
        let Some(host) = self.host_of(&row.host.clone()) else {
            return;
        };
        self.monitor.probing.insert(node, u64::MAX);
        let (outcome, after) = match self.reaches(Place::Monitor, host) {
            Some(true) => (ProbeOutcome::Ok, 4),
            Some(false) if self.hosts[host].pg.server.is_some() => (ProbeOutcome::Failed, 4),
            Some(false) => (ProbeOutcome::Refused, 2),
            None => (
                ProbeOutcome::TimedOut,
                self.monitor.settings.probe_deadline_ms,
            ),
        };
        let what = MonitorEvent::Probed {
            node,
            began: Time(self.now),
            outcome,
        };
        let run = self.monitor.run;
        self.after(after, Event::Monitor { run, what });
    }

    /// Everything that follows leaves only after it is durable.
    pub(super) fn monitor_stores(&mut self) {
        if self.monitor.cluster == self.monitor.durable {
            return self.monitor_speaks();
        }
        self.monitor.busy = true;
        let takes = if self.rng.one_in(30) {
            self.rng.between(20, 150)
        } else {
            self.rng.between(1, 6)
        };
        let run = self.monitor.run;
        let what = MonitorEvent::Commit;
        self.after(takes, Event::Monitor { run, what });
    }

    pub(super) fn monitor_commits(&mut self) {
        let crash = match self.monitor.crash_in.as_mut() {
            Some((0, after)) => Some(*after),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if crash == Some(false) {
            self.note(|| "monitor dies before a commit".to_owned());
            return self.end_monitor(true);
        }
        let before = group_of(&self.monitor.durable).cloned();
        self.monitor.durable = self.monitor.cluster.clone();
        self.monitor.busy = false;
        let candidate = group_of(&self.monitor.durable)
            .and_then(|g| g.nodes.get(&g.primary?.node))
            .and_then(|n| self.host_of(&n.host));
        if let (Some(mode), Some(candidate)) = (self.monitor.lapsing.take(), candidate) {
            self.lease_lapsed(mode.copy, mode.since.term, candidate);
        }
        if crash == Some(true) {
            self.note(|| "monitor dies after a commit".to_owned());
            return self.end_monitor(true);
        }
        self.push_goals(before.as_ref());
        self.monitor_speaks();
        self.monitor_works();
    }

    /// Goals that are new go out at once.
    pub(super) fn push_goals(&mut self, before: Option<&Group>) {
        let m = &mut self.monitor;
        let Some(group) = group_of(&m.cluster) else {
            return;
        };
        let changed: Vec<NodeId> = group
            .nodes
            .values()
            .filter(|n| {
                before
                    .and_then(|g| g.nodes.get(&n.id))
                    .is_none_or(|old| old.goal != n.goal)
            })
            .map(|n| n.id)
            .collect();
        for node in changed {
            if let Some(session) = m.of_node.get(&node).copied() {
                let answered = m.saying.iter().any(
                    |s| matches!(s, Saying::Goal { node: n, answers: true, .. } if *n == node),
                );
                if !answered {
                    m.saying.push(Saying::Goal {
                        session,
                        node,
                        answers: false,
                    });
                }
            }
        }
    }

    pub(super) fn monitor_speaks(&mut self) {
        for saying in core::mem::take(&mut self.monitor.saying) {
            match saying {
                Saying::Other { session, down } => self.say(session, down),
                Saying::Goal {
                    session,
                    node,
                    answers,
                } => match self.monitor.goal_for(node, answers) {
                    Some(answer) if answers => {
                        if let Some(lease) = answer.lease
                            && !self.is_sabotaged(Sabotage::LeaseNotAwaited)
                        {
                            let now = Time(self.now);
                            let live = &mut self.monitor.live;
                            live.note_lease(lease.duration_ms.into(), now);
                        }
                        self.say(session, Down::Answer(Box::new(answer)));
                    }
                    Some(answer) => self.say(session, Down::Push(Box::new(answer))),
                    None => self.say(session, Down::Refused("the node has been removed".into())),
                },
                Saying::Look { node, about } => {
                    let target = self
                        .monitor
                        .group()
                        .and_then(|g| g.nodes.get(&about))
                        .map(peer);
                    let session = self.monitor.of_node.get(&node).copied();
                    if let (Some(target), Some(session), Some(mut answer)) =
                        (target, session, self.monitor.goal_for(node, false))
                    {
                        self.monitor.looks += 1;
                        answer.look = Some((self.monitor.looks, target));
                        self.say(session, Down::Push(Box::new(answer)));
                    }
                }
            }
        }
    }

    pub(super) fn say(&mut self, session: u64, down: Down) {
        let Some(link) = self.monitor.links.get_mut(&session) else {
            return;
        };
        let event = Event::ToKeeper {
            host: link.host,
            session,
            number: link.sent,
            down,
        };
        link.sent += 1;
        let host = link.host;
        // A push may come twice, and late: it is a hint, and harmless.
        if let Event::ToKeeper {
            down: down @ Down::Push(_),
            ..
        } = &event
            && self.rng.one_in(4)
        {
            let again = Event::ToKeeper {
                host,
                session,
                number: u64::MAX,
                down: down.clone(),
            };
            let late = self.rng.between(10, 3000);
            self.after(late, again);
        }
        self.send(Place::Monitor, Place::Node(host), event);
    }
}
