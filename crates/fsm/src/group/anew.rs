//! A group that has lost its primary to an operator, and whose other nodes never had any data,
//! begins anew.

use alloc::format;

use pgaf_protocol::{CopyRole, SyncConfig};

use super::config;
use super::elect::{Step, event};
use super::facts::Facts;
use super::model::{Group, Leader, Node, Phase};

/// Whether a node never had a copy of anything: there is nothing to lose or to ask for.
fn is_blank(node: &Node) -> bool {
    node.copy.is_none()
        && node.promise.is_none()
        && node.position.is_none()
        && node.role == CopyRole::None
}

/// The last primary was removed while others were about to join: the first of them that may be
/// primary leads, as the first node of a group does.
pub(super) fn begin(facts: &Facts<'_>, group: &mut Group) -> Option<Step> {
    let removed = facts
        .leader()
        .is_some_and(|l| !group.nodes.contains_key(&l.node));
    if !removed || !group.nodes.values().all(is_blank) {
        return None;
    }
    let first = facts.staying().find(|n| n.candidate_priority > 0)?.id;
    group.term = group.term.next();
    group.primary = Some(Leader {
        node: first,
        copy: None,
        term: group.term,
    });
    group.history = None;
    group.possible.clear();
    group.phase = Phase::Steady;
    config::list(group, SyncConfig::asynchronous());
    let text = format!(
        "term {}: the last primary was removed, and no other node has any data; node {first} begins anew",
        group.term
    );
    Some(Step {
        changed: true,
        events: alloc::vec![event(group, first, "group.anew", text)],
        ..Step::default()
    })
}
