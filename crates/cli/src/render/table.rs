//! The table layout that all commands share: cells joined by ` | `, dashes joined by `-+-`.

/// Which side a cell is padded on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Padded on the left.
    Right,
    /// Padded on the right.
    Left,
    /// Not padded, and not grown by what it holds: the last column.
    Free,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// Its least width; a cell that is wider widens the column unless it is [`Align::Free`] or
    /// fixed.
    pub(crate) width: usize,
    /// Whether cells widen it.
    pub(crate) grows: bool,
    /// Its alignment.
    pub(crate) align: Align,
}

impl Column {
    /// Right aligned, as wide as its widest cell.
    pub(crate) const fn growing(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            grows: true,
            align: Align::Right,
        }
    }

    /// Right aligned, of a fixed width; a wider cell sticks out.
    pub(crate) const fn fixed(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            grows: false,
            align: Align::Right,
        }
    }

    /// The last column: `width` dashes, cells as they are.
    pub(crate) const fn free(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            grows: false,
            align: Align::Free,
        }
    }
}

/// The widths that `rows` need.
pub(crate) fn widths(columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let widest = rows
                .iter()
                .filter_map(|row| row.get(index))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0);
            if column.grows {
                column.width.max(widest)
            } else {
                column.width
            }
        })
        .collect()
}

/// Heading and separator.
pub(crate) fn head(columns: &[Column], widths: &[usize]) -> String {
    let titles: Vec<String> = columns
        .iter()
        .map(|column| column.title.to_owned())
        .collect();
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    format!("{}{}\n", row(columns, widths, &titles), dashes.join("-+-"))
}

/// One row.
pub(crate) fn row(columns: &[Column], widths: &[usize], cells: &[String]) -> String {
    let padded: Vec<String> = columns
        .iter()
        .zip(widths)
        .zip(cells)
        .map(|((column, width), cell)| match column.align {
            Align::Right => format!("{cell:>width$}"),
            Align::Left => format!("{cell:<width$}"),
            Align::Free => cell.clone(),
        })
        .collect();
    format!("{}\n", padded.join(" | "))
}

/// A whole table, with the empty line that ends it.
pub(crate) fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let widths = widths(columns, rows);
    let mut text = head(columns, &widths);
    for cells in rows {
        text.push_str(&row(columns, &widths, cells));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_and_the_last_one_is_free() {
        let columns = [
            Column::growing("Name", 4),
            Column::fixed("Node", 5),
            Column::free("C", 3),
        ];
        let rows = vec![vec![
            "node12".to_owned(),
            "1".to_owned(),
            "some text".to_owned(),
        ]];
        assert_eq!(
            table(&columns, &rows),
            "  Name |  Node | C\n-------+-------+----\nnode12 |     1 | some text\n\n"
        );
    }
}
