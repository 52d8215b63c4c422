//! [`Choice`]: what travels, and makes the same selection wherever it arrives.

use super::Selection;
use crate::{Error, Group, Layout, Result};
use bitvec::vec::BitVec;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;
use std::collections::BTreeMap;

/// The fraction of units kept in each group: above 0 and up to 1. Of n units, p n are kept, rounded
/// half up, and at least one (Caldas et al. 2018: a fixed number, so that every submodel has the
/// same shapes).
#[derive(Debug, Clone, PartialEq)]
pub struct Keep {
    /// For every group without an entry of its own.
    pub default: f64,
    /// By the name of the group.
    pub groups: BTreeMap<String, f64>,
}

impl From<f64> for Keep {
    /// The same fraction for every group.
    fn from(default: f64) -> Self {
        Self { default, groups: BTreeMap::new() }
    }
}

/// NaN is none.
pub(super) fn is_fraction(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

impl Keep {
    /// Whether all are fractions, and all names are those of groups.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the group.
    pub fn check(&self, layout: &Layout) -> Result<()> {
        let expected = "expected a fraction above 0 and up to 1, found";
        if !is_fraction(self.default) {
            return Err(Error::invalid(format!("keep: {expected} {}", self.default)));
        }
        for (name, fraction) in &self.groups {
            if layout.group(name).is_none() {
                return Err(Error::invalid(format!("keep: the layout has no group {name:?}")));
            }
            if !is_fraction(*fraction) {
                return Err(Error::invalid(format!("keep, group {name:?}: {expected} {fraction}")));
            }
        }
        Ok(())
    }

    /// How many units of a group are kept.
    pub fn n_kept(&self, group: &Group) -> usize {
        let fraction = self.groups.get(&group.name).unwrap_or(&self.default);
        let kept = (fraction * group.units as f64 + 0.5) as usize;
        kept.max(1).min(group.units)
    }
}

/// How the units to keep are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Uniformly, without replacement (Caldas et al. 2018). The draw of a group depends on the seed
    /// and its name, and on no other group.
    Random {
        /// What the draw is a function of.
        seed: u64,
    },
    /// The first ones (HeteroFL, Diao et al. 2021): smaller submodels nest in larger ones.
    Ordered,
    /// A window that starts at the offset and wraps around (FedRolex, Alam et al. 2022).
    Rolling {
        /// Of the first unit kept, modulo the size of the group.
        offset: u64,
    },
    /// A permutation of the units, of which the clients of a round take one stretch after the other,
    /// around the end: c clients train every unit of n floor(c k / n) or ceil(c k / n) times, where each
    /// keeps k. Independent draws leave some units to nobody. The permutation of a group depends on the
    /// seed and its name.
    Permuted {
        /// What the permutation is a function of; all clients of a round share it.
        seed: u64,
        /// How many stretches are before this one.
        position: u64,
    },
    /// These, one mask per group in the order of the layout, whatever the fractions say.
    Explicit(Vec<BitVec>),
}

/// A rule and the fractions to keep: a pure function from layouts to selections, so that sender and
/// receiver need not exchange indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// How the units are found.
    pub rule: Rule,
    /// How many.
    pub keep: Keep,
}

impl Choice {
    /// Everything.
    pub fn full() -> Self {
        Self { rule: Rule::Ordered, keep: Keep::from(1.0) }
    }

    /// Makes the selection.
    ///
    /// # Errors
    /// Those of [`Keep::check`] and, of explicit masks, [`Selection::from_masks`].
    pub fn select(&self, layout: &Layout) -> Result<Selection> {
        self.keep.check(layout)?;
        let groups = layout.groups();
        let masks_by = |mask: &dyn Fn(&Group, usize) -> BitVec| {
            groups.iter().map(|group| mask(group, self.keep.n_kept(group))).collect()
        };
        let masks = match &self.rule {
            Rule::Random { seed } => masks_by(&|group, n_kept| random(*seed, group, n_kept)),
            Rule::Ordered => masks_by(&|group, n_kept| window(0, group.units, n_kept)),
            Rule::Rolling { offset } => {
                masks_by(&|group, n_kept| window(*offset, group.units, n_kept))
            }
            Rule::Permuted { seed, position } => {
                masks_by(&|group, n_kept| permuted(*seed, *position, group, n_kept))
            }
            Rule::Explicit(masks) => masks.clone(),
        };
        Selection::from_masks(layout, masks)
    }
}

/// The key of a group's name: a hash of its length and its bytes, eight at a time.
fn name_key(name: &str) -> u64 {
    let word = |chunk: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(bytes)
    };
    let words = name.as_bytes().chunks(8).map(word);
    fedpress::derive_key(&std::iter::once(name.len() as u64).chain(words).collect::<Vec<u64>>())
}

/// What a rule draws from for a group; `first` and the number behind it are its own.
fn generator(seed: u64, group: &Group, first: u64) -> Pcg64Mcg {
    let name = name_key(&group.name);
    let half = |i| u128::from(fedpress::derive_key(&[seed, name, i]));
    Pcg64Mcg::new(half(first) << 64 | half(first + 1))
}

/// Below a bound, but for a bias of at most bound / 2^64.
fn below(generator: &mut Pcg64Mcg, bound: u64) -> u64 {
    ((u128::from(generator.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// Knuth's algorithm S: a unit is kept with probability needed / left, one draw each. Part of the
/// wire: the same seed has to mean the same units in every version.
fn random(seed: u64, group: &Group, n_kept: usize) -> BitVec {
    let mut generator = generator(seed, group, 0);
    let mut needed = n_kept as u64;
    let mut draw = |left: u64| {
        let kept = below(&mut generator, left) < needed;
        needed -= u64::from(kept);
        kept
    };
    (1..=group.units as u64).rev().map(&mut draw).collect()
}

/// Knuth's algorithm P from the last unit down, and of the permutation the stretch number `position`.
/// Part of the wire, too.
fn permuted(seed: u64, position: u64, group: &Group, n_kept: usize) -> BitVec {
    let mut generator = generator(seed, group, 2);
    let mut order: Vec<usize> = (0..group.units).collect();
    for last in (1..group.units).rev() {
        order.swap(last, below(&mut generator, last as u64 + 1) as usize);
    }
    let start = u128::from(position) * n_kept as u128 % group.units as u128;
    let mut mask = BitVec::repeat(false, group.units);
    for i in 0..n_kept {
        mask.set(order[(start as usize + i) % group.units], true);
    }
    mask
}

/// `n_kept` units from the offset on, around the end.
fn window(offset: u64, units: usize, n_kept: usize) -> BitVec {
    let start = (offset % units as u64) as usize;
    let end = start + n_kept;
    let mut mask = BitVec::repeat(false, units);
    mask[start..end.min(units)].fill(true);
    mask[..end.saturating_sub(units)].fill(true);
    mask
}
