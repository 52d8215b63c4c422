//! Tensors with the bytes of one before them, whose values travel once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};

use anyhow::{Context, Result};
use fedpress::DType;

use super::plan::Planned;
use crate::files::{Source, byte_len};
use crate::piece::fill;

/// How the values of a tensor travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// By themselves.
    Alone,
    /// By themselves, and others are tied to it.
    Kept,
    /// With the tensor of this number.
    To(usize),
}

/// Bytes from which a tie saves more than it costs.
const LEAST: u64 = 1 << 10;
/// Bytes of a tensor that are looked at before all are.
const HEAD: u64 = 1 << 12;
/// Bytes that are compared at a time.
const COMPARED: usize = 1 << 16;
/// Bytes of all tensors that others are tied to: readers hold them, coded.
const MOST_BYTES: u64 = 1 << 29;
/// Tensors that are tied to one, at most (codec/FORMAT.md, section 4.2).
const MOST_TIED: usize = 63;
/// Tensors with the same head and different bytes behind it, at most, that a tensor is compared with.
const MOST_ALIKE: usize = 4;

/// Which tensors have the bytes, the element type and the pipeline of one before them: compared byte by
/// byte, where a look at their beginnings finds them alike. `again` opens the source a second time. None
/// of a source that can only be read, or opened, once.
pub fn find(
    source: &mut dyn Source,
    plan: &[Planned<'_>],
    again: Option<impl Fn() -> Result<Box<dyn Source>>>,
) -> Result<Vec<Tie>> {
    let mut ties = vec![Tie::Alone; plan.len()];
    let Some(again) = again.filter(|_| source.rereads()) else { return Ok(ties) };
    let infos = source.tensors().iter();
    let sizes: Vec<_> =
        infos.map(|t| (t.dtype, byte_len(t.dtype, &t.shape).unwrap_or(0))).collect();
    let mut n_of_size = HashMap::<(DType, u64), usize>::new();
    sizes.iter().for_each(|size| *n_of_size.entry(*size).or_default() += 1);
    let may_be_tied = |size: &(DType, u64)| size.1 >= LEAST && n_of_size[size] > 1;
    let mut second = None;
    let mut alike = HashMap::<_, Vec<usize>>::new();
    let (mut n_tied, mut left) = (vec![0; plan.len()], MOST_BYTES);
    for (i, size) in sizes.iter().enumerate().filter(|(_, size)| may_be_tied(size)) {
        let candidates = alike.entry((*size, head(source, i)?)).or_default();
        let mut found = None;
        for j in candidates.iter().copied() {
            let has_room = n_tied[j] < MOST_TIED && (n_tied[j] > 0 || size.1 <= left);
            if has_room && is_coded_alike(&plan[j], &plan[i]) {
                let second = match &mut second {
                    Some(second) => second,
                    none => none.insert(again()?),
                };
                if are_equal(source.read(i)?, second.read(j)?)? {
                    found = Some(j);
                    break;
                }
            }
        }
        match found {
            Some(j) => {
                if n_tied[j] == 0 {
                    left -= size.1;
                }
                n_tied[j] += 1;
                (ties[j], ties[i]) = (Tie::Kept, Tie::To(j));
            }
            None if candidates.len() < MOST_ALIKE => candidates.push(i),
            None => {}
        }
    }
    Ok(ties)
}

/// A hash of the beginning of a tensor.
fn head(source: &mut dyn Source, index: usize) -> Result<u64> {
    let mut head = Vec::new();
    source.read(index)?.take(HEAD).read_to_end(&mut head).context("cannot compare tensors")?;
    let mut hasher = DefaultHasher::new();
    head.hash(&mut hasher);
    Ok(hasher.finish())
}

fn is_coded_alike(a: &Planned<'_>, b: &Planned<'_>) -> bool {
    (&a.spec, a.narrowed) == (&b.spec, b.narrowed)
}

fn are_equal(mut a: impl Read, mut b: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; COMPARED], vec![0; COMPARED]);
    loop {
        let (n, m) = (fill(&mut a, &mut left)?, fill(&mut b, &mut right)?);
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n < COMPARED {
            return Ok(true);
        }
    }
}
