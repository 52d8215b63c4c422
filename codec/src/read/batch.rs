//! Chunks of any tensors that wait to be decoded side by side.

use super::Reader;
use crate::decode::{EncodedChunk, decode_all};
use crate::group::decode_memory;
use crate::limits::Allowance;
use crate::{Error, Result};

/// Makes room in `data` for the values of a chunk behind the `filled` bytes; returns where they end. What
/// that takes is charged first: all of a tensor of known size when its first chunk is there, else at
/// least twice what there was, which is there as well until it has been copied.
pub(super) fn grow(
    data: &mut Vec<u8>,
    filled: usize,
    chunk: &EncodedChunk,
    allowance: &mut Allowance,
) -> Result<usize> {
    let grown = filled + chunk.decoded_len();
    if data.len() >= grown {
        return Ok(grown);
    }
    let meta = chunk.meta();
    let mut take = |bytes: u64| {
        let charged = allowance.charge("a whole tensor", bytes);
        charged.map_err(|e| e.in_tensor(meta.name()))?;
        let refused = || Error::limit("a whole tensor", bytes, bytes).in_tensor(meta.name());
        let room = usize::try_from(bytes).map_err(|_| refused())?;
        // To be refused and not to end here, where there is no such room at all.
        Vec::<u8>::new().try_reserve_exact(room).map(|()| room).map_err(|_| refused())
    };
    if let Some(n) = meta.n_values() {
        let room = take(meta.dtype().byte_len_of(n).unwrap_or(u64::MAX))?;
        // Zeros that the system gives out as they are touched, by the thread that decodes to them.
        *data = vec![0; room];
        return Ok(grown);
    }
    if data.capacity() < grown {
        let old = data.capacity();
        let room = take((2 * old as u64).max(grown as u64))?;
        data.reserve_exact(room - data.len());
        allowance.release(old as u64);
    }
    data.resize(grown, 0);
    Ok(grown)
}

/// Chunks of any tensors that are decoded side by side.
#[derive(Default)]
pub(super) struct Batch {
    chunks: Vec<Pending>,
    /// Values of all.
    n_values: usize,
    /// What was charged for keeping them, and for the workers that will decode them.
    pub(super) charged: u64,
    /// What one worker was charged for.
    a_worker: u64,
    /// What was charged for all tensors, their values apart.
    pub(super) heads: u64,
}

struct Pending {
    tensor: usize,
    /// Where its values start in the data of the tensor.
    at: usize,
    chunk: EncodedChunk,
}

/// Chunks for each thread: enough that all are busy to the end.
const CHUNKS_PER_THREAD: usize = 128;
const VALUES_PER_THREAD: usize = 1 << 20;

impl Batch {
    /// A chunk of a tensor, whose values start at this byte of it. Says whether it is time to decode.
    pub(super) fn push<R>(
        &mut self,
        tensor: usize,
        (at, chunk): (usize, EncodedChunk),
        reader: &mut Reader<R>,
    ) -> bool {
        // One that is decoded at once is charged while its tensor is open. Where the limit leaves no
        // room to wait, none does: what can be read does not depend on the number of threads.
        let may_wait = reader.workers.len() > 1 && self.charge(&chunk, reader);
        self.n_values += chunk.n_values();
        self.chunks.push(Pending { tensor, at, chunk });
        !may_wait || self.is_full(reader.workers.len())
    }

    fn charge<R>(&mut self, chunk: &EncodedChunk, reader: &mut Reader<R>) -> bool {
        let a_worker = decode_memory(chunk.meta()).max(self.a_worker);
        let workers = (a_worker - self.a_worker) * reader.workers.len() as u64;
        let kept = chunk.body_len() as u64 + workers;
        let is_paid = reader.decoder.allowance().charge("chunks that wait", kept).is_ok();
        if is_paid {
            self.charged += kept;
            self.a_worker = a_worker;
        }
        is_paid
    }

    fn is_full(&self, threads: usize) -> bool {
        self.chunks.len() >= threads * CHUNKS_PER_THREAD
            || self.n_values >= threads * VALUES_PER_THREAD
    }

    /// Decodes all, each to its place in the elements of the tensors.
    pub(super) fn decode<'t, R>(
        &mut self,
        tensors: impl Iterator<Item = &'t mut [u8]>,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        let mut jobs = Vec::with_capacity(self.chunks.len());
        let mut chunks = self.chunks.iter().peekable();
        let first = chunks.peek().map_or(0, |pending| pending.tensor);
        for (number, mut rest) in tensors.enumerate().skip(first) {
            let mut at = 0;
            while let Some(pending) = chunks.next_if(|pending| pending.tensor == number) {
                let behind = rest.split_at_mut(pending.at - at).1;
                let (place, behind) = behind.split_at_mut(pending.chunk.decoded_len());
                jobs.push((&pending.chunk, place));
                (rest, at) = (behind, pending.at + pending.chunk.decoded_len());
            }
        }
        decode_all(jobs, &mut reader.workers).map_err(|e| reader.decoder.fail(e))?;
        reader.decoder.allowance().release(self.charged);
        *self = Self { heads: self.heads, ..Self::default() };
        Ok(())
    }
}
