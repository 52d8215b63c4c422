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
        self.rows.push(cells.to_vec());
    }
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
}
