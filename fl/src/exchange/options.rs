//! [`StoreOptions`]: what a store takes, and how much of it.

use super::header::{check_classes, n_values};
use crate::{Error, Result};
use std::path::PathBuf;

/// What a store takes, how much of it, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreOptions {
    /// Which training this is; uploads of another run are refused.
    pub run: u64,
    /// Of the features of one sample.
    pub shape: Vec<usize>,
    /// How many classes there are.
    pub classes: usize,
    /// Most decoded features to hold in memory, in bytes. Beside them each sample takes 18 bytes and
    /// 4 for each class, and each upload on its way two or three times that and a chunk of the codec.
    pub memory: u64,
    /// Where uploads are kept, so that they survive a restart; features beyond `memory` are read
    /// from there. A client takes the bytes of its decoded features, and twice that while an upload
    /// is on its way. None: everything is in memory, and what does not fit is refused.
    pub folder: Option<PathBuf>,
    /// Most samples of one client; with the shape, this bounds what an upload takes on disk.
    pub max_samples: u32,
    /// Most clients.
    pub max_clients: usize,
    /// Most uploads on their way at the same time. One keeps its place until it is complete,
    /// rejected or [forgotten](crate::FeatureStore::forget).
    pub max_in_flight: usize,
    /// Most bytes of one upload.
    pub max_message_bytes: u64,
    /// Most memory that decoding one upload may take, in bytes.
    pub decode_memory: u64,
}

impl StoreOptions {
    /// In memory, up to 1 GiB of features; 65,536 samples a client, 1,024 clients, 16 on their way,
    /// 4 GiB an upload, 256 MiB to decode it.
    pub fn new(run: u64, shape: &[usize], classes: usize) -> Self {
        Self {
            run,
            shape: shape.to_vec(),
            classes,
            memory: 1 << 30,
            folder: None,
            max_samples: 1 << 16,
            max_clients: 1024,
            max_in_flight: 16,
            max_message_bytes: 1 << 32,
            decode_memory: 256 << 20,
        }
    }

    /// Whether anything can be received.
    ///
    /// # Errors
    /// `InvalidArgument` for a shape without values or of more than 8 dimensions, classes that are
    /// not 1 to 65,536, and a limit of zero.
    pub fn check(&self) -> Result<()> {
        n_values(&self.shape)?;
        check_classes(self.classes)?;
        match self.max_samples == 0 || self.max_clients == 0 || self.max_in_flight == 0 {
            true => {
                Err(Error::invalid("max_samples, max_clients and max_in_flight: at least 1 each"))
            }
            false => Ok(()),
        }
    }

    /// Bytes of the decoded features of one sample.
    pub(super) fn sample_bytes(&self) -> usize {
        self.shape.iter().product::<usize>().saturating_mul(4)
    }
}
