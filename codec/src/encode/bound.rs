//! How long a stream can become, before anything is encoded.

use crate::group::payload_bound;
use crate::options::{EncodeOptions, NonFinite, effective_spec};
use crate::wire::record::OVERHEAD;
use crate::wire::{ChunkHeader, End, PREAMBLE_LEN, TensorDesc, TensorMeta, varint_len};
use crate::{Error, NamedTensor, Result, Spec};

/// Most bytes of what [`encode`](crate::encode()) makes of tensors like these, whatever their values are:
/// room for a buffer that never grows. Errors are those that encoding would have for their shapes.
///
/// ```
/// # use fedpress::{EncodeOptions, Seeds, Spec};
/// let options = EncodeOptions::new(Seeds::new(7, 0x1f3a_9c55));
/// let (weights, spec) = (vec![0.25f32; 1 << 16], Spec::hadamard().quantized(4)?);
/// let most = fedpress::max_encoded_len(&[("w", &weights)], &spec, &options)?;
/// let bytes = fedpress::encode(&[("w", &weights)], &spec, &options)?;
/// assert!(bytes.len() as u64 <= most && most < (1 << 15) + 300);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub fn max_encoded_len<T: NamedTensor>(
    tensors: &[T],
    spec: &Spec,
    options: &EncodeOptions,
) -> Result<u64> {
    let several = options.several || tensors.len() > 1;
    let options = options.clone().with_several(several);
    let index = match options.index {
        // A hash and an offset each.
        true => OVERHEAD + varint_len(tensors.len() as u64) + tensors.len() * (8 + 10),
        false => 0,
    };
    let mut sum = (PREAMBLE_LEN + index + End::MAX_RECORD_LEN) as u64;
    for tensor in tensors {
        let values = tensor.values();
        let shape: Vec<_> = values.shape().iter().map(|n| *n as u64).collect();
        let desc = TensorDesc::new(tensor.name(), values.dtype(), &shape);
        sum = sum.saturating_add(max_tensor_len(&desc, spec, &options)?);
    }
    Ok(sum)
}

/// Most bytes that the records of one tensor of known shape take in a stream that is written with these
/// options, [`EncodeOptions::several`] among them.
pub fn max_tensor_len(desc: &TensorDesc, spec: &Spec, options: &EncodeOptions) -> Result<u64> {
    desc.check().map_err(|e| e.in_tensor(&desc.name))?;
    let n = desc.n_values()?.ok_or_else(|| {
        Error::invalid("a tensor whose first dimension is open has no largest size")
            .in_tensor(&desc.name)
    })?;
    let meta = options.meta(desc, effective_spec(desc, spec, options), 0, Some(0));
    let full = meta.group_values() as u64;
    let mut record = Vec::new();
    meta.write_to(&mut record);
    let groups = (n / full).saturating_mul(chunk_bound(&meta, options, full as usize));
    let rest = match (n % full) as usize {
        0 => 0,
        rest => chunk_bound(&meta, options, rest),
    };
    Ok(groups.saturating_add(rest + (OVERHEAD + record.len()) as u64))
}

/// Most bytes of the record of a group of `n` values.
fn chunk_bound(meta: &TensorMeta, options: &EncodeOptions, n: usize) -> u64 {
    // A group falls back on the lossless pipeline where that is not longer, or where it must.
    let bounded = meta.spec().max_error().is_some();
    let must = options.non_finite == NonFinite::Lossless || bounded;
    let n_lossy = meta.lossy().len();
    let may_take = meta.pipelines.iter().take(if must { n_lossy + 1 } else { n_lossy.max(1) });
    let payload = may_take.map(|spec| payload_bound(spec, meta.dtype(), n)).max();
    (OVERHEAD + ChunkHeader::MAX_LEN + payload.unwrap_or(0)) as u64
}
