//! The tensors of a file in memory, or of a large one evenly spread parts of them.

use std::io::{Read, copy, sink};

use anyhow::{Context, Result};
use fedpress::Tensor;

use crate::files::{Source, TensorInfo, byte_len};

/// Bytes that are taken at a time, but for whole rows.
const RUN: u64 = 1 << 18;

/// All tensors, each with every so many of its rows that they take no more than about `limit` bytes.
pub fn read(source: &mut dyn Source, limit: u64) -> Result<Vec<Tensor>> {
    let infos = source.tensors().to_vec();
    let every = size(source).div_ceil(limit.max(1)).max(1);
    let mut tensors = Vec::with_capacity(infos.len());
    for (index, info) in infos.into_iter().enumerate() {
        let elements = source.read(index)?;
        tensors.push(rows(elements, info, every)?);
    }
    Ok(tensors)
}

/// Bytes of all tensors whose shapes are known.
pub fn size(source: &dyn Source) -> u64 {
    source.tensors().iter().filter_map(|t| byte_len(t.dtype, &t.shape)).sum()
}

/// Every so many runs of rows.
fn rows(mut elements: impl Read, info: TensorInfo, every: u64) -> Result<Tensor> {
    let TensorInfo { name, dtype, shape, open } = info;
    let mut dims: Vec<_> = shape.iter().map(|n| *n as usize).collect();
    let mut data = Vec::new();
    let whole = every == 1 || dtype.bits() < 8 || shape.is_empty();
    if whole && !open {
        elements.read_to_end(&mut data)?;
        return Ok(Tensor { name, dtype, shape: dims, data });
    }
    let row = byte_len(dtype, &shape[1..]).context("a row that is too large")?.max(1);
    let run = row * (RUN / row).max(1);
    while (&mut elements).take(run).read_to_end(&mut data)? as u64 == run {
        copy(&mut (&mut elements).take((every - 1) * run), &mut sink())?;
    }
    dims[0] = data.len() / row as usize;
    Ok(Tensor { name, dtype, shape: dims, data })
}
