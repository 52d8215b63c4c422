//! [`Samples`]: what is known of one client's samples.

use crate::{Error, Result};

/// Columns of a client's samples, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Table {
    pub(super) ids: Vec<u32>,
    pub(super) labels: Vec<u16>,
    pub(super) logits: Vec<f32>,
    /// Of the features of each sample ([`sum`]).
    pub(super) sums: Vec<u64>,
}

/// Eight bytes of BLAKE3: whether features are what was written.
pub(super) fn sum(features: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(features).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The last complete upload of a client, and the labels of its first.
pub(super) struct Samples {
    pub(super) round: u64,
    /// Ascending.
    ids: Vec<u32>,
    /// In which row of table and file each of them stands.
    rows: Vec<u32>,
    /// Without the ids.
    table: Table,
    /// The features, little-endian, row by row; none: they are in the client's file.
    pub(super) features: Option<Vec<Box<[u8]>>>,
}

impl Samples {
    /// Orders a table whose columns are of the same length.
    ///
    /// # Errors
    /// `Corrupt` if an id stands there twice.
    pub(super) fn new(
        round: u64,
        mut table: Table,
        features: Option<Vec<Box<[u8]>>>,
    ) -> Result<Self> {
        let mut rows: Vec<u32> = (0..table.ids.len() as u32).collect();
        rows.sort_unstable_by_key(|row| table.ids[*row as usize]);
        let ids: Vec<u32> = rows.iter().map(|row| table.ids[*row as usize]).collect();
        table.ids = Vec::new();
        // They grew as the samples came.
        table.labels.shrink_to_fit();
        table.logits.shrink_to_fit();
        table.sums.shrink_to_fit();
        match ids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::corrupt(format!("sample {} comes twice", pair[0]))),
            None => Ok(Self { round, ids, rows, table, features }),
        }
    }

    /// The samples, ascending.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where a sample stands.
    pub(super) fn row(&self, id: u32) -> Option<usize> {
        self.ids.binary_search(&id).ok().map(|at| self.rows[at] as usize)
    }

    pub(super) fn label(&self, row: usize) -> u16 {
        self.table.labels[row]
    }

    pub(super) fn logits(&self, row: usize, classes: usize) -> &[f32] {
        &self.table.logits[row * classes..(row + 1) * classes]
    }

    pub(super) fn sum(&self, row: usize) -> u64 {
        self.table.sums[row]
    }
}
