//! What the dashboard looks like, at sizes that people have.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::watch::model::EventRow;

fn node(name: &str, id: &str, reported: &str, goal: &str, well: bool) -> NodeLine {
    let connection = if well { "read-write" } else { "none !" };
    let cells = [
        name,
        id,
        "yes",
        "50",
        "node1.example:5432",
        "  1: 0/3000110",
        "1s",
        connection,
        "0s",
        reported,
        goal,
    ];
    NodeLine {
        cells: cells.map(str::to_owned),
        well,
        settled: reported == goal,
    }
}

fn snapshot() -> Snapshot {
    let event = |id: u32, description: &str| EventRow {
        id: id.to_string(),
        time: "2026-11-25 10:00:00".into(),
        name: "node1".into(),
        description: description.into(),
    };
    Snapshot {
        formation: "default".into(),
        number_sync: Some("0".into()),
        nodes: vec![
            node("node1", "1", "primary", "primary", true),
            node("node2", "2", "catchingup", "secondary", false),
        ],
        notes: vec!["group 0 waits: for node 2".into()],
        events: (1..=30).rev().map(|id| event(id, "it caught up")).collect(),
        trouble: None,
    }
}

fn screen(snapshot: &Snapshot, scroll: &mut Scroll, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, snapshot, scroll, "10:00:07"))
        .unwrap();
    terminal.backend().to_string()
}

#[test]
fn a_wide_terminal_shows_every_column() {
    insta::assert_snapshot!(screen(&snapshot(), &mut Scroll::default(), 160, 12));
}

#[test]
fn a_narrow_terminal_leaves_columns_out() {
    insta::assert_snapshot!(screen(&snapshot(), &mut Scroll::default(), 80, 10));
    insta::assert_snapshot!(screen(&snapshot(), &mut Scroll::default(), 40, 6));
}

#[test]
fn no_size_is_too_small() {
    for width in 1..30 {
        for height in 1..6 {
            screen(&snapshot(), &mut Scroll::default(), width, height);
            screen(&Snapshot::default(), &mut Scroll::default(), width, height);
        }
    }
}

#[test]
fn the_marked_row_stays_in_sight() {
    let snapshot = snapshot();
    let mut scroll = Scroll::default();
    for _ in 0..100 {
        scroll.apply(Action::Down);
        let shown = screen(&snapshot, &mut scroll, 80, 10);
        assert!(
            scroll.row >= scroll.top && scroll.row < scroll.top + 8,
            "{shown}"
        );
    }
    assert!(
        screen(&snapshot, &mut scroll, 80, 10).contains(" 1  2026"),
        "the last event"
    );
    for _ in 0..10 {
        scroll.apply(Action::PageUp);
        screen(&snapshot, &mut scroll, 80, 10);
    }
    assert_eq!((scroll.row, scroll.top), (0, 0));
    scroll.apply(Action::LineEnd);
    screen(&snapshot, &mut scroll, 40, 10);
    assert!(scroll.left > 0 && scroll.left < 200);
}

#[test]
fn a_lost_monitor_and_a_missing_formation_are_said() {
    let lost = Snapshot {
        trouble: Some("monitor lost, trying again: refused".into()),
        number_sync: None,
        ..snapshot()
    };
    let shown = screen(&lost, &mut Scroll::default(), 80, 8);
    assert!(shown.contains("monitor lost, trying again"), "{shown}");
    assert!(shown.contains("there is no such formation"), "{shown}");
}
