//! The end of a keeper that is told to stop, with its Postgres.

use std::time::Duration;

use pgaf_fsm::node::{Outcome, Plan, Step, StopMode};

use super::Keeper;
use crate::clock;
use crate::instance::Instance;
use crate::session::Incoming;

impl<I: Instance> Keeper<'_, I> {
    /// Says goodbye, and stops Postgres. `stop` is repeated as it becomes more urgent.
    pub(crate) async fn leave(&mut self, mode: StopMode) {
        self.extras.leaving = true;
        self.publish();
        if self
            .running
            .as_ref()
            .is_some_and(|(step, _)| step.may_be_dropped())
        {
            self.running = None;
        }
        if let Some((_, running)) = self.running.take() {
            running.await;
        }
        if let Some(looking) = self.looking.take() {
            drop(looking);
        }
        self.observation = self.instance.observe().await;
        if !self.observation.is_down() || self.observation.leftovers {
            let outcome = self.instance.apply(Step::Stop { mode }).await;
            if let Outcome::Failed { why } = outcome {
                tracing::error!(why, "cannot stop Postgres");
            }
            self.observation = self.instance.observe().await;
        }
        if self.observation.fencer && self.observation.is_down() {
            // Nothing is left to guard.
            let _logged = self.instance.apply(Step::EndFencer).await;
            self.observation = self.instance.observe().await;
        }
        self.plan = Plan::default();
        self.memory.saw(&self.observation, clock::now());
        self.publish();
        self.await_answer(Duration::from_millis(500)).await;
    }

    /// Ends the step that is under way, and nothing else: Postgres, the fencer and the journal are
    /// left to whoever comes next, as after a crash of this keeper.
    pub(crate) async fn hand_over(&mut self) {
        let droppable = self
            .running
            .as_ref()
            .is_some_and(|(step, _)| step.may_be_dropped());
        if let Some((_, running)) = self.running.take()
            && !droppable
        {
            running.await;
        }
        drop(self.looking.take());
    }

    /// Waits until the monitor has answered the newest report, for a while.
    async fn await_answer(&mut self, limit: Duration) {
        let wait = async {
            while !self.is_heard() {
                match self.ends.incoming.recv().await {
                    Some(Incoming::Answer {
                        number: Some(number),
                        ..
                    }) => self.answered_number = self.answered_number.max(number),
                    Some(Incoming::Answer { number: None, .. } | Incoming::Announced(_)) => {}
                    None => return,
                }
            }
        };
        let _late = tokio::time::timeout(limit, wait).await;
    }
}
