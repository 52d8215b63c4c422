//! How far two tensors may be apart, for scripts.

use std::str::FromStr;

use super::Row;

/// A column and a number.
#[derive(Debug, Clone)]
pub struct Limit {
    column: Column,
    number: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Nmse,
    Cosine,
    MaxError,
    Different,
    Signs,
    ZerosLost,
    NonFinite,
}

const COLUMNS: [(&str, Column); 7] = [
    ("nmse", Column::Nmse),
    ("cosine", Column::Cosine),
    ("max_error", Column::MaxError),
    ("differ", Column::Different),
    ("signs", Column::Signs),
    ("zeros_lost", Column::ZerosLost),
    ("nonfinite", Column::NonFinite),
];

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(column, number)| {
            let column = COLUMNS.iter().find(|(name, _)| *name == column)?.1;
            let number: f64 = number.parse().ok()?;
            (!number.is_nan()).then_some(Self { column, number })
        });
        let names = COLUMNS.map(|(name, _)| name).join(", ");
        parsed.ok_or_else(|| {
            format!("expected is COLUMN=NUMBER, such as nmse=0.01; columns: {names}")
        })
    }
}

impl Limit {
    /// Says it, if a row is above, or else below, the number. What is no number is always beyond.
    pub fn broken(&self, row: &Row, above: bool) -> Option<String> {
        let value = match self.column {
            Column::Nmse => row.nmse,
            Column::Cosine => row.cosine,
            Column::MaxError => row.max_error,
            Column::Different => row.different as f64,
            Column::Signs => row.sign_flips as f64,
            Column::ZerosLost => row.zeros_lost as f64,
            Column::NonFinite => row.non_finite as f64,
        };
        let number = self.number;
        let is_within = if above { value <= number } else { value >= number };
        let (name, _) = COLUMNS.iter().find(|(_, column)| *column == self.column)?;
        let where_ = if above { "above" } else { "below" };
        (!is_within).then(|| format!("{:?}: {name} {value:e} is {where_} {number:e}", row.name))
    }
}
