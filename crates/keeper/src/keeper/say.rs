//! What the loop says: reports to the monitor, and the log.

use std::time::Duration;

use pgaf_fsm::node::report;
use pgaf_protocol::Peer;

use super::Keeper;
use crate::change::gist;
use crate::instance::Instance;
use crate::session::Outgoing;

impl<I: Instance> Keeper<'_, I> {
    /// Hands the report to the session; at once when it says something new.
    pub(super) fn publish(&mut self) {
        let report = report(&self.view(), &self.plan, &self.extras);
        let gist = gist(&report);
        if self.said.as_ref() != Some(&gist) {
            self.said = Some(gist);
            self.number += 1;
        }
        self.ends.outgoing.send_replace(Outgoing {
            report,
            number: self.number,
            heartbeat: Duration::from_millis(self.journal.settings.heartbeat_interval_ms),
            announce: self.announcement(),
        });
    }

    /// The name and address, when the monitor has not heard them yet.
    fn announcement(&self) -> Option<Peer> {
        let mut own = self.address.clone();
        own.node = self.journal.node;
        if own.name.is_empty() {
            own.name.clone_from(&self.journal.name);
        }
        (self.journal.announced.as_ref() != Some(&own)).then_some(own)
    }

    pub(super) fn log_plan(&mut self) {
        if self.logged.trouble != self.plan.trouble {
            if let Some(trouble) = &self.plan.trouble {
                tracing::warn!("{trouble}");
            }
            self.logged.trouble.clone_from(&self.plan.trouble);
        }
        if self.logged.waiting != self.plan.waiting {
            if let Some(waiting) = &self.plan.waiting {
                tracing::debug!("{waiting}");
            }
            self.logged.waiting.clone_from(&self.plan.waiting);
        }
    }
}
