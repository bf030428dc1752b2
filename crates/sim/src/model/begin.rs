//! Where the exploration begins: nodes that have just been registered, or a group that is whole.

use pgaf_fsm::group::operate::{create_formation, register};
use pgaf_fsm::group::{Cluster, FormationView, Group, Kind, Live};
use pgaf_fsm::node::{Entry, Journal};
use pgaf_protocol::{
    FormationId, GroupId, Incarnation, Lineage, NodeId, PROTOCOL_VERSION, Registration, Settings,
};

use super::keeper::Keeper;
use super::monitor::{Brain, Fixed};
use super::names::index;
use super::postgres::Pg;
use super::world::{Channel, Misc, NONE, State, World};
use super::{Bounds, Fault, Trouble};

impl World {
    /// The world of some bounds, with its nodes registered and nothing done yet.
    pub(super) fn registered(bounds: &Bounds) -> Result<(Self, State), Trouble> {
        let lineage = Lineage(1);
        let mut cluster = Cluster {
            lineage,
            incarnation: Incarnation(1),
            next_node: NodeId(1),
            dropped: std::collections::BTreeSet::new(),
            formations: std::collections::BTreeMap::new(),
        };
        let id = FormationId::default();
        let refused = |r: pgaf_fsm::group::Refusal| Trouble(r.to_string());
        create_formation(&mut cluster, &id, Kind::Pgsql, "", true, 0).map_err(refused)?;
        let mut entries = Vec::new();
        for node in 0..bounds.nodes {
            let wish = Registration {
                protocol: PROTOCOL_VERSION,
                token: node.to_string(),
                name: format!("node{node}"),
                host: format!("node{node}"),
                candidate_priority: 50,
                replication_quorum: true,
                ..Registration::default()
            };
            entries.push(register(&mut cluster, &wish).map_err(refused)?);
        }
        let formation = &cluster.formations[&id];
        let fixed = Fixed {
            formation: FormationView::from(formation),
            settings: Settings::default(),
            control: bounds.control,
        };
        let mut group = formation.groups[&GroupId(0)].clone();
        forget_words(&mut group);
        let mut world = Self::new(bounds.nodes, fixed);
        world.up_limit = bounds.reports_in_flight;
        world.grain = bounds.grain;
        world.kinds = Fault::bits(bounds.only);
        let nobody = Keeper::default();
        let mut state = State {
            brain: world.brains.put(Brain {
                group,
                ..Brain::default()
            }),
            misc: world.miscs.put(Misc {
                up: (1 << bounds.nodes) - 1,
                incarnation: 1,
                ..Misc::default()
            }),
            lives: [world.lives.put(Live::default()); super::NODES],
            keepers: [world.keepers.put(nobody); super::NODES],
            pgs: [0; super::NODES],
            channels: [world.put_channel(Channel {
                up: [NONE; 2],
                down: [NONE; 2],
            }); super::NODES],
        };
        for node in 0..super::NODES {
            world.put_pg(&mut state, node, Pg::default());
        }
        for mut registered in entries {
            let node = index(registered.node);
            registered.name.clear();
            let mut journal = Journal::new(String::new(), FormationId::default());
            journal.apply(Entry::Registered(registered));
            state.keepers[node] = world.keepers.put(Keeper { journal, run: None });
        }
        let state = world.canonical(state);
        Ok((world, state))
    }

    /// The state with everything that may still come.
    pub(super) fn with_budgets(&mut self, state: State, bounds: &Bounds) -> State {
        let mut next = state;
        next.misc = self.miscs.put(Misc {
            faults: bounds.faults,
            losses: bounds.losses,
            switches: bounds.switches,
            writes: bounds.writes,
            ..self.misc(&state).clone()
        });
        next
    }
}

/// Names and addresses take no part in decisions.
fn forget_words(group: &mut Group) {
    for node in group.nodes.values_mut() {
        node.name.clear();
        node.host.clear();
        node.token.clear();
        node.cluster.clear();
        node.port = 0;
        node.goal.rule.clear();
    }
}
