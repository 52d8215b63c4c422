//! [`Section`]: a table with its heading, for the terminal and for the page.

use super::chart::escaped;
use crate::table::Table;

/// A table of the report; one without rows is left out.
pub struct Section<const N: usize> {
    /// Above it on the page.
    pub heading: &'static str,
    /// What its columns mean, for the page.
    pub text: &'static str,
    /// Names of the columns.
    pub heads: [&'static str; N],
    /// Cells.
    pub rows: Vec<[String; N]>,
}

impl<const N: usize> Section<N> {
    /// One that is left out.
    pub fn empty() -> Self {
        Self { heading: "", text: "", heads: [""; N], rows: Vec::new() }
    }

    /// For the terminal, behind an empty line.
    pub fn lines(self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = Table::new(1, self.heads);
        self.rows.into_iter().for_each(|row| table.row(row));
        format!("\n{table}")
    }

    /// For a document in Markdown.
    pub fn markdown(self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let heads = self.heads.map(|head| head.replace('_', " "));
        let mut text = line(&heads) + &line(&heads.each_ref().map(|_| "---".to_owned()));
        for row in &self.rows {
            // A cell ends at a bar, even inside of code.
            text += &line(&row.each_ref().map(|cell| cell.replace('|', "\\|")));
        }
        text + "\n"
    }

    /// For the page.
    pub fn html(self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut page = format!("<h2>{}</h2>\n<p>{}</p>\n<table>\n<tr>", self.heading, self.text);
        for head in self.heads {
            page += &format!("<th>{}</th>", head.replace('_', " "));
        }
        page += "</tr>\n";
        for row in self.rows {
            page += "<tr>";
            row.iter().for_each(|cell| page += &format!("<td>{}</td>", escaped(cell)));
            page += "</tr>\n";
        }
        page + "</table>\n"
    }
}
