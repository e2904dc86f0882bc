//! What a verb has to say, as a value: commands make pages, the terminal prints them.
//!
//! Every text is escaped when the page is laid out, so nothing from outside reaches a terminal raw.

use crate::wording::escaped;

/// How a text is shown on a terminal with colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Strong,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Neither yet.
    Doubtful,
    /// What matters less.
    Faint,
}

impl Style {
    /// The escape sequence that turns it on.
    pub fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\u{1b}[1m",
            Self::Good => "\u{1b}[32m",
            Self::Bad => "\u{1b}[31m",
            Self::Doubtful => "\u{1b}[33m",
            Self::Faint => "\u{1b}[2m",
        }
    }

    /// A text in this style, which must be escaped already.
    pub fn paint(self, text: &str, colour: bool) -> String {
        if colour && self != Self::Plain { format!("{}{text}\u{1b}[0m", self.code()) } else { text.to_owned() }
    }
}

/// A text with its style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell with a style.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl Cell {
    /// The text alone.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::Plain }
    }
}

/// One piece of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Line(Cell),
    Field(&'static str, Cell),
    Row { cells: Vec<Cell>, heading: bool },
    Gap,
}

/// Lines, fields and tables in the order they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page(Vec<Piece>);

/// Between two columns.
const GUTTER: usize = 2;

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a heading, after an empty line unless it is the first thing.
    pub fn heading(&mut self, text: impl Into<String>) {
        if !self.0.is_empty() {
            self.0.push(Piece::Gap);
        }
        self.0.push(Piece::Line(Cell::styled(text, Style::Strong)));
    }

    /// Adds a line.
    pub fn line(&mut self, text: impl Into<Cell>) {
        self.0.push(Piece::Line(text.into()));
    }

    /// Adds a name with its value; names in a row are set to one width.
    pub fn field(&mut self, name: &'static str, value: impl Into<Cell>) {
        self.0.push(Piece::Field(name, value.into()));
    }

    /// Adds the headings of a table.
    pub fn columns<const N: usize>(&mut self, names: [&str; N]) {
        let cells = names.into_iter().map(|name| Cell::styled(name, Style::Faint)).collect();
        self.0.push(Piece::Row { cells, heading: true });
    }

    /// Adds a row of a table; rows in a row share their columns' widths.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.0.push(Piece::Row { cells: cells.into(), heading: false });
    }

    /// The page as text, each line ended.
    pub fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        let mut rest = self.0.as_slice();
        while let Some(first) = rest.first() {
            let alike = rest.iter().take_while(|piece| same_kind(first, piece)).count();
            let (block, after) = rest.split_at(alike);
            lay_out(block, colour, &mut text);
            rest = after;
        }
        text
    }
}

fn same_kind(left: &Piece, right: &Piece) -> bool {
    match (left, right) {
        (Piece::Field(..), Piece::Field(..)) => true,
        (Piece::Row { .. }, Piece::Row { heading, .. }) => !heading || std::ptr::eq(left, right),
        _ => std::ptr::eq(left, right),
    }
}

fn lay_out(block: &[Piece], colour: bool, text: &mut String) {
    let rows: Vec<Vec<(String, Style)>> = block.iter().map(cells).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|(cell, _)| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        for (column, (cell, style)) in row.iter().enumerate() {
            text.push_str(&style.paint(cell, colour));
            if column + 1 < row.len() {
                let padding = widths[column] - cell.chars().count() + GUTTER;
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        while text.ends_with(' ') {
            text.pop();
        }
        text.push('\n');
    }
}

fn cells(piece: &Piece) -> Vec<(String, Style)> {
    let shown = |cell: &Cell| (escaped(&cell.text), cell.style);
    match piece {
        Piece::Line(cell) => vec![shown(cell)],
        Piece::Field(name, value) => vec![(format!("  {name}"), Style::Faint), shown(value)],
        Piece::Row { cells, .. } => cells.iter().map(shown).collect(),
        Piece::Gap => vec![(String::new(), Style::Plain)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_names_from_outside_are_escaped() {
        let mut page = Page::new();
        page.heading("Points");
        page.columns(["id", "size"]);
        page.row(["a\u{1b}[31m".into(), "1 byte".into()]);
        page.row(["longer-than-that".into(), Cell::styled("2", Style::Good)]);
        page.heading("Fields");
        page.field("vault", "s3://b");
        page.field("of", "x");
        let expected = "Points\nid                size\na\\u{1b}[31m       1 byte\nlonger-than-that  2\n\nFields\n  vault  s3://b\n  of     x\n";
        assert_eq!(page.text(false), expected);
        assert!(page.text(true).contains("\u{1b}[32m2\u{1b}[0m"));
    }
}
