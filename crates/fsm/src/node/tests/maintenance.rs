//! A Postgres in maintenance is stopped once, and belongs to the operator from then on.

use pgaf_protocol::{CopyRole, NodeState, Order, Postgres};

use super::world::{World, stamp};
use crate::node::{Step, StopMode, decide};

#[test]
fn a_node_in_maintenance_is_stopped_once_and_left_alone_whoever_starts_it() {
    let mut world = World::running(CopyRole::Standby, None);
    let state = NodeState::Maintenance;
    world.obey(stamp(2, 3), state, Order::Stop, true);
    assert_eq!(
        decide(&world.view()).step,
        Some(Step::Stop {
            mode: StopMode::Fast
        })
    );
    let plan = world.settle();
    assert!(plan.reached);
    assert_eq!(world.journal.state, state);
    world.observation.postgres = Postgres::Running {
        since: 9,
        in_recovery: true,
    };
    for heard in [true, false] {
        world.memory.heard = heard;
        let plan = decide(&world.view());
        assert!(plan.reached && plan.step.is_none(), "{:?}", plan.step);
    }
}
