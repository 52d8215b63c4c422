//! Reading a [`FeatureStore`]: samples of all clients, in any order.

use super::file::read_row;
use super::store::FeatureStore;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;

/// Files that one call has open at the same time.
const MAX_OPEN: usize = 64;

impl FeatureStore {
    /// Features, logits and labels of samples by client and id, in the order that is asked for, in
    /// place of what the vectors held. From memory or from files, the values are the same.
    ///
    /// # Errors
    /// `InvalidArgument` for a sample that is not known; naming the file, `Io` where it cannot be
    /// read and `Corrupt` where it is not what was written. The vectors are then of no use.
    pub fn read(
        &self,
        samples: &[(u64, u32)],
        features: &mut Vec<f32>,
        logits: &mut Vec<f32>,
        labels: &mut Vec<u16>,
    ) -> Result<()> {
        features.clear();
        logits.clear();
        labels.clear();
        let mut files = BTreeMap::new();
        let mut buffer = Vec::new();
        for (client, id) in samples {
            let unknown = || Error::invalid(format!("client {client} has no sample {id}"));
            let known = self.clients.get(client).ok_or_else(unknown)?;
            let row = known.row(*id).ok_or_else(unknown)?;
            let bytes = match &known.features {
                Some(rows) => &rows[row][..],
                None => {
                    buffer.resize(self.options.sample_bytes(), 0);
                    self.read_file(&mut files, *client, row, known.sum(row), &mut buffer)?;
                    &buffer[..]
                }
            };
            features.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
            logits.extend_from_slice(known.logits(row, self.options.classes));
            labels.push(known.label(row));
        }
        Ok(())
    }

    fn read_file(
        &self,
        files: &mut BTreeMap<u64, File>,
        client: u64,
        row: usize,
        expected: u64,
        features: &mut [u8],
    ) -> Result<()> {
        let folder = self.folder.as_ref().ok_or_else(|| Error::invalid("no folder"))?;
        let path = folder.file(client);
        let mut file = match files.remove(&client) {
            Some(file) => file,
            None => File::open(&path).map_err(|e| Error::io(&path, e))?,
        };
        read_row(&mut file, &path, row, expected, features)?;
        if files.len() >= MAX_OPEN {
            files.clear();
        }
        files.insert(client, file);
        Ok(())
    }
}
