//! Sums of coefficients: what streams of one rotation have in common is undone once.

use crate::basis::Basis;
use crate::decode::{ChunkDecoder, EncodedChunk};
use crate::group::{TensorKeys, n_coefficients};
use crate::wire::TensorMeta;
use crate::{Error, Result};
use std::sync::Arc;

/// A weighted sum of one tensor over many streams that rotate it alike: updates of the clients of a round
/// with [`Rotation::Shared`](crate::Rotation), or parts of one. Coefficients are added as they are
/// decoded and go back through the transform once, at the end, where
/// [`EncodedChunk::add_into`] takes each stream through it. Up to the rounding of f32 (and without that of
/// f16 and bf16 tensors to their own precision) both sums are the same.
///
/// ```
/// use fedpress::{BasisSum, ChunkDecoder, Decoder, EncodeOptions, Event, Rotation, Seeds, TensorView};
/// let values = vec![0.25f32; 5000];
/// let mut worker = ChunkDecoder::new(&Default::default());
/// let mut sum: Option<BasisSum> = None;
/// for client in 0..3 {
///     let seeds = Seeds::new(7, 99).of_client(client, 3).with_rotation(Rotation::Shared);
///     let view = TensorView::f32("w", &[5000], &values);
///     let bytes = fedpress::encode(&[view], &"rotation|lm=4".parse()?, &EncodeOptions::new(seeds))?;
///     let (mut decoder, mut input) = (Decoder::new(Default::default()), &bytes[..]);
///     while let Some(event) = decoder.next(&mut input)? {
///         match event {
///             Event::Tensor(meta) if sum.is_none() => sum = Some(BasisSum::new(&meta, 5000)?),
///             Event::Chunk(chunk) => sum.as_mut().unwrap().add(&mut worker, &chunk, 1.0 / 3.0)?,
///             _ => {}
///         }
///     }
/// }
/// let mut mean = vec![0.0; 5000];
/// sum.unwrap().finish(&mut worker, &mut mean)?;
/// assert!(mean.iter().all(|v| (v - 0.25).abs() < 0.1));
/// # Ok::<(), fedpress::Error>(())
/// ```
pub struct BasisSum {
    meta: Arc<TensorMeta>,
    /// The last tensor whose chunks were added, which was found to rotate alike.
    last: Arc<TensorMeta>,
    /// Of all groups, one behind the other.
    sums: Vec<f32>,
}

impl BasisSum {
    /// A sum of zero, of tensors like this one; `n_values` is how many values the caller expects, for which
    /// room is taken.
    ///
    /// # Errors
    /// `InvalidArgument` where the tensor has other values, an open first dimension, or elements that are
    /// not f32, f16 or bf16; `Unsupported` where it cannot be decoded.
    pub fn new(meta: &Arc<TensorMeta>, n_values: usize) -> Result<Self> {
        let refuse = |what: String| Err(Error::invalid(what).in_tensor(meta.name()));
        meta.supported()?;
        if !meta.dtype().is_lossy_capable() {
            return refuse(format!("{} values cannot be added to f32", meta.dtype()));
        }
        if meta.n_values() != Some(n_values as u64) {
            return refuse(format!("{:?} values into {n_values} sums", meta.n_values()));
        }
        let groups = (0..n_values).step_by(meta.group_values());
        let each = groups.map(|at| n_coefficients(basis_of(meta), group_len(meta, n_values, at)));
        let sums = vec![0.0; each.sum()];
        Ok(Self { meta: meta.clone(), last: meta.clone(), sums })
    }

    /// Whether a tensor rotates as those before it, so that its chunks may be [added](Self::add).
    pub fn takes(&self, meta: &TensorMeta) -> bool {
        rotates_alike(&self.meta, meta)
    }

    /// Adds the coefficients of a chunk, times `weight`. A group that travelled without loss is transformed
    /// as the others were; NaN and infinity in it make NaN of what they are rotated with.
    ///
    /// # Errors
    /// `InvalidArgument`, and nothing is added, where the chunk is of a tensor that rotates otherwise;
    /// those of decoding.
    pub fn add(
        &mut self,
        worker: &mut ChunkDecoder,
        chunk: &EncodedChunk,
        weight: f32,
    ) -> Result<()> {
        if !Arc::ptr_eq(&self.last, chunk.meta()) {
            if !rotates_alike(&self.meta, chunk.meta()) {
                let message = "a tensor of another rotation, shape or cut than those before it";
                return Err(Error::invalid(message).in_tensor(chunk.meta().name()));
            }
            self.last = chunk.meta().clone();
        }
        let at = chunk.group() as usize * n_coefficients(basis_of(&self.meta), self.full());
        let n = n_coefficients(basis_of(&self.meta), chunk.n_values());
        let sums = &mut self.sums[at..at + n];
        chunk.add_coefficients(worker, basis_of(&self.meta), sums, weight)
    }

    /// The sum itself, into as many values as the tensor has.
    ///
    /// # Errors
    /// `InvalidArgument` where `out` has another length, or where a sum is too large to be transformed.
    pub fn finish(self, worker: &mut ChunkDecoder, out: &mut [f32]) -> Result<()> {
        let (n_values, full) = (out.len(), self.full());
        if self.meta.n_values() != Some(n_values as u64) {
            let message = format!("{:?} values into {n_values}", self.meta.n_values());
            return Err(Error::invalid(message).in_tensor(self.meta.name()));
        }
        let (basis, mut at) = (basis_of(&self.meta), 0);
        for (group, out) in out.chunks_mut(full).enumerate() {
            let n = n_coefficients(basis, out.len());
            let sums = &self.sums[at..at + n];
            at += n;
            worker
                .values_of(&self.meta, group as u64, sums, out)
                .map_err(|e| Error::invalid(e.to_string()).in_tensor(self.meta.name()))?;
        }
        Ok(())
    }

    /// Values of all groups but the last.
    fn full(&self) -> usize {
        self.meta.group_values()
    }
}

fn basis_of(meta: &TensorMeta) -> &Basis {
    &meta.spec().basis
}

fn group_len(meta: &TensorMeta, n_values: usize, at: usize) -> usize {
    meta.group_values().min(n_values - at)
}

/// Whether coefficients of both mean the same.
fn rotates_alike(a: &TensorMeta, b: &TensorMeta) -> bool {
    let keys = |meta| {
        let TensorKeys { signs, window_signs, .. } = TensorKeys::shared(meta);
        (signs, window_signs)
    };
    (a.n_values(), a.dtype(), a.group_values()) == (b.n_values(), b.dtype(), b.group_values())
        && basis_of(a) == basis_of(b)
        && (!basis_of(a).is_seeded() || keys(a) == keys(b))
        && b.supported().is_ok()
}
