//! One seed: a formation comes up, a storm of faults, everything heals, everything is checked.

use pgaf_protocol::CopyId;

use crate::coverage::Coverage;
use crate::faults::STORM;
use crate::monitor::Operation;
use crate::pg::Disk;
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::world::World;

/// A formation that comes up undisturbed has settled by then.
const BRING_UP: u64 = 60_000;
/// With everything healed a group has settled by then (chosen: far above any timeout).
const CONVERGE: u64 = 120_000;

/// What became of a seed.
#[derive(Debug, Clone)]
pub struct SeedRun {
    /// The seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// The invariant that was broken, if one was.
    pub broken: Option<String>,
    /// Everything that happened.
    pub trace: String,
    /// What fired.
    pub coverage: Coverage,
    /// Commits that clients saw succeed.
    pub acknowledged: usize,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Faults and operations of its plan.
    pub faults: usize,
}

/// Runs a seed without writing down what happens.
#[must_use]
pub fn run_seed(seed: u64, nodes: usize) -> SeedRun {
    run(seed, nodes, None, false)
}

/// Runs a seed again, with its trace: the same events in the same order.
#[must_use]
pub fn trace_seed(seed: u64, nodes: usize, how: Option<Sabotage>) -> SeedRun {
    run(seed, nodes, how, true)
}

/// Runs a seed with one rule broken on purpose, from its start.
#[must_use]
pub fn run_sabotaged(seed: u64, nodes: usize, how: Sabotage) -> SeedRun {
    run(seed, nodes, Some(how), false)
}

/// How many nodes a seed has, when nobody says: mostly a pair or three.
#[must_use]
pub fn nodes_of(seed: u64) -> usize {
    const NODES: [usize; 24] = [
        2, 3, 4, 2, 3, 2, 3, 4, 5, 2, 3, 2, 3, 4, 1, 2, 3, 6, 2, 3, 4, 3, 7, 4,
    ];
    NODES[Rng::new(seed ^ 0x006e_6f64_6573).below(NODES.len())]
}

fn run(seed: u64, nodes: usize, how: Option<Sabotage>, tracing: bool) -> SeedRun {
    let mut world = World::new(seed, nodes);
    world.sabotage = how;
    world.tracing = tracing;
    choose_settings(&mut world, seed);
    bring_up(&mut world);
    if world.failed.is_none() {
        world.writing = true;
        world.busy_until = world.now;
        world.plan_faults();
        let end = world.now + STORM;
        world.run_until(end);
        converge(&mut world);
    }
    if world.failed.is_some() {
        let summary = world.summary();
        world.note(|| summary);
    }
    SeedRun {
        seed,
        nodes,
        broken: world.failed.clone(),
        trace: world.trace().to_owned(),
        coverage: world.coverage.clone(),
        acknowledged: world.ledger.acknowledged.len(),
        virtual_ms: world.now,
        faults: world.struck,
    }
}

/// One seed in eight is of a group that is asynchronous by choice; every other of those may lose
/// little.
fn choose_settings(world: &mut World, seed: u64) {
    world.asynchronous = seed % 8 == 5;
    if seed % 16 == 13 {
        world.monitor.settings.promote_wal_log_threshold = 2000;
    }
}

/// Monitor and nodes start one after the other; the group settles.
pub(crate) fn bring_up(world: &mut World) {
    world.start_monitor();
    if world.rng.one_in(4) {
        // The first node brings a cluster that nobody has named yet.
        let system = world.rng.next();
        let mut disk = Disk::new(CopyId(0), system);
        disk.copy = None;
        world.hosts[0].pg.disk = Some(disk);
    }
    for host in 0..world.hosts.len() {
        world.start_keeper(host);
        let soon = world.now + world.rng.between(0, 2000);
        world.run_until(soon);
        if host == 0 {
            wait(world, BRING_UP, |w| w.hosts[0].pg.writes());
        }
    }
    if !wait(world, BRING_UP, World::is_settled) {
        world.fail("converges: the formation does not come up".to_owned());
    }
}

/// Everything is healed: the group settles, and nothing that was acknowledged is missing anywhere.
fn converge(world: &mut World) {
    if world.failed.is_some() {
        return;
    }
    world.heal_all();
    undo_settings(world);
    world.pace = 100;
    if !wait(world, CONVERGE, World::is_settled) {
        return world.fail("converges: healed, and the group does not settle".to_owned());
    }
    let before = world.now;
    if !wait(world, 20_000, |w| w.ledger.wrote_since(before)) {
        return world.fail("converges: settled, and no write is acknowledged".to_owned());
    }
    world.writing = false;
    let later = world.now + 5000;
    world.run_until(later);
    check_copies(world);
}

/// An operator takes back priorities and quorums: a group whose only whole copy must never be primary
/// waits for that by design.
fn undo_settings(world: &mut World) {
    wait(world, 5000, |w| w.monitor.up);
    for host in 0..world.hosts.len() {
        // A node that is not there is refused, as it should be.
        let _ = world.operate(&Operation::Priority { host, priority: 50 });
        let quorum = !world.asynchronous;
        let _ = world.operate(&Operation::Quorum { host, quorum });
    }
}

/// Every member has every acknowledged commit.
pub(crate) fn check_copies(world: &mut World) {
    let members: Vec<String> = world
        .monitor
        .group()
        .map(|g| g.nodes.values().map(|n| n.host.clone()).collect())
        .unwrap_or_default();
    for name in members {
        let Some(host) = world.host_of(&name) else {
            continue;
        };
        let Some(disk) = &world.hosts[host].pg.disk else {
            continue;
        };
        if let Some((branch, lsn)) = world.ledger.missing(&disk.path) {
            world.fail(format!(
                "nothing-lost: {name} lacks b{} up to {lsn:x} in the end",
                branch.0
            ));
        }
    }
}

/// Lets time pass until something holds.
pub(crate) fn wait(world: &mut World, within: u64, holds: impl Fn(&World) -> bool) -> bool {
    let end = world.now + within;
    while world.now < end && world.failed.is_none() {
        if holds(world) {
            return true;
        }
        let next = world.now + 20;
        world.run_until(next);
    }
    world.failed.is_none() && holds(world)
}
