//! Tables that line up for the eye and split at blanks for a script.

use std::fmt;

/// Rows of cells; the first row is the head.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// How many columns from the left are text, which starts at the left edge of its column.
    text_columns: usize,
}

impl Table {
    /// A table with these heads.
    pub fn new<const N: usize>(text_columns: usize, heads: [&str; N]) -> Self {
        Self { rows: vec![heads.map(str::to_owned).to_vec()], text_columns }
    }

    /// Appends a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }
}

/// Dimensions as a cell: `[64,3,3]`.
pub fn shape(dims: &[u64]) -> String {
    let dims: Vec<_> = dims.iter().map(u64::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// The text, quoted and escaped if it has blanks or could play tricks with a terminal: names come
/// from files of strangers.
pub fn printable(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '"' && c.escape_debug().count() == 1;
    if text.chars().all(plain) && !text.is_empty() { text.to_owned() } else { format!("{text:?}") }
}

/// The text with escapes for all that could play tricks with a terminal, and line ends; for names
/// of files, in which blanks are nothing special.
pub fn visible(text: &str) -> String {
    let escape = |c: char| {
        let plain = matches!(c, '"' | '\'' | '\\') || c.escape_debug().count() == 1;
        let escaped = (!plain).then(|| c.escape_debug());
        escaped.into_iter().flatten().chain(plain.then_some(c))
    };
    text.chars().flat_map(escape).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| self.rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                line += &match column < self.text_columns {
                    true => format!("{gap}{cell:<width$}"),
                    false => format!("{gap}{cell:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(1, ["name", "n"]);
        table.row(["ä".into(), "100".into()]);
        assert_eq!(table.to_string(), "name    n\nä     100\n");
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(printable("fc1.weight/ä"), "fc1.weight/ä");
        assert_eq!(printable("a b"), "\"a b\"");
        assert_eq!(printable("\u{1b}[2J"), "\"\\u{1b}[2J\"");
        assert_eq!(printable(""), "\"\"");
    }

    #[test]
    fn names_of_files_are_left_alone_unless_they_play_tricks() {
        let plain = "C:\\my \"model's\"/größe.fp";
        assert_eq!(visible(plain), plain);
        assert_eq!(
            visible("a: OK\nb\u{1b}[2J\u{9b}\u{202e}"),
            "a: OK\\nb\\u{1b}[2J\\u{9b}\\u{202e}"
        );
    }
}
