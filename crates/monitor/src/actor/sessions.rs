//! Which session speaks for which node: the one that reported last.

use std::collections::HashMap;

use pgaf_protocol::NodeId;

use crate::sql::{SessionHandle, SessionId};

/// Sessions of keepers, both ways round.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    of_node: HashMap<NodeId, (SessionId, SessionHandle)>,
    nodes: HashMap<SessionId, NodeId>,
}

impl Sessions {
    /// A node reported on this session. Answers whether it is another one than before.
    pub(crate) fn spoke(&mut self, node: NodeId, session: (SessionId, SessionHandle)) -> bool {
        let id = session.0;
        if self
            .of_node
            .get(&node)
            .is_some_and(|(known, _)| *known == id)
        {
            return false;
        }
        if let Some((old, _)) = self.of_node.insert(node, session) {
            self.nodes.remove(&old);
        }
        if let Some(other) = self.nodes.insert(id, node)
            && other != node
        {
            self.of_node.remove(&other);
        }
        true
    }

    /// A session is over: the node that it spoke for, unless that speaks on another one by now.
    pub(crate) fn closed(&mut self, session: SessionId) -> Option<NodeId> {
        let node = self.nodes.remove(&session)?;
        self.of_node.remove(&node);
        Some(node)
    }

    /// The way to push to a node.
    pub(crate) fn of(&self, node: NodeId) -> Option<&SessionHandle> {
        self.of_node.get(&node).map(|(_, handle)| handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_session_that_closes_late_says_nothing_about_the_node() {
        let mut sessions = Sessions::default();
        let session = |n| (SessionId(n), SessionHandle::new(1).0);
        assert!(sessions.spoke(NodeId(1), session(10)));
        assert!(!sessions.spoke(NodeId(1), session(10)));
        assert!(sessions.spoke(NodeId(1), session(11)));
        assert_eq!(sessions.closed(SessionId(10)), None);
        assert!(sessions.of(NodeId(1)).is_some());
        assert_eq!(sessions.closed(SessionId(11)), Some(NodeId(1)));
        assert!(sessions.of(NodeId(1)).is_none());
    }
}
