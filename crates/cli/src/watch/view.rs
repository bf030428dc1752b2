//! Draws a snapshot on a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::keys::Action;
use super::model::{COLUMNS, NodeLine, Snapshot};

/// Columns that a key to the side moves by.
const SIDE_STEP: u16 = 8;
/// Between two cells, as in the tables of the other commands.
const GAP: &str = " | ";
/// Shown at the lower right. Source: the old program.
const EXIT: &str = "Press F1 to exit";

/// Where a person has moved to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scroll {
    /// The marked row of the body.
    row: usize,
    /// The first row that is shown.
    top: usize,
    /// The first column that is shown.
    left: u16,
    /// Rows that fit, as last drawn.
    page: usize,
}

impl Scroll {
    /// Moves; drawing brings it back within what there is.
    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::Up => self.row = self.row.saturating_sub(1),
            Action::Down => self.row = self.row.saturating_add(1),
            Action::PageUp => self.row = self.row.saturating_sub(self.page.max(1)),
            Action::PageDown => self.row = self.row.saturating_add(self.page.max(1)),
            Action::Left => self.left = self.left.saturating_sub(SIDE_STEP),
            Action::Right => self.left = self.left.saturating_add(SIDE_STEP),
            Action::LineStart => self.left = 0,
            Action::LineEnd => self.left = u16::MAX,
            Action::Quit => {}
        }
    }

    fn fit(&mut self, rows: usize, longest: usize, area: Rect) {
        self.page = usize::from(area.height).max(1);
        self.row = self.row.min(rows.saturating_sub(1));
        let last_top = rows.saturating_sub(self.page);
        let lowest = (self.row + 1).saturating_sub(self.page);
        self.top = self.top.clamp(lowest, self.row).min(last_top);
        let beyond = longest.saturating_sub(usize::from(area.width));
        self.left = self.left.min(u16::try_from(beyond).unwrap_or(u16::MAX));
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, scroll: &mut Scroll, clock: &str) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    header(frame, head, snapshot, clock);

    let mut lines = lines(snapshot, usize::from(body.width));
    let longest = lines.iter().map(Line::width).max().unwrap_or(0);
    scroll.fit(lines.len(), longest, body);
    if let Some(marked) = lines.get_mut(scroll.row)
        && scroll.row > 0
    {
        *marked = marked.clone().patch_style(Modifier::REVERSED);
    }
    let shown: Vec<Line<'_>> = lines.into_iter().skip(scroll.top).collect();
    frame.render_widget(Paragraph::new(shown).scroll((0, scroll.left)), body);

    footer(frame, foot, snapshot);
}

fn header(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, clock: &str) {
    let formation = &snapshot.formation;
    let text = match &snapshot.number_sync {
        Some(number) => {
            let long = format!("Formation: {formation} - Sync Standbys: {number}");
            if long.len() + clock.len() < usize::from(area.width) {
                long
            } else {
                format!("{formation} - nss: {number}")
            }
        }
        None => format!("Formation: {formation} - there is no such formation"),
    };
    frame.render_widget(Paragraph::new(text), area);
    let right = right_part(area, clock.len());
    frame.render_widget(
        Paragraph::new(clock.to_owned()).alignment(Alignment::Right),
        right,
    );
}

fn footer(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let right = right_part(area, EXIT.len());
    if let Some(trouble) = &snapshot.trouble {
        let left = Rect {
            width: area.width.saturating_sub(right.width + 1),
            ..area
        };
        frame.render_widget(Paragraph::new(trouble.as_str()).style(bad()), left);
    }
    frame.render_widget(Paragraph::new(EXIT).alignment(Alignment::Right), right);
}

fn right_part(area: Rect, wanted: usize) -> Rect {
    let width = u16::try_from(wanted).unwrap_or(u16::MAX).min(area.width);
    Rect {
        x: area.right().saturating_sub(width),
        width,
        ..area
    }
}

/// The body, top to bottom; what does not fit is reached by scrolling.
fn lines(snapshot: &Snapshot, width: usize) -> Vec<Line<'static>> {
    let mut lines = table_of_nodes(&snapshot.nodes, width);
    for note in &snapshot.notes {
        lines.push(Line::styled(note.clone(), bad()));
    }
    lines.push(Line::default());
    let name = widest(snapshot.events.iter().map(|e| e.name.as_str()), "Name");
    let id = widest(snapshot.events.iter().map(|e| e.id.as_str()), "Id");
    let title = format!(
        "{:>id$}  {:<19}  {:<name$}  Description",
        "Id", "Event Time", "Name"
    );
    lines.push(Line::styled(title, heading()));
    lines.extend(snapshot.events.iter().map(|event| {
        Line::from(format!(
            "{:>id$}  {:<19}  {:<name$}  {}",
            event.id, event.time, event.name, event.description
        ))
    }));
    lines
}

fn table_of_nodes(nodes: &[NodeLine], width: usize) -> Vec<Line<'static>> {
    let widths: Vec<usize> = COLUMNS
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = nodes.iter().filter_map(|node| node.cells.get(index));
            widest(cells.map(String::as_str), column.title)
        })
        .collect();
    let shown = fitting(&widths, width);
    let cell = |text: &str, index: usize| {
        let width = widths.get(index).copied().unwrap_or(0);
        format!("{text:>width$}")
    };
    let titles: Vec<String> = shown
        .iter()
        .filter_map(|&index| COLUMNS.get(index).map(|c| cell(c.title, index)))
        .collect();
    let mut lines = vec![Line::styled(titles.join(GAP), heading())];
    for node in nodes {
        let style = style_of(node);
        let cells: Vec<String> = shown
            .iter()
            .filter_map(|&index| node.cells.get(index).map(|text| cell(text, index)))
            .collect();
        lines.push(Line::from(Span::styled(cells.join(GAP), style)));
    }
    lines
}

/// The columns that fit: those of low rank always, then as many ranks as there is room for.
fn fitting(widths: &[usize], room: usize) -> Vec<usize> {
    let of_rank = |rank: u8| -> Vec<usize> {
        (0..COLUMNS.len())
            .filter(|index| COLUMNS.get(*index).is_some_and(|c| c.rank <= rank))
            .collect()
    };
    let needs = |shown: &[usize]| {
        let cells: usize = shown.iter().filter_map(|index| widths.get(*index)).sum();
        cells + GAP.len() * shown.len().saturating_sub(1)
    };
    let highest = COLUMNS.iter().map(|c| c.rank).max().unwrap_or(0);
    (0..=highest)
        .rev()
        .map(of_rank)
        .find(|shown| needs(shown) <= room)
        .unwrap_or_else(|| of_rank(0))
}

fn widest<'a>(cells: impl Iterator<Item = &'a str>, title: &'a str) -> usize {
    cells
        .chain([title])
        .map(|text| text.chars().count())
        .max()
        .unwrap_or(0)
}

fn heading() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn bad() -> Style {
    Style::new().fg(Color::Red)
}

fn style_of(node: &NodeLine) -> Style {
    if !node.well {
        bad()
    } else if node.settled {
        Style::new()
    } else {
        Style::new().fg(Color::Yellow)
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
