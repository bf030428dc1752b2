//! What operators ask the monitor for.

use super::*;

impl World {
    /// An operator's wish; refused with a reason, and then nothing has changed.
    pub(crate) fn operate(&mut self, operation: &Operation) -> Result<(), String> {
        if !self.monitor.up || self.monitor.frozen {
            return Err("the monitor does not answer".to_owned());
        }
        if self.monitor.busy {
            // The turn that is being stored comes first.
            self.monitor_commits();
            if !self.monitor.up {
                return Err("the monitor does not answer".to_owned());
            }
        }
        let before = self.monitor.cluster.clone();
        let done = self.run_operation(operation);
        match done {
            Err(refusal) => {
                self.monitor.cluster = before;
                self.note(|| format!("operator: {operation:?} is refused: {refusal}"));
                Err(refusal)
            }
            Ok(events) => {
                self.note(|| format!("operator: {operation:?}"));
                for event in events {
                    self.monitor_event_happened(&event);
                }
                self.monitor_settles();
                self.monitor_stores();
                Ok(())
            }
        }
    }

    pub(super) fn run_operation(
        &mut self,
        operation: &Operation,
    ) -> Result<Vec<pgaf_fsm::group::Event>, String> {
        let formation = FormationId::default();
        let now = Time(self.now);
        let name = |host: &usize| format!("node{}", host + 1);
        let m = &mut self.monitor;
        let live = m.live.clone();
        let text = |r: pgaf_fsm::group::Refusal| r.message;
        match operation {
            Operation::Failover { allow_data_loss } => {
                let at = Now {
                    live: &live,
                    settings: &m.settings,
                    now,
                };
                let old = group_of(&m.cluster)
                    .and_then(|g| g.primary)
                    .and_then(|l| l.copy);
                let events = operate::perform_failover(
                    &mut m.cluster,
                    &formation,
                    GROUP,
                    *allow_data_loss,
                    at,
                )
                .map_err(text)?;
                if events.iter().any(|e| e.rule == "operator.allow-data-loss") {
                    self.ledger.give_up(old);
                }
                Ok(events)
            }
            Operation::Promotion(name) => operate::perform_promotion(
                &mut m.cluster,
                &formation,
                name,
                |_| live.clone(),
                &m.settings,
                now,
            )
            .map(Option::unwrap_or_default)
            .map_err(text),
            Operation::Drop { host, force } => {
                let wanted = name(host);
                let node = group_of(&m.cluster)
                    .and_then(|g| g.nodes.values().find(|n| n.name == wanted))
                    .map(|n| n.id)
                    .ok_or("there is no such node")?;
                operate::remove_node(&mut m.cluster, node, *force, &live, &m.settings, now)
                    .map_err(text)
            }
            Operation::Priority { host, priority } => {
                operate::set_candidate_priority(&mut m.cluster, &formation, &name(host), *priority)
                    .map(|_| Vec::new())
                    .map_err(text)
            }
            Operation::Quorum { host, quorum } => {
                operate::set_replication_quorum(&mut m.cluster, &formation, &name(host), *quorum)
                    .map(|_| Vec::new())
                    .map_err(text)
            }
            Operation::Maintain { host, start } => self.maintain(&name(host), *start),
            Operation::NumberSync(number) => {
                operate::set_number_sync_standbys(&mut m.cluster, &formation, *number)
                    .map(|()| Vec::new())
                    .map_err(text)
            }
        }
    }

    /// As `pg_autoctl enable maintenance --allow-failover`, or `disable maintenance`.
    fn maintain(
        &mut self,
        wanted: &str,
        start: bool,
    ) -> Result<Vec<pgaf_fsm::group::Event>, String> {
        let now = Time(self.now);
        let m = &mut self.monitor;
        let live = m.live.clone();
        let node = group_of(&m.cluster)
            .and_then(|g| g.nodes.values().find(|n| n.name == wanted))
            .map(|n| n.id)
            .ok_or("there is no such node")?;
        let at = Now {
            live: &live,
            settings: &m.settings,
            now,
        };
        let done = if start {
            operate::start_maintenance(&mut m.cluster, node, at)
        } else {
            operate::stop_maintenance(&mut m.cluster, node)
        };
        done.map_err(|refusal| refusal.message)
    }
}
