//! What the loop lets the Citus task do.

use pgaf_protocol::Order;

use super::Keeper;
use crate::citus::{Leads, Orders};
use crate::clock;
use crate::instance::Instance;

impl<I: Instance> Keeper<'_, I> {
    /// Hands over what the monitor wants, and whether this node may act on it now.
    pub(super) fn order_citus(&self) {
        let orders = Orders {
            citus: self.citus.clone(),
            leads: self.leads(),
        };
        self.ends.citus_orders.send_if_modified(|before| {
            let changed = *before != orders;
            *before = orders;
            changed
        });
    }

    /// Only the primary of the goal's term, prepared and not fenced, touches Citus.
    fn leads(&self) -> Option<Leads> {
        let goal = self.journal.goal.as_ref()?;
        let leads = matches!(goal.order, Order::Lead(_))
            && self.memory.heard
            && self.journal.opened() == Some(goal.stamp.term)
            && self.observation.postgres.is_primary()
            && self.journal.prepared
            && !self.plan.fence;
        if !leads {
            return None;
        }
        let leased = self
            .memory
            .lease_until
            .is_some_and(|until| until > clock::now());
        Some(Leads {
            term: goal.stamp.term,
            since: self.observation.since()?,
            leased,
        })
    }
}
