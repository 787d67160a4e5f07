//! Answers on the standard output: aligned columns for people, JSON for programs, and the question
//! before something goes for good.

use std::io::{BufRead, IsTerminal, Write};

use crate::settings::{Settings, table};

use super::Failure;

/// On which side of its column a cell stands.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
}

/// Columns as wide as what is in them.
pub(super) struct Table {
    head: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[(&'static str, Side)]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "as many cells as columns");
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The head and the rows, each line behind `indent` blanks.
    pub(super) fn text(&self, indent: usize) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.head[column].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let head: Vec<String> = self.head.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut text = String::new();
        for row in [&head].into_iter().chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for ((cell, width), (_, side)) in row.iter().zip(&widths).zip(&self.head) {
                match side {
                    Side::Left => line.push_str(&format!("{cell:<width$}  ")),
                    Side::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Is the answer for a program?
pub(super) fn wants_json(settings: &Settings) -> Result<bool, Failure> {
    Ok(settings.switch(&table::ANSWER_JSON)?)
}

/// Writes one JSON value on a line.
pub(super) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    say(&format!("{value}\n"))
}

/// Writes to the standard output; whoever has closed it wants no more.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Asks on a terminal before something is gone for good: the user types its name. Elsewhere
/// `--yes` has to be there.
pub(super) fn confirm(settings: &Settings, what: &str, name: &str) -> Result<(), Failure> {
    if settings.switch(&table::ANSWER_YES)? {
        return Ok(());
    }
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(format!("{what}: add --yes to do it without asking").into());
    }
    write!(std::io::stderr().lock(), "{what}. Type {name} to go on: ")?;
    let mut typed = String::new();
    input.lock().read_line(&mut typed)?;
    if typed.trim() == name {
        return Ok(());
    }
    Err("nothing was done".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&[("NAME", Side::Left), ("RECORDS", Side::Right)]);
        table.row(vec!["a-long-name".into(), "7".into()]);
        table.row(vec!["µ".into(), "1,234,567".into()]);
        let text = "  NAME           RECORDS\n  a-long-name          7\n  µ            1,234,567\n";
        assert_eq!(table.text(2), text);
    }
}
