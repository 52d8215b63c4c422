//! Consecutive groups of a tensor on their way into the stream.

use crate::frame::{kind, put_record};
use crate::group::{GroupCodec, Scratch};
use crate::meta::ChunkHeader;
use crate::{Error, Result};

/// What a device made of some groups.
pub(crate) struct Coded {
    /// P of each, one behind the other.
    pub(crate) payloads: Vec<u8>,
    /// Bits of the largest magnitude of each.
    pub(crate) peaks: Vec<u32>,
}

/// Consecutive groups on their way into the stream.
pub(crate) struct Run<'a> {
    pub(crate) codec: GroupCodec<'a>,
    /// Number of the first.
    pub(crate) first: u64,
    pub(crate) n_groups: usize,
    /// Whether the last of them is the last of the tensor.
    pub(crate) ends: bool,
    pub(crate) coded: Option<Coded>,
}

impl Run<'_> {
    /// Appends the records of all groups in order; in parallel if there is more than one scratch.
    pub(crate) fn put_all<'a>(
        &self,
        scratch: &mut [Scratch],
        groups: impl Iterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut groups = groups.enumerate().peekable();
        while groups.peek().is_some() {
            let batch: Vec<_> = groups.by_ref().take(scratch.len()).collect();
            if let [(i, elements)] = batch[..] {
                self.put(&mut scratch[0], i, elements, out)?;
                continue;
            }
            let coded: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
                let workers: Vec<_> = batch
                    .into_iter()
                    .zip(&mut *scratch)
                    .map(|((i, elements), scratch)| {
                        std::thread::Builder::new().spawn_scoped(scope, move || {
                            let mut out = Vec::new();
                            self.put(scratch, i, elements, &mut out).map(|()| out)
                        })
                    })
                    .collect();
                workers.into_iter().map(join).collect()
            });
            for records in coded {
                out.extend_from_slice(&records?);
            }
        }
        Ok(())
    }

    /// Appends the record of the i-th group.
    pub(crate) fn put(
        &self,
        scratch: &mut Scratch,
        i: usize,
        x: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let group = self.first + i as u64;
        let last = self.ends && i + 1 >= self.n_groups;
        let Some(Coded { payloads, peaks }) = &self.coded else {
            return put_record(kind::CHUNK, out, |out| {
                self.codec.encode(group, last, x, scratch, out)
            });
        };
        let (size, n_values) = self.codec.lengths(x);
        let full = self.codec.payload_len_of_full();
        let payload = payloads.get(i * full..i * full + size);
        let (Some(payload), Some(peak)) = (payload, peaks.get(i)) else {
            return Err(Error::device("the device returned fewer groups than it was given".into()));
        };
        self.codec.check_finite(group, x, *peak)?;
        let header = ChunkHeader { group, last, stored: false, n_values };
        put_record(kind::CHUNK, out, |out| self.codec.put_body(header, payload, scratch, out))
    }
}

/// The result of a worker, or why it could not be started; its panic, which would be a bug here,
/// goes on in the caller.
pub(crate) fn join<T>(
    worker: std::io::Result<std::thread::ScopedJoinHandle<'_, Result<T>>>,
) -> Result<T> {
    match worker?.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
