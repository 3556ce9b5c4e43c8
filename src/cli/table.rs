//! What the operator's commands print: tables for people, and one JSON document for programs.
//!
//! On a terminal a table is fitted to its width, and coloured. Elsewhere each row is one line
//! without any colour, so that it can be searched and cut.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement};
use serde::Serialize;

/// Where a table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    pub is_terminal: bool,
    pub has_colours: bool,
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let variable = |name: &str| std::env::var_os(name);
        let (no_color, term) = (variable("NO_COLOR"), variable("TERM"));
        Self {
            is_terminal,
            has_colours: colours(is_terminal, no_color.as_deref(), term.as_deref()),
        }
    }
}

/// Whether to colour: on a terminal that can, unless NO_COLOR is set to anything.
fn colours(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    let unwanted = no_color.is_some_and(|value| !value.is_empty());
    is_terminal && !unwanted && term.is_none_or(|term| term != "dumb")
}

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Doubtful,
    Bad,
    Dim,
}

/// Narrower than this, nothing can be fitted.
const WIDTH_MIN: u16 = 20;
/// Between two columns.
const GAP: u16 = 2;

pub struct Table {
    table: comfy_table::Table,
    screen: Screen,
    right: Vec<usize>,
}

impl Table {
    /// A table with these columns; `right` are the indices of those that hold numbers.
    pub fn new(screen: Screen, columns: &[&str], right: &[usize]) -> Self {
        let mut table = Self::without_header(screen);
        let header = columns.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold));
        table.table.set_header(header.collect::<Vec<_>>());
        table.right = right.to_vec();
        table
    }

    pub fn without_header(screen: Screen) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        // Whether this is a terminal was asked already, and its width is set below.
        if screen.is_terminal {
            let width = table.width().filter(|width| *width >= WIDTH_MIN);
            if let Some(width) = width {
                table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
            }
        }
        table.force_no_tty();
        if screen.has_colours {
            table.enforce_styling();
        }
        Self { table, screen, right: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.coloured_row(cells.into_iter().map(|cell| (cell, Tone::Plain)));
    }

    pub fn coloured_row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        let cells = cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new(text);
            match tone {
                Tone::Plain => cell,
                Tone::Good => cell.fg(Color::Green),
                Tone::Doubtful => cell.fg(Color::Yellow),
                Tone::Bad => cell.fg(Color::Red),
                Tone::Dim => cell.add_attribute(Attribute::Dim),
            }
        });
        self.table.add_row(cells.collect::<Vec<_>>());
    }

    /// A line that follows another one within a cell; elsewhere than on a terminal they are one.
    pub fn next_line(&self) -> &'static str {
        if self.screen.is_terminal { "\n" } else { " " }
    }

    /// The whole table, with a line break at the end.
    pub fn text(mut self) -> String {
        for (index, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, GAP));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines = self.table.lines().map(|line| trimmed(&line).to_owned() + "\n");
        lines.collect()
    }
}

/// Without white space at the end.
fn trimmed(line: &str) -> &str {
    line.trim_end()
}

/// Writes to standard output. A reader that went away, such as `head`, is no failure.
///
/// # Errors
/// If it cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints one JSON document, on one line.
///
/// # Errors
/// If it cannot be written.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Screen = Screen { is_terminal: false, has_colours: false };

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let (set, empty) = (OsStr::new("1"), OsStr::new(""));
        assert!(colours(true, None, Some(OsStr::new("xterm"))));
        assert!(colours(true, Some(empty), None));
        assert!(!colours(true, Some(set), None));
        assert!(!colours(true, None, Some(OsStr::new("dumb"))));
        assert!(!colours(false, None, Some(OsStr::new("xterm"))));
    }

    fn table(screen: Screen) -> Table {
        let mut table = Table::new(screen, &["NAME", "EVENTS", "URL"], &[1]);
        table.row(["widgets".into(), "7".into(), "https://a.example/".repeat(10)]);
        table.coloured_row([
            ("x".into(), Tone::Plain),
            ("1234".into(), Tone::Bad),
            ("-".into(), Tone::Dim),
        ]);
        table
    }

    #[test]
    fn elsewhere_than_on_a_terminal_a_row_is_a_line_without_colours() {
        let text = table(PIPE).text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "NAME     EVENTS  URL");
        assert_eq!(lines[1], format!("widgets       7  {}", "https://a.example/".repeat(10)));
        assert_eq!(lines[2], "x          1234  -");
    }

    #[test]
    fn on_a_terminal_it_is_fitted_to_the_width_and_coloured() {
        let mut table = table(Screen { is_terminal: true, has_colours: true });
        table.table.set_width(40).set_content_arrangement(ContentArrangement::Dynamic);
        let text = table.text();
        assert!(text.contains("\u{1b}["), "{text}");
        let mut plain = String::new();
        let mut escape = false;
        for c in text.chars() {
            match c {
                '\u{1b}' => escape = true,
                'm' if escape => escape = false,
                c if !escape => plain.push(c),
                _ => {}
            }
        }
        assert!(plain.lines().all(|line| line.chars().count() <= 40), "{plain}");
        assert!(plain.lines().count() > 3, "{plain}");
    }
}
