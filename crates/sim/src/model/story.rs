//! Histories for people: what happened, and what it changed.

use std::fmt::Write as _;

use super::RECORD;
use super::explore::Log;
use super::moves::{Next, Which};
use super::world::{NONE, State, World};

/// How a state was reached.
pub(super) fn history(world: &mut World, log: &mut dyn Log, place: u64) -> String {
    let mut way = vec![place];
    let mut at = place;
    while at != 0 {
        at = u64::from(log.read(at)[RECORD - 1]);
        way.push(at);
    }
    way.reverse();
    let states: Vec<State> = way.iter().map(|at| State::of(&log.read(*at))).collect();
    let mut text = String::from("begins with\n");
    if let Some(first) = states.first() {
        text.push_str(&whole(world, first));
    }
    let mut next = Vec::new();
    for pair in states.windows(2) {
        world.successors(&pair[0], Which::All, &mut next);
        match next.iter().find(|n| n.state == pair[1]).copied() {
            Some(it) => text.push_str(&step(world, &pair[0], &it)),
            None => text.push_str("(a move that cannot be found again)\n"),
        }
    }
    text
}

/// One move, and what it changed.
pub(super) fn step(world: &World, before: &State, next: &Next) -> String {
    let mut text = format!("{}\n", words(&format!("{:?}", next.what)));
    let after = &next.state;
    if before.brain != after.brain {
        text.push_str(&monitor(world, after));
    }
    for node in 0..world.nodes {
        if before.keepers[node] != after.keepers[node] {
            text.push_str(&keeper(world, after, node));
        }
        if before.pgs[node] != after.pgs[node] {
            text.push_str(&postgres(world, after, node));
        }
    }
    let (old, new) = (world.misc(before), world.misc(after));
    if old.ledger != new.ledger
        && let Some(record) = new.ledger
    {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    acknowledged: up to {} on timeline {} of copy {} (term {})",
            record.end, record.timeline, record.copy.0, record.term
        );
    }
    text
}

/// Nodes are counted from 1, as everywhere else.
fn words(what: &str) -> String {
    what.chars()
        .map(|c| match c.to_digit(10) {
            Some(digit) => char::from_digit(digit + 1, 10).unwrap_or(c),
            None => c,
        })
        .collect()
}

/// A whole state.
pub(super) fn whole(world: &World, state: &State) -> String {
    let mut text = monitor(world, state);
    for node in 0..world.nodes {
        text.push_str(&keeper(world, state, node));
        text.push_str(&postgres(world, state, node));
        let channel = world.channel(state.channels[node]);
        let count = |it: [u32; 2]| it.iter().filter(|n| **n != NONE).count();
        let _ = writeln!(
            text,
            "    messages: {} report(s), {} goal(s)",
            count(channel.up),
            count(channel.down)
        );
    }
    let _ = writeln!(text, "    {:?}", world.misc(state));
    text
}

fn monitor(world: &World, state: &State) -> String {
    let group = &world.brain(state).group;
    let mut text = format!(
        "    monitor: term {} {} primary {:?} possible",
        group.term,
        group.phase.word(),
        group.primary.map(|l| l.node.0)
    );
    for entry in &group.possible {
        let _ = write!(
            text,
            " [{} {} of copy {}]",
            entry.stamp, entry.config, entry.primary.0
        );
    }
    text.push('\n');
    for node in group.nodes.values() {
        let _ = writeln!(
            text,
            "      node {}: {} -> {} {} copy {:?} promise {:?} admitted {:?}",
            node.id,
            node.reported,
            node.goal.state,
            node.goal.stamp,
            node.copy.map(|c| c.0),
            node.promise
                .map(|p| (p.term.0, p.position.map(|p| p.to_string()))),
            node.admitted.map(|(t, c)| (t.0, c.0)),
        );
    }
    text
}

fn keeper(world: &World, state: &State, node: usize) -> String {
    let keeper = world.keeper(state, node);
    let journal = &keeper.journal;
    let goal = journal.goal.as_ref();
    let runs = match &keeper.run {
        None => "is gone".to_owned(),
        Some(run) => format!(
            "runs (heard {}, lease {}, busy {:?}, pause {:?}, end {:?})",
            run.memory.heard,
            run.memory.lease_until.is_some(),
            run.busy,
            run.memory.pause.as_ref().map(|p| p.step.as_str()),
            run.memory.end.map(|p| p.to_string()),
        ),
    };
    format!(
        "    keeper {}: {runs}; goal {} {}, reached {} {}, promise {:?}, {:?}, work {:?}\n",
        node + 1,
        goal.map_or_else(|| "none".into(), |g| g.stamp.to_string()),
        goal.map_or_else(String::new, |g| g.state.to_string()),
        journal.reached,
        journal.state,
        journal.promise.map(|t| t.0),
        journal.role,
        journal.work,
    )
}

fn postgres(world: &World, state: &State, node: usize) -> String {
    let pg = world.pg(state, node);
    let mut text = format!("    postgres {}:", node + 1);
    match (&pg.disk, pg.broken) {
        (_, true) => text.push_str(" broken copy;"),
        (None, _) => text.push_str(" no copy;"),
        (Some(disk), _) => {
            let _ = write!(text, " copy {:?}", disk.copy.map(|c| c.0));
            for s in &disk.path.0 {
                let _ = write!(text, " <{} t{} of c{}", s.end, s.timeline, s.copy.0);
            }
            let _ = write!(text, " slots {:b};", disk.slots);
        }
    }
    match &pg.server {
        None => text.push_str(" down"),
        Some(server) => {
            let role = if server.recovery {
                "standby"
            } else {
                "primary"
            };
            let _ = write!(
                text,
                " {:?} {role} names {:?} waits {} receives from {:?} waiter {:?}",
                server.doing,
                server.names,
                server.waits,
                server.receiver.map(|n| n + 1),
                server.waiter
            );
            for s in &server.senders {
                let _ = write!(
                    text,
                    " sender({}: flushed {} told {} {:?})",
                    s.node + 1,
                    s.flushed.0,
                    s.told.0,
                    s.names
                );
            }
        }
    }
    text.push('\n');
    text
}
