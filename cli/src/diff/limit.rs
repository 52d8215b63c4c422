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
    ZeroSigns,
    NonFinite,
}

/// Names as in the table.
const COLUMNS: [(&str, Column); 8] = [
    ("nmse", Column::Nmse),
    ("cosine", Column::Cosine),
    ("max_error", Column::MaxError),
    ("differ", Column::Different),
    ("signs", Column::Signs),
    ("zeros_lost", Column::ZerosLost),
    ("+-0", Column::ZeroSigns),
    ("nonfinite", Column::NonFinite),
];
/// Where the JSON has another name for a column.
const IN_JSON: [(&str, Column); 4] = [
    ("different", Column::Different),
    ("sign_flips", Column::Signs),
    ("zero_signs", Column::ZeroSigns),
    ("non_finite", Column::NonFinite),
];

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(column, number)| {
            let column = COLUMNS.iter().chain(&IN_JSON).find(|(name, _)| *name == column)?.1;
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
    /// Says it, if a row is above, or else below, the number. What is no finite number is always beyond.
    pub fn broken(&self, row: &Row, above: bool) -> Option<String> {
        let value = match self.column {
            Column::Nmse => row.nmse,
            Column::Cosine => row.cosine,
            Column::MaxError => row.max_error,
            Column::Different => row.different as f64,
            Column::Signs => row.sign_flips as f64,
            Column::ZerosLost => row.zeros_lost as f64,
            Column::ZeroSigns => row.zero_signs as f64,
            Column::NonFinite => row.non_finite as f64,
        };
        let number = self.number;
        let is_within = value.is_finite() && if above { value <= number } else { value >= number };
        let (name, _) = COLUMNS.iter().find(|(_, column)| *column == self.column)?;
        let where_ = if above { "above" } else { "below" };
        let (value, number) = (short(value), short(number));
        (!is_within).then(|| format!("{:?}: {name} {value} is {where_} {number}", row.name))
    }
}

/// A number as people write it: counts in full, small and large ones by their power of ten.
fn short(number: f64) -> String {
    let is_plain = number == 0.0 || (0.01..1e9).contains(&number.abs());
    if is_plain { format!("{number}") } else { format!("{number:e}") }
}
