//! Answers to questions about the decisions: why, what if, with which settings. Nothing changes here.

use pgaf_fsm::group::{FormationView, LiveGroup, what_if};
use pgaf_protocol::{Explanation, Fault, Setting, SettingView, Time, WhatIf};

use super::keeper;
use super::state::{COORDINATOR, State, contained, disk_trouble};
use crate::sql::{Question, SqlError, codes};

impl State {
    /// Answers a question, as JSON.
    pub(crate) fn ask(&self, question: &Question, now: Time) -> Result<String, SqlError> {
        match question {
            Question::Explain { formation, group } => {
                keeper::to_json(&self.explain(formation, *group, now)?)
            }
            Question::WhatIf {
                formation,
                node_name,
                fault,
            } => keeper::to_json(&self.what_if(formation, node_name, fault, now)?),
            Question::Settings => keeper::to_json(&self.settings_in_force()),
        }
    }

    /// Explains groups, and what stands in the monitor's own way.
    fn explain(
        &self,
        formation: &str,
        group: Option<i32>,
        now: Time,
    ) -> Result<Vec<Explanation>, SqlError> {
        let wanted = self.formation(formation)?;
        let coordinator = self.live.get(&(wanted.id.clone(), COORDINATOR));
        let nobody = LiveGroup::default();
        let mut explanations = Vec::new();
        for it in wanted.groups.values() {
            if group.is_some_and(|g| g != it.id.0) {
                continue;
            }
            let live = self
                .live
                .get(&(it.formation.clone(), it.id))
                .unwrap_or(&nobody);
            let view = FormationView::of(wanted, it.id, coordinator);
            let mut explanation = pgaf_fsm::group::explain(&view, it, live, &self.settings, now);
            if let Some(error) = &self.disk {
                explanation.waiting.insert(0, disk_trouble(error));
            }
            explanations.push(explanation);
        }
        if let (true, Some(number)) = (explanations.is_empty(), group) {
            return Err(SqlError::new(
                codes::INVALID_PARAMETER,
                format!("formation \"{formation}\" has no group {number}"),
            )
            .with_hint("List the groups with: pg_autoctl show state"));
        }
        Ok(explanations)
    }

    /// Tells what would become of a node's group without it.
    fn what_if(
        &self,
        formation: &str,
        node_name: &str,
        fault: &str,
        now: Time,
    ) -> Result<WhatIf, SqlError> {
        let wanted = self.formation(formation)?;
        let fault = Fault::of(fault).ok_or_else(|| {
            SqlError::new(
                codes::INVALID_PARAMETER,
                format!("unknown fault \"{fault}\""),
            )
            .with_hint("A fault is one of: down, silent.")
        })?;
        let named = wanted.groups.values().find_map(|group| {
            let node = group.nodes.values().find(|n| n.name == node_name)?;
            Some((group, node.id))
        });
        let Some((group, node)) = named else {
            return Err(SqlError::new(
                codes::UNDEFINED_OBJECT,
                format!("formation \"{formation}\" has no node \"{node_name}\""),
            )
            .with_hint("List the nodes with: pg_autoctl show state"));
        };
        let nobody = LiveGroup::default();
        let key = (group.formation.clone(), group.id);
        let live = self.live.get(&key).unwrap_or(&nobody);
        let coordinator = self.live.get(&(wanted.id.clone(), COORDINATOR));
        let view = FormationView::of(wanted, group.id, coordinator);
        let look = || what_if(&view, group, live, &self.settings, now, (node, fault));
        let mut told = contained(look).flatten().ok_or_else(|| {
            SqlError::new(codes::INTERNAL, "the question could not be answered")
                .with_hint("This is a fault of pgaf; the group is as it was.")
        })?;
        if let Some(error) = &self.disk {
            // Nothing is promoted by a monitor that cannot remember it.
            told.blocks.insert(0, disk_trouble(error));
            told.estimated_ms = None;
        }
        Ok(told)
    }

    /// Every setting as it is, and where its value comes from.
    fn settings_in_force(&self) -> Vec<SettingView> {
        let of = |name: &str| Setting::find(name).map(|s| s.name);
        let in_file = |name| self.file_settings.iter().any(|(n, _)| of(n) == Some(name));
        let stored = |name| self.memory.settings.keys().any(|n| of(n) == Some(name));
        Setting::ALL
            .iter()
            .map(|row| {
                let source = if in_file(row.name) {
                    "configuration file"
                } else if stored(row.name) {
                    "set"
                } else {
                    "default"
                };
                SettingView::of(row, &self.settings, source)
            })
            .collect()
    }

    fn formation(&self, name: &str) -> Result<&pgaf_fsm::group::Formation, SqlError> {
        self.memory
            .cluster
            .formations
            .get(&name.into())
            .ok_or_else(|| {
                SqlError::new(
                    codes::INVALID_PARAMETER,
                    format!("unknown formation \"{name}\""),
                )
                .with_hint("List formations with: pg_autoctl show uri")
            })
    }
}
