//! [`Sink`]: where features go while an upload is on its way.

use super::file::{Folder, seal};
use super::header::Features;
use super::samples::Table;
use crate::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Bytes collected before they are written.
const BUFFER: usize = 1 << 16;

/// Takes the features of one sample after the other.
pub(super) enum Sink {
    Memory(Vec<Box<[u8]>>),
    File(Temporary),
}

/// A file that goes unless it is sealed and committed.
pub(super) struct Temporary {
    path: PathBuf,
    out: Option<BufWriter<File>>,
    committed: bool,
}

impl Sink {
    pub(super) fn new(folder: Option<&Folder>, client: u64) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self::Memory(Vec::new())) };
        let path = folder.temporary(client);
        let file = File::create(&path).map_err(|e| Error::io(&path, e))?;
        let out = Some(BufWriter::with_capacity(BUFFER, file));
        Ok(Self::File(Temporary { path, out, committed: false }))
    }

    /// The features of the next sample.
    pub(super) fn put(&mut self, features: &[u8]) -> Result<()> {
        match self {
            Self::Memory(rows) => {
                rows.push(features.into());
                Ok(())
            }
            Self::File(Temporary { path, out: Some(out), .. }) => {
                out.write_all(features).map_err(|e| Error::io(path, e))
            }
            Self::File(_) => Err(Error::invalid("the file is sealed")),
        }
    }

    /// Everything is there and checked: it takes the place of what the client sent before. Returns
    /// the features, if they are in memory.
    pub(super) fn commit(
        self,
        folder: Option<&Folder>,
        header: &Features,
        table: &Table,
    ) -> Result<Option<Vec<Box<[u8]>>>> {
        match (self, folder) {
            (Self::Memory(rows), _) => Ok(Some(rows)),
            (Self::File(mut file), Some(folder)) => {
                if let Some(out) = file.out.take() {
                    seal(out, header, table).map_err(|e| Error::io(&file.path, e))?;
                }
                folder.commit(header.client)?;
                file.committed = true;
                Ok(None)
            }
            (Self::File(_), None) => Err(Error::invalid("a file without a folder")),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.committed {
            // Closed first: some systems keep what is open. What stays goes when a store opens.
            if let Some(out) = self.out.take() {
                drop(out.into_parts());
            }
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
